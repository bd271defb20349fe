//! `log`: which snapshots of a context are shown, and how many are read for that.

use ctxsync_tests::s3::S3Server;

use crate::world::{Ended, Machine, World};

/// Returns the numbers of the snapshots that a call of `log --json` shows.
fn numbers(log: &Ended) -> Vec<u64> {
    log.of_type("snapshot").iter().map(|row| row["snapshot"].as_u64().unwrap()).collect()
}

/// A machine with a store behind a server that counts requests.
struct Counting {
    server: S3Server,
    machine: Machine,
}

impl Counting {
    fn new(world: &World) -> Self {
        Self { server: S3Server::start().unwrap(), machine: world.machine("a") }
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> Ended {
        let mut command = self.machine.command(args);
        command.envs(self.server.env()).env("CTXSYNC_STORE", self.server.url("log"));
        let ended = self.machine.ended(command.output().unwrap());
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.seen());
        ended
    }

    /// Returns which snapshots a call shows, and how many requests for snapshots and for packs it sends.
    fn counted(&self, args: &[&str]) -> (Vec<u64>, usize, usize) {
        self.server.clear_requests();
        let shown = numbers(&self.done(&[args, &["--json"]].concat()));
        let requests = self.server.requests();
        let of = |place: &str| {
            let is_read = |target: &str| target.contains(place) && !target.contains("list-type");
            requests.iter().filter(|r| r.method == "GET" && is_read(&r.target)).count()
        };
        (shown, of("/contexts/"), of("/packs/"))
    }
}

#[test]
fn a_limit_ends_a_log_early() {
    let world = World::new();
    let store = Counting::new(&world);
    for content in 1..=5 {
        store.machine.write("work/file", content.to_string());
        store.done(&["push", "c", "work"]);
    }
    assert_eq!(store.counted(&["log", "c"]), (vec![6, 5, 4, 3, 2, 1], 6, 0));
    assert_eq!(store.counted(&["log", "c", "--limit", "3"]), (vec![6, 5, 4], 3, 0));
    assert_eq!(store.counted(&["log", "c", "--limit", "1"]), (vec![6], 1, 0));
    assert_eq!(store.counted(&["log", "c", "--limit", "9"]).0.len(), 6);
    assert_eq!(store.counted(&["log", "c", "--limit", "0"]), (vec![], 1, 0));
    // The snapshots before the last deletion are not counted.
    store.done(&["context", "delete", "c", "--yes"]);
    store.done(&["context", "create", "c"]);
    assert_eq!(store.counted(&["log", "c", "--limit", "3"]).0, [8]);
}
