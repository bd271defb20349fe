//! Pulls and restores that are killed.

use std::path::Path;
use std::process::Command;

use ctxsync_tests::compare::{Listing, assert_same, list};
use ctxsync_tests::tree::Tree;
use serde_json::Value;

use crate::failing::fail;
use crate::place::{Place, assert_between, without_staging};
use crate::scenario::{Scenario, kill};

/// A pull of what changed since the one before.
#[derive(Default)]
struct Pull {
    old: Listing,
    new: Listing,
    pushed: Value,
    round: usize,
}

impl Scenario for Pull {
    fn prepare(&mut self, place: &mut Place) {
        let (a, b) = (place.mount("a"), place.mount("b"));
        self.old = list(&b.0);
        self.round += 1;
        place.change(&a);
        self.pushed = place.run("push", "a");
        self.new = list(&a.0);
    }

    fn command(&self, place: &Place) -> Command {
        place.command("pull", "b")
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let mount = place.mount("b");
        assert_between(&list(&mount.0), &self.old, &self.new);
        // A push before the next pull sends nothing: whatever the killed pull put in place is not a local
        // change.
        if self.round.is_multiple_of(2) {
            let between = place.run("push", "b");
            assert_eq!((&between["added"], &between["deleted"]), (&0.into(), &0.into()), "{between}");
        }
        without_staging(list(&mount.0)) == self.new
    }

    fn settled(&mut self, place: &mut Place) {
        assert_same(&place.mount("a").0, &place.mount("b").0);
        let after = place.run("push", "b");
        assert_eq!(after["snapshot"], self.pushed["snapshot"], "{after}");
    }
}

#[test]
fn p1_a_pull_that_is_killed_leaves_whole_files_and_is_gone_on_with() {
    kill("a pull", Pull::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_pull() {
    fail("a pull", Pull::default);
}

/// A pull of a snapshot that is not the head any more. A pull of the head goes on.
#[derive(Default)]
struct PullOlder {
    old: Listing,
    then: Listing,
    now: Listing,
    to: String,
    head: Value,
}

impl PullOlder {
    /// Fails if there is something to push: whatever the killed pull put in place is not a local change.
    fn pushes_nothing(&self, place: &Place) {
        let pushed = place.run("push", "b");
        assert_eq!(pushed["snapshot"], self.head, "{pushed}");
    }
}

impl Scenario for PullOlder {
    fn prepare(&mut self, place: &mut Place) {
        let (a, b) = (place.mount("a"), place.mount("b"));
        self.old = list(&b.0);
        place.change(&a);
        self.to = format!("work@{}", place.run("push", "a")["snapshot"]);
        self.then = list(&a.0);
        place.change(&a);
        self.head = place.run("push", "a")["snapshot"].clone();
        self.now = list(&a.0);
    }

    fn command(&self, place: &Place) -> Command {
        place.program("b", &["pull", &self.to, "mount", "--read-only", "--json"])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        // The pull of the head may have been killed as well.
        let (found, versions) =
            (without_staging(list(&place.mount("b").0)), [&self.old, &self.then, &self.now]);
        for (path, node) in &found {
            let known = versions.iter().any(|version| version.get(path) == Some(node));
            assert!(known, "{}: {node:?}", path.display());
        }
        for path in self.old.keys().filter(|path| versions.iter().all(|version| version.contains_key(*path)))
        {
            assert!(found.contains_key(path), "{} is gone", path.display());
        }
        self.pushes_nothing(place);
        found == self.then
    }

    /// The push has noted that the mount has seen the head, so no pull goes back to the older snapshot.
    fn again(&self, place: &Place) -> Command {
        place.command("pull", "b")
    }

    fn settled(&mut self, place: &mut Place) {
        self.pushes_nothing(place);
        place.run("pull", "b");
        assert_same(&place.mount("a").0, &place.mount("b").0);
        self.pushes_nothing(place);
    }
}

#[test]
fn p1_a_pull_of_an_older_snapshot_that_is_killed_is_no_local_change() {
    kill("a pull of an older snapshot", PullOlder::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_pull_of_an_older_snapshot() {
    fail("a pull of an older snapshot", PullOlder::default);
}

/// A pull into an empty mount.
#[derive(Default)]
struct FirstPull(Pull);

impl Scenario for FirstPull {
    fn prepare(&mut self, place: &mut Place) {
        place.remove("b");
        self.0.prepare(place);
    }

    fn command(&self, place: &Place) -> Command {
        self.0.command(place)
    }

    fn look(&mut self, place: &mut Place) -> bool {
        self.0.look(place)
    }

    fn settled(&mut self, place: &mut Place) {
        self.0.settled(place);
    }
}

#[test]
fn p1_a_first_pull_that_is_killed_is_gone_on_with() {
    kill("a first pull", FirstPull::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_first_pull() {
    fail("a first pull", FirstPull::default);
}

/// A pull into a mount in which two files were edited, one of which the other machine has changed as well.
#[derive(Default)]
struct Edited {
    old: Listing,
    new: Listing,
    count: usize,
}

impl Edited {
    fn text(whose: &str, count: usize) -> String {
        format!("{whose} {count}")
    }

    /// Fails if an edit is gone. Returns the other machine's version of what both changed, if it is there.
    fn copy(&self, mount: &Tree) -> Option<String> {
        for edited in ["mine", "both"] {
            assert_eq!(mount.read(edited), Self::text("here", self.count), "{edited}");
        }
        let copies: Vec<String> =
            mount.files().into_iter().filter(|name| name.contains(".conflict-")).collect();
        assert!(copies.len() < 2, "{copies:?}");
        copies.iter().for_each(|copy| assert_eq!(mount.read(copy), Self::text("there", self.count)));
        copies.into_iter().next()
    }

    fn without_edits(mut listing: Listing, copy: Option<&str>) -> Listing {
        ["mine", "both"].into_iter().chain(copy).for_each(|path| drop(listing.remove(Path::new(path))));
        listing
    }
}

impl Scenario for Edited {
    fn prepare(&mut self, place: &mut Place) {
        self.count += 1;
        let (a, b) = (place.mount("a"), place.mount("b"));
        if self.count == 1 {
            place.change(&a);
            a.write("mine", "before").write("both", "before");
            place.run("push", "a");
            place.run("pull", "b");
        }
        place.change(&a);
        a.write("both", Self::text("there", self.count));
        place.run("push", "a");
        for edited in ["mine", "both"] {
            b.write(edited, Self::text("here", self.count));
        }
        self.old = list(&b.0);
        self.new = list(&a.0);
    }

    fn command(&self, place: &Place) -> Command {
        place.command("pull", "b")
    }

    fn codes(&self) -> &'static [i32] {
        &[0, 4]
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let mount = place.mount("b");
        let copy = self.copy(&mount);
        let found = Self::without_edits(list(&mount.0), copy.as_deref());
        let [old, new] = [&self.old, &self.new].map(|listing| Self::without_edits(listing.clone(), None));
        assert_between(&found, &old, &new);
        without_staging(found) == new
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(self.look(place));
        let mount = place.mount("b");
        let copy = self.copy(&mount).unwrap();
        // What both changed is decided, and both machines have the same again.
        mount.remove(&copy);
        place.run("push", "b");
        place.run("pull", "a");
        assert_same(&place.mount("a").0, &mount.0);
    }
}

#[test]
fn p1_w8_a_pull_over_edits_that_is_killed_keeps_them() {
    kill("a pull over edits", Edited::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_pull_over_edits() {
    fail("a pull over edits", Edited::default);
}

/// A restore into an empty directory.
#[derive(Default)]
struct Restore {
    snapshot: String,
}

impl Scenario for Restore {
    fn prepare(&mut self, place: &mut Place) {
        let mount = place.mount("a");
        if self.snapshot.is_empty() {
            place.change(&mount);
            self.snapshot = place.run("push", "a")["snapshot"].to_string();
        }
        place.remove("a/restored");
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["restore", &format!("work@{}", self.snapshot), "restored", "--json"])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let (new, restored) = (list(&place.mount("a").0), place.path("a/restored"));
        assert_between(&list(&restored), &Listing::new(), &new);
        without_staging(list(&restored)) == new
    }

    fn settled(&mut self, place: &mut Place) {
        assert_same(&place.mount("a").0, &place.path("a/restored"));
    }
}

#[test]
fn p1_a_restore_that_is_killed_leaves_nothing_that_the_next_does_not_clear() {
    kill("a restore", Restore::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_restore() {
    fail("a restore", Restore::default);
}
