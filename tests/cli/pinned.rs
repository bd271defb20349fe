//! Mounts that stay at a snapshot: `-c CONTEXT@N --read-only`. To the mount, that is as if the snapshot was the head.

use std::fs;

use nix::sys::signal::Signal;

use crate::running::Running;
use crate::world::{Ended, Machine, World, tree};

/// Makes context `c` from another machine: snapshot 2 has the tag v1, and 3 is the head. Returns the trees of both.
fn fill(world: &World) -> [Vec<String>; 2] {
    let machine = world.machine("source");
    for path in ["changed", "deleted", "dir/kept"] {
        machine.write(&format!("work/{path}"), "1");
    }
    machine.done(&["push", "c", "work"]);
    machine.done(&["context", "tag", "c", "v1"]);
    let then = tree(&machine.path("work"));
    machine.write("work/changed", "22");
    machine.write("work/new", "22");
    fs::remove_file(machine.path("work/deleted")).unwrap();
    machine.done(&["push", "c", "work"]);
    [then, tree(&machine.path("work"))]
}

/// Returns a machine whose directory `work` was pulled from snapshot 2.
fn pinned(world: &World) -> Machine {
    let machine = world.machine("a");
    let ended = machine.done(&["pull", "c@v1", "work", "--read-only"]);
    assert!(ended.out.contains("pulled snapshot 2: 3 added"), "{}", ended.seen());
    machine
}

#[track_caller]
fn is_refused(ended: &Ended, code: i32, message: &str) {
    assert!(ended.code == code && ended.err.contains(message), "{}", ended.seen());
}

#[test]
fn a_pull_of_the_head_goes_on_from_there() {
    let world = World::new();
    let [then, now] = fill(&world);
    let machine = pinned(&world);
    assert_eq!(tree(&machine.path("work")), then);
    let again = machine.done(&["pull", "c@2", "work", "--read-only"]);
    assert!(again.out.contains("nothing to pull: snapshot 2 is up to date"), "{}", again.seen());
    let ended = machine.done(&["pull", "c", "work"]);
    assert!(ended.out.contains("pulled snapshot 3: 1 added, 1 changed, 1 deleted"), "{}", ended.seen());
    assert_eq!(tree(&machine.path("work")), now);
    assert!(machine.done(&["push", "c", "work"]).out.contains("nothing to push"));
    // Another snapshot is pulled as a change of the first one.
    let machine = world.machine("b");
    machine.done(&["pull", "c@1", "work", "--read-only"]);
    machine.done(&["pull", "c@-1", "work", "--read-only"]);
    assert_eq!(tree(&machine.path("work")), then);
}

#[test]
fn a_push_sends_what_was_changed_and_nothing_of_the_old_state() {
    let world = World::new();
    let [_, now] = fill(&world);
    let machine = pinned(&world);
    let ended = machine.done(&["push", "c", "work"]);
    assert!(ended.out.contains("nothing to push: snapshot 3 is up to date"), "{}", ended.seen());
    machine.write("work/dir/kept", "edited");
    machine.write("work/own", "own");
    let ended = machine.done(&["sync", "c", "work"]);
    assert!(ended.out.contains("synced snapshot 4: 2 added, 2 changed, 1 deleted"), "{}", ended.seen());
    let fresh = world.machine("b");
    fresh.done(&["pull", "c", "work"]);
    assert_eq!(tree(&fresh.path("work")), tree(&machine.path("work")));
    let edited = now.iter().filter(|row| !tree(&fresh.path("work")).contains(row));
    assert_eq!(edited.collect::<Vec<_>>(), ["dir/kept 644 \"1\""]);
    // What was changed here and in the head is a conflict.
    let machine = world.machine("d");
    machine.done(&["pull", "c@2", "work", "--read-only"]);
    machine.write("work/changed", "here");
    assert_eq!(machine.call(&["push", "c", "work"]).code, 4);
}

#[test]
fn a_mount_that_is_newer_is_left_alone() {
    let world = World::new();
    let [then, now] = fill(&world);
    let machine = world.machine("a");
    machine.done(&["pull", "c", "work"]);
    let message = "work already has snapshot 3 of context `c`, and no pull goes back to snapshot 2";
    for args in [
        &["pull", "c@2", "work", "--read-only"][..],
        &["pull", "c@2", "work", "--read-only", "-n"],
        &["run", "-c", "c@2", "--read-only", "work", "--", "touch", "ran"],
    ] {
        is_refused(&machine.call(args), 1, message);
    }
    assert_eq!(tree(&machine.path("work")), now);
    assert!(machine.done(&["push", "c", "work"]).out.contains("nothing to push"));
    fs::remove_dir_all(machine.path("work")).unwrap();
    machine.done(&["pull", "c@2", "work", "--read-only"]);
    assert_eq!(tree(&machine.path("work")), then);
}

#[test]
fn a_snapshot_is_only_read() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    let run = ["--", "touch", "ran"];
    let pinned = [
        &["run", "-c", "c@v1", "work"][..],
        &["run", "-m", "c@2=work"],
        &["run", "-m", "c@-1=work,policy=none.json"],
        &["watch", "c@v1", "work"],
        &["pull", "c@v1", "work"],
    ];
    fs::write(machine.path("none.json"), "{}").unwrap();
    for args in pinned {
        let args = if args[0] == "run" { [args, &run].concat() } else { args.to_vec() };
        is_refused(&machine.call(&args), 2, "is a snapshot: a mount of it is read-only");
    }
    for args in [&["push", "c@2", "work"][..], &["sync", "c@2", "work"], &["plan", "pull", "c@2", "work"]] {
        is_refused(&machine.call(args), 2, "invalid value 'c@2'");
    }
    for at in ["c@77", "c@no-such-tag"] {
        let args = ["run", "-c", at, "--read-only", "work"];
        is_refused(&machine.call(&[&args[..], &run].concat()), 10, "context `c` has no");
        is_refused(&machine.call(&["pull", at, "new", "--read-only"]), 10, "context `c` has no");
    }
    assert!(!machine.has("work/ran") && !machine.has("new"));
}

#[test]
fn a_session_gets_nothing_newer() {
    let world = World::new();
    let [then, _] = fill(&world);
    let machine = world.machine("a");
    let args = ["run", "-m", "c@v1=lib,read-only", "-m", "d=out", "--require", "lib/deleted", "--wait", "--"];
    // In the session, the context moves on, and then away.
    let script = "$PROGRAM put c:newer lib/changed
        $PROGRAM pull c lib && $PROGRAM fetch lib/dir --mount lib && ! test -e lib/newer
        for command in push sync; do $PROGRAM $command c lib 2>&1 && exit 1; echo $?; done
        $PROGRAM pull c@2 lib --read-only 2>&1 && exit 1
        $PROGRAM context rename c e
        $PROGRAM pull c lib
        cp -r lib/. out";
    let ended = machine.call(&[&args[..], &["sh", "-ec", script]].concat());
    assert_eq!(ended.code, 0, "{}", ended.seen());
    assert_eq!(ended.out.matches("lib is read-only: nothing of it is pushed").count(), 2, "{}", ended.seen());
    assert!(
        ended.out.contains("a session holds") && ended.out.contains("c@2 needs it alone"),
        "{}",
        ended.seen()
    );
    assert_eq!(tree(&machine.path("lib")), then);
    machine.done(&["pull", "d", "copied"]);
    assert_eq!(tree(&machine.path("copied")), then);
    assert!(machine.done(&["ls", "e"]).out.contains(" newer\n"));
    // No session begins at a number of the old name.
    let args = ["run", "-c", "c@2", "--read-only", "new", "--", "touch", "ran"];
    is_refused(&machine.call(&args), 10, "use `e` instead");
    assert!(!machine.has("new/ran"));
}

#[test]
fn watch_stays_there_too() {
    let world = World::new();
    let [then, _] = fill(&world);
    let machine = world.machine("a");
    let running = Running::spawn(&machine, machine.command(["watch", "c@2", "work", "--read-only"]));
    running.wait_for("work/dir/kept");
    running.wait_for("work/deleted");
    running.wait_for("work/changed");
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert!(ended.err.contains("nothing was pushed: the mount is read-only"), "{}", ended.err);
    assert_eq!(tree(&machine.path("work")), then);
}
