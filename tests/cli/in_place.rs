//! `restore --in-place`: a mount and its context become like a snapshot, and the history has what was there before.

use std::fs;
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::world::{Ended, Machine, World, tree};

/// Returns a machine with a mount of `c` that has changed since the last push, and what was there at snapshot 2.
fn with_changes(world: &World) -> (Machine, Vec<String>) {
    let machine = world.machine("a");
    machine.write("work/both", "first");
    machine.write("work/dir/deleted", "first");
    machine.done(&["push", "c", "work"]);
    let first = tree(&machine.path("work"));
    machine.write("work/both", "second");
    fs::remove_dir_all(machine.path("work/dir")).unwrap();
    machine.write("work/new", "second");
    machine.done(&["push", "c", "work"]);
    machine.write("work/both", "not saved yet");
    machine.write("work/unsaved", "not saved yet");
    (machine, first)
}

/// Fails unless the call ended with this code and message, and neither mount nor context has changed.
#[track_caller]
fn is_refused(machine: &Machine, args: &[&str], code: i32, message: &str) -> Ended {
    let (here, log) = (tree(&machine.path("work")), machine.done(&["log", "c"]).out);
    let ended = machine.call(args);
    assert!(ended.code == code && ended.err.contains(message), "{}", ended.seen());
    assert_eq!(tree(&machine.path("work")), here);
    assert_eq!(machine.done(&["log", "c"]).out, log);
    ended
}

#[test]
fn the_mount_is_like_the_snapshot_and_the_history_has_the_rest() {
    let (machine, first) = with_changes(&World::new());
    let unsaved = tree(&machine.path("work"));
    let mut seen = Vec::new();
    let mut call = |args: &[&str]| {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
        tree(&machine.path("work"))
    };
    assert_eq!(call(&["restore", "--in-place", "c@-1", "work", "-n"]), unsaved);
    assert_eq!(call(&["restore", "--in-place", "c@-1", "work"]), first);
    assert_eq!(call(&["diff", "c", "./work"]), first);
    assert_eq!(call(&["push", "c", "work"]), first);
    assert_eq!(call(&["restore", "--in-place", "c@2", "work"]), first);
    // What was not saved before is in the history, and comes back in the same way.
    assert_eq!(call(&["restore", "--in-place", "c@4", "work"]), unsaved);
    call(&["restore", "--in-place", "c@77", "work"]);
    // The snapshot before all others is empty.
    assert_eq!(call(&["restore", "--in-place", "c@1", "work"]), [""; 0]);
    call(&["log", "c"]);
    insta::assert_snapshot!("in_place", seen.join("\n\n"));
}

#[test]
fn the_head_itself_drops_what_is_not_wanted() {
    let (machine, _) = with_changes(&World::new());
    let summary = machine.done(&["--json", "restore", "--in-place", "c", "work"]).summary();
    assert_eq!(
        (&summary["command"], &summary["snapshot"], &summary["parent"], &summary["deleted"]),
        (&json!("restore"), &json!(5), &json!(4), &json!(1))
    );
    assert!(machine.read("work/both") == "second" && !machine.has("work/unsaved"));
    assert!(machine.done(&["cat", "c@4:unsaved"]).out.contains("not saved yet"));
}

#[test]
fn what_can_not_be_saved_is_not_touched() {
    let world = World::new();
    let (machine, first) = with_changes(&world);
    let restore = ["restore", "--in-place", "c@2", "work"];
    // Another machine has changed the same file.
    let other = world.machine("b");
    other.write("both", "changed there");
    other.done(&["put", "c:both", "both"]);
    let left = "work was left as it is, because not everything in it is saved";
    for args in [&restore[..], &[&restore[..], &["-n"]].concat()] {
        let refused = is_refused(&machine, args, 4, left);
        assert!(refused.err.contains("caused by: 1 in conflict"), "{}", refused.err);
    }
    assert_eq!(machine.call(&["sync", "c", "work"]).code, 4);
    machine.write("work/large", "more than that");
    is_refused(&machine, &[&restore[..], &["--max-upload", "3"]].concat(), 1, "more than");
    let socket = UnixListener::bind(machine.path("work/socket")).unwrap();
    let refused = machine.call(&[&restore[..], &["--strict"]].concat());
    assert!(refused.code == 3 && refused.err.contains(left), "{}", refused.seen());
    assert!(machine.has("work/large") && machine.read("work/both") == "not saved yet");
    drop(socket);
    // An emptied mount is restored, once the user has said that it was meant.
    fs::remove_dir_all(machine.path("work")).unwrap();
    fs::create_dir(machine.path("work")).unwrap();
    is_refused(&machine, &restore, 8, left);
    machine.done(&[&restore[..], &["--allow-empty-mount"]].concat());
    assert_eq!(tree(&machine.path("work")), first);
}

#[test]
fn what_is_no_mount_is_not_emptied() {
    let world = World::new();
    let (machine, _) = with_changes(&world);
    machine.write("precious/file", "x");
    for dir in ["precious", "none"] {
        let args = ["restore", "--in-place", "c@2", dir];
        is_refused(&machine, &args, 1, &format!("{dir} was never synced with context c"));
    }
    assert!(machine.has("precious/file") && !machine.has("none"));
    is_refused(&machine, &["restore", "--in-place", "c@2", "work", "both"], 2, "cannot be used with");
    is_refused(&machine, &["restore", "c@2"], 2, "required arguments");
}

#[test]
fn a_session_does_it_on_its_mount() {
    let (machine, first) = with_changes(&World::new());
    let run = |options: &[&str], script: &str| {
        let args = ["run", "-c", "c", "work", "--wait"];
        machine.call(&[&args, options, &["--", "sh", "-c", script]].concat())
    };
    let here = tree(&machine.path("work"));
    let ended = run(&["--read-only"], "$PROGRAM restore --in-place c@2");
    assert!(ended.code == 2 && ended.err.contains("is read-only"), "{}", ended.seen());
    assert_eq!(tree(&machine.path("work")), here);
    let ended = run(&[], "$PROGRAM restore --in-place c@2");
    assert_eq!(ended.code, 0, "{}", ended.seen());
    assert!(ended.err.contains("nothing to push: snapshot 5 is up to date"), "{}", ended.seen());
    assert_eq!(tree(&machine.path("work")), first);
    assert!(machine.done(&["cat", "c@4:unsaved"]).out.contains("not saved yet"));
}
