//! `watch`, and a session's metrics for Prometheus.

use nix::sys::signal::Signal;

use crate::running::{Running, is_saved, until};
use crate::world::{Machine, World};

#[test]
fn what_changes_is_saved_until_it_is_told_to_stop() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let machine = World::new().machine("a");
        machine.write("work/before", "x");
        machine.done(&["context", "create", "c"]);
        let running = Running::spawn(&machine, machine.command(["watch", "c", "work"]));
        until("the session runs", || machine.call(&["status", "work"]).out.contains("(running)"));
        machine.write("work/during", "x");
        until("a checkpoint is made", || is_saved(&machine, "during"));
        machine.write("work/last", "x");
        running.send(signal);
        let ended = running.end();
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(is_saved(&machine, "last") && is_saved(&machine, "before"), "{}", ended.err);
    }
}

#[test]
fn checkpoints_by_the_policys_own_time() {
    let machine = World::new().machine("a");
    machine.done(&["context", "create", "c"]);
    let policy = r#"{"uploadPolicy": {"uploadStrategy": {"UploadPeriodically": {"seconds": 1}}}}"#;
    machine.write("p.json", policy);
    let running = Running::spawn(&machine, machine.command(["watch", "c", "work", "-p", "p.json"]));
    until("the session runs", || machine.call(&["status", "work"]).out.contains("(running)"));
    machine.write("work/during", "x");
    until("a checkpoint is made", || is_saved(&machine, "during"));
    running.send(Signal::SIGTERM);
    assert_eq!(running.end().code, 0);
}

#[test]
fn figures_for_prometheus() {
    let machine = World::new().machine("a");
    let script = "touch started; while ! test -e stop; do sleep 0.05; done";
    let running = Running::start(&machine, &["--metrics-file", "metrics.prom"], script);
    until("the session shows", || machine.read("metrics.prom").contains("task_type=\"download\""));
    assert!(machine.read("metrics.prom").contains("state=\"Waiting\"} 1"));
    machine.write("work/stop", "");
    let ended = running.end();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let text = machine.read("metrics.prom");
    let labels = format!("context=\"c\",path=\"{}\",task_type=\"upload\"", machine.path("work").display());
    for line in [
        format!("ctxsync_task_state{{{labels},state=\"Success\"}} 1"),
        format!("ctxsync_snapshot{{{labels}}} 2"),
        format!("ctxsync_task_pending{{{labels}}} 0"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains(&format!("ctxsync_last_success_timestamp_seconds{{{labels}}} ")), "{text}");
    // Each metric family has its type before its first value.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split('{').next().unwrap();
        assert!(text.contains(&format!("# TYPE {name} gauge\n{name}{{")), "{line}\n{text}");
    }
    let ended = machine.call(&["watch", "c", "work", "--metrics-file", "missing/dir/file"]);
    assert_eq!(ended.code, 2, "{}", ended.seen());
}

/// Waits until a file of the context has this content.
fn until_saved(machine: &Machine, file: &str, content: &str) {
    until(&format!("{file} is saved"), || machine.call(&["cat", &format!("c:{file}")]).out == content);
}

fn watch<'m>(machine: &'m Machine, dir: &str, every: &str) -> Running<'m> {
    machine.done(&["context", "create", "c"]);
    let running = Running::spawn(machine, machine.command(["watch", "c", dir, "--safety-scan", every]));
    until_saved(machine, "f", "1");
    running
}

#[test]
fn l31_another_directory_in_the_place_of_the_root_is_watched_and_saved() {
    let machine = World::new().machine("a");
    machine.write("work/f", "1");
    machine.write("new/f", "1");
    machine.write("new/g", "2");
    let running = watch(&machine, "work", "0");
    let (work, new) = (machine.path("work"), machine.path("new"));
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        &new,
        rustix::fs::CWD,
        &work,
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .unwrap();
    until_saved(&machine, "g", "2");
    machine.write("work/deep/h", "3");
    until_saved(&machine, "deep/h", "3");
    // An empty directory in place of the mount is not a deletion of everything.
    std::fs::rename(&work, machine.path("old")).unwrap();
    std::fs::create_dir(&work).unwrap();
    let before = machine.done(&["log", "c"]).out;
    running.send(Signal::SIGHUP);
    let ended = running.end();
    assert_eq!(ended.code, 8, "{}", ended.err);
    assert!(ended.err.contains("was replaced by another one"), "{}", ended.err);
    assert_eq!(machine.done(&["log", "c"]).out, before);
}

#[test]
fn d4_a_root_that_is_renamed_away_or_made_a_file_deletes_nothing() {
    let machine = World::new().machine("a");
    machine.write("work/f", "1");
    let running = watch(&machine, "work", "0");
    std::fs::rename(machine.path("work"), machine.path("aside")).unwrap();
    machine.write("work", "a file");
    // Once the directory is back, the session goes on.
    std::fs::remove_file(machine.path("work")).unwrap();
    std::fs::rename(machine.path("aside"), machine.path("work")).unwrap();
    machine.write("work/g", "2");
    until_saved(&machine, "g", "2");
    std::fs::rename(machine.path("work"), machine.path("aside")).unwrap();
    machine.write("work", "a file");
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("a mount must be a directory"), "{}", ended.err);
    assert!(is_saved(&machine, "f") && is_saved(&machine, "g"));
}

#[test]
fn a_safety_scan_finds_what_no_event_tells_of() {
    let machine = World::new().machine("a");
    machine.write("top/work/f", "1");
    std::fs::hard_link(machine.path("top/work/f"), machine.path("outside")).unwrap();
    let running = watch(&machine, "top/work", "200ms");
    // A write by another hard link, like a write by a mapping, sends no event to the directory.
    machine.write("outside", "12");
    until_saved(&machine, "f", "12");
    // A parent is replaced, without an event in the directory itself.
    machine.write("other/work/f", "123");
    std::fs::rename(machine.path("top"), machine.path("before")).unwrap();
    std::fs::rename(machine.path("other"), machine.path("top")).unwrap();
    until_saved(&machine, "f", "123");
    // The new directory is watched.
    machine.write("top/work/g", "4");
    until_saved(&machine, "g", "4");
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{}", ended.err);
}
