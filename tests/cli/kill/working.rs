//! A program that works in a mount while files arrive there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ctxsync_tests::compare::{Content, Listing, differences, list};
use ctxsync_tests::random::Random;
use ctxsync_tests::trace::Call;

use crate::place::Place;
use crate::scenario::{Scenario, kill};

/// A program that works in a mount while files arrive there, and the results that it expects.
struct Worker {
    random: Random,
    mount: PathBuf,
    /// The paths that it has changed: the content that it wrote last, or `None` if it deleted the file.
    touched: BTreeMap<String, Option<String>>,
    /// The paths that it created although they had not been pulled yet.
    early: BTreeSet<String>,
    count: u64,
}

impl Worker {
    fn new(seed: u64, mount: &Path) -> Self {
        let (touched, early) = (BTreeMap::new(), BTreeSet::new());
        Self { random: Random::new(seed), mount: mount.to_owned(), touched, early, count: 0 }
    }

    /// Makes one random change.
    fn step(&mut self) {
        let path = format!("d{}/f{}", self.random.below(20), self.random.below(10));
        let place = self.mount.join(&path);
        self.count += 1;
        let content = format!("written here {}", self.count);
        match self.random.below(5) {
            // Writes the file in place, if it exists.
            0 => {
                let opened = std::fs::File::options().write(true).truncate(true).open(&place);
                if let Ok(mut file) = opened {
                    file.write_all(content.as_bytes()).unwrap();
                    self.touched.insert(path, Some(content));
                }
            }
            // Replaces the file as editors do: writes a new one beside it and renames that over it.
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
            // Creates a file whose pull is pending, or that was deleted.
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

/// A pull, by itself or in a session, while a program edits, deletes and creates files: it makes a step before
/// each call that changes something, and goes on after a kill. The next sync must push exactly what it did.
#[derive(Default)]
struct Working {
    worker: Option<Worker>,
    original: Listing,
    round: usize,
}

impl Scenario for Working {
    fn prepare(&mut self, place: &mut Place) {
        self.round += 1;
        place.remove("store");
        place.remove("b");
        place.remove("a/state");
        let source = place.mount("a");
        if self.original.is_empty() {
            for i in 0..60 {
                let size = 500 + place.random.below(30_000);
                source.write(format!("d{}/f{}", i % 20, i / 20), place.random.bytes(size));
            }
            source.write("large", place.random.bytes(6_000_000));
            self.original = list(&source.0);
        }
        place.run("push", "a");
        self.worker = Some(Worker::new(place.random.bits(), &place.mount("b").0));
    }

    fn command(&self, place: &Place) -> Command {
        if self.round.is_multiple_of(2) {
            return place.command("pull", "b");
        }
        // It ends when everything is there, or when the session was killed. A session that is killed while it
        // starts this leaves it to another parent, which does not end: so it also ends by itself.
        let wait = "n=0; while [ ! -e large ] && [ $n -lt 500 ] && kill -0 $PPID 2>/dev/null; \
                    do sleep 0.01; n=$((n + 1)); done";
        place.program("b", &["run", "-c", "work", "mount", "--", "/bin/sh", "-c", wait])
    }

    fn meanwhile(&mut self, _: &Place, _: &Call) {
        self.worker.iter_mut().for_each(Worker::step);
    }

    fn look(&mut self, _: &mut Place) -> bool {
        (0..20).for_each(|_| self.worker.iter_mut().for_each(Worker::step));
        false
    }

    fn again(&self, place: &Place) -> Command {
        place.command("sync", "b")
    }

    /// 3: what the program created is in the way of what arrives, and stays.
    fn codes(&self) -> &'static [i32] {
        &[0, 3, 4]
    }

    fn settled(&mut self, place: &mut Place) {
        // What was done during the last command as well.
        place.lines("b", &["sync", "work", "mount", "--json"]);
        let (mount, worker) = (place.mount("b"), self.worker.as_ref().unwrap());
        let there = list(&mount.0);
        for path in there.keys().map(|path| path.to_string_lossy()).filter(|p| p.contains(".conflict-")) {
            let is_early = worker.early.iter().any(|early| path.starts_with(early.as_str()));
            assert!(is_early, "{path} is a copy of a path that one side alone changed");
        }
        for (path, content) in &worker.touched {
            let found = std::fs::read_to_string(mount.at(path)).ok();
            assert_eq!(&found, content, "{path}");
        }
        for (path, node) in self.original.iter().filter(|(_, node)| node.content != Content::Dir) {
            if !worker.touched.contains_key(path.to_str().unwrap()) {
                assert_eq!(there.get(path), Some(node), "{}", path.display());
            }
        }
        // The context has what the machine has.
        let text = differences(&there, &place.fresh());
        assert!(text.is_empty(), "{text}");
    }
}

#[test]
fn p1_a_program_that_works_while_files_arrive_loses_nothing_to_a_kill() {
    kill("a pull under a working program", Working::default);
}
