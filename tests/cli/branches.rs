//! `context fork`, `context merge`, `context revert`, and sessions that begin with a fork.

use ctxsync_tests::s3::S3Server;
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
    let row = machine.done(&["--json", "context", "fork", "base@2", "other"]).of_type("context").remove(0);
    assert_eq!((&row["context"], &row["forked_from"]), (&json!("other"), &json!("base@2")));
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

#[test]
fn differences_as_people_see_them() {
    let machine = with_base(&World::new());
    machine.write("work/image", [0, 159, 146]);
    machine.write("work/moved here", "base");
    std::fs::remove_file(machine.path("work/dir/file")).unwrap();
    std::os::unix::fs::symlink("image", machine.path("work/link")).unwrap();
    let mut seen = Vec::new();
    let mut calls = |calls: &[&[&str]]| {
        for args in calls {
            seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
        }
    };
    // The directory is compared before and after the push that makes it the same.
    calls(&[
        &["diff", "base", "./work"],
        &["diff", "work", "base", "--stat"],
        &["diff", "base", "work", "--name-only"],
    ]);
    machine.done(&["push", "base", "work"]);
    calls(&[
        &["diff", "base", "./work", "--exit-code"],
        &["diff", "base@2", "base"],
        &["diff", "base@2", "base", "--exit-code"],
        &["diff", "base", "base@2", "--", "both.txt"],
        &["diff", "base@2", "./work", "--", "both.txt", "image", "moved here", "link"],
        &["diff", "base@2", "base", "--name-only", "--", "dir"],
        &["diff", "base@2", "base", "--", "both.txt", "missing"],
        &["diff", "base", "./work", "--", "both.txt/missing"],
        &["diff", "base", "missing"],
        &["diff", "base", "./missing"],
        &["diff", "./work", "./try"],
        &["diff", "base@77", "base"],
    ]);
    machine.done(&["pull", "base", "part", "--only", "dir"]);
    seen.push(format!("# a part of it was pulled\n{}", machine.call(&["diff", "base", "./part"]).seen()));
    insta::assert_snapshot!("differences", seen.join("\n\n"));
}

#[test]
fn differences_as_programs_see_them() {
    let machine = with_base(&World::new());
    let ended = machine.done(&["--json", "diff", "base@1", "base@2"]);
    let rows = ended.of_type("difference");
    assert_eq!(rows.len(), 2, "{}", ended.out);
    assert_eq!(
        rows[0],
        json!({
            "message_type": "difference", "path": "both.txt", "change": "added", "from": null, "kind_before": null,
            "kind_after": "file", "size_before": null, "size_after": 4, "mode_before": null, "mode_after": "0644",
        })
    );
    let summary = ended.summary();
    assert_eq!(
        (&summary["added"], &summary["renamed"], &summary["bytes_added"]),
        (&json!(2), &json!(0), &json!(8))
    );
    let ended = machine.call(&["--json", "diff", "base@1", "base@2", "--exit-code"]);
    assert_eq!((ended.code, ended.summary()["added"].as_u64()), (1, Some(2)));
}

/// What was not pushed, or is under another name by now, may be changed.
#[test]
fn an_ephemeral_context_of_which_the_changes_are_unknown_is_kept() {
    let machine = with_base(&World::new());
    let run = ["run", "-c", "try", "--fork-from", "base", "--wait", "--ephemeral", "--keep-if-changed"];
    let failed =
        machine.call(&[&run[..], &["--max-upload", "1", "try", "--", "sh", "-c", "echo 333 > new"]].concat());
    assert!(failed.code == 1 && failed.err.contains("kept context try"), "{}", failed.seen());
    assert!(machine.done(&["context", "list"]).out.contains("try"));
    machine.done(&["push", "try", "try"]);
    assert!(machine.done(&["ls", "try"]).out.contains(" new"));
    machine.done(&["context", "delete", "try", "--yes"]);
    std::fs::remove_dir_all(machine.path("try")).unwrap();
    let rename = format!("{} context rename try other && touch new", env!("CARGO_BIN_EXE_ctxsync"));
    let renamed = machine.call(&[&run[..], &["try", "--", "sh", "-c", &rename]].concat());
    assert!(renamed.code == 0 && renamed.err.contains("nothing was deleted"), "{}", renamed.seen());
    assert!(machine.done(&["ls", "other"]).out.contains(" new"));
}

#[test]
fn an_ephemeral_context_is_deleted_unless_it_is_to_be_kept() {
    let machine = with_base(&World::new());
    let contexts = || machine.done(&["context", "list"]).out;
    for (flags, command, code, kept) in [
        (&[][..], "touch new", 0, false),
        (&["--keep-if-changed"], "touch new", 0, true),
        (&["--keep-if-changed"], "true", 0, false),
        (&["--keep-if-changed"], "touch new; exit 3", 3, true),
        (&["--keep-if-ok"], "touch new", 0, true),
        (&["--keep-if-ok"], "touch new; exit 3", 3, false),
        (&["--keep-if-ok", "--keep-if-changed"], "exit 3", 3, false),
    ] {
        let run = ["run", "-c", "try", "--fork-from", "base", "--wait", "--ephemeral"];
        let args = [&run[..], flags, &["try", "--", "sh", "-c", command]].concat();
        let ended = machine.call(&args);
        assert_eq!(ended.code, code, "{flags:?}: {}", ended.seen());
        assert_eq!(contexts().contains("try"), kept, "{flags:?} {command}: {}", ended.seen());
        assert!(!ended.err.contains("nothing was pushed"), "{}", ended.err);
        if kept {
            assert!(machine.done(&["ls", "try"]).out.contains(" new"));
            // What was there before is never deleted.
            let refused = machine.call(&args);
            assert_eq!(refused.code, 1, "{}", refused.seen());
            assert!(refused.err.contains("exists, and --ephemeral would delete it"), "{}", refused.err);
            machine.done(&["context", "delete", "try", "--yes"]);
        }
        std::fs::remove_dir_all(machine.path("try")).unwrap();
    }
    let refused = machine.call(&["run", "-c", "try", "--keep-if-ok", "try", "--", "true"]);
    assert_eq!(refused.code, 2, "{}", refused.seen());
    // What is deleted at once need not be pushed before.
    let saves = ["run", "-c", "try", "--ephemeral", "--save"];
    let refused = machine.call(&[&saves[..], &["try", "--", "touch", "ran"]].concat());
    assert_eq!(refused.code, 2, "{}", refused.seen());
    assert!(
        refused.err.contains("--save pushes at the end, and --ephemeral then deletes"),
        "{}",
        refused.err
    );
    machine.done(&[&saves[..], &["--keep-if-ok", "try", "--", "true"]].concat());
    assert!(contexts().contains("try") && !machine.has("try/ran"));
    assert!(contexts().contains("base"));
}

#[test]
fn what_contexts_take_is_listed_and_counted() {
    let machine = with_base(&World::new());
    machine.done(&["context", "fork", "base@2", "try"]);
    machine.write("noise", crate::world::noise(100_000));
    machine.done(&["put", "try:dir/deep/noise", "noise"]);
    let mut seen = Vec::new();
    for args in [
        &["context", "list", "--long"][..],
        &["context", "list", "--sort", "size"],
        &["context", "list", "--sort", "time"],
        &["ls", "--du", "try"],
        &["ls", "--du", "--depth", "1", "try"],
        &["ls", "--du", "try:dir/deep"],
        &["ls", "--du", "try:missing"],
        &["stats"],
        &["stats", "missing"],
    ] {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
    }
    insta::assert_snapshot!("figures", seen.join("\n\n"));
    assert_eq!(machine.call(&["ls", "--depth", "1", "try"]).code, 2);

    let listed = machine.done(&["--json", "context", "list", "--long"]).of_type("context");
    assert_eq!((&listed[1]["forked_from"], &listed[1]["files"]), (&json!("base@2"), &json!(3)));
    let stats = machine.done(&["--json", "stats"]);
    let (of, all) = (stats.of_type("stats"), stats.of_type("store_stats"));
    let figure = |row: &serde_json::Value, name: &str| row[name].as_u64().unwrap();
    // The noise is only in the fork, and does not compress; what the base begins with is in both.
    assert!(figure(&of[1], "own") > 100_000 && figure(&of[1], "stored") > 100_000, "{}", stats.out);
    assert!(figure(&of[1], "packs_size") > figure(&of[1], "own"), "{}", stats.out);
    assert!(figure(&of[0], "own") < 10_000 && figure(&of[0], "own") > 0, "{}", stats.out);
    assert_eq!(figure(&all[0], "unused"), 0);
    assert_eq!((figure(&all[0], "packs_full"), figure(&all[0], "packs_unused")), (3, 0), "{}", stats.out);
    let shared: u64 = figure(&of[1], "packs_size") - figure(&of[1], "own");
    assert_eq!(figure(&all[0], "packs_size"), figure(&of[0], "own") + figure(&of[1], "own") + shared);
    // Deleting the fork gives back what it says.
    let own = figure(&of[1], "own");
    machine.done(&["context", "delete", "try", "--yes"]);
    let after = machine.done(&["--json", "stats"]).of_type("store_stats");
    assert_eq!(figure(&after[0], "unused"), own);
    assert_eq!((figure(&after[0], "packs_full"), figure(&after[0], "packs_unused")), (2, 1));
    let sums = machine.done(&["--json", "ls", "--du", "base"]).of_type("directory");
    assert_eq!(
        (&sums[0]["path"], &sums[0]["bytes"], &sums[1]["files"]),
        (&json!("dir"), &json!(4), &json!(2))
    );
}

/// Over S3, the answers have the store's time: one put, whatever the size.
#[test]
fn a_fork_over_s3_is_one_put() {
    let world = World::new();
    let server = S3Server::start().unwrap();
    let machine = world.machine("a");
    for files in [1, 300] {
        for file in 0..files {
            machine.write(&format!("work/{file}"), format!("{files} {file}"));
        }
        let store = server.url(&format!("of-{files}"));
        let call = |args: &[&str]| {
            let mut command = machine.command(args);
            machine.ended(command.envs(server.env()).env("CTXSYNC_STORE", &store).output().unwrap())
        };
        let pushed = call(&["push", "base", "work"]);
        assert_eq!(pushed.code, 0, "{}", pushed.seen());
        server.clear_requests();
        let forked = call(&["--json", "context", "fork", "base", "try"]);
        assert_eq!(forked.code, 0, "{}", forked.seen());
        let requests = server.requests();
        let puts = requests.iter().filter(|request| request.method == "PUT").count();
        assert_eq!((puts, requests.len()), (1, 8), "{requests:?}");
    }
}

/// Sessions on many machines at once, each on a fork of its own, merged back while the others still run. All begin with the
/// same snapshot: one that began later would replace what was merged by then.
/// `CTXSYNC_SESSIONS=20` says how many.
#[test]
fn attempts_at_once_over_s3_are_all_merged() {
    let world = World::new();
    let server = S3Server::start().unwrap();
    let count = std::env::var("CTXSYNC_SESSIONS").ok().map_or(5, |count| count.parse().unwrap());
    let program = |machine: &Machine, args: &[&str]| {
        let mut command = machine.command(args);
        command.envs(server.env()).env("CTXSYNC_STORE", server.url("attempts"));
        command
    };
    let first = world.machine("first");
    first.write("work/shared", "base");
    first.write("work/kept", "base");
    let done = |machine: &Machine, args: &[&str]| {
        let ended = machine.ended(program(machine, args).output().unwrap());
        assert!(matches!(ended.code, 0 | 4), "{args:?}: {}", ended.seen());
        ended
    };
    done(&first, &["push", "base", "work"]);
    std::thread::scope(|scope| {
        for at in 0..count {
            let (world, done) = (&world, &done);
            scope.spawn(move || {
                let (machine, name) = (world.machine(&format!("machine-{at}")), format!("try/{at}"));
                let work = format!("echo {at} > own-{at}; echo changed by {at} > shared");
                let run =
                    ["run", "-c", &name, "--fork-from", "base@2", "--wait", "work", "--", "sh", "-c", &work];
                done(&machine, &run);
                done(&machine, &["context", "merge", &name, "base"]);
            });
        }
    });
    done(&first, &["pull", "base", "merged"]);
    let merged = tree(&first.path("merged"));
    let all: String = std::fs::read_dir(first.path("merged"))
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    for at in 0..count {
        assert_eq!(first.read(&format!("merged/own-{at}")), format!("{at}\n"));
        assert!(all.contains(&format!("changed by {at}\n")), "{merged:?}");
    }
    // Two files, one of each session, and a conflict copy for all but the first.
    assert_eq!(merged.len(), 2 + count + count - 1, "{merged:?}");
    assert_eq!(done(&first, &["check", "--read-data"]).code, 0);
}

#[test]
fn an_ephemeral_context_is_deleted_as_well_if_the_session_does_not_open() {
    let machine = with_base(&World::new());
    let run = [
        "run",
        "-c",
        "try",
        "--fork-from",
        "base",
        "--ephemeral",
        "--require",
        "missing",
        "try",
        "--",
        "true",
    ];
    let ended = machine.call(&run);
    assert_eq!(ended.code, 10, "{}", ended.seen());
    assert!(!machine.done(&["context", "list"]).out.contains("try"), "{}", ended.seen());
}

/// `--ephemeral` deletes only what it has made: not a context that took the name meanwhile.
#[test]
fn an_ephemeral_session_leaves_a_context_that_took_its_name() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("other/mine", "precious");
    let script = "cd .. && $PROGRAM context delete e --yes --store $CTXSYNC_STORE && \
                  $PROGRAM push e other --store $CTXSYNC_STORE";
    let ended = machine.done(&["run", "--wait", "-c", "e", "--ephemeral", "e", "--", "sh", "-c", script]);
    assert!(ended.err.contains("is not the one that this session made any more"), "{}", ended.seen());
    assert_eq!(machine.done(&["cat", "e:mine"]).out, "precious");
    // A rename keeps it, too.
    let script = "$PROGRAM context rename f g --store $CTXSYNC_STORE";
    let ended = machine.done(&["run", "--wait", "-c", "f", "--ephemeral", "f", "--", "sh", "-c", script]);
    assert!(ended.err.contains("nothing was deleted"), "{}", ended.seen());
    machine.done(&["context", "show", "g"]);
}
