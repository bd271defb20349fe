//! `log`: which snapshots of a context are shown, and how many are read for that.

use ctxsync_tests::s3::S3Server;
use serde_json::json;

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
        let shown = numbers(&self.done(&[&["--json"], args].concat()));
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

#[test]
fn a_log_of_paths_tells_when_they_changed() {
    let world = World::new();
    let store = Counting::new(&world);
    for (at, path) in ["dir/a", "b", "dir/deep/c", "b"].into_iter().enumerate() {
        store.machine.write(&format!("work/{path}"), at.to_string());
        store.done(&["push", "c", "work"]);
    }
    store.done(&["rm", "c:dir/a"]);
    // 2: dir/a, 3: b, 4: dir/deep/c, 5: b, 6: without dir/a
    for (paths, expected) in [
        (&["dir/"][..], &[6, 4, 2][..]),
        (&["./dir/a"], &[6, 2]),
        (&["b"], &[5, 3]),
        (&["dir/deep", "b"], &[5, 4, 3]),
        (&["."], &[6, 5, 4, 3, 2]),
        (&["missing"], &[]),
    ] {
        assert_eq!(store.counted(&[&["log", "c", "--"], paths].concat()).0, expected, "{paths:?}");
    }
    // Two snapshots are compared, and no other is read.
    assert_eq!(store.counted(&["log", "c", "--limit", "1", "--", "dir"]), (vec![6], 2, 0));
}

#[test]
fn what_is_told_of_paths_that_no_snapshot_has() {
    let machine = World::new().machine("a");
    machine.write("work/file", "file");
    machine.done(&["push", "c", "work"]);
    let mut seen = Vec::new();
    for args in [
        &["log", "c", "--", "file"][..],
        &["log", "c", "--", "missing", "dir/none"],
        &["log", "c", "--limit", "0", "--", "missing"],
        &["-q", "log", "c", "--", "missing"],
        &["log", "c", "--", ""],
        &["log", "c", "--", "../file"],
        &["log", "c", "--limit", "few"],
        &["log", "none", "--limit", "0"],
    ] {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
    }
    insta::assert_snapshot!("log", seen.join("\n\n"));
}

#[test]
fn a_graph_shows_forks_and_merges() {
    let machine = World::new().machine("a");
    machine.write("work/file", "file");
    machine.done(&["push", "base", "work"]);
    for name in ["try/1", "try/2"] {
        machine.done(&["context", "fork", "base", name]);
        machine.done(&["put", &format!("{name}:{name}"), "work/file"]);
        machine.done(&["context", "merge", name, "base"]);
    }
    machine.done(&["context", "tag", "base", "best"]);
    machine.done(&["context", "merge", "base", "try/1"]);
    let mut seen = Vec::new();
    for args in [
        &["log", "base", "--graph"][..],
        &["log", "try/1", "--graph"],
        &["log", "try/1", "--graph", "--", "try/2"],
        &["log", "try/1", "--graph", "--limit", "1"],
        &["log", "try/2", "--graph"],
    ] {
        let ended = machine.call(args);
        assert!(ended.out.lines().all(|line| line.len() <= 80), "{}", ended.out);
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), ended.seen()));
    }
    insta::assert_snapshot!("graph", seen.join("\n\n"));
    let rows = machine.done(&["--json", "log", "try/1", "--graph"]).of_type("snapshot");
    let origins: Vec<_> =
        rows.iter().map(|row| (row["forked_from"].clone(), row["merged"].clone())).collect();
    assert_eq!(
        origins,
        [(json!(null), json!(["base@4"])), (json!(null), json!([])), (json!("base@2"), json!([]))]
    );
    let plain = machine.done(&["--json", "log", "try/1"]).of_type("snapshot");
    assert!(
        plain.iter().all(|row| row.get("merged").is_none() && row.get("forked_from").is_none()),
        "{plain:?}"
    );
}

#[test]
fn a_graph_with_a_limit_reads_one_snapshot_more() {
    let store = Counting::new(&World::new());
    for content in 1..=5 {
        store.machine.write("work/file", content.to_string());
        store.done(&["push", "c", "work"]);
    }
    assert_eq!(store.counted(&["log", "c", "--graph", "--limit", "2"]), (vec![6, 5], 3, 0));
    assert_eq!(store.counted(&["log", "c", "--graph"]), (vec![6, 5, 4, 3, 2, 1], 6, 0));
}
