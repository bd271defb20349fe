//! `context fork`, `context merge`, `context revert`, and sessions that begin with a fork.

use serde_json::json;

use crate::world::{Machine, World, tree};

/// Returns a machine whose context `base` has two snapshots after its empty first one.
fn with_base(world: &World) -> Machine {
    let machine = world.machine("a");
    machine.write("work/both.txt", "base");
    machine.write("work/dir/file", "base");
    machine.done(&["push", "base", "work"]);
    machine.write("work/both.txt", "changed in base");
    machine.done(&["push", "base", "work"]);
    machine
}

#[test]
fn forks_merges_and_reverts_as_people_see_them() {
    let machine = with_base(&World::new());
    let mut seen = Vec::new();
    machine.write("try/both.txt", "base");
    let calls: &[&[&str]] = &[
        &["context", "fork", "base@2", "try/1"],
        &["context", "fork", "base", "try/1"],
        &["context", "fork", "base@9", "try/2"],
        &["context", "fork", "missing", "try/2"],
        &["-n", "context", "fork", "base", "try/2"],
        &["context", "merge", "base", "try/1", "--dry-run"],
        &["context", "merge", "base", "try/1"],
        &["context", "merge", "base", "try/1"],
        &["put", "base:both.txt", "try/both.txt"],
        &["put", "try/1:new", "try/both.txt"],
        &["put", "try/1:both.txt", "work/dir/file"],
        &["rm", "try/1:dir/file"],
        &["put", "base:both.txt", "work/../other"],
        &["context", "merge", "try/1", "base", "--only", "dir", "--max-delete", "0"],
        &["context", "merge", "try/1", "base", "--conflict", "fail"],
        &["context", "merge", "try/1", "base"],
        &["context", "merge", "try/1", "base"],
        &["context", "create", "stranger"],
        &["context", "merge", "stranger", "base"],
        &["context", "merge", "stranger", "base", "--unrelated"],
        &["context", "revert", "base"],
        &["context", "revert", "base@3", "-n"],
        &["context", "revert", "base@3"],
        &["context", "revert", "base@3"],
        &["ls", "base"],
        &["log", "base"],
    ];
    machine.write("other", "base differs");
    for args in calls {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
    }
    insta::assert_snapshot!("branches", seen.join("\n\n"));
}

#[test]
fn forks_and_merges_as_programs_see_them() {
    let machine = with_base(&World::new());
    let forked = machine.done(&["--json", "context", "fork", "base@-1", "try"]).summary();
    assert_eq!(
        (&forked["command"], &forked["context"], &forked["snapshot"]),
        (&json!("context fork"), &json!("try"), &json!(1))
    );
    machine.write("new", "new");
    machine.done(&["put", "try:new", "new"]);
    let plan = machine.done(&["--json", "-n", "context", "merge", "try", "base"]);
    let paths = plan.of_type("path");
    assert_eq!(paths.len(), 1, "{paths:?}");
    assert_eq!((&paths[0]["path"], &paths[0]["action"]), (&json!("new"), &json!("add")));
    let merged = machine.done(&["--json", "context", "merge", "try", "base"]).summary();
    assert_eq!(
        (&merged["added"], &merged["parent"], &merged["conflicts"]),
        (&json!(1), &json!(3), &json!(0))
    );
    let only =
        machine.call_with(&[("CTXSYNC_ONLY", "dir,new")], &["--json", "context", "merge", "base", "try"]);
    assert_eq!((only.code, &only.summary()["changed"]), (0, &json!(0)), "{}", only.seen());
    let merged = machine.done(&["--json", "context", "merge", "base", "try"]).summary();
    assert_eq!(merged["changed"], 1);
}

#[test]
fn a_session_begins_with_a_fork_where_its_context_is_missing() {
    let machine = with_base(&World::new());
    let run = |context: &str, command: &str| {
        let args =
            ["run", "-c", context, "--fork-from", "base@2", "--wait", context, "--", "sh", "-c", command];
        machine.call(&args)
    };
    let first = run("try-1", "cat both.txt; echo tried > both.txt");
    assert_eq!((first.code, first.out.as_str()), (0, "base"), "{}", first.seen());
    assert!(first.err.contains("forked base@2 to try-1"), "{}", first.err);
    // The next session goes on where this one ended.
    std::fs::remove_dir_all(machine.path("try-1")).unwrap();
    let second = run("try-1", "cat both.txt");
    assert_eq!(second.out, "tried\n", "{}", second.seen());
    assert!(!second.err.contains("forked"), "{}", second.err);
    // Nothing of the base has changed, and the fork knows where it comes from.
    machine.done(&["pull", "base", "again"]);
    assert_eq!(machine.read("again/both.txt"), "changed in base");
    assert!(machine.done(&["context", "show", "try-1"]).out.contains("base@2"));
    let refused = machine.call(&["run", "-c", "x", "--fork-from", "missing", "x", "--", "true"]);
    assert_eq!(refused.code, 10, "{}", refused.seen());
    assert_eq!(tree(&machine.path("work")).len(), 3);
}
