//! Collections, repairs and purges that are killed.

use std::path::Path;
use std::process::Command;

use ctxsync_tests::compare::list;

use crate::failing::fail;
use crate::place::Place;
use crate::scenario::{Scenario, kill};

/// A collection that forgets a snapshot, or deletes what was forgotten before.
#[derive(Default)]
struct Collection {
    round: usize,
}

impl Scenario for Collection {
    fn prepare(&mut self, place: &mut Place) {
        self.round += 1;
        let a = place.mount("a");
        for _ in 0..2 {
            place.change(&a);
            place.run("push", "a");
        }
        place.age();
        if self.round % 3 == 1 {
            place.good("a", &["gc", "--keep-last", "1", "--json"]);
            place.age();
        }
    }

    fn command(&self, place: &Place) -> Command {
        let exclusive = self.round.is_multiple_of(3).then_some("--exclusive");
        let args = ["gc", "--keep-last", "1", "--json"].into_iter().chain(exclusive);
        place.program("a", &args.collect::<Vec<_>>())
    }

    fn look(&mut self, place: &mut Place) -> bool {
        assert!(place.head_is_whole());
        // Three were there. If data was moved, the head before that is forgotten by the next collection only.
        place.snapshots() < 3
    }

    fn settled(&mut self, place: &mut Place) {
        for _ in 0..2 {
            place.age();
            place.good("a", &["gc", "--keep-last", "1", "--json"]);
        }
        let checked = place.good("a", &["check", "--read-data", "--json"]);
        assert_eq!(checked.last().unwrap()["packs_unused"], 0, "{checked:?}");
        assert_eq!((place.snapshots(), place.fresh()), (1, list(&place.mount("a").0)));
    }
}

#[test]
fn p1_w6_a_collection_that_is_killed_is_gone_on_with() {
    kill("a collection", Collection::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_collection() {
    fail("a collection", Collection::default);
}

/// A repair of a context that has lost its longest pack.
struct Repair;

const REPAIR: [&str; 4] = ["repair", "--yes", "--json", "work"];

impl Scenario for Repair {
    fn prepare(&mut self, place: &mut Place) {
        let a = place.mount("a");
        place.change(&a);
        place.run("push", "a");
        // Older snapshots do not lend the next round what it has lost.
        place.good("a", &["gc", "--keep-last", "1", "--exclusive", "--json"]);
        let packs = std::fs::read_dir(place.path("store/packs")).unwrap().map(|entry| entry.unwrap().path());
        std::fs::remove_file(packs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()).unwrap();
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &REPAIR)
    }

    fn look(&mut self, place: &mut Place) -> bool {
        place.head_is_whole()
    }

    fn codes(&self) -> &'static [i32] {
        &[0, 3]
    }

    fn settled(&mut self, place: &mut Place) {
        assert!(place.head_is_whole());
        // The machine still has everything, and gives it back.
        let pulled = place.run("pull", "a");
        assert_eq!(pulled["deleted"], 0, "{pulled}");
        place.good("a", &["push", "--heal", "work", "mount", "--json"]);
        assert_eq!(list(&place.mount("a").0), place.fresh());
        place.good("a", &["repair", "--yes", "--forget-damaged", "--json"]);
    }
}

#[test]
fn p1_a_repair_that_is_killed_is_done_again() {
    kill("a repair", || Repair);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_repair() {
    fail("a repair", || Repair);
}

/// A purge of a file that two snapshots have.
#[derive(Default)]
struct Purge {
    secret: Vec<u8>,
}

impl Scenario for Purge {
    fn prepare(&mut self, place: &mut Place) {
        let a = place.mount("a");
        place.change(&a);
        self.secret = place.random.bytes(5000);
        a.write("secret", &self.secret);
        place.run("push", "a");
        place.change(&a);
        place.run("push", "a");
    }

    fn command(&self, place: &Place) -> Command {
        place.program("a", &["purge", "work:secret", "--yes", "--exclusive", "--json"])
    }

    /// No snapshot may have the path any more when the rest is done: then there is nothing to purge.
    fn codes(&self) -> &'static [i32] {
        &[0, 10]
    }

    fn look(&mut self, place: &mut Place) -> bool {
        assert!(place.head_is_whole());
        !place.fresh().contains_key(Path::new("secret"))
    }

    fn settled(&mut self, place: &mut Place) {
        // What is left of a purge that had come as far as that is for a collection.
        place.good("a", &["gc", "--exclusive", "--json"]);
        for pack in std::fs::read_dir(place.path("store/packs")).unwrap() {
            let bytes = std::fs::read(pack.unwrap().path()).unwrap();
            assert!(!bytes.windows(64).any(|window| window == &self.secret[..64]));
        }
        std::fs::remove_file(place.mount("a").at("secret")).unwrap();
        place.run("pull", "a");
        assert_eq!(list(&place.mount("a").0), place.fresh());
        // The next round does not have to purge this one's snapshots again.
        place.good("a", &["gc", "--keep-last", "1", "--exclusive", "--json"]);
    }
}

#[test]
fn p1_a_purge_that_is_killed_is_done_again() {
    kill("a purge", Purge::default);
}

#[test]
fn p5_p6_no_call_that_fails_spoils_a_purge() {
    fail("a purge", Purge::default);
}
