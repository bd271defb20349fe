//! `put`, `rm`, `context clear`, `context rename`.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::world::{Machine, World, noise};

/// Calls the program with `input` on its standard input.
fn fed(machine: &Machine, args: &[&str], input: &[u8]) -> crate::world::Ended {
    use std::io::Write;
    let mut command = machine.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A call that is refused does not read its input, so the write may fail.
    let _ = child.stdin.take().unwrap().write_all(input);
    machine.ended(child.wait_with_output().unwrap())
}

#[test]
fn files_are_written_and_removed_without_a_mount() {
    let world = World::new();
    let machine = world.machine("a");
    machine.done(&["context", "create", "c"]);
    machine.write("tool.sh", "#!/bin/sh\n");
    std::fs::set_permissions(machine.path("tool.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    let mut seen = Vec::new();
    let mut call = |args: &[&str], input: Option<&str>| {
        let ended = match input {
            Some(input) => fed(&machine, args, input.as_bytes()),
            None => machine.call(args),
        };
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), ended.seen()));
    };
    call(&["put", "c:bin/tool", "tool.sh"], None);
    call(&["put", "c:notes/a.md"], Some("a note"));
    call(&["put", "c:notes/a.md", "-"], Some("a note"));
    call(&["put", "c:notes/secret", "--mode", "600"], Some("s"));
    call(&["put", "c:notes"], Some("x"));
    call(&["put", "c:notes/a.md/b"], Some("x"));
    call(&["put", "c"], Some("x"));
    call(&["put", "c@2:x"], Some("x"));
    call(&["put", "c:x", "missing"], None);
    call(&["put", "c:x", "work"], None);
    call(&["put", "c:x", "--mode", "999"], Some("x"));
    call(&["put", "nowhere:x"], Some("x"));
    call(&["put", "c:x", "tool.sh", "--dry-run"], None);
    call(&["cat", "c:notes/a.md"], None);
    call(&["rm", "c:notes"], None);
    call(&["rm", "c:notes/a.md", "c:bin/none"], None);
    call(&["rm", "c:notes/a.md", "d:notes"], None);
    call(&["rm", "c"], None);
    call(&["rm", "c@2:notes/a.md"], None);
    call(&["rm", "c:notes/a.md", "c:notes/secret"], None);
    call(&["rm", "c:notes/a.md"], None);
    call(&["rm", "-r", "c:notes", "c:bin"], None);
    call(&["ls", "c"], None);
    insta::assert_snapshot!("files", seen.join("\n\n"));
}

#[test]
fn contexts_are_cleared_and_renamed() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/file", "1");
    machine.write("work/dir/other", "2");
    machine.done(&["push", "c", "work"]);
    let mut seen = Vec::new();
    let calls: &[&[&str]] = &[
        &["context", "clear", "c"],
        &["context", "clear", "c", "--yes"],
        &["context", "clear", "c", "--yes"],
        &["ls", "c"],
        &["cat", "c@-1:file"],
        &["context", "clear", "none", "--yes"],
        &["context", "create", "taken"],
        &["context", "rename", "c", "taken"],
        &["context", "rename", "c", "team/c"],
        &["context", "rename", "c", "team/c"],
        &["context", "rename", "c", "other"],
        &["push", "c", "work"],
        &["put", "c:x", "work/file"],
        &["context", "list"],
        &["log", "team/c"],
        &["cat", "team/c@-1:file"],
    ];
    for args in calls {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
    }
    insta::assert_snapshot!("cleared_and_renamed", seen.join("\n\n"));
}

#[test]
fn summaries_say_what_was_done() {
    let world = World::new();
    let machine = world.machine("a");
    machine.done(&["context", "create", "c"]);
    let bytes = noise(6 << 20);
    let put = fed(&machine, &["--json", "put", "c:big"], &bytes).summary();
    assert_eq!((&put["command"], &put["context"]), (&"put".into(), &"c".into()));
    assert_eq!((&put["snapshot"], &put["parent"], &put["added"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(put["bytes_read"], bytes.len());
    assert!(put["bytes_sent"].as_u64().unwrap() > bytes.len() as u64);
    let same = fed(&machine, &["--json", "put", "c:big"], &bytes).summary();
    assert_eq!((&same["parent"], &same["added"], &same["bytes_sent"]), (&().into(), &0.into(), &0.into()));
    let read = machine.command(["cat", "c:big"]).output().unwrap();
    assert!(read.stdout == bytes);
    let rm = machine.done(&["--json", "rm", "c:big"]).summary();
    assert_eq!((&rm["command"], &rm["snapshot"], &rm["deleted"]), (&"rm".into(), &3.into(), &1.into()));
    let missing = machine.call(&["--json", "rm", "c:big"]);
    assert_eq!((missing.code, &missing.summary()["exit_code"]), (10, &10.into()));
    let renamed = machine.done(&["--json", "context", "rename", "c", "d"]).summary();
    assert_eq!((&renamed["command"], &renamed["context"]), (&"context rename".into(), &"d".into()));
    let cleared = machine.done(&["--json", "context", "clear", "d", "--yes"]).summary();
    assert_eq!((&cleared["command"], &cleared["deleted"]), (&"context clear".into(), &0.into()));
    let moved = machine.call(&["--json", "ls", "c"]);
    assert_eq!(moved.code, 10);
    assert_eq!(moved.of_type("error")[0]["message"], "context `c` was moved to `d`");
}
