//! Pulls and restores that are killed.

use std::process::Command;

use ctxsync_tests::compare::{Listing, assert_same, list};
use serde_json::Value;

use crate::place::{Place, assert_between};
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
        assert_between(&mount.0, &self.old, &self.new);
        // A push before the next pull sends nothing: whatever the killed pull put in place is not a local
        // change.
        if self.round.is_multiple_of(2) {
            let between = place.run("push", "b");
            assert_eq!((&between["added"], &between["deleted"]), (&0.into(), &0.into()), "{between}");
        }
        list(&mount.0) == self.new
    }

    fn settled(&mut self, place: &mut Place) {
        assert_same(&place.mount("a").0, &place.mount("b").0);
        let after = place.run("push", "b");
        assert_eq!(after["snapshot"], self.pushed["snapshot"], "{after}");
    }
}

#[test]
fn p1_a_pull_that_is_killed_leaves_whole_files_and_is_gone_on_with() {
    kill("a pull", Pull::default());
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
    kill("a first pull", FirstPull::default());
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
        assert_between(&restored, &Listing::new(), &new);
        list(&restored) == new
    }

    fn settled(&mut self, place: &mut Place) {
        assert_same(&place.mount("a").0, &place.path("a/restored"));
    }
}

#[test]
fn p1_a_restore_that_is_killed_leaves_nothing_that_the_next_does_not_clear() {
    kill("a restore", Restore::default());
}
