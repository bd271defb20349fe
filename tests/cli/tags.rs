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
