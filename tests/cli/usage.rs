//! Wrong usage: exit code 2, a message for people, and JSON for programs.

use crate::world::World;

#[test]
fn exit_code_2() {
    let machine = World::new().machine("a");
    machine.write("bad.json", "{\"bwlist\": 1}");
    machine.write("bad.toml", "bwlimt = 3");
    let wrong: &[&[&str]] = &[
        &[],
        &["nonsense"],
        &["push"],
        &["push", "bad name"],
        &["push", "a/../b"],
        &["push", "x", "--max-delete", "150%"],
        &["push", "x", "--concurrency", "0"],
        &["push", "x", "--bwlimit", "fast"],
        &["push", "x", "--store", "ftp://host/dir"],
        &["push", "x", "--store", "s3://key:secret@bucket/"],
        &["push", "x", "--store-option", "region"],
        &["push", "x", "work", "--only", "../y"],
        &["push", "x", "work", "--only", "/elsewhere"],
        &["push", "x", "-p", "bad.json"],
        &["push", "x", "-p", "missing.json"],
        &["push", "x", "--config", "bad.toml"],
        &["push", "x", "--config", "missing.toml"],
        &["push", "x", "--profile", "missing"],
        &["cat", "x"],
        &["cat", "x:f", "--range", "9-1"],
        &["ls", "x@0"],
        &["ls", "x@-head"],
        &["run", "-c", "x"],
        &["run", "--", "true"],
        &["run", "-m", "x", "--", "true"],
        &["run", "-c", "x", "--release-timeout", "soon", "--", "true"],
        &["watch", "x", "-n"],
        &["fetch", "x", "-n"],
        &["fetch", "x"],
        &["push", "x", "--chown", "nobody-of-this-name"],
        &["ls", "x", "-n"],
        &["log", "x", "--dry-run"],
        &["explain", "x", "y", "-n"],
        &["status", "-n"],
        &["run", "-c", "x", "-n", "--", "true"],
        &["context", "create", "-n", "x"],
        &["plan", "sideways", "x"],
        &["policy", "check"],
        &["explain", "missing.json", "x"],
    ];
    for args in wrong {
        let ended = machine.call(args);
        assert_eq!(ended.code, 2, "{args:?}\n{}{}", ended.out, ended.err);
        assert_eq!(ended.out, "", "{args:?}");
        assert!(!ended.err.is_empty(), "{args:?}");
    }
    assert!(!machine.path("state").exists(), "wrong usage leaves nothing behind");
}

#[test]
fn a_dry_run_for_all_harms_none_that_only_looks() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    for args in [&["ls", "c"][..], &["log", "c"], &["status"], &["explain", "c", "x"], &["config", "-n"]] {
        let ended = machine.call_with(&[("CTXSYNC_DRY_RUN", "1")], args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.seen());
    }
    for args in [&["context", "create", "d"][..], &["run", "-c", "c", "--", "true"], &["watch", "c"]] {
        let ended = machine.call_with(&[("CTXSYNC_DRY_RUN", "1")], args);
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.seen());
    }
}

#[test]
fn json_ends_in_a_summary_all_the_same() {
    let machine = World::new().machine("a");
    for args in [&["--json", "nonsense"][..], &["push", "x", "--json", "--store", "ftp://x"]] {
        let ended = machine.call(args);
        assert_eq!(ended.code, 2);
        assert_eq!(ended.of_type("error").len(), 1);
        assert_eq!(ended.summary()["exit_code"], 2);
    }
}

#[test]
fn options_stand_before_or_after_the_command() {
    let machine = World::new().machine("a");
    for args in [&["--retries", "3", "config"][..], &["config", "--retries", "3"]] {
        assert!(machine.done(args).out.contains("retries            3"), "{args:?}");
    }
}

#[test]
fn a_secret_in_a_url_is_not_repeated() {
    let machine = World::new().machine("a");
    let ended = machine.call(&["push", "x", "--store", "s3://AKIDCANARY:sekrit@bucket/prefix"]);
    assert!(!ended.seen().contains("CANARY") && !ended.seen().contains("sekrit"), "{}", ended.seen());
}

#[test]
fn the_texts() {
    let machine = World::new().machine("a");
    machine
        .write("bad.json", "{\"bwList\": {\"whiteLists\": [{\"path\": \"a\", \"excludePath\": [\"b\"]}]}}");
    machine.write("profile.toml", "[profile.work]\nretries = 1\n");
    let texts = [
        &["push", "x", "-p", "bad.json"][..],
        &["push", "x", "--store", "ftp://host/dir"],
        &["context", "create", "-n", "x"],
        &["push", "x", "work", "--only", "/elsewhere"],
        &["explain", "missing.json", "x"],
        &["ls", "x@-head"],
        &["push", "x", "--max-upload", "much"],
        &["push", "x", "--timeout", "soon"],
        &["push", "x", "--retries", "few"],
        &["push", "x", "--config", "profile.toml"],
    ]
    .map(|args| format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
    insta::assert_snapshot!("usage-texts", texts.join("\n\n"));
}

#[test]
fn a_bad_value_is_blamed_on_the_variable_it_comes_from() {
    let machine = World::new().machine("a");
    let set = [("CTXSYNC_MAX_DELETE", "many")];
    let ended = machine.call_with(&set, &["push", "c"]);
    assert!(ended.code == 2 && ended.err.contains("'many' for 'CTXSYNC_MAX_DELETE'"), "{}", ended.seen());
    // What was typed is blamed on the option, even if the variable is wrong too.
    let ended = machine.call_with(&set, &["push", "c", "--max-delete", "many"]);
    assert!(ended.code == 2 && ended.err.contains("'many' for '--max-delete <N|N%>'"), "{}", ended.seen());
}

#[test]
fn a_variable_that_sets_nothing_is_named() {
    let machine = World::new().machine("a");
    let ended = machine.call_with(&[("CTXSYNC_STOR", "s3://b")], &["config"]);
    let warning = "warning: the variable `CTXSYNC_STOR` sets nothing; is `CTXSYNC_STORE` meant?\n";
    assert_eq!((ended.code, ended.err.as_str()), (0, warning));
    assert_eq!(machine.call_with(&[("CTXSYNC_STORE", "there")], &["config"]).err, "");
}

#[test]
fn a_command_without_the_two_dashes_gets_the_hint() {
    let machine = World::new().machine("a");
    for args in [&["run", "-c", "c", "ls"][..], &["run", "-c", "c", "ls", "-l"]] {
        let ended = machine.call(args);
        assert!(
            ended.err.ends_with("hint: put `--` before the command: `ctxsync run -c CONTEXT -- COMMAND`\n")
        );
        let json = machine.call(&[&["--json"], args].concat());
        assert!(json.err.contains("\"hint\":\"put `--`"), "{}", json.seen());
    }
    assert!(!machine.call(&["run", "-c", "c", "--nope", "--", "ls"]).err.contains("put `--`"));
}

#[test]
fn wrong_arguments_get_a_hint_that_fits() {
    let machine = World::new().machine("a");
    let call = |args: &[&str]| machine.call_with(&[("CTXSYNC_STORE", "s3://bucket/prefix")], args);
    for (args, hint) in [
        (&["fork", "a", "b"][..], Some("the command is `ctxsync context fork`")),
        (&["push", "--wait", "c", "."], Some("--wait is an option of `ctxsync run`")),
        (&["push", ".", "c"], Some("the context comes first, and then the directory")),
        (&["run", "c", "--", "true"], Some("the context is given with -c")),
        (&["run", "-c", "c", "--"], None),
        (&["run", "-c", "c", "--keep-if-changed", "--", "true"], None),
        (&["log", "./c"], None),
        (&["push", "--nowhere"], None),
    ] {
        let ended = call(args);
        let found = ended.err.lines().find_map(|line| line.strip_prefix("hint: "));
        assert_eq!(found.is_some(), hint.is_some(), "{}", ended.seen());
        assert!(hint.is_none_or(|hint| ended.err.contains(hint)), "{}", ended.seen());
        assert!(!ended.err.contains("as a value"), "{}", ended.seen());
    }
    // What comes from a variable need not be typed.
    let usage = call(&["--bwlimit", "1M", "diff", "c"]);
    assert!(usage.err.contains("Usage: ctxsync diff [OPTIONS] <A> <B>"), "{}", usage.seen());
    let usage = call(&["--store", "store", "push", "--bad"]);
    assert!(usage.err.contains("Usage: ctxsync push [OPTIONS]"), "{}", usage.seen());
}
