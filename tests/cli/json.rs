//! The shapes of `--json`, which programs rely on.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::world::{World, objects};

fn fields(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The contract: these fields at least.
const SUMMARY: [&str; 20] = [
    "message_type",
    "command",
    "context",
    "snapshot",
    "parent",
    "added",
    "changed",
    "deleted",
    "unchanged",
    "conflicts",
    "failed",
    "pending",
    "bytes_read",
    "bytes_sent",
    "bytes_received",
    "bytes_stored",
    "requests",
    "seconds",
    "partial",
    "exit_code",
];
const STATUS: [&str; 8] = [
    "message_type",
    "phase",
    "files_done",
    "total_files",
    "bytes_done",
    "total_bytes",
    "seconds_elapsed",
    "seconds_remaining",
];
const TASK: [&str; 16] = [
    "message_type",
    "session",
    "context",
    "context_id",
    "path",
    "task_type",
    "status",
    "start_time",
    "finish_time",
    "error_message",
    "phase",
    "files_done",
    "total_files",
    "bytes_done",
    "total_bytes",
    "pending",
];

#[track_caller]
fn has(object: &Value, names: &[&str]) {
    let fields = fields(object);
    for name in names {
        assert!(fields.contains(name), "no `{name}` in {object}");
    }
}

#[test]
fn every_line_has_its_fields() {
    let machine = World::new().machine("a");
    machine.write("work/dir/f", "x");
    let pushed = machine.done(&["--json", "push", "c", "work"]);
    assert_eq!(pushed.err, "");
    has(&pushed.summary(), &SUMMARY);
    for path in pushed.of_type("path") {
        has(&path, &["path", "action", "side", "reason", "size"]);
    }
    for status in pushed.of_type("status") {
        has(&status, &STATUS);
    }
    assert!(!pushed.of_type("path").is_empty() && !pushed.of_type("status").is_empty());
    for entry in machine.done(&["--json", "ls", "c"]).of_type("entry") {
        has(&entry, &["path", "kind", "size", "mode", "mtime"]);
    }
    for row in machine.done(&["--json", "log", "c"]).of_type("snapshot") {
        has(&row, &["snapshot", "time", "added", "changed", "deleted", "files", "bytes", "partial"]);
    }
    for row in machine.done(&["--json", "status"]).of_type("task") {
        has(&row, &TASK);
    }
    let failed = machine.call(&["--json", "ls", "nobody"]);
    has(&failed.of_type("error")[0], &["path", "message", "hint"]);
    has(&failed.summary(), &SUMMARY);
}

#[test]
fn a_summary_is_always_last() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    let calls: &[&[&str]] = &[
        &["push", "c", "work"],
        &["pull", "c", "work"],
        &["sync", "c", "work"],
        &["plan", "push", "c", "work"],
        &["status"],
        &["explain", "c", "x"],
        &["context", "list"],
        &["context", "show", "c"],
        &["context", "create", "d"],
        &["context", "delete", "d", "--yes"],
        &["ls", "c"],
        &["log", "c"],
        &["restore", "c", "out"],
        &["store", "check"],
        &["config"],
        &["man", "manual"],
    ];
    for args in calls {
        let ended = machine.done(&[args, &["--json"][..]].concat());
        let summary = ended.summary();
        let command = summary["command"].as_str().unwrap().to_owned();
        assert!(args.join(" ").starts_with(&command) && !command.is_empty(), "{command}");
    }
}

#[test]
fn run_speaks_on_standard_error_only() {
    let machine = World::new().machine("a");
    let ended =
        machine.call(&["--json", "run", "-c", "c", "work", "--", "sh", "-c", "echo mine; touch f; exit 5"]);
    assert_eq!(ended.out, "mine\n");
    let lines = objects(&ended.err);
    let summary = lines.last().unwrap();
    has(summary, &SUMMARY);
    assert_eq!((ended.code, &summary["exit_code"], &summary["added"]), (5, &5.into(), &1.into()));
}
