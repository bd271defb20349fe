//! `gc`: its output, what it keeps, and its exit codes.

use crate::world::{Ended, Machine, World, noise};

/// A context with four snapshots, of which the last three have a pack each.
fn with_history(world: &World) -> Machine {
    let machine = world.machine("a");
    machine.done(&["context", "create", "c"]);
    for len in [1000, 2000, 3000] {
        machine.write("work/f", noise(len));
        machine.done(&["push", "c", "work"]);
    }
    machine
}

fn count(world: &World, below: &str) -> usize {
    std::fs::read_dir(world.store().join(below)).unwrap().count()
}

#[test]
fn what_is_not_kept_is_forgotten_and_given_back() {
    let world = World::new();
    let machine = with_history(&world);
    let first = machine.done(&["gc", "--json", "--keep-last", "2"]);
    let forgotten = first.of_type("forgotten");
    assert_eq!(forgotten.len(), 2);
    assert_eq!((forgotten[0]["snapshot"].as_u64(), &forgotten[0]["reason"]), (Some(2), &"retention".into()));
    let figures = |summary: &serde_json::Value| {
        ["forgotten", "erased", "packs_deleted", "packs_kept", "exit_code"]
            .map(|f| summary[f].as_u64().unwrap())
    };
    assert_eq!(figures(&first.summary()), [2, 0, 0, 3, 0], "within the grace period nothing is deleted");
    assert_eq!(machine.done(&["log", "c", "--json"]).of_type("snapshot").len(), 2);
    // `--exclusive` asserts that no other writer runs.
    let left = world.store().join("packs/00000000000000000000000000000000#1");
    std::fs::write(&left, "half a pack").unwrap();
    let dry = machine.done(&["gc", "--json", "--exclusive", "--dry-run"]);
    assert_eq!(count(&world, "packs"), 4);
    let wet = machine.done(&["gc", "--json", "--exclusive"]);
    assert_eq!(figures(&dry.summary()), figures(&wet.summary()));
    assert_eq!(figures(&wet.summary()), [0, 2, 1, 2, 0]);
    assert_eq!(wet.summary()["leftovers_deleted"], 1);
    assert_eq!(count(&world, "packs"), 2);
    machine.done(&["restore", "c", "back"]);
    assert_eq!(machine.call(&["restore", "c@2", "older"]).code, 10);
    let said = machine.done(&["gc", "--keep-within", "30d"]);
    assert!(said.out.starts_with("forgot 0 snapshots, deleted 0 packs (0 B); kept 2 packs"), "{}", said.out);
}

#[test]
fn what_waits_for_the_grace_period_is_said() {
    let world = World::new();
    let machine = with_history(&world);
    let hint = "is deleted by the first gc after the grace period of 1d";
    assert!(machine.done(&["gc", "--keep-last", "2"]).err.contains(hint));
    assert!(!machine.done(&["gc", "--keep-last", "1", "--exclusive"]).err.contains(hint));
}

#[test]
fn what_cannot_be_read_stops_it() {
    let world = World::new();
    let machine = with_history(&world);
    std::fs::write(world.store().join("contexts/c/fffffffffffffffd"), "nonsense").unwrap();
    let ended = machine.call(&["gc", "--exclusive", "--keep-last", "1"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("contexts/c/fffffffffffffffd can't be read"), "{}", ended.err);
    assert!(
        ended.out.starts_with("nothing was deleted, because 1 snapshot could not be read"),
        "{}",
        ended.out
    );
    assert_eq!(count(&world, "packs"), 3);
}

#[test]
fn mistakes_are_told() {
    let world = World::new();
    let machine = world.machine("a");
    assert_eq!(machine.call(&["gc"]).code, 10, "there is no store");
    machine.done(&["store", "init"]);
    for wrong in [
        &["--keep-last", "0"][..],
        &["--keep-last", "-1"],
        &["--keep-daily=-1"],
        &["--keep-within", "a while"],
        &["c"],
        &["a b", "--keep-last", "1"],
        &["--retention", "none.toml"],
    ] {
        assert_eq!(machine.call(&[&["gc"], wrong].concat()).code, 2, "{wrong:?}");
    }
    machine.write("wrong.toml", "[[rules]]\ncontexts = ['c']\nkeep-daily = -1\n");
    insta::assert_snapshot!(
        "retention-wrong-number",
        machine.call(&["gc", "--retention", "wrong.toml"]).seen()
    );
    machine
        .write("wrong.toml", "[[rules]]\ncontexts = ['c']\n\n[[rules]]\ncontexts = ['ci/']\nkeep-last = 1\n");
    insta::assert_snapshot!(
        "retention-empty-rule",
        machine.call(&["gc", "--retention", "wrong.toml"]).seen()
    );
    machine.done(&["gc"]);
}

#[test]
fn many_small_packs_become_one_and_a_pull_asks_for_few() {
    let world = World::new();
    let machine = world.machine("a");
    machine.done(&["context", "create", "c"]);
    for i in 0..64 {
        machine.write(&format!("work/f{i}"), format!("content {i}"));
        machine.done(&["push", "c", "work"]);
    }
    let requests = |to: &str| {
        let pulled = world.machine(to).done(&["pull", "c", "work", "--json"]).summary();
        assert_eq!(pulled["added"], 64);
        pulled["requests"].as_u64().unwrap()
    };
    // The pushes have gathered what was in the first packs, so that nothing is left for a collection.
    assert!(requests("b") < 45);
    let said = machine.done(&["gc", "--dry-run"]).out;
    assert!(!said.contains("would move "), "{said}");
    assert_eq!(machine.done(&["gc", "--json"]).summary()["packs_gathered"], 0);
    machine.write("work/f0", "changed");
    let pushed = machine.done(&["push", "c", "work", "--json"]).summary();
    assert_eq!((&pushed["changed"], &pushed["snapshot"]), (&1.into(), &66.into()));
}

/// Three contexts with three snapshots each.
fn three_contexts(world: &World) -> Machine {
    let machine = world.machine("a");
    for context in ["ci/a", "ci/b", "main"] {
        machine.done(&["context", "create", context]);
        for len in [1000, 2000] {
            machine.write("work/f", noise(len));
            machine.done(&["push", context, "work"]);
        }
    }
    machine
}

fn forgotten(called: &Ended) -> Vec<String> {
    let name =
        |line: &serde_json::Value| format!("{}@{}", line["context"].as_str().unwrap(), line["snapshot"]);
    called.of_type("forgotten").iter().map(name).collect()
}

/// Issue 21: retention per context, by name or glob, from options, variables or a file.
#[test]
fn retention_is_per_context() {
    let world = World::new();
    let machine = three_contexts(&world);
    let would = |args: &[&str]| forgotten(&machine.done(&[&["gc", "--dry-run", "--json"], args].concat()));
    assert_eq!(would(&["ci/*", "--keep-last", "1"]), ["ci/a@2", "ci/a@1", "ci/b@2", "ci/b@1"]);
    assert_eq!(would(&["main", "ci/b", "--keep-last", "2"]), ["ci/b@1", "main@1"]);
    // All are of one hour, unless an hour has just ended.
    assert_eq!(would(&["main", "--keep-yearly", "1"]), ["main@2", "main@1"]);
    machine.write(
        "keep.toml",
        "[[rules]]\ncontexts = ['ci/b']\nkeep-all = true\n\n[[rules]]\ncontexts = ['ci/**']\nkeep-weekly = 1\n",
    );
    let file = ["--retention", "keep.toml"];
    assert_eq!(would(&file), ["ci/a@2", "ci/a@1"]);
    // The options apply to contexts without a rule in the file, and for named contexts they take precedence.
    assert_eq!(would(&[&file[..], &["--keep-last", "2"]].concat()), ["ci/a@2", "ci/a@1", "main@1"]);
    let named = ["ci/b", "--keep-last", "2"];
    assert_eq!(would(&[&file[..], &named].concat()), ["ci/a@2", "ci/a@1", "ci/b@1"]);

    let variables = [("CTXSYNC_RETENTION", "keep.toml"), ("CTXSYNC_KEEP_MONTHLY", "1")];
    let by_variables = machine.call_with(&variables, &["gc", "--dry-run", "--json"]);
    assert_eq!(forgotten(&by_variables).len(), 4, "{}", by_variables.err);

    let wet = machine.done(&["gc", "--json", "main", "nobody", "--keep-last", "1"]);
    assert_eq!(forgotten(&wet), ["main@2", "main@1"]);
    let warned = wet.of_type("warning");
    assert_eq!(warned.len(), 1);
    assert!(warned[0]["message"].as_str().unwrap().contains("no context is named nobody"));
    assert_eq!(machine.done(&["log", "main", "--json"]).of_type("snapshot").len(), 1);
    assert_eq!(machine.done(&["log", "ci/a", "--json"]).of_type("snapshot").len(), 3);
}

/// Issue 21: `--dry-run` prints a table of what is kept, with the reasons.
#[test]
fn a_dry_run_says_what_each_snapshot_is_kept_for() {
    let world = World::new();
    let machine = three_contexts(&world);
    let args = ["gc", "main", "--keep-last", "2", "--keep-within", "0s", "--keep-yearly", "3", "--dry-run"];
    let rows = machine.done(&[&args[..], &["--json"]].concat());
    let kept: Vec<_> = rows.of_type("kept").iter().map(|row| row["snapshot"].as_u64().unwrap()).collect();
    assert_eq!(kept, [3, 2]);
    assert_eq!(rows.of_type("kept")[0]["reasons"], serde_json::json!(["head", "last", "yearly"]));
    insta::assert_snapshot!("gc-dry-run", machine.call(&args).seen());
}

/// What a repair has left out is no reason to forget the snapshots that had it: nothing of them was recycled.
#[test]
fn after_a_repair_nothing_is_forgotten_and_a_dry_run_says_the_same() {
    let world = World::new();
    let machine = world.machine("a");
    machine.done(&["store", "init", "--grace", "1h"]);
    machine.write("work/a", "lost");
    machine.done(&["push", "x", "work"]);
    let pack = std::fs::read_dir(world.store().join("packs")).unwrap().next().unwrap().unwrap().path();
    for content in ["work v1", "work v2", "work v3"] {
        machine.write("work/b", content);
        machine.done(&["push", "x", "work"]);
    }
    machine.done(&["context", "tag", "x@3", "release"]);
    let saved = world.store().join("saved");
    std::fs::rename(&pack, &saved).unwrap();
    assert_eq!(machine.call(&["repair", "--yes", "x"]).code, 3);
    for args in
        [&["gc", "--dry-run"][..], &["gc"], &["gc", "--exclusive", "--dry-run"], &["gc", "--exclusive"]]
    {
        let ended = machine.call(args);
        assert_eq!(ended.code, 1, "{}", ended.seen());
        assert!(ended.err.contains("is not in the store any more"), "{}", ended.err);
        let line = ended.out.lines().next().unwrap();
        assert!(line.contains("0 snapshots") && !ended.out.contains("recycle"), "{}", ended.out);
    }
    assert_eq!(machine.done(&["cat", "x@3:b"]).out, "work v1");
    assert_eq!(machine.done(&["cat", "x@release:b"]).out, "work v1");
    // The lost pack comes back. Everything is whole again, and stays.
    std::fs::rename(&saved, &pack).unwrap();
    machine.done(&["gc", "--exclusive"]);
    machine.done(&["check", "--read-data"]);
    assert_eq!(machine.done(&["cat", "x@2:a"]).out, "lost");
}

/// A collection that moves data makes a snapshot. That takes no place from a snapshot that the table shows as kept.
#[test]
fn what_a_dry_run_keeps_is_kept_when_data_is_moved() {
    for rule in [&["--keep-last", "2"][..], &["--keep-within", "1h", "--keep-hourly", "1"]] {
        let world = World::new();
        let machine = world.machine("a");
        machine.write("work/small", noise(400_000));
        machine.write("work/big", noise(4_000_000));
        machine.done(&["push", "x", "work"]);
        std::fs::remove_file(machine.path("work/big")).unwrap();
        for content in ["two", "three"] {
            machine.write("work/work", content);
            machine.done(&["push", "x", "work"]);
        }
        let dry = machine.done(&[&["gc", "--json", "--dry-run"], rule].concat());
        let wet = machine.done(&[&["gc", "--json"], rule].concat());
        assert_eq!(wet.of_type("gathered").len(), 1);
        assert_eq!(forgotten(&dry), forgotten(&wet));
        for kept in dry.of_type("kept") {
            machine.done(&["ls", &format!("x@{}", kept["snapshot"])]);
        }
        assert_eq!(machine.done(&["cat", "x@3:work"]).out, "two");
        // The new snapshot counts as the one before it, which the next run forgets if only a number kept it.
        machine.done(&[&["gc"], rule].concat());
        let left: Vec<_> = machine.done(&["log", "x", "--json"]).of_type("snapshot");
        let left: Vec<_> = left.iter().map(|line| line["snapshot"].as_u64().unwrap()).collect();
        assert!(left.contains(&5) && left.contains(&3), "{left:?}");
    }
}
