//! Pushes, and the sessions that make them, that are killed.

use std::path::Path;
use std::process::Command;

use ctxsync_tests::compare::{Listing, differences, list};
use ctxsync_tests::trace::Call;

use crate::failing::fail;
use crate::place::{Place, assert_between};
use crate::scenario::{Scenario, kill};

/// A push of what changed since the one before.
#[derive(Default)]
struct Push {
    old: Listing,
    new: Listing,
    /// How many snapshots there are without it.
    snapshots: usize,
}

impl Scenario for Push {
    fn prepare(&mut self, place: &mut Place) {
        let mount = place.mount("a");
        if self.new.is_empty() {
            place.change(&mount);
            place.run("push", "a");
        }
        self.snapshots = place.snapshots();
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

    fn look_at_part(&mut self, place: &mut Place) {
        let found = place.fresh();
        assert_between(&found, &self.old, &self.new);
        // What is missing comes with the next one.
        self.snapshots += usize::from(found != self.old && found != self.new);
    }

    fn settled(&mut self, place: &mut Place) {
        let text = differences(&self.new, &place.fresh());
        assert!(text.is_empty(), "{text}");
        let text = differences(&self.new, &list(&place.mount("a").0));
        assert!(text.is_empty(), "the mount has changed:\n{text}");
        assert_eq!(place.snapshots(), self.snapshots + 1, "a push is one commit");
    }
}

#[test]
fn p1_a_push_that_is_killed_leaves_the_old_snapshot_or_the_new_one() {
    kill("a push", Push::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_push() {
    fail("a push", Push::default);
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
        // The one that makes the context.
        self.0.snapshots = 1;
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

    fn look_at_part(&mut self, place: &mut Place) {
        self.0.look_at_part(place);
    }

    fn settled(&mut self, place: &mut Place) {
        self.0.settled(place);
    }
}

#[test]
fn p1_a_first_push_that_is_killed_is_made_again() {
    kill("a first push", FirstPush::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_first_push() {
    fail("a first push", FirstPush::default);
}

/// A push that loses the race for its commit: another machine commits right before it.
#[derive(Default)]
struct LostRace {
    push: Push,
    count: usize,
    is_lost: bool,
}

const THEIRS: &str = "from-elsewhere";

impl LostRace {
    /// Adds what the other machine commits to both versions.
    fn add_theirs(&mut self, place: &Place) {
        if !self.is_lost {
            return;
        }
        let theirs = list(&place.mount("b").0).remove(Path::new(THEIRS)).unwrap();
        for listing in [&mut self.push.old, &mut self.push.new] {
            listing.insert(THEIRS.into(), theirs.clone());
        }
    }
}

impl Scenario for LostRace {
    fn prepare(&mut self, place: &mut Place) {
        self.count += 1;
        self.is_lost = false;
        place.mount("b").write(THEIRS, self.count.to_string());
        self.push.prepare(place);
    }

    fn command(&self, place: &Place) -> Command {
        self.push.command(place)
    }

    fn meanwhile(&mut self, place: &Place, call: &Call) {
        let commits = call.name() == "linkat"
            && call
                .objects()
                .last()
                .is_some_and(|object| object.starts_with(place.path("store/contexts/work")));
        if commits && !self.is_lost {
            self.is_lost = true;
            let name = format!("work:{THEIRS}");
            place.good("b", &["put", &name, &format!("mount/{THEIRS}"), "--json"]);
            self.push.snapshots += 1;
        }
    }

    fn is_met(&self) -> bool {
        self.is_lost
    }

    fn look(&mut self, place: &mut Place) -> bool {
        self.add_theirs(place);
        self.push.look(place)
    }

    fn look_at_part(&mut self, place: &mut Place) {
        self.add_theirs(place);
        self.push.look_at_part(place);
    }

    fn settled(&mut self, place: &mut Place) {
        self.add_theirs(place);
        let text = differences(&self.push.new, &place.fresh());
        assert!(text.is_empty(), "{text}");
        assert_eq!(place.snapshots(), self.push.snapshots + 1, "a push is one commit");
        // What the other one has made comes as any change does.
        place.run("pull", "a");
        let text = differences(&self.push.new, &list(&place.mount("a").0));
        assert!(text.is_empty(), "{text}");
    }
}

#[test]
fn p1_n9_a_push_that_lost_a_race_and_is_killed_is_one_commit() {
    kill("a push that loses a race", LostRace::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_push_that_lost_a_race() {
    fail("a push that loses a race", LostRace::default);
}

/// A session that brings what another machine has changed, and saves what its command changes.
#[derive(Default)]
struct Session {
    count: usize,
    old: Listing,
}

impl Scenario for Session {
    fn prepare(&mut self, place: &mut Place) {
        self.count += 1;
        let mount = place.mount("b");
        place.change(&mount);
        place.run("push", "b");
        self.old = list(&mount.0);
        place.mount("a");
    }

    fn command(&self, place: &Place) -> Command {
        // Written once: the same content with a new time would not be a change.
        let script = format!(
            "mkdir -p made; grep -qx {0} made/new || echo {0} >made/new; rm -f pinned; echo >>log",
            self.count
        );
        place.program("a", &["run", "--wait", "-c", "work", "mount", "--", "/bin/sh", "-c", &script])
    }

    fn look(&mut self, place: &mut Place) -> bool {
        let (found, there) = (place.fresh(), list(&place.mount("a").0));
        let is_new = differences(&there, &found).is_empty();
        let text = differences(&self.old, &found);
        assert!(is_new || text.is_empty(), "neither old nor new, against the old:\n{text}");
        // A session more may change the mount again before it is killed.
        let has_changed = is_new && found != self.old;
        self.old = found;
        has_changed
    }

    fn look_at_part(&mut self, place: &mut Place) {
        assert_between(&place.fresh(), &self.old, &list(&place.mount("a").0));
    }

    fn failing_codes(&self) -> &'static [i32] {
        // 126: the command can't be run.
        &[1, 3, 126]
    }

    fn settled(&mut self, place: &mut Place) {
        let mount = place.mount("a");
        assert_eq!(mount.read("made/new"), format!("{}\n", self.count));
        assert!(!mount.has("pinned"));
        let text = differences(&list(&mount.0), &place.fresh());
        assert!(text.is_empty(), "{text}");
        place.run("pull", "b");
    }
}

#[test]
fn p1_a_session_that_is_killed_is_saved_by_the_next() {
    kill("a session", Session::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_session() {
    fail("a session", Session::default);
}
