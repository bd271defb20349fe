//! Pushes that are killed.

use std::process::Command;

use ctxsync_tests::compare::{Listing, differences, list};

use crate::place::Place;
use crate::scenario::{Scenario, kill};

/// A push of what changed since the one before.
#[derive(Default)]
struct Push {
    old: Listing,
    new: Listing,
}

impl Scenario for Push {
    fn prepare(&mut self, place: &mut Place) {
        let mount = place.mount("a");
        if self.new.is_empty() {
            place.change(&mount);
            place.run("push", "a");
        }
        self.old = list(&mount.0);
        place.change(&mount);
        self.new = list(&mount.0);
    }

    fn command(&self, place: &Place) -> Command {
        place.command("push", "a")
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let found = place.fresh();
        let is_new = differences(&self.new, &found).is_empty();
        let text = differences(&self.old, &found);
        assert!(is_new || text.is_empty(), "neither old nor new, against the old:\n{text}");
        is_new
    }

    fn settled(&mut self, place: &mut Place) {
        let text = differences(&self.new, &place.fresh());
        assert!(text.is_empty(), "{text}");
        let text = differences(&self.new, &list(&place.mount("a").0));
        assert!(text.is_empty(), "the mount has changed:\n{text}");
    }
}

#[test]
fn p1_a_push_that_is_killed_leaves_the_old_snapshot_or_the_new_one() {
    kill("a push", Push::default());
}

/// The push that makes store and context.
#[derive(Default)]
struct FirstPush(Push);

impl Scenario for FirstPush {
    fn prepare(&mut self, place: &mut Place) {
        place.remove("a");
        place.remove("store");
        let mount = place.mount("a");
        place.change(&mount);
        self.0.new = list(&mount.0);
    }

    fn command(&self, place: &Place) -> Command {
        self.0.command(place)
    }

    fn look(&mut self, place: &mut Place) -> bool {
        // No context yet, or one without files.
        place.remove("fresh");
        place.mount("fresh");
        place.lines("fresh", &["pull", "work", "mount", "--json"]).0 != Some(10) && self.0.look(place)
    }

    fn settled(&mut self, place: &mut Place) {
        self.0.settled(place);
    }
}

#[test]
fn p1_a_first_push_that_is_killed_is_made_again() {
    kill("a first push", FirstPush::default());
}
