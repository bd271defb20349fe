//! Files that a session writes for itself never take part, and wake no watcher.

use nix::sys::signal::Signal;

use crate::running::{Running, is_saved, until};
use crate::world::{World, tree};

#[test]
fn case_20_figures_and_log_in_the_mount_are_not_saved_and_wake_no_watcher() {
    let machine = World::new().machine("a");
    machine.write("work/logs/kept", "x");
    machine.done(&["context", "create", "c"]);
    let args = ["watch", "c", "work", "--metrics-file", "work/x.prom", "--log-file", "work/logs/log", "-v"];
    let running = Running::spawn(&machine, machine.command(args));
    until("the first checkpoint is made", || is_saved(&machine, "logs/kept"));
    let rounds = |n: usize| {
        for round in 0..n {
            let file = format!("f{round}");
            machine.write(&format!("work/{file}"), "x");
            until("a checkpoint is made", || is_saved(&machine, &file));
        }
    };
    // Each round also changes the metrics and the log.
    rounds(2);
    running.send(Signal::SIGTERM);
    assert_eq!(running.end().code, 0);
    let log = machine.done(&["log", "c"]).out;
    // The empty first snapshot, and one for each of the three changes.
    assert_eq!(log.lines().count(), 4, "{log}");
    let files = machine.done(&["ls", "c"]).out;
    assert!(machine.has("work/x.prom") && machine.has("work/logs/log"));
    assert!(!files.contains("prom") && !files.contains("logs/log"), "{files}");
}

#[test]
fn what_a_killed_session_left_of_its_figures_is_not_saved() {
    let machine = World::new().machine("a");
    machine.write("work/.x.prom.new", "half");
    let args = ["run", "-c", "c", "work", "--metrics-file", "work/x.prom", "--", "true"];
    machine.done(&args);
    assert_eq!(machine.done(&["ls", "c"]).out, "");
}

#[test]
fn state_and_store_are_known_by_whatever_path() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    std::fs::create_dir_all(machine.path("work/deep/real")).unwrap();
    std::os::unix::fs::symlink("work/deep/real", machine.path("way")).unwrap();
    let args = ["--store", "way/../store", "--state-dir", "way/state", "--log-file", "work/../way/log"];
    let call = |more: &[&str]| machine.done(&[&args[..], more].concat());
    for _ in 0..2 {
        call(&["push", "c", "work"]);
        call(&["run", "-c", "c", "work", "--", "true"]);
        let files = call(&["ls", "c"]).out;
        assert_eq!(files.lines().count(), 1, "{files}");
    }
    let explained = call(&[
        "explain",
        "c",
        "--mount",
        "work",
        "deep/store/packs",
        "deep/real/state",
        "deep/real/log",
        "f",
    ]);
    insta::assert_snapshot!(explained.seen());
}

#[test]
fn a_store_is_no_mount_of_itself() {
    let machine = World::new().machine("a");
    let ended = machine.call(&["push", "--store", "work", "c", "work"]);
    insta::assert_snapshot!(ended.seen());
}

#[test]
fn nothing_in_a_store_is_a_mount() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "--store", "store", "c", "work"]);
    std::os::unix::fs::symlink("store/contexts", machine.path("way")).unwrap();
    let before = tree(&machine.path("store"));
    for mount in ["store/contexts", "way", "way/../packs", "work/../store/new"] {
        for verb in ["push", "pull", "sync"] {
            let ended = machine.call(&[verb, "--store", "store", "c", mount]);
            assert_eq!(ended.code, 2, "{verb} {mount}: {}{}", ended.out, ended.err);
            assert!(ended.err.contains("the store's own directory"), "{verb} {mount}: {}", ended.err);
        }
        let ended = machine.call(&["run", "--store", "store", "-c", "c", mount, "--", "touch", "here"]);
        assert_eq!(ended.code, 2, "run {mount}: {}{}", ended.out, ended.err);
    }
    assert_eq!(tree(&machine.path("store")), before);
}
