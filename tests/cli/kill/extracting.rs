//! A pull that extracts archives and is killed.

use std::process::Command;

use ctxsync_tests::archive::archive;
use ctxsync_tests::compare::{differences, list};
use ctxsync_tests::tree::Tree;

use crate::failing::fail;
use crate::place::Place;
use crate::scenario::{Scenario, kill};

const FORMATS: [&str; 4] = ["zip", "tar", "tar.zst", "7z"];

/// For each archive of a context, by number, the paths and contents of its members.
struct Archives(Vec<Vec<(String, String)>>);

impl Archives {
    fn make(place: &mut Place) -> Self {
        let mut member = |n: usize| {
            let size = 100 + place.random.below(40_000);
            (format!("d{}/f{n}", n % 3), format!("{n} {}", "x".repeat(size)))
        };
        Self((0..FORMATS.len()).map(|_| (0..6).map(&mut member).collect()).collect())
    }

    fn write(&self, mount: &Tree) {
        for (n, members) in self.0.iter().enumerate() {
            let members: Vec<(&str, &str)> = members.iter().map(|(n, c)| (n.as_str(), c.as_str())).collect();
            mount.write(Self::source(n), archive(FORMATS[n], &members));
        }
        mount.write("plain", "x");
    }

    fn source(n: usize) -> String {
        format!("a{n}/data.{}", FORMATS[n])
    }

    /// Returns whether an archive's members are all there. Fails if one has the wrong content, or, unless
    /// `parts` is set, if only some of them are there.
    fn is_out(&self, n: usize, mount: &Tree, folder: &str, parts: bool) -> Result<bool, String> {
        let mut there = 0;
        for (name, content) in &self.0[n] {
            let path = format!("{folder}/{name}");
            if mount.has(&path) {
                there += 1;
                if mount.read(&path) != *content {
                    return Err(format!("{path} is not whole"));
                }
            }
        }
        match there {
            0 => Ok(false),
            _ if there == self.0[n].len() => Ok(true),
            _ if parts => Ok(false),
            _ => Err(format!("{there} of {} are in {folder}", self.0[n].len())),
        }
    }
}

/// A pull that extracts archives, by itself or in a session, into a folder of their name or beside them.
struct Extraction {
    archives: Archives,
    round: usize,
}

impl Extraction {
    /// Whether what is extracted comes to where its archive is.
    fn is_beside(&self) -> bool {
        self.round % 3 == 2
    }

    fn folder(&self, n: usize) -> String {
        if self.is_beside() { format!("a{n}") } else { format!("a{n}/data") }
    }
}

impl Scenario for Extraction {
    fn prepare(&mut self, place: &mut Place) {
        self.round += 1;
        for old in ["store", "a", "b"] {
            place.remove(old);
        }
        self.archives = Archives::make(place);
        self.archives.write(&place.mount("a"));
        place.run("push", "a");
        place.mount("b");
        let policy = format!(r#"{{"extractPolicy": {{"extractToCurrentFolder": {}}}}}"#, self.is_beside());
        std::fs::write(place.path("b/policy.json"), policy).unwrap();
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = if self.round.is_multiple_of(3) {
            place.program("b", &["run", "--wait", "-c", "work", "mount", "--", "/bin/true"])
        } else {
            place.command("pull", "b")
        };
        command.env("CTXSYNC_POLICY", "policy.json");
        command
    }

    /// Each archive is either whole and unextracted, or fully extracted.
    fn look(&mut self, place: &mut Place) -> bool {
        let (source, mount) = (place.mount("a"), place.mount("b"));
        let mut all = true;
        for n in 0..FORMATS.len() {
            let is_out = self.archives.is_out(n, &mount, &self.folder(n), self.is_beside()).unwrap();
            if mount.has(Archives::source(n)) {
                let (here, there) = (mount.at(Archives::source(n)), source.at(Archives::source(n)));
                assert_eq!(std::fs::read(here).unwrap(), std::fs::read(there).unwrap());
            }
            all &= is_out;
        }
        all
    }

    fn again(&self, place: &Place) -> Command {
        let mut command = place.command("sync", "b");
        command.env("CTXSYNC_POLICY", "policy.json");
        command
    }

    fn settled(&mut self, place: &mut Place) {
        let mount = place.mount("b");
        for n in 0..FORMATS.len() {
            assert_eq!(self.archives.is_out(n, &mount, &self.folder(n), false), Ok(true));
            assert!(!mount.has(Archives::source(n)));
        }
        let files = self.archives.0.iter().map(Vec::len).sum::<usize>() + 1;
        assert_eq!(mount.files().len(), files, "{:?}", mount.files());
        // The context has what the machine has, and none of the archives any more.
        place.good("b", &["push", "work", "mount", "--policy", "policy.json", "--json"]);
        let text = differences(&list(&mount.0), &place.fresh());
        assert!(text.is_empty(), "{text}");
    }
}

#[test]
fn p1_an_extracting_pull_that_is_killed_leaves_no_half_archive() {
    kill("an extraction", || Extraction { archives: Archives(Vec::new()), round: 0 });
}

#[test]
fn p5_p6_no_call_that_fails_spoils_an_extraction() {
    fail("an extraction", || Extraction { archives: Archives(Vec::new()), round: 0 });
}
