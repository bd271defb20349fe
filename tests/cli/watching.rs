//! `watch`, and the figures of a session for Prometheus.

use nix::sys::signal::Signal;

use crate::running::{Running, is_saved, until};
use crate::world::World;

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
    // Each family has its type before its first value.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split('{').next().unwrap();
        assert!(text.contains(&format!("# TYPE {name} gauge\n{name}{{")), "{line}\n{text}");
    }
    let ended = machine.call(&["watch", "c", "work", "--metrics-file", "missing/dir/file"]);
    assert_eq!(ended.code, 2, "{}", ended.seen());
}
