//! The program, killed at random moments: what it left behind needs no repair.
//!
//! `CTXSYNC_KILLS=100` kills so many times each.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ctxsync_tests::compare::{Content, Listing, assert_same, differences, list};
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;
use serde_json::Value;
use tempfile::TempDir;

/// A store in a directory, and machines beside it.
struct Place {
    dir: TempDir,
    context: String,
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
        Self { dir, context: "work".to_owned(), random: Random::new(seed), written: 0 }
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
        self.program(machine, &[verb, &self.context, "mount", "--json"])
    }

    /// A session whose command outlives it by a moment.
    fn session(&self, machine: &str) -> Command {
        self.program(machine, &["run", "-c", &self.context, "mount", "--", "sleep", "2"])
    }

    fn program(&self, machine: &str, args: &[&str]) -> Command {
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

/// What a program does in a mount while files arrive there, and what it may expect of it.
struct Worker {
    random: Random,
    mount: PathBuf,
    /// The paths that it has touched: what it wrote there last, or that it deleted what was there.
    touched: BTreeMap<String, Option<String>>,
    /// Where it wrote before anything had arrived.
    early: BTreeSet<String>,
    count: u64,
}

impl Worker {
    fn new(seed: u64, mount: &Path) -> Self {
        let (touched, early) = (BTreeMap::new(), BTreeSet::new());
        Self { random: Random::new(seed), mount: mount.to_owned(), touched, early, count: 0 }
    }

    /// Does one thing.
    fn step(&mut self) {
        let path = format!("d{}/f{}", self.random.below(20), self.random.below(10));
        let place = self.mount.join(&path);
        self.count += 1;
        let content = format!("written here {}", self.count);
        match self.random.below(5) {
            // In place, if it is there.
            0 => {
                let opened = std::fs::File::options().write(true).truncate(true).open(&place);
                if let Ok(mut file) = opened {
                    file.write_all(content.as_bytes()).unwrap();
                    self.touched.insert(path, Some(content));
                }
            }
            // As editors do: beside it, and over it.
            1 if place.exists() => {
                let beside = self.mount.join(format!("{path}~"));
                std::fs::write(&beside, &content).unwrap();
                std::fs::rename(&beside, &place).unwrap();
                self.touched.insert(path, Some(content));
            }
            2 if self.random.below(3) == 0 && std::fs::remove_file(&place).is_ok() => {
                self.touched.insert(path, None);
            }
            3 => {
                let new = format!("new/{}", self.count % 50);
                std::fs::create_dir_all(self.mount.join("new")).unwrap();
                std::fs::write(self.mount.join(&new), &content).unwrap();
                self.touched.insert(new, Some(content));
            }
            // Where something is still to come, or was deleted.
            4 if self.random.below(4) == 0 => {
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                let opened = std::fs::File::options().write(true).create_new(true).open(&place);
                if let Ok(mut file) = opened {
                    file.write_all(content.as_bytes()).unwrap();
                    if !self.touched.contains_key(&path) {
                        self.early.insert(path.clone());
                    }
                    self.touched.insert(path, Some(content));
                }
            }
            _ => {}
        }
    }
}

/// A program edits, deletes and creates while files arrive, the download is killed, and the program goes on:
/// the next sync takes all that for what it was.
#[test]
fn p1_a_program_that_works_while_files_arrive_loses_nothing_to_a_kill() {
    let mut place = Place::new();
    let source = place.mount("a");
    for i in 0..200 {
        let size = 500 + place.random.below(30_000);
        source.write(format!("d{}/f{}", i % 20, i / 20), place.random.bytes(size));
    }
    let large = place.random.bytes(6_000_000);
    source.write("large", large);
    let original = list(&source.0);

    let mut whole = Duration::from_millis(300);
    let mut killed = 0;
    for round in 0..rounds().div_ceil(2) {
        let machine = format!("m{round}");
        place.context = machine.clone();
        place.run("push", "a");
        let mount = place.mount(&machine);
        let mut worker = Worker::new(place.random.bits(), &mount.0);
        let mut program =
            if round % 2 == 0 { place.session(&machine) } else { place.command("pull", &machine) };
        let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until =
            Instant::now() + Duration::from_nanos(place.random.below(whole.as_nanos() as usize) as u64);
        while Instant::now() < until {
            worker.step();
        }
        killed += u64::from(child.try_wait().unwrap().is_none());
        end(&mut child);
        (0..20).for_each(|_| worker.step());

        let output = place.command("sync", &machine).output().unwrap();
        let told = summary(&output);
        let conflicts = told["conflicts"].as_u64().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 4)), "round {round}: {output:?}");
        assert!(conflicts <= worker.early.len() as u64, "round {round}: {:?}\n{output:?}", worker.early);
        let there = list(&mount.0);
        for path in there.keys().map(|path| path.to_string_lossy()).filter(|p| p.contains(".conflict-")) {
            let is_early = worker.early.iter().any(|early| path.starts_with(early.as_str()));
            assert!(is_early, "round {round}: {path} is a copy of a path that one side alone changed");
        }
        for (path, content) in &worker.touched {
            let found = std::fs::read_to_string(mount.at(path)).ok();
            assert_eq!(&found, content, "round {round}: {path}");
        }
        for (path, node) in original.iter().filter(|(_, node)| node.content != Content::Dir) {
            if !worker.touched.contains_key(path.to_str().unwrap()) {
                assert_eq!(there.get(path), Some(node), "round {round}: {}", path.display());
            }
        }
        // The context has what the machine has.
        let began = Instant::now();
        let fresh = place.fresh();
        whole = began.elapsed();
        let text = differences(&there, &fresh);
        assert!(text.is_empty(), "round {round}: {text}");
        std::fs::remove_dir_all(place.path(&machine)).unwrap();
    }
    println!("{} rounds: killed in time {killed}", rounds().div_ceil(2));
    assert!(killed > 0, "every download was done before it was killed");
}
