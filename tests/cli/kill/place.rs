//! A store, and machines on which the program is killed.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ctxsync_tests::compare::{Listing, list};
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;
use serde_json::Value;
use tempfile::TempDir;

/// A store in a directory, and machines beside it.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) context: String,
    pub(crate) random: Random,
    written: u64,
}

pub(crate) fn rounds() -> u64 {
    std::env::var("CTXSYNC_KILLS").map_or(20, |value| value.parse().unwrap())
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ctxsync-kill-").tempdir().unwrap();
        // The moments of the kills differ from run to run anyway, so the content may, too.
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        Self { dir, context: "work".to_owned(), random: Random::new(seed), written: 0 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn mount(&self, machine: &str) -> Tree {
        let tree = Tree(self.path(machine).join("mount"));
        tree.dir("");
        tree
    }

    pub(crate) fn command(&self, verb: &str, machine: &str) -> Command {
        self.program(machine, &[verb, &self.context, "mount", "--json"])
    }

    /// A session whose command runs for two seconds.
    pub(crate) fn session(&self, machine: &str) -> Command {
        self.program(machine, &["run", "-c", &self.context, "mount", "--", "sleep", "2"])
    }

    pub(crate) fn program(&self, machine: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctxsync"));
        command
            .args(args)
            .current_dir(self.path(machine))
            .env_clear()
            .env("HOME", self.path(machine))
            .env("CTXSYNC_STORE", self.path("store"))
            .env("CTXSYNC_STATE_DIR", self.path(machine).join("state"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed without conflicts, and returns its summary.
    pub(crate) fn run(&self, verb: &str, machine: &str) -> Value {
        let output = self.command(verb, machine).output().unwrap();
        let summary = summary(&output);
        assert_eq!(output.status.code(), Some(0), "{verb} {machine}: {output:?}");
        assert_eq!(summary["conflicts"], 0, "{summary}");
        summary
    }

    /// Starts a command and kills it after a random part of `whole`; returns whether it was still running.
    pub(crate) fn kill(&mut self, verb: &str, machine: &str, whole: Duration) -> bool {
        let mut child =
            self.command(verb, machine).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let nanos = whole.as_nanos() as usize;
        std::thread::sleep(Duration::from_nanos(self.random.below(nanos.max(1)) as u64));
        let running = child.try_wait().unwrap().is_none();
        end(&mut child);
        running
    }

    /// Changes about a third of a mount's files, and one file of several packs.
    pub(crate) fn change(&mut self, tree: &Tree) {
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
        // Written once only: the same content with a new timestamp would not be a change.
        if !tree.has("pinned") {
            tree.write("pinned", "always there");
        }
        // Ensures that the killed command has something to do.
        tree.write("round", self.written.to_string());
    }

    /// Pulls into a new machine, and returns what it gets.
    pub(crate) fn fresh(&self) -> Listing {
        let _ = std::fs::remove_dir_all(self.path("fresh"));
        let tree = self.mount("fresh");
        self.run("pull", "fresh");
        list(&tree.0)
    }
}

pub(crate) fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(crate) fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(last).unwrap()
}

pub(crate) fn time(act: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    act();
    begin.elapsed()
}
