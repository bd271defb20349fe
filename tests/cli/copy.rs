//! `copy`: what it says, what is in the other store afterwards, and how it ends.

use std::path::Path;

use crate::world::{Machine, World, noise, tree};

/// Makes two contexts with some history in the embedded store.
fn with_history(world: &World) -> Machine {
    let machine = world.machine("a");
    for len in [1000, 2000, 3000] {
        machine.write("work/f", noise(len));
        machine.write(&format!("work/dir/{len}"), "text");
        machine.done(&["push", "user-1", "work"]);
    }
    machine.done(&["push", "team/x", "work"]);
    machine
}

/// Returns the keys of all objects of a store.
fn objects(store: &Path) -> Vec<String> {
    let rows = tree(store);
    rows.iter()
        .map(|row| row.split(' ').next().unwrap().to_owned())
        .filter(|row| !row.ends_with('/'))
        .collect()
}

#[test]
fn what_a_person_sees() {
    let world = World::new();
    let machine = with_history(&world);
    let store = world.store().to_str().unwrap().to_owned();
    let mut seen = String::new();
    let mut say = |args: &[&str]| {
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "STORE" { &store[..] } else { arg }).collect();
        let ended = machine.call(&args);
        seen.push_str(&format!(
            "$ ctxsync {}\n{}\n\n",
            args.join(" ").replace(&store, "STORE"),
            ended.seen()
        ));
    };
    say(&["copy", "STORE", "other", "--dry-run"]);
    say(&["copy", "STORE", "other", "user-*"]);
    say(&["copy", "STORE", "other"]);
    say(&["copy", "STORE", "other", "-v"]);
    say(&["log", "user-1", "--store", "other", "-q"]);
    say(&["copy", "STORE", "STORE"]);
    say(&["copy", "nowhere", "other"]);
    say(&["copy", "STORE", "other", "user-9"]);
    say(&["copy", "STORE", "other", "nobody-*"]);
    say(&["copy", "STORE", "other", "../x"]);
    insta::assert_snapshot!("copy", seen);
    assert!(!machine.has("nowhere"));
}

#[test]
fn a_copy_is_a_store_like_any_other() {
    let world = World::new();
    let machine = with_history(&world);
    let store = world.store().to_str().unwrap().to_owned();
    let copied = machine.done(&["copy", &store, "other", "--json"]);
    let figures = |of: &serde_json::Value| {
        ["contexts", "contexts_copied", "snapshots", "packs", "snapshots_failed"]
            .map(|f| of[f].as_u64().unwrap())
    };
    assert_eq!(figures(&copied.summary()), [2, 2, 6, 4, 0]);
    assert_eq!(copied.of_type("copied").len(), 2);
    let log = |store: &str, context: &str| {
        let rows = machine.done(&["log", context, "--store", store, "--json"]).of_type("snapshot");
        rows.into_iter()
            .map(|row| (row["snapshot"].clone(), row["time"].clone(), row["files"].clone()))
            .collect::<Vec<_>>()
    };
    for context in ["user-1", "team/x"] {
        assert_eq!(log(&store, context), log("other", context));
        for snapshot in [context.to_owned(), format!("{context}@2")] {
            machine.done(&["restore", &snapshot, "here"]);
            machine.done(&["restore", &snapshot, "there", "--store", "other"]);
            assert_eq!(tree(&machine.path("here")), tree(&machine.path("there")));
            std::fs::remove_dir_all(machine.path("here")).unwrap();
            std::fs::remove_dir_all(machine.path("there")).unwrap();
        }
    }
    let check = |store: &str| {
        let summary = machine.done(&["check", "--read-data", "--store", store, "--json"]).summary();
        ["contexts", "snapshots", "packs", "snapshots_damaged", "packs_unused"]
            .map(|f| summary[f].as_u64().unwrap())
    };
    assert_eq!(check(&store), check("other"));
    // A second copy writes nothing.
    let before = objects(&machine.path("other"));
    let again = machine.done(&["copy", &store, "other", "--json"]);
    assert_eq!(figures(&again.summary()), [2, 0, 0, 0, 0]);
    assert_eq!(objects(&machine.path("other")), before);
    // The machine goes on with the copy, and keeps nothing back.
    machine.write("work/new", "1");
    machine.done(&["push", "user-1", "work", "--store", "other"]);
    assert_eq!(log("other", "user-1").len(), 5);
    machine.done(&["gc", "--store", "other", "--exclusive"]);
    machine.done(&["restore", "user-1", "back", "--store", "other"]);
    assert_eq!(tree(&machine.path("back")).len(), tree(&machine.path("work")).len());
    // Now it is one of its own, and the rest is still copied.
    machine.done(&["push", "user-1", "work"]);
    machine.done(&["push", "team/x", "work"]);
    let refused = machine.call(&["copy", &store, "other"]);
    insta::assert_snapshot!("copy-refused", refused.seen());
}

#[test]
fn what_is_lost_is_named_and_the_rest_is_copied() {
    let world = World::new();
    let machine = with_history(&world);
    let store = world.store();
    // The largest pack is that of the third push.
    let packs = std::fs::read_dir(store.join("packs")).unwrap().map(|entry| entry.unwrap().path());
    let mut sizes: Vec<_> = packs.map(|path| (path.metadata().unwrap().len(), path)).collect();
    sizes.sort();
    let (lost, damaged) = (sizes.pop().unwrap().1, sizes[0].1.clone());
    std::fs::remove_file(&lost).unwrap();
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let ended = machine.call(&["copy", store.to_str().unwrap(), "other"]);
    insta::assert_snapshot!("copy-lost", ended.seen());
    let json = machine.call(&["copy", store.to_str().unwrap(), "third", "--json"]);
    assert_eq!(
        (json.code, json.summary()["snapshots_failed"].as_u64()),
        (3, json.summary()["snapshots_failed"].as_u64())
    );
    assert!(json.of_type("error").iter().all(|error| error["context"].is_string()), "{}", json.out);
}

#[test]
fn settings_of_the_destination_are_its_own() {
    let world = World::new();
    let machine = with_history(&world);
    let store = world.store().to_str().unwrap().to_owned();
    let refused = machine.call(&["copy", &store, "other", "--dst-option", "region=x"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    let refused = machine.call_with(&[("CTXSYNC_DST_OPTION", "region=x")], &["copy", &store, "other"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    let refused = machine.call(&["copy", &store, "other", "--store-option", "region=x"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(!machine.has("other"));
}

#[test]
fn the_other_store_has_the_same_grace_period() {
    let world = World::new();
    let machine = world.machine("a");
    machine.done(&["store", "init", "--grace", "3h", "--store", "one"]);
    machine.done(&["copy", "one", "two"]);
    let grace = |store: &str| std::fs::read_to_string(machine.path(store).join("ctxsync.json")).unwrap();
    assert!(grace("two").contains("10800"));
    assert_ne!(grace("one"), grace("two"));
}

/// No snapshot needs an older one, so a copy is complete without it. A check of the source names it.
#[test]
fn a_snapshot_that_is_missing_as_a_whole_does_not_count() {
    let world = World::new();
    let machine = with_history(&world);
    std::fs::remove_file(world.store().join("contexts/user-1/fffffffffffffffc")).unwrap();
    let (from, to) = (world.store(), machine.path("other"));
    machine.done(&["copy", from.to_str().unwrap(), to.to_str().unwrap()]);
    assert_eq!(machine.call(&["check"]).code, 1);
    machine.done(&["check", "--read-data", "--store", to.to_str().unwrap()]);
    let log = machine.done(&["log", "user-1", "--json", "--store", to.to_str().unwrap()]);
    let numbers: Vec<_> = log.of_type("snapshot").iter().map(|s| s["snapshot"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 2, 1]);
}
