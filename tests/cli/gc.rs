//! `gc`: its output, what it keeps, and its exit codes.

use crate::world::{Machine, World, noise};

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
    for wrong in [["--keep-last", "0"], ["--keep-last", "-1"], ["--keep-within", "a while"]] {
        assert_eq!(machine.call(&["gc", wrong[0], wrong[1]]).code, 2, "{wrong:?}");
    }
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
    assert!(requests("b") > 64);
    let said = machine.done(&["gc", "--dry-run"]).out;
    assert!(said.starts_with("would move ") && said.contains(" of c out of 64 packs\n"), "{said}");
    let done = machine.done(&["gc", "--json"]);
    let moved = &done.of_type("gathered")[0];
    assert_eq!((&moved["context"], &moved["packs"]), (&"c".into(), &64.into()));
    assert_eq!(done.summary()["packs_gathered"], 64);
    assert!(requests("d") < 8);
    machine.write("work/f0", "changed");
    let pushed = machine.done(&["push", "c", "work", "--json"]).summary();
    assert_eq!((&pushed["changed"], &pushed["snapshot"]), (&1.into(), &67.into()));
}
