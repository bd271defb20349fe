//! `--read-only`: nothing is ever sent, and what changed stays in the mount.

use std::collections::BTreeSet;

use ctxsync_tests::s3::S3Server;
use nix::sys::signal::Signal;

use crate::running::{Running, is_saved};
use crate::world::{Ended, Machine, World, tree};

const ON_CHANGE: &str = r#"{"uploadPolicy": {"uploadStrategy": {"UploadOnChange": {"debounceMs": 1}}}}"#;

/// Fills context `c` from another machine.
fn fill(world: &World) {
    let machine = world.machine("source");
    machine.write("work/a", "1");
    machine.write("work/dir/b", "1");
    machine.done(&["push", "c", "work"]);
}

/// Runs `script` in a session on context `c` that is read-only.
fn run(machine: &Machine, options: &[&str], script: &str) -> Ended {
    let args = ["run", "-c", "c", "work", "--read-only"];
    machine.call(&[&args, options, &["--", "sh", "-ec", script]].concat())
}

#[test]
fn nothing_is_sent_whatever_changes() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    machine.write("on-change.json", ON_CHANGE);
    let before = tree(&world.store());
    let ended = run(&machine, &["--wait"], "echo 2 > a; rm dir/b; echo > new");
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("nothing was pushed: the mount is read-only"), "{}", ended.err);
    // A push by hand waits for what a checkpoint would have done before.
    let script = "echo 3 > a; $PROGRAM plan push c .; $PROGRAM pull c .; $PROGRAM fetch dir
        for command in push sync; do $PROGRAM $command c . 2>&1 && exit 1; echo $?; done";
    let ended = run(&machine, &["-p", "on-change.json"], script);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert_eq!(ended.out.matches("work is read-only: nothing of it is pushed to context `c`").count(), 2);
    assert!(
        ended.out.contains("\n2\n") && ended.out.contains("would push: 2 added, 1 changed"),
        "{}",
        ended.out
    );
    assert_eq!(tree(&world.store()), before);
    // The changes are still there for a session that may push them.
    let ended = machine.done(&["push", "c", "work"]);
    assert!(ended.out.contains("2 added, 1 changed, 1 deleted"), "{}", ended.seen());
}

#[test]
fn credentials_need_not_be_able_to_write() {
    let server = S3Server::start().unwrap();
    let machine = World::new().machine("a");
    let url = server.url("prefix");
    let call = |args: &[&str]| {
        let mut command = machine.command([&["--store", &url], args].concat());
        machine.ended(command.envs(server.env()).output().unwrap())
    };
    machine.write("source/a", "x");
    assert_eq!(call(&["push", "c", "source"]).code, 0);
    server.clear_requests();
    let ended =
        call(&["run", "-c", "c", "work", "--read-only", "--wait", "--", "sh", "-c", "cat a; echo > new"]);
    assert_eq!((ended.code, &*ended.out), (0, "x"), "{}", ended.err);
    let methods: BTreeSet<String> = server.requests().into_iter().map(|request| request.method).collect();
    assert!(methods.iter().all(|method| ["GET", "HEAD"].contains(&&**method)), "{methods:?}");
    assert!(methods.contains("GET"));
}

#[test]
fn nothing_is_created() {
    let machine = World::new().machine("a");
    let ended = run(&machine, &[], "touch ran");
    assert!(ended.code == 10 && ended.err.contains("no store at"), "{}", ended.err);
    machine.done(&["context", "create", "other"]);
    for call in
        [&["run", "-c", "c", "work", "--", "touch", "ran"][..], &["watch", "c"], &["pull", "c", "work"]]
    {
        let mut command = machine.command(call);
        command.env("CTXSYNC_READ_ONLY", "1");
        let ended = Running::spawn(&machine, command).end();
        assert!(ended.code == 10 && ended.err.contains("no context `c`"), "{}", ended.err);
    }
    assert!(!machine.has("work/ran"));
    assert_eq!(machine.done(&["context", "list"]).out, "other\n");
}

#[test]
fn one_mount_of_a_session() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    let args = ["run", "-m", "c=one,read-only", "-m", "d=two", "--wait", "--"];
    let ended = machine.call(&[&args[..], &["sh", "-c", "echo > one/new; echo > two/new"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("/one: nothing was pushed: the mount is read-only"), "{}", ended.err);
    assert!(!is_saved(&machine, "new"));
    assert!(machine.done(&["ls", "d"]).out.contains(" new\n"));
}

#[test]
fn options_that_would_write_are_refused() {
    let machine = World::new().machine("a");
    for options in [&["--save"][..], &["--ephemeral"], &["--fork-from", "b"]] {
        let ended = run(&machine, options, "touch ran");
        let refused = format!("error: {} writes to the store, and --read-only never does", options[0]);
        assert!(ended.code == 2 && ended.err.contains(&refused), "{}", ended.err);
    }
    let watch = machine.command(["watch", "c", "--read-only", "--fork-from", "b"]);
    let ended = Running::spawn(&machine, watch).end();
    assert!(ended.code == 2 && ended.err.contains("--fork-from writes"), "{}", ended.err);
    assert!(!machine.has("work/ran"));
}

/// They have no such option, and every option has a variable: whoever exports it means that nothing is sent.
#[test]
fn commands_that_write_to_the_store_are_refused_by_the_variable() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    machine.write("work/new", "x");
    machine.write("file", "x");
    let before = tree(&world.store());
    let call = |value: &str, args: &[&str]| machine.call_with(&[("CTXSYNC_READ_ONLY", value)], args);
    for args in [
        &["push", "c", "work"][..],
        &["sync", "c", "work"],
        &["put", "file", "c:file"],
        &["rm", "c:a"],
        &["context", "create", "d"],
        &["context", "fork", "c", "d"],
        &["context", "merge", "c", "d"],
        &["context", "revert", "c@1"],
        &["context", "rename", "c", "d"],
        &["context", "clear", "c"],
        &["context", "delete", "c"],
        &["context", "tag", "c@1", "t"],
        &["context", "untag", "c@1", "t"],
        &["restore", "--in-place", "c@1", "work"],
        &["repair"],
        &["purge", "c:a"],
        &["copy", "other", "copied"],
        &["gc"],
        &["store", "init"],
    ] {
        let ended = call("1", args);
        assert!(ended.code == 2 && ended.err.contains("CTXSYNC_READ_ONLY"), "{args:?}: {}", ended.seen());
        assert_eq!(tree(&world.store()), before, "{args:?}");
    }
    for args in [
        &["plan", "push", "c", "work"][..],
        &["push", "--dry-run", "c", "work"],
        &["pull", "c", "work"],
        &["ls", "c"],
        &["restore", "c", "restored"],
    ] {
        let ended = call("yes", args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.seen());
        assert_eq!(tree(&world.store()), before, "{args:?}");
    }
    for off in ["", "0", "false", "No"] {
        machine.write("work/new", off);
        let ended = call(off, &["push", "c", "work"]);
        assert_eq!(ended.code, 0, "{off}: {}", ended.seen());
    }
    assert_ne!(tree(&world.store()), before);
}

#[test]
fn watch_brings_and_never_sends() {
    let world = World::new();
    fill(&world);
    let before = tree(&world.store());
    let machine = world.machine("a");
    let running = Running::spawn(&machine, machine.command(["watch", "c", "work", "--read-only"]));
    running.wait_for("work/dir/b");
    machine.write("work/new", "x");
    let ended = machine.call(&["push", "c", "work"]);
    assert!(ended.code == 2 && ended.err.contains("is read-only"), "{}", ended.err);
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert!(ended.err.contains("nothing was pushed: the mount is read-only"), "{}", ended.err);
    assert_eq!(tree(&world.store()), before);
}
