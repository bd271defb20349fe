//! `context tag`, `context untag`, and `NAME@TAG`.

use crate::world::{Machine, World};

/// Returns a machine whose context `c` has the snapshots 1 (empty) to 4.
fn with_history(world: &World) -> Machine {
    let machine = world.machine("a");
    machine.done(&["context", "create", "c"]);
    for content in ["one", "two", "three"] {
        machine.write("work/f", content);
        machine.done(&["push", "c", "work"]);
    }
    machine
}

#[test]
fn a_snapshot_with_a_tag_is_kept_and_found_by_it() {
    let world = World::new();
    let machine = with_history(&world);
    let tagged = machine.done(&["--json", "context", "tag", "c@3", "v1.0"]).of_type("context");
    assert_eq!(
        (tagged[0]["snapshot"].as_u64(), tagged[0]["tags"].to_string()),
        (Some(3), "[\"v1.0\"]".to_owned())
    );
    let dry = machine.done(&["gc", "--dry-run", "--keep-last", "1"]);
    assert!(
        dry.out.lines().any(|line| line.starts_with("c@3") && line.ends_with("keep    tag")),
        "{}",
        dry.out
    );
    machine.done(&["gc", "--exclusive", "--keep-last", "1"]);
    assert_eq!(machine.done(&["cat", "c@v1.0:f"]).out, "two");
    machine.done(&["restore", "c@v1.0", "back"]);
    assert_eq!(machine.read("back/f"), "two");
    assert_eq!(machine.done(&["--json", "ls", "c@v1.0"]).of_type("entry").len(), 1);
    let log = machine.done(&["--json", "log", "c"]).of_type("snapshot");
    let tags: Vec<_> =
        log.iter().map(|row| (row["snapshot"].as_u64().unwrap(), row["tags"].to_string())).collect();
    assert_eq!(tags, [(4, "[]".to_owned()), (3, "[\"v1.0\"]".to_owned())]);
    assert!(machine.done(&["log", "c"]).out.trim_end().ends_with("  tags: v1.0"));
    machine.done(&["context", "untag", "c@3", "v1.0"]);
    machine.done(&["gc", "--exclusive", "--keep-last", "1"]);
    assert_eq!(machine.call(&["cat", "c@3:f"]).code, 10);
}

#[test]
fn what_is_told_of_tags() {
    let machine = with_history(&World::new());
    let mut seen = Vec::new();
    let calls: &[&[&str]] = &[
        &["context", "tag", "c@-1", "v1"],
        &["context", "tag", "c", "v1"],
        &["context", "tag", "c@9", "v2"],
        &["context", "tag", "c@v1", "stable"],
        &["context", "tag", "c", "7"],
        &["context", "tag", "c", "a/b"],
        &["ls", "c@v2"],
        &["put", "c@v1:f"],
        &["context", "untag", "c@4", "v1"],
        &["context", "untag", "c@v1", "v1"],
        &["context", "untag", "c@3"],
        &["context", "untag", "c@v1"],
        &["context", "untag", "c@v1"],
        &["context", "untag", "c@3", "stable"],
    ];
    for args in calls {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
    }
    insta::assert_snapshot!("tags", seen.join("\n\n"));
}

#[test]
fn copies_and_purges_tell_of_tags() {
    let world = World::new();
    let machine = with_history(&world);
    machine.done(&["context", "tag", "c@2", "v1"]);
    let store = world.store().to_str().unwrap().to_owned();
    assert!(machine.done(&["copy", &store, "other"]).out.contains("c: copied 4 snapshots up to 4, "));
    machine.done(&["context", "tag", "c@3", "v2"]);
    let copied = machine.done(&["copy", &store, "other"]).out;
    assert!(copied.starts_with("c: copied 1 tag\ncopied 1 tag of 1 context to "), "{copied}");
    assert!(machine.done(&["copy", &store, "other"]).out.starts_with("nothing to copy"));
    machine.done(&["context", "untag", "c@v2"]);
    machine.done(&["context", "tag", "c@4", "v2"]);
    let refused = machine.call(&["copy", &store, "other"]);
    assert_eq!(refused.code, 3);
    assert!(refused.err.contains("tag v2 of `c` is not copied"), "{}", refused.err);
    let json = machine.call(&["copy", &store, "other", "--json"]);
    let summary = json.summary();
    assert_eq!((summary["tags"].as_u64(), summary["tags_failed"].as_u64()), (Some(0), Some(1)));

    let planned = machine.done(&["purge", "c:f", "--dry-run"]).out;
    assert!(
        planned.contains("delete tag c@v1, which is on @2\ndelete tag c@v2, which is on @4\n"),
        "{planned}"
    );
    let purged = machine.done(&["purge", "c:f", "--yes", "--json"]).of_type("purged");
    assert_eq!(purged[0]["tags"][0].to_string(), r#"{"context":"c","snapshot":2,"tag":"v1"}"#);
    assert_eq!(machine.call(&["cat", "c@v1:f"]).code, 10);
}
