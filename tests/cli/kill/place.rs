//! A store, and machines on which the program is killed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ctxsync_tests::compare::{Listing, list};
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;
use serde_json::Value;
use tempfile::TempDir;

/// A store in a directory, and machines beside it.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) random: Random,
    written: u64,
}

impl Place {
    /// Makes a place that does not wait for a disk, if the system has `/dev/shm`.
    pub(crate) fn new(seed: usize) -> Self {
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("ctxsync-kill-").tempdir_in(parent).unwrap();
        Self { dir, random: Random::new(seed as u64), written: 0 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn mount(&self, machine: &str) -> Tree {
        let tree = Tree(self.path(machine).join("mount"));
        tree.dir("");
        tree
    }

    /// Removes a machine, or the store.
    pub(crate) fn remove(&self, name: &str) {
        let _ = std::fs::remove_dir_all(self.path(name));
    }

    pub(crate) fn command(&self, verb: &str, machine: &str) -> Command {
        self.program(machine, &[verb, "work", "mount", "--json"])
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

    /// Runs a command to its end, and returns its exit code and its lines.
    pub(crate) fn lines(&self, machine: &str, args: &[&str]) -> (Option<i32>, Vec<Value>) {
        let output = self.program(machine, args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Runs a command that must end with 0.
    pub(crate) fn good(&self, machine: &str, args: &[&str]) -> Vec<Value> {
        let (code, lines) = self.lines(machine, args);
        assert_eq!(code, Some(0), "{args:?}: {lines:?}");
        lines
    }

    /// Changes about half of a mount's files, and one that is sent in several packs where it is longest.
    pub(crate) fn change(&mut self, tree: &Tree) {
        for i in 0..16 {
            let path = format!("d{}/f{i}", i % 3);
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
        let size = if self.random.below(4) == 0 { 6_000_000 } else { 300_000 };
        tree.write("large", self.random.bytes(size + self.written as usize));
        // Written once only: the same content with a new timestamp would not be a change.
        if !tree.has("pinned") {
            tree.write("pinned", "always there");
        }
        if !tree.has("link") {
            tree.link("link", "pinned");
        }
        // Ensures that the command has something to do.
        tree.write("round", self.written.to_string());
    }

    /// Pulls into a new machine, and returns what it gets.
    pub(crate) fn fresh(&self) -> Listing {
        self.remove("fresh");
        let tree = self.mount("fresh");
        self.run("pull", "fresh");
        list(&tree.0)
    }

    /// Returns how many snapshots the context has.
    pub(crate) fn snapshots(&self) -> usize {
        let log = self.good("a", &["log", "work", "--json"]);
        log.iter().filter(|line| line["message_type"] == "snapshot").count()
    }

    /// Sets the times of everything in the store back, so that no grace period protects it any more.
    pub(crate) fn age(&self) {
        let store = Tree(self.path("store"));
        for file in store.files() {
            let time = store.at(&file).metadata().unwrap().mtime();
            store.time(&file, time - 10 * 86_400, 0);
        }
    }

    /// Whether a check calls the head whole, with all contents.
    pub(crate) fn head_is_whole(&self) -> bool {
        let (_, lines) = self.lines("a", &["check", "work", "--read-data", "--json"]);
        let heads: Vec<_> = lines.iter().filter(|line| line["head"] == true).collect();
        assert_eq!(heads.len(), 1, "{lines:?}");
        heads[0]["whole"] == true
    }
}

pub(crate) fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(last).unwrap()
}

/// Leaves out what is staged.
pub(crate) fn without_staging(listing: Listing) -> Listing {
    let is_staged = |path: &Path| path.to_string_lossy().starts_with(".ctxsync-stage-");
    listing.into_iter().filter(|(path, _)| !is_staged(path)).collect()
}

/// Fails unless each file of a mount is one of two versions, everything else is staging, and what both versions
/// have is there.
pub(crate) fn assert_between(found: &Listing, old: &Listing, new: &Listing) {
    for (path, node) in &without_staging(found.clone()) {
        let known = Some(node) == old.get(path) || Some(node) == new.get(path);
        assert!(known, "{}: {node:?}", path.display());
    }
    for path in old.keys().filter(|path| new.contains_key(*path)) {
        assert!(found.contains_key(path), "{} is gone", path.display());
    }
}
