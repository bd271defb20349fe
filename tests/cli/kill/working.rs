//! A program that works in a mount while files arrive there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ctxsync_tests::compare::{Content, differences, list};
use ctxsync_tests::random::Random;

use crate::place::{Place, end, rounds, summary};

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

/// A program edits, deletes and creates files while a pull puts files in place. The pull is killed, and the
/// program goes on. The next sync must push exactly what the program did.
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
