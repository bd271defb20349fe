//! `NAME:PATH`: a mount that is a directory of a context.

use nix::sys::signal::Signal;

use crate::running::{Running, until};
use crate::world::{Machine, World};

/// Fills context `c` from another machine, which is returned.
fn fill(world: &World) -> Machine {
    let machine = world.machine("whole");
    for name in ["a", "lib/x", "lib/y/z", "lib-old/x"] {
        machine.write(&format!("work/{name}"), name);
    }
    machine.done(&["push", "c", "work"]);
    machine
}

/// Returns the paths of the files of context `c`.
fn listed(machine: &Machine) -> Vec<String> {
    let out = machine.done(&["ls", "c", "--json"]).out;
    let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let files = lines.filter(|line| line["kind"] == "file");
    files.filter_map(|line| line["path"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_directory_of_a_context_is_pulled_and_pushed() {
    let world = World::new();
    let whole = fill(&world);
    let part = world.machine("part");
    let pulled = part.done(&["pull", "c:lib", "work", "--json"]);
    assert!(pulled.out.contains(r#""context":"c:lib""#), "{}", pulled.out);
    assert!(part.has("work/x") && part.has("work/y/z") && !part.has("work/a") && !part.has("work/lib"));

    part.write("work/x", "changed");
    part.write("work/new", "new");
    std::fs::remove_dir_all(part.path("work/y")).unwrap();
    let planned = part.done(&["plan", "push", "c:/lib/", "work"]);
    insta::assert_snapshot!(planned.seen(), @r"
    out| add      new  (new here)
    out| change   x  (changed here)
    out| delete   y/z  (deleted here)
    out| would push: 1 added, 1 changed, 1 deleted; [TIME]
    exit 0
    ");
    assert_eq!(part.done(&["push", "c:lib", "work", "--dry-run"]).seen(), planned.seen());
    let pushed = part.done(&["push", "c:lib", "work"]).out;
    assert!(pushed.contains("pushed snapshot 3: 1 added, 1 changed, 1 deleted"), "{pushed}");
    assert_eq!(listed(&whole), ["a", "lib/new", "lib/x", "lib-old/x"]);
    whole.done(&["pull", "c", "work"]);
    whole.write("work/lib/x", "again");
    whole.write("work/a", "not for the part");
    whole.done(&["sync", "c", "work"]);
    part.done(&["sync", "c:lib", "work"]);
    assert_eq!((part.read("work/x"), part.has("work/a")), ("again".to_owned(), false));
    let explained = part.done(&["explain", "c:lib", "x", "--mount", "work"]);
    assert!(
        explained.out.starts_with("in   x") && explained.err.contains("context c:lib"),
        "{}",
        explained.seen()
    );
}

#[test]
fn what_is_not_there_is_made_by_a_push_and_by_a_session_only() {
    let world = World::new();
    let whole = fill(&world);
    let part = world.machine("part");
    let missing = part.call(&["pull", "c:new/dir", "work"]);
    insta::assert_snapshot!(missing.seen(), @r"
    err| error: no directory `new/dir` in `c@2`
    err| hint: list files with `ctxsync ls c@2`; `push` and `run` create a directory, `pull` does not
    exit 10
    ");
    let file = part.call(&["push", "c:lib/x", "work"]);
    insta::assert_snapshot!(file.seen(), @r"
    err| error: `lib/x` in `c@2` is not a directory
    err| hint: `ctxsync ls c@2` shows what is there
    exit 1
    ");
    let refused = part.call(&["run", "--read-only", "-c", "c:new/dir", "work", "--", "true"]);
    assert_eq!(refused.code, 10, "{}", refused.err);
    assert_eq!(listed(&whole).len(), 4);
    let ran = part.done(&["run", "-c", "c:new/dir", "work", "--", "sh", "-c", "echo x > f"]);
    assert!(ran.err.contains("no directory `new/dir` in `c@2`: it is created"), "{}", ran.err);
    part.write("work/g", "g");
    part.done(&["push", "c:other", "work"]);
    assert_eq!(listed(&whole), ["a", "lib/x", "lib/y/z", "lib-old/x", "new/dir/f", "other/f", "other/g"]);
}

#[test]
fn a_session_works_on_parts() {
    let world = World::new();
    let whole = fill(&world);
    let part = world.machine("part");
    let script = r#"
        test -e x -a ! -e a -a -e ../old/x
        echo 1 > first
        "$PROGRAM" push c:lib . -q
        test "$("$PROGRAM" cat c:lib/first)" = 1
        ! "$PROGRAM" push c . 2> ../refused
        "$PROGRAM" fetch y/z -q
        "$PROGRAM" status . > ../status
        echo 2 > second
        echo 3 > ../old/third
    "#;
    let args = ["run", "--wait", "-c", "c:lib", "-m", "c:lib-old=old", "work", "--", "sh", "-ec", script];
    let ran = part.done(&args);
    assert_eq!(
        listed(&whole),
        ["a", "lib/first", "lib/second", "lib/x", "lib/y/z", "lib-old/third", "lib-old/x"]
    );
    assert!(part.read("status").contains("context c:lib, session "), "{}", part.read("status"));
    let refused = part.read("refused");
    assert!(refused.contains("which works on context c:lib there, not c"), "{refused}{}", ran.err);
    // Outside of a session, the state tells what was mounted.
    part.done(&["fetch", "--mount", "work", "y/z"]);
    let failed = part.call(&["fetch", "--mount", "work", "a"]);
    assert!(failed.code == 10 && failed.err.contains("no `a` comes from context c:lib"), "{}", failed.err);
}

#[test]
fn a_watch_saves_into_its_part() {
    let world = World::new();
    let whole = fill(&world);
    let part = world.machine("part");
    let running = Running::spawn(&part, part.command(["watch", "c:lib", "work"]));
    until("the session runs", || part.call(&["status", "work"]).out.contains("(running)"));
    part.write("work/during", "x");
    until("a checkpoint is made", || whole.call(&["cat", "c:lib/during"]).code == 0);
    part.write("work/last", "x");
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(listed(&whole), ["a", "lib/during", "lib/last", "lib/x", "lib/y/z", "lib-old/x"]);
}

#[test]
fn directories_of_contexts_are_compared() {
    let world = World::new();
    let whole = fill(&world);
    whole.done(&["context", "fork", "c", "try"]);
    whole.write("work/other", "other\n");
    whole.done(&["put", "try:lib/x", "work/other"]);
    whole.done(&["put", "try:a", "work/other"]);
    let part = world.machine("part");
    part.done(&["pull", "try:lib", "mount"]);
    part.write("mount/new", "new");
    let mut seen = Vec::new();
    for args in [
        &["diff", "c:lib", "try:lib"][..],
        &["diff", "c@2:lib/", "try@-1:lib", "--", "x"],
        &["diff", "c:lib", "c:lib-old"],
        &["diff", "c:lib", "c"],
        &["diff", "try:lib", "mount"],
        &["diff", "mount", "c:lib", "--name-only"],
        &["diff", "c:lib", "mount", "--", "x"],
        &["diff", "c:none", "try:lib"],
        &["diff", "c:lib/x", "try:lib"],
        &["diff", "try:none", "mount"],
        &["diff", "c:lib", "try:lib", "--", "a"],
        &["diff", "c:lib/../a", "try:lib"],
    ] {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), part.call(args).seen()));
    }
    insta::assert_snapshot!("diff_of_parts", seen.join("\n\n"));
    let summary = part.done(&["--json", "diff", "c:lib", "mount"]).summary();
    assert_eq!((&summary["context"], &summary["added"]), (&"c:lib".into(), &1.into()));
    // What its base knows and it lacks has not arrived, if it is a mount of this directory.
    part.done(&["pull", "c:lib", "some", "--only", "y"]);
    let pending = |part: &Machine, args: &[&str]| part.done(args).summary()["pending"].as_u64();
    assert_eq!(pending(&part, &["--json", "diff", "c:lib", "some"]), Some(1));
    assert_eq!(pending(&part, &["--json", "diff", "c", "some"]), Some(0));
    whole.done(&["put", "c:lib/x", "work/other"]);
    assert_eq!(pending(&part, &["--json", "diff", "c:lib", "some"]), Some(1));
}

#[test]
fn what_takes_no_part_says_so() {
    let world = World::new();
    let machine = fill(&world);
    let long = format!("c:a/{}", "x".repeat(256));
    for args in [
        &["log", "c:lib"][..],
        &["restore", "c:lib", "work"],
        &["context", "fork", "c:lib", "d"],
        &["context", "merge", "c:lib", "d"],
        &["context", "show", "c:lib"],
        &["check", "c:lib"],
        &["push", "c@2:lib", "work"],
        // Only a mount that is read-only stays at a snapshot.
        &["pull", "c@2:lib", "work"],
        &["push", "c:../x", "work"],
        &["push", "c:a/.ctxsync-stage-0123456789abcdef", "work"],
        &["push", &long, "work"],
        &["run", "-m", "c:x/./y=work", "--", "true"],
    ] {
        let refused = machine.call(args);
        assert_eq!(refused.code, 2, "{args:?} {}", refused.seen());
    }
    let refused = machine.call(&["restore", "c:lib", "work"]).err;
    assert!(refused.contains("`c:lib` can't name a context: it has `:`"), "{refused}");
    let refused = machine.call(&["push", "c@2:lib", "work"]).err;
    assert!(refused.contains("this command syncs with the newest snapshot"), "{refused}");
}
