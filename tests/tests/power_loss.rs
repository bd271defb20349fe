//! Losses of power, played with file systems in files: the file is cloned at one moment, which is what a disk has when the
//! power goes, and is mounted again. The clone is made by a file system that can do so at once (XFS).
//!
//! `CTXSYNC_LOSSES=200` sets how often the power is lost, `CTXSYNC_SEED=7` the first seed, and
//! `CTXSYNC_DISK=xfs` the file system (`mkfs.xfs` has to be there; the default is ext4).
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::compare::{differences, list, without_times};
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::mounts::{may_mount, unmount};
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;
use transfer_engine::SyncOptions;

/// How often the tests of a commit lose power.
const LOSSES: u64 = 6;

/// When the power goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    DuringPull,
    AfterPull,
    AfterPush,
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|ran| ran.status.success())
}

/// Makes a file of this many MiB with a file system in it.
fn make(file: &Path, kind: &str, mebibytes: u64) -> bool {
    std::fs::File::create(file).unwrap().set_len(mebibytes << 20).unwrap();
    run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(file))
}

fn mount(file: &Path, at: &Path) -> bool {
    std::fs::create_dir_all(at).unwrap();
    run(Command::new("mount").args(["-o", "loop"]).args([file, at]))
}

/// A disk of a machine, as a file on a file system that clones files at once.
struct Disk {
    kind: String,
    place: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// Returns an empty disk; `None` if this system can't play it.
    fn make(place: &Path) -> Option<Self> {
        let (file, outer) = (place.join("outer.img"), place.join("outer"));
        if !make(&file, "xfs", 1024) || !mount(&file, &outer) {
            return None;
        }
        let kind = std::env::var("CTXSYNC_DISK").unwrap_or_else(|_| "ext4".to_owned());
        let size = if kind == "ext4" { 64 } else { 320 };
        let this = Self { kind, at: place.join("disk"), place: outer };
        (make(&this.place.join("now"), &this.kind, size) && mount(&this.place.join("now"), &this.at))
            .then_some(this)
    }

    /// Lets the file system write its journal, as it does every few seconds. Names are on the disk then. What is in the
    /// files need not be.
    fn commit_journal(&self) {
        std::fs::File::create(self.at.join("flushed")).unwrap().sync_all().unwrap();
    }

    /// Keeps what the disk has at this moment.
    fn keep(&self) {
        let (now, kept) = (self.place.join("now"), self.place.join("kept"));
        assert!(run(Command::new("cp").arg("--reflink=always").args([now, kept])));
    }

    /// Goes back to what was kept.
    fn lose_power(&self) {
        unmount(&self.at);
        std::fs::rename(self.place.join("kept"), self.place.join("now")).unwrap();
        assert!(mount(&self.place.join("now"), &self.at));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.at));
        run(Command::new("umount").arg(&self.place));
    }
}

async fn keep_after(disk: &Arc<Disk>, moment: Duration) {
    let disk = Arc::clone(disk);
    let keep = move || {
        std::thread::sleep(moment);
        disk.keep();
    };
    tokio::task::spawn_blocking(keep).await.unwrap();
}

/// Changes files of a machine here and there, each with content of its own.
fn change(tree: &Tree, whose: &str, random: &mut Random, round: u64) {
    for number in 0..40 {
        let path = format!("{whose}-{}/file-{}", random.below(5), random.below(40));
        let content = format!("{round}-{number}-{}", random.bits());
        match random.below(6) {
            // It may not be there.
            0 => drop(std::fs::remove_file(tree.0.join(&path))),
            1 => drop(tree.write(&path, content.repeat(1 + random.below(40_000)))),
            _ => drop(tree.write(&path, content)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_disk_that_loses_power_at_any_moment_deletes_and_spoils_nothing() {
    if !may_mount("p2_a_disk_that_loses_power_at_any_moment_deletes_and_spoils_nothing") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(place.path()) else {
        println!("skipped: there is no XFS, or no loop device");
        return;
    };
    let disk = Arc::new(disk);
    let (world, mut warned) = (World::memory().await, 0);
    let away = world.machine("away");
    let here =
        Machine { mount: Tree(disk.at.join("mount")), state: disk.at.join("state"), ..world.machine("here") };
    let here = Machine { options: SyncOptions { flush_behind: true, ..here.options.clone() }, ..here };
    std::fs::create_dir(&here.mount.0).unwrap();
    let first = variable("CTXSYNC_SEED").unwrap_or(0);
    let losses = variable("CTXSYNC_LOSSES").unwrap_or(LOSSES);
    for seed in first..first + losses {
        let mut random = Random::new(seed);
        away.pull().await;
        change(&away.mount, "away", &mut random, seed);
        away.push().await.clean();
        let when = [When::DuringPull, When::AfterPull, When::AfterPush][(seed % 3) as usize];
        match when {
            When::DuringPull => {
                let moment = Duration::from_micros(random.below(60_000) as u64);
                let (pulled, ()) = tokio::join!(here.pull(), keep_after(&disk, moment));
                pulled.clean();
            }
            When::AfterPull => {
                here.pull().await.clean();
                disk.commit_journal();
                disk.keep();
            }
            When::AfterPush => {
                // Nothing may reach the store after the power is lost.
                change(&here.mount, "here", &mut random, seed);
                here.push().await.clean();
                disk.commit_journal();
                disk.keep();
            }
        }
        disk.lose_power();
        let expected = {
            let looker = world.machine(&format!("looker-{seed}"));
            looker.pull().await.clean();
            without_times(list(&looker.mount.0))
        };
        let ended = here.sync().await;
        let report = ended.report();
        assert_eq!((report.conflicts, report.failed), (0, 0), "seed {seed}: {:?}", ended.noted);
        warned += u64::from(ended.warned("did not all reach the disk"));
        let found = without_times(list(&here.mount.0));
        let text = differences(&expected, &found);
        assert!(text.is_empty(), "seed {seed}: the mount is not what the context held:\n{text}");
        let pulled = away.pull().await;
        assert!(when == When::AfterPush || pulled.report().deleted == 0, "seed {seed}: {:?}", pulled.noted);
        let text = differences(&expected, &without_times(list(&away.mount.0)));
        assert!(text.is_empty(), "seed {seed}: the context is not what it was:\n{text}");
    }
    println!("{losses} losses of power, {warned} of which took something");
    // Btrfs may have everything or nothing of a sync.
    assert!(warned > 0 || disk.kind == "btrfs", "no loss of power took anything");
}
