//! Forks, merges and reverts that are killed.

use std::path::Path;
use std::process::Command;

use ctxsync_tests::compare::{Listing, differences, list};
use ctxsync_tests::trace::{Act, Errno, may_trace, trace};
use ctxsync_tests::tree::Tree;

use crate::failing::fail;
use crate::place::{Place, assert_between, without_staging};
use crate::scenario::{Scenario, kill};
use crate::storing::{begin, pulled};

/// Fails unless a context has what the mount has, and nothing else but one path, if that is there. Returns whether it is.
fn is_beside(mut found: Listing, path: &str, place: &Place) -> bool {
    let is_there = found.remove(Path::new(path)).is_some();
    let text = differences(&list(&place.mount("a").0), &found);
    assert!(text.is_empty(), "{text}");
    is_there
}

/// Writes a file of a context.
fn put(place: &Place, at: &str) {
    Tree(place.path("a")).write("input", format!("content of {at}"));
    place.good("a", &["put", at, "input", "--json"]);
}

/// Forking a context.
#[derive(Default)]
struct Fork;

impl Scenario for Fork {
    fn prepare(&mut self, place: &mut Place) {
        begin(place);
        if pulled(place, "try").is_some() {
            place.good("a", &["context", "delete", "try", "--yes", "--json"]);
        }
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["context", "fork", "work", "try", "--json"])
    }

    /// A session makes the fork where it is missing.
    fn again(&self, place: &Place) -> Command {
        place.remove("fresh");
        place.mount("fresh");
        let run = ["run", "-c", "try", "--fork-from", "work", "--wait", "mount", "--json", "--", "true"];
        place.program("fresh", &run)
    }

    fn look(&mut self, place: &mut Place) -> bool {
        assert!(!is_beside(place.fresh(), "none", place));
        pulled(place, "try").is_some_and(|found| !is_beside(found, "none", place))
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(self.look(place));
    }
}

#[test]
fn p1_a_fork_that_is_killed_is_there_or_not() {
    kill("a fork", Fork::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_fork() {
    fail("a fork", Fork::default);
}

/// Merging what is new in a fork.
#[derive(Default)]
struct Merge {
    snapshots: usize,
}

const NEW: &str = "new";

impl Scenario for Merge {
    fn prepare(&mut self, place: &mut Place) {
        begin(place);
        if pulled(place, "try").is_none() {
            place.good("a", &["context", "fork", "work", "try", "--json"]);
        }
        if place.fresh().contains_key(Path::new(NEW)) {
            place.good("a", &["rm", &format!("work:{NEW}"), "--json"]);
            place.good("a", &["context", "merge", "work", "try", "--json"]);
        }
        put(place, &format!("try:{NEW}"));
        self.snapshots = place.snapshots();
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["context", "merge", "try", "work", "--json"])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        is_beside(place.fresh(), NEW, place)
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(self.look(place));
        assert_eq!(place.snapshots(), self.snapshots + 1, "it is one commit");
    }
}

#[test]
fn p1_a_merge_that_is_killed_is_one_commit() {
    kill("a merge", Merge::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_merge() {
    fail("a merge", Merge::default);
}

/// Going back to the snapshot before the last.
#[derive(Default)]
struct Revert {
    to: String,
    snapshots: usize,
}

impl Scenario for Revert {
    fn prepare(&mut self, place: &mut Place) {
        begin(place);
        let shown = place.good("a", &["context", "show", "work", "--json"]);
        self.to = format!("work@{}", shown[0]["snapshot"]);
        put(place, &format!("work:{NEW}"));
        self.snapshots = place.snapshots();
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["context", "revert", &self.to, "--json"])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        !is_beside(place.fresh(), NEW, place)
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(self.look(place));
        assert_eq!(place.snapshots(), self.snapshots + 1, "it is one commit");
    }
}

#[test]
fn p1_a_revert_that_is_killed_is_one_commit() {
    kill("a revert", Revert::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_revert() {
    fail("a revert", Revert::default);
}

/// Going back in place, from a mount with changes that are not saved yet.
#[derive(Default)]
struct InPlace {
    to: String,
    then: Listing,
    head: Listing,
    now: Listing,
    round: usize,
}

impl Scenario for InPlace {
    fn prepare(&mut self, place: &mut Place) {
        let mount = place.mount("a");
        self.round += 1;
        place.change(&mount);
        self.to = format!("work@{}", place.run("push", "a")["snapshot"]);
        self.then = list(&mount.0);
        place.change(&mount);
        place.run("push", "a");
        self.head = list(&mount.0);
        place.change(&mount);
        self.now = list(&mount.0);
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["restore", "--in-place", &self.to, "mount", "--json"])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let mount = place.mount("a");
        let found = without_staging(list(&mount.0));
        assert_between(&found, &self.now, &self.then);
        let is_like = |one: &Listing, other: &Listing| differences(one, other).is_empty();
        let fresh = place.fresh();
        if is_like(&fresh, &self.then) {
            // Nothing in the mount was touched before it was saved.
            place.remove("before");
            std::fs::create_dir(place.path("before")).unwrap();
            place.good("before", &["restore", "work@-1", "mount", "--json"]);
            let text = differences(&self.now, &list(&place.path("before/mount")));
            assert!(text.is_empty(), "{text}");
        } else {
            // What could not be read is not saved yet.
            for (path, node) in &fresh {
                assert!(
                    Some(node) == self.head.get(path) || Some(node) == self.now.get(path),
                    "{path:?}: {node:?}"
                );
            }
            let text = differences(&self.now, &found);
            assert!(text.is_empty(), "{text}");
        }
        // The next sync goes on from there.
        if self.round.is_multiple_of(2) {
            place.run("sync", "a");
            let text = differences(&list(&mount.0), &place.fresh());
            assert!(text.is_empty(), "{text}");
        }
        is_like(&found, &self.then)
    }

    fn settled(&mut self, place: &mut Place) {
        let text = differences(&self.then, &list(&place.mount("a").0));
        assert!(text.is_empty(), "{text}");
        let text = differences(&self.then, &place.fresh());
        assert!(text.is_empty(), "{text}");
    }
}

#[test]
fn p1_a_restore_in_place_that_is_killed_has_saved_what_it_touched() {
    kill("a restore in place", InPlace::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_restore_in_place() {
    fail("a restore in place", InPlace::default);
}

/// Only what the mount's state knows to be in the context may be reverted there: what it does not know counts as an
/// edit that the context does not have.
#[test]
fn p5_a_restore_in_place_reverts_nothing_that_it_could_not_note() {
    if !may_trace() {
        return;
    }
    let (mut place, mut scenario) = (Place::new(0), InPlace::default());
    scenario.prepare(&mut place);
    let mut failed = 0;
    let ran = trace(&scenario.command(&place), |call| {
        if call.name() != "syncfs" {
            return Act::Go;
        }
        failed += 1;
        Act::Fail(Errno::EIO)
    });
    assert!(failed > 0);
    assert_eq!(ran.code(), Some(1), "{ran:?}");
    assert!(ran.out.contains("is saved, but was left as it is"), "{ran:?}");
    let text = differences(&scenario.now, &list(&place.mount("a").0));
    assert!(text.is_empty(), "{text}");
    place.good("a", &["restore", "--in-place", &scenario.to, "mount", "--json"]);
    scenario.settled(&mut place);
}
