//! A repair and a purge that are killed.

use std::path::Path;
use std::process::Command;

use ctxsync_tests::compare::list;

use crate::place::Place;
use crate::scenario::{Scenario, kill};

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
    kill("a repair", Repair);
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
    kill("a purge", Purge::default());
}
