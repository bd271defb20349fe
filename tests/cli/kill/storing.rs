//! Commands that change a store without a mount, and are killed.

use std::path::Path;
use std::process::Command;

use ctxsync_tests::compare::{Listing, differences, list};
use ctxsync_tests::tree::Tree;

use crate::failing::fail;
use crate::place::Place;
use crate::scenario::{Scenario, kill};

/// Pushes what all scenarios of this kind begin with.
pub(crate) fn begin(place: &mut Place) {
    let mount = place.mount("a");
    if mount.files().is_empty() {
        place.change(&mount);
        place.run("push", "a");
    }
}

/// Writing a file of a context.
#[derive(Default)]
struct Put {
    count: usize,
    snapshots: usize,
}

const PATH: &str = "made/by-put";

impl Scenario for Put {
    fn prepare(&mut self, place: &mut Place) {
        begin(place);
        self.count += 1;
        Tree(place.path("a")).write("input", format!("content {}", self.count));
        self.snapshots = place.snapshots();
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["put", &format!("work:{PATH}"), "input", "--json"])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let found = place.fresh();
        let rest: Listing = found.into_iter().filter(|(path, _)| !path.starts_with("made")).collect();
        let text = differences(&list(&place.mount("a").0), &rest);
        assert!(text.is_empty(), "{text}");
        let fresh = place.mount("fresh");
        let content = fresh.has(PATH).then(|| fresh.read(PATH));
        let is_new = content == Some(format!("content {}", self.count));
        let old = (self.count > 1).then(|| format!("content {}", self.count - 1));
        assert!(is_new || content == old, "{content:?}");
        is_new
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(self.look(place));
        assert_eq!(place.snapshots(), self.snapshots + 1, "it is one commit");
    }
}

#[test]
fn p1_a_put_that_is_killed_is_one_commit() {
    kill("a put", Put::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_put() {
    fail("a put", Put::default);
}

/// Removing a file of a context.
#[derive(Default)]
struct Remove {
    snapshots: usize,
}

impl Scenario for Remove {
    fn prepare(&mut self, place: &mut Place) {
        begin(place);
        Tree(place.path("a")).write("input", "content");
        place.good("a", &["put", &format!("work:{PATH}"), "input", "--json"]);
        self.snapshots = place.snapshots();
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["rm", &format!("work:{PATH}"), "--json"])
    }

    /// It is not there any more if the killed command had done it.
    fn codes(&self) -> &'static [i32] {
        &[0, 10]
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let mut found = place.fresh();
        let is_new = found.remove(Path::new(PATH)).is_none();
        found.remove(Path::new("made")).unwrap();
        let text = differences(&list(&place.mount("a").0), &found);
        assert!(text.is_empty(), "{text}");
        is_new
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(self.look(place));
        assert_eq!(place.snapshots(), self.snapshots + 1, "it is one commit");
    }
}

#[test]
fn p1_a_removal_that_is_killed_is_one_commit() {
    kill("a removal", Remove::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_removal() {
    fail("a removal", Remove::default);
}

/// Renaming a context, and back in the next round.
struct Rename {
    names: [&'static str; 2],
    snapshots: Vec<String>,
}

impl Rename {
    fn log(place: &Place, name: &str) -> Vec<String> {
        let (_, log) = place.lines("a", &["log", name, "--json"]);
        let snapshots = log.iter().filter(|line| line["message_type"] == "snapshot");
        snapshots.map(|line| line["time"].to_string()).collect()
    }
}

/// Returns what is under a name; `None` if it is not in use.
pub(crate) fn pulled(place: &Place, name: &str) -> Option<Listing> {
    place.remove("fresh");
    let mount = place.mount("fresh");
    let (code, lines) = place.lines("fresh", &["pull", name, "mount", "--json"]);
    assert!(matches!(code, Some(0 | 10)), "{lines:?}");
    (code == Some(0)).then(|| list(&mount.0))
}

impl Scenario for Rename {
    fn prepare(&mut self, place: &mut Place) {
        begin(place);
        if self.snapshots.is_empty() {
            place.change(&place.mount("a"));
            place.run("push", "a");
        }
        self.names.reverse();
        self.snapshots = Self::log(place, self.names[0]);
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["context", "rename", self.names[0], self.names[1], "--json"])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let [old, new] = self.names.map(|name| pulled(place, name));
        assert!(old.is_some() || new.is_some(), "no name leads to the files");
        let is_new = new.is_some();
        for found in [old, new].into_iter().flatten() {
            let text = differences(&list(&place.mount("a").0), &found);
            assert!(text.is_empty(), "{text}");
        }
        is_new
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(self.look(place));
        assert_eq!(pulled(place, self.names[0]), None);
        assert_eq!(Self::log(place, self.names[1]), self.snapshots);
    }
}

#[test]
fn p1_a_rename_that_is_killed_is_finished_by_the_next() {
    kill("a rename", || Rename { names: ["moved", "work"], snapshots: Vec::new() });
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_rename() {
    fail("a rename", || Rename { names: ["moved", "work"], snapshots: Vec::new() });
}

/// Copying a context to another store: all, or what is new there.
#[derive(Default)]
struct Copy {
    round: usize,
}

impl Scenario for Copy {
    fn prepare(&mut self, place: &mut Place) {
        self.round += 1;
        if self.round % 3 == 1 {
            place.remove("other");
        }
        for _ in 0..2 {
            let mount = place.mount("a");
            place.change(&mount);
            place.run("push", "a");
        }
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["copy", "../store", "../other", "--json"])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        if !place.path("other/ctxsync.json").exists() {
            return false;
        }
        // What is there is whole.
        let checked = place.good("a", &["check", "--read-data", "--store", "../other", "--json"]);
        // A check also counts what is left of a context that was deleted: the one in which an unfinished copy lists
        // what it has sent.
        let listed = place.good("a", &["context", "list", "--store", "../other", "--json"]);
        let contexts = listed.iter().filter(|line| line["message_type"] == "context").count();
        contexts == 1 && checked.last().unwrap()["snapshots"] == place.snapshots()
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(self.look(place));
        place.remove("fresh");
        let mount = place.mount("fresh");
        place.good("fresh", &["pull", "work", "mount", "--store", "../other", "--json"]);
        let text = differences(&list(&place.mount("a").0), &list(&mount.0));
        assert!(text.is_empty(), "{text}");
    }
}

#[test]
fn p1_a_copy_that_is_killed_is_gone_on_with() {
    kill("a copy", Copy::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_copy() {
    fail("a copy", Copy::default);
}
