//! Sizes that take minutes and gigabytes: `just big`. Memory is the process's peak, as the kernel reports it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where something unexpected happens, and the figures are what it is run for"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::random::Random;
use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const MOST_MEMORY: u64 = 256 * MIB;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::Builder::new().prefix("ctxsync-big-").tempdir().unwrap());
        fs::create_dir_all(place.mount("a")).unwrap();
        fs::create_dir_all(place.mount("b")).unwrap();
        place
    }

    fn mount(&self, machine: &str) -> PathBuf {
        self.0.path().join(machine).join("mount")
    }

    /// Runs a command that must succeed; prints what it took, and returns its summary and peak memory in
    /// bytes.
    fn run(&self, what: &str, verb: &str, machine: &str) -> (Value, u64) {
        let begin = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ctxsync"))
            .args([verb, "work", "mount", "--json", "--no-progress"])
            .current_dir(self.0.path().join(machine))
            .env_clear()
            .env("HOME", self.0.path())
            .env("CTXSYNC_STORE", self.0.path().join("store"))
            .env("CTXSYNC_STATE_DIR", self.0.path().join(machine).join("state"))
            .stdin(Stdio::null())
            // Not a pipe: nothing reads while the command runs, and the lines for all paths would fill the
            // pipe.
            .stdout(File::create(self.0.path().join("out")).unwrap())
            .spawn()
            .unwrap();
        let mut peak = 0;
        let status = loop {
            peak = peak.max(high_water(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let out = fs::read_to_string(self.0.path().join("out")).unwrap();
        assert!(status.success(), "{status} {}", out.lines().last().unwrap_or_default());
        let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        println!(
            "{what}: {verb} {:.1} s, peak {} MiB, read {}, sent {}, received {}, requests {}",
            begin.elapsed().as_secs_f64(),
            peak / MIB,
            summary["bytes_read"],
            summary["bytes_sent"],
            summary["bytes_received"],
            summary["requests"],
        );
        (summary, peak)
    }
}

/// Returns the peak memory of a running process, in bytes.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn write_random(path: &Path, size: u64, seed: u64) {
    let mut file = File::create(path).unwrap();
    let mut random = Random::new(seed);
    for _ in 0..size / MIB {
        file.write_all(&random.bytes(MIB as usize)).unwrap();
    }
}

fn assert_same_file(left: &Path, right: &Path) {
    let (mut left, mut right) = (File::open(left).unwrap(), File::open(right).unwrap());
    let (mut one, mut other) = (vec![0; MIB as usize], vec![0; MIB as usize]);
    loop {
        let read = left.read(&mut one).unwrap();
        right.read_exact(&mut other[..read]).unwrap();
        assert!(one[..read] == other[..read]);
        if read == 0 {
            assert_eq!(right.read(&mut other).unwrap(), 0);
            return;
        }
    }
}

#[test]
#[ignore = "takes 13 GB of disk; `just big` runs it"]
fn p11_l8_a_file_of_4_gib_goes_round_in_256_mib() {
    let place = Place::new();
    write_random(&place.mount("a").join("file"), 4096 * MIB, 1);
    let (_, push) = place.run("4 GiB", "push", "a");
    let (_, pull) = place.run("4 GiB", "pull", "b");
    assert_same_file(&place.mount("a").join("file"), &place.mount("b").join("file"));
    assert!(push <= MOST_MEMORY && pull <= MOST_MEMORY, "{} and {} MiB", push / MIB, pull / MIB);
}

#[test]
#[ignore = "makes 400,000 files; `just big` runs it"]
fn p11_many_files_go_round_in_256_mib() {
    let place = Place::new();
    let mut random = Random::new(2);
    for i in 0..200_000 {
        let dir = place.mount("a").join(format!("part-{}/directory-{}", i % 20, i % 2000));
        if i < 2000 {
            fs::create_dir_all(&dir).unwrap();
        }
        let mut text = format!("file {i} ").repeat(10 + random.below(200));
        text.push_str(&random.bits().to_string());
        fs::write(dir.join(format!("some-file-{i}.txt")), text).unwrap();
    }
    let (_, push) = place.run("200,000 files", "push", "a");
    let (_, again) = place.run("200,000 files, unchanged", "push", "a");
    let (_, pull) = place.run("200,000 files", "pull", "b");
    let (summary, same) = place.run("200,000 files, unchanged", "pull", "b");
    assert_eq!(summary["requests"], 1);
    assert_same(&place.mount("a"), &place.mount("b"));
    let most = push.max(again).max(pull).max(same);
    assert!(most <= MOST_MEMORY, "{} MiB", most / MIB);
}

#[test]
#[ignore = "takes 4 GB of disk; `just big` runs it"]
fn a_kib_in_the_middle_of_a_gib_sends_less_than_8_mib() {
    let place = Place::new();
    let path = place.mount("a").join("file");
    write_random(&path, 1024 * MIB, 3);
    place.run("1 GiB", "push", "a");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 + 12_345;
    bytes.splice(middle..middle, Random::new(4).bytes(1024));
    fs::write(&path, &bytes).unwrap();
    drop(bytes);
    let (summary, _) = place.run("1 GiB and 1 KiB", "push", "a");
    place.run("1 GiB and 1 KiB", "pull", "b");
    assert_same_file(&path, &place.mount("b").join("file"));
    let sent = summary["bytes_sent"].as_u64().unwrap();
    assert!(sent < 8 * MIB, "{sent} bytes");
}
