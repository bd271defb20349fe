//! The shapes of `--json`, which programs rely on.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::world::{World, objects};

fn fields(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The contract: a summary has at least these fields.
const SUMMARY: [&str; 21] = [
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
    "unsettled",
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
        has(
            &row,
            &[
                "snapshot",
                "time",
                "added",
                "changed",
                "deleted",
                "files",
                "bytes",
                "partial",
                "unsettled",
                "session",
            ],
        );
        assert_eq!(row["writer"], concat!("ctxsync ", env!("CARGO_PKG_VERSION")));
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

#[test]
fn the_summary_of_a_failure_says_what_is_known() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    let summary = machine.call(&["--json", "ls", "nobody"]).summary();
    assert_eq!((&summary["command"], &summary["context"]), (&"ls".into(), &"nobody".into()));
    assert_eq!(summary["requests"], 2, "the context is looked for, then the store");
    let summary = machine.call(&["--json", "pull", "c", "work", "--conflict", "merge"]).summary();
    assert_eq!((&summary["command"], &summary["exit_code"]), (&"pull".into(), &2.into()));
    let summary = machine.call(&["context", "--json", "create"]).summary();
    assert_eq!(summary["command"], "context create");
    let missing = machine.call(&["ls", "--json"]);
    assert_eq!(missing.summary()["command"], "ls");
    assert!(missing.of_type("error")[0]["message"].as_str().unwrap().contains("NAME"), "{}", missing.out);
    machine.write("work/large", crate::world::noise(200_000));
    let summary = machine.call(&["--json", "push", "c", "work", "--max-upload", "1K"]).summary();
    assert_eq!((&summary["context"], &summary["exit_code"]), (&"c".into(), &1.into()));
    assert!(summary["requests"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn what_only_looks_counts_its_requests() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    let calls: &[&[&str]] = &[&["ls", "c"], &["log", "c"], &["context", "show", "c"], &["context", "list"]];
    for args in calls {
        let summary = machine.done(&[args, &["--json"][..]].concat()).summary();
        assert!(summary["requests"].as_u64().unwrap() > 0, "{args:?}: {summary}");
    }
    for args in [&["config"][..], &["status"], &["explain", "c", "x"]] {
        let summary = machine.done(&[args, &["--json"][..]].concat()).summary();
        assert_eq!(summary["requests"], 0, "{args:?}");
    }
}

#[test]
fn policy_check_shows_what_the_lists_are_read_as() {
    let machine = World::new().machine("a");
    let policy = r#"{"bwList": {"whiteLists": [{"path": "work"}, {"path": "/gone"}, {"path": ".*x", "isPathRegex": true}]}}"#;
    machine.write("p.json", policy);
    machine.write("m/work/f", "x");
    let rows = machine.done(&["policy", "check", "p.json", "--json", "--mount", "m"]).of_type("list");
    let place = |name: &str| Value::from(machine.path("m").join(name).to_str().unwrap());
    let seen: Vec<_> =
        rows.iter().map(|row| (&row["list"], &row["path"], &row["resolved"], &row["exists"])).collect();
    assert_eq!(
        seen,
        [
            (&0.into(), &"work".into(), &place("work"), &true.into()),
            (&1.into(), &"/gone".into(), &place("gone"), &false.into()),
            (&2.into(), &".*x".into(), &Value::Null, &Value::Null),
        ]
    );
}
