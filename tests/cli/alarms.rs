//! A correct call prints no warning, error or hint.

use crate::world::{Ended, Machine, World, noise};

#[track_caller]
fn is_calm(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}", ended.seen());
    for word in ["warning", "error", "hint", "failed"] {
        assert!(!ended.err.contains(word), "{}", ended.seen());
    }
}

/// A machine whose `work` does not exist yet, and a context with a file that takes long to pull.
fn slow_context() -> (World, Machine) {
    let world = World::new();
    let first = world.machine("first");
    first.write("work/data/large", noise(2 << 20));
    first.done(&["push", "c", "work"]);
    let machine = world.machine("a");
    std::fs::remove_dir(machine.path("work")).unwrap();
    (world, machine)
}

#[test]
fn case_11_a_short_run_ends_while_files_still_arrive() {
    let (_world, machine) = slow_context();
    // Staging of an earlier run, which this run resumes. It is no user file, so it must cause no warning.
    let left = "work/.ctxsync-stage-1f4cdc41582785ea";
    machine.write(&format!("{left}/.ctxsync-stage"), "");
    machine.write(&format!("{left}/p-00"), vec![1; 9 << 20]);
    for policy in ["{}", r#"{"bwList": {"whiteLists": [{"path": "data"}]}}"#] {
        machine.write("p.json", policy);
        let args = ["run", "-p", "p.json", "-c", "c", "--bwlimit", "10K", "work", "--", "true"];
        let ended = machine.call(&args);
        is_calm(&ended);
        assert!(ended.err.contains("had not arrived yet"), "{}", ended.seen());
    }
}

#[test]
fn a_list_that_matches_what_is_still_to_come_is_no_alarm() {
    let (_world, machine) = slow_context();
    machine.write("work/mine", "x");
    machine.write("p.json", r#"{"bwList": {"whiteLists": [{"path": "data"}]}}"#);
    is_calm(&machine.call(&["push", "-p", "p.json", "c", "work"]));
    // A white list that matches nothing on either side does cause a warning.
    machine.write("p.json", r#"{"bwList": {"whiteLists": [{"path": "dota"}]}}"#);
    let ended = machine.call(&["push", "-p", "p.json", "c", "work"]);
    assert_eq!(ended.code, 3, "{}", ended.seen());
    assert!(ended.err.contains("no white list matches"), "{}", ended.seen());
}

#[test]
fn first_and_second_calls_on_a_small_project_say_nothing_alarming() {
    let world = World::new();
    let machine = world.machine("a");
    for file in
        ["src/main.rs", ".git/HEAD", ".gitignore", "node_modules/.bin/x", "node_modules/a/package.json"]
    {
        machine.write(&format!("work/{file}"), file);
    }
    std::os::unix::fs::symlink("../a/cli.js", machine.path("work/node_modules/.bin/a")).unwrap();
    std::fs::create_dir_all(machine.path("work/empty/inside")).unwrap();
    for _ in 0..2 {
        is_calm(&machine.call(&["push", "c", "work"]));
        is_calm(&machine.call(&["run", "-c", "c", "work", "--", "true"]));
        is_calm(&machine.call(&["pull", "c", "work"]));
        is_calm(&machine.call(&["pull", "c", "other"]));
        is_calm(&machine.call(&["sync", "c", "other"]));
        is_calm(&machine.call(&["run", "-c", "new", "nothing", "--", "true"]));
        is_calm(&machine.call(&["run", "--wait", "-c", "c", "third", "--", "sh", "-c", "date >>log"]));
        is_calm(&machine.call(&["plan", "push", "c", "work"]));
        is_calm(&machine.call(&["status"]));
    }
}
