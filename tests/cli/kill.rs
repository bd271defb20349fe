//! The program, killed at random moments: what it left behind needs no repair.
//!
//! `CTXSYNC_KILLS=100` kills so many times each.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ctxsync_tests::compare::{Listing, assert_same, differences, list};
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;
use serde_json::Value;
use tempfile::TempDir;

/// A store in a directory, and machines beside it.
struct Place {
    dir: TempDir,
    random: Random,
    written: u64,
}

fn rounds() -> u64 {
    std::env::var("CTXSYNC_KILLS").map_or(20, |value| value.parse().unwrap())
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ctxsync-kill-").tempdir().unwrap();
        // Content has to differ between runs no more than moments do.
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        Self { dir, random: Random::new(seed), written: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mount(&self, machine: &str) -> Tree {
        let tree = Tree(self.path(machine).join("mount"));
        tree.dir("");
        tree
    }

    fn command(&self, verb: &str, machine: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctxsync"));
        command
            .args([verb, "work", "mount", "--json"])
            .current_dir(self.path(machine))
            .env_clear()
            .env("HOME", self.path(machine))
            .env("CTXSYNC_STORE", self.path("store"))
            .env("CTXSYNC_STATE_DIR", self.path(machine).join("state"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, which must be a good one, and returns its summary.
    fn run(&self, verb: &str, machine: &str) -> Value {
        let output = self.command(verb, machine).output().unwrap();
        let summary = summary(&output);
        assert_eq!(output.status.code(), Some(0), "{verb} {machine}: {output:?}");
        assert_eq!(summary["conflicts"], 0, "{summary}");
        summary
    }

    /// Starts a command and kills it after a random part of `whole`; whether it was still running.
    fn kill(&mut self, verb: &str, machine: &str, whole: Duration) -> bool {
        let mut child =
            self.command(verb, machine).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let nanos = whole.as_nanos() as usize;
        std::thread::sleep(Duration::from_nanos(self.random.below(nanos.max(1)) as u64));
        let running = child.try_wait().unwrap().is_none();
        end(&mut child);
        running
    }

    /// Changes about a third of a mount, a file of several packs among it.
    fn change(&mut self, tree: &Tree) {
        for i in 0..60 {
            let path = format!("d{}/f{i}", i % 7);
            self.written += 1;
            match self.random.below(6) {
                0 => drop(tree.write(&path, format!("content {}", self.written)).at("")),
                1 => {
                    let size = 1000 + self.random.below(60_000);
                    tree.write(&path, self.random.bytes(size));
                }
                2 if tree.has(&path) => drop(tree.remove(&path).at("")),
                _ => {}
            }
        }
        let size = 2_000_000 + self.random.below(4_000_000);
        tree.write("large", self.random.bytes(size));
        // A time alone is no change, so nothing is written again as it was.
        if !tree.has("pinned") {
            tree.write("pinned", "always there");
        }
        // That what was killed had something to do.
        tree.write("round", self.written.to_string());
    }

    /// Returns what a machine gets that was never seen before.
    fn fresh(&self) -> Listing {
        let _ = std::fs::remove_dir_all(self.path("fresh"));
        let tree = self.mount("fresh");
        self.run("pull", "fresh");
        list(&tree.0)
    }
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(last).unwrap()
}

fn time(act: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    act();
    begin.elapsed()
}

#[test]
fn p1_a_push_that_is_killed_leaves_the_old_snapshot_or_the_new_one() {
    let mut place = Place::new();
    let mount = place.mount("a");
    place.change(&mount);
    let mut whole = time(|| drop(place.run("push", "a")));
    let mut old = list(&mount.0);
    let (mut killed, mut landed) = (0, 0);
    for round in 0..rounds() {
        place.change(&mount);
        let new = list(&mount.0);
        killed += u64::from(place.kill("push", "a", whole));
        let found = place.fresh();
        let is_new = differences(&new, &found).is_empty();
        landed += u64::from(is_new);
        let text = differences(&old, &found);
        assert!(is_new || text.is_empty(), "round {round}: neither old nor new, against the old:\n{text}");
        whole = whole.max(time(|| drop(place.run("push", "a"))));
        let text = differences(&new, &place.fresh());
        assert!(text.is_empty(), "round {round}, after the next push:\n{text}");
        old = new;
    }
    println!("{} rounds: killed in time {killed}, had landed {landed}", rounds());
    assert!(killed > 0, "every push was quicker than its killer");
}

/// Expects each file of a mount to be one of two versions, and nothing else to be there but staging.
fn is_between(mount: &Path, old: &Listing, new: &Listing) -> Result<(), String> {
    for (path, node) in list(mount) {
        let ours = path.to_string_lossy().starts_with(".ctxsync-stage-");
        if !ours && Some(&node) != old.get(&path) && Some(&node) != new.get(&path) {
            return Err(format!("{}: {node:?}", path.display()));
        }
    }
    Ok(())
}

#[test]
fn p1_a_pull_that_is_killed_leaves_whole_files_and_is_gone_on_with() {
    let mut place = Place::new();
    let (a, b) = (place.mount("a"), place.mount("b"));
    place.change(&a);
    place.run("push", "a");
    let mut whole = time(|| drop(place.run("pull", "b")));
    let mut killed = 0;
    for round in 0..rounds() {
        let old = list(&b.0);
        place.change(&a);
        let pushed = place.run("push", "a");
        let new = list(&a.0);
        killed += u64::from(place.kill("pull", "b", whole));
        is_between(&b.0, &old, &new).unwrap_or_else(|e| panic!("round {round}: {e}"));
        // One that works on before it pulls again sends nothing of what it was given.
        if round % 2 == 0 {
            let between = place.run("push", "b");
            assert_eq!(
                (&between["added"], &between["deleted"]),
                (&0.into(), &0.into()),
                "round {round}: {between}"
            );
        }
        whole = whole.max(time(|| drop(place.run("pull", "b"))));
        assert_same(&a.0, &b.0);
        let after = place.run("push", "b");
        assert_eq!(after["snapshot"], pushed["snapshot"], "round {round}: {after}");
    }
    println!("{} rounds: killed in time {killed}", rounds());
    assert!(killed > 0, "every pull was quicker than its killer");
}
