//! `--require` and `requiredPaths`: what must be there before a session begins.

use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;

use crate::running::{Running, is_saved, until};
use crate::world::{Ended, Machine, World, noise, redact};

/// Fills context `c` from another machine.
fn fill(world: &World) {
    let machine = world.machine("source");
    machine.write("work/large", noise(3_000_000));
    for name in ["conf/app", "conf/deep/x", "out/left", "z"] {
        machine.write(&format!("work/{name}"), name);
    }
    machine.done(&["push", "c", "work"]);
}

/// Runs `script` in a session on context `c`.
fn run(machine: &Machine, options: &[&str], script: &str) -> Ended {
    machine.call(&[&["run", "-c", "c", "work"], options, &["--", "sh", "-ec", script]].concat())
}

/// Returns the message of a call that failed before the command ran.
#[track_caller]
fn refused(machine: &Machine, ended: &Ended) -> String {
    assert_eq!((ended.code, machine.has("work/ran")), (10, false), "{}", ended.err);
    let from = ended.err.rfind("error:").unwrap();
    redact(&ended.err[from..], "no root").lines().next().unwrap().to_owned()
}

#[test]
fn what_is_required_comes_first_and_is_waited_for() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    let slow = ["--bwlimit", "100K", "--require", "conf", "--require", "./z"];
    let ended = run(&machine, &slow, "test -e conf/app -a -e conf/deep/x -a -e z -a ! -e large");
    assert_eq!(ended.code, 0, "{}", ended.err);

    let machine = world.machine("on-demand");
    machine.write("p.json", r#"{"downloadPolicy": {"autoDownload": false, "requiredPaths": ["/conf/app"]}}"#);
    let absolute = machine.path("work/z");
    let ended =
        run(&machine, &["-p", "p.json", "--require", absolute.to_str().unwrap()], "find . -type f | sort");
    assert_eq!((ended.code, &*ended.out), (0, "./conf/app\n./z\n"), "{}", ended.err);
}

#[test]
fn what_can_not_be_there_ends_the_session_before_the_command() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    machine.write(
        "p.json",
        r#"{"downloadPolicy": {"requiredPaths": ["lost"]},
            "bwList": {"whiteLists": [{"path": "", "excludePaths": ["out"]}]}}"#,
    );
    let ended = run(&machine, &["-p", "p.json", "--require", "out", "--require", "conf/app"], "touch ran");
    insta::assert_snapshot!(refused(&machine, &ended), @"error: required paths of context `c` are not there: `lost` (not in the context), `out` (left out by the policy)");
    assert!(ended.err.contains("hint: the command was not run"), "{}", ended.err);
    // Nothing was saved, and the mount is free.
    assert!(!machine.call(&["log", "c"]).out.contains("c@3"));
    assert_eq!(run(&machine, &["--require", "out"], "test -e out/left").code, 0);

    let ended = run(&machine, &["--require", "conf/app,lost"], "touch ran");
    assert!(refused(&machine, &ended).contains("`conf/app,lost`"), "{}", ended.err);
    let args = ["run", "-c", "c", "work", "--", "touch", "ran"];
    let ended = machine.call_with(&[("CTXSYNC_REQUIRE", "conf/app,lost")], &args);
    assert!(refused(&machine, &ended).ends_with("not there: `lost` (not in the context)"), "{}", ended.err);
}

#[test]
fn what_the_store_has_lost_can_not_be_pulled() {
    let world = World::new();
    fill(&world);
    for pack in std::fs::read_dir(world.store().join("packs")).unwrap() {
        std::fs::remove_file(pack.unwrap().path()).unwrap();
    }
    let machine = world.machine("a");
    let ended = run(&machine, &["--require", "conf/deep"], "touch ran");
    let said = refused(&machine, &ended);
    assert!(
        said.contains("`conf/deep` (not pulled") && ended.err.contains("error: conf/deep/x: "),
        "{}",
        ended.err
    );
}

#[test]
fn what_is_in_the_mount_alone_counts() {
    let world = World::new();
    let machine = world.machine("a");
    // A context that is missing is not made for it.
    let ended = run(&machine, &["--require", "new"], "touch ran");
    assert!(refused(&machine, &ended).contains("no context `c`"), "{}", ended.err);
    assert_eq!(machine.call(&["context", "list"]).out, "");

    machine.write("work/new/file", "x");
    symlink("nowhere", machine.path("work/link")).unwrap();
    let ended = run(&machine, &["--require", "new", "--require", "link", "--require", "."], "touch ran");
    assert_eq!((ended.code, machine.has("work/ran")), (0, true), "{}", ended.err);
    // Next time it comes from the context, unless it was deleted here.
    std::fs::remove_file(machine.path("work/ran")).unwrap();
    std::fs::remove_file(machine.path("work/link")).unwrap();
    let ended = run(&machine, &["--require", "link"], "touch ran");
    assert!(
        refused(&machine, &ended).ends_with("`link` (not pulled, or deleted in the mount)"),
        "{}",
        ended.err
    );
}

#[test]
fn each_mount_has_its_own() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    let run = |path: &str| {
        machine.call(&["run", "-m", "c=one", "-m", "d=two", "--require", path, "--", "ls", "one/conf"])
    };
    let ended = run("one/conf/app");
    assert!(ended.code == 0 && ended.out.contains("app"), "{}{}", ended.out, ended.err);
    let ended = run("elsewhere");
    assert!(ended.code == 2 && ended.err.contains("elsewhere is in no mount"), "{}", ended.err);
    let ended = run("two/conf");
    assert!(ended.code == 10 && ended.err.contains("context `d`"), "{}", ended.err);
}

#[test]
fn an_archive_that_was_extracted_is_there() {
    let world = World::new();
    let machine = world.machine("source");
    machine.write("work/in/data.gz", GZIP);
    machine.done(&["push", "c", "work"]);
    let machine = world.machine("a");
    machine.write("p.json", r#"{"extractPolicy": {}, "deletePolicy": {"syncLocalFile": false}}"#);
    for _ in 0..2 {
        let ended = run(&machine, &["-p", "p.json", "--require", "in/data.gz"], "test -e in/data");
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    }
}

/// `printf hello | gzip -n`
const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\x48\xcd\xc9\xc9\x07\x00\x86\xa6\x10\x36\x05\x00\x00\x00";

#[test]
fn watch_requires_it_too() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    let ended = Running::spawn(&machine, machine.command(["watch", "c", "work", "--require", "lost"])).end();
    assert!(ended.code == 10 && ended.err.contains("`lost`"), "{}", ended.err);
    let running = Running::spawn(&machine, machine.command(["watch", "c", "work", "--require", "conf"]));
    running.wait_for("work/large");
    machine.write("work/new", "x");
    until("a checkpoint is made", || is_saved(&machine, "new"));
    running.send(Signal::SIGTERM);
    assert_eq!(running.end().code, 0);
}

/// An empty path would be the whole mount: it comes from a variable of a script that was not set.
#[test]
fn an_empty_path_is_refused() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    for call in [
        &["run", "-c", "c", "work", "--require", "", "--", "touch", "ran"][..],
        &["push", "c", "work", "--only", ""],
        &["context", "merge", "c", "c", "--only", ""],
    ] {
        let ended = machine.call(call);
        assert!(ended.code == 2 && ended.err.contains(": the path is empty"), "{}", ended.err);
    }
    assert!(!machine.has("work/ran"));
    // A variable that is set to nothing asks for nothing.
    let empty = machine.call_with(&[("CTXSYNC_REQUIRE", "")], &["run", "-c", "c", "work", "--", "true"]);
    assert_eq!(empty.code, 0, "{}", empty.err);
}
