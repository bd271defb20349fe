//! `push`, `pull`, `sync`, `plan`: what they do, what they say, and their exit codes.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::world::{Machine, World, noise, objects, tree};

fn fill(machine: &Machine) {
    machine.write("work/src/main.rs", "fn main() {}\n");
    let script = machine.write("work/build.sh", "#!/bin/sh\n");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(machine.path("work/empty")).unwrap();
    symlink("src/main.rs", machine.path("work/link")).unwrap();
}

#[test]
fn a_workspace_comes_back_on_another_machine() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    fill(&one);
    one.done(&["push", "c", "work"]);
    two.done(&["pull", "c", "work"]);
    assert_eq!(tree(&two.path("work")), tree(&one.path("work")));
}

#[test]
fn what_people_see() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    fill(&one);
    let mut seen = Vec::new();
    let mut call = |machine: &Machine, args: &[&str]| {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
    };
    call(&one, &["push", "c", "work"]);
    call(&one, &["push", "c", "work"]);
    call(&two, &["pull", "c", "work", "-v"]);
    call(&two, &["pull", "c", "work"]);
    std::fs::remove_file(two.path("work/link")).unwrap();
    two.write("work/src/main.rs", "fn main() { work() }\n");
    two.write("work/new", "new");
    call(&two, &["plan", "push", "c", "work"]);
    call(&two, &["push", "c", "work", "--dry-run"]);
    call(&two, &["sync", "c", "work", "-q"]);
    call(&one, &["plan", "pull", "c", "work"]);
    call(&one, &["sync", "c", "work", "-v"]);
    insta::assert_snapshot!("sync-seen", seen.join("\n\n"));
}

#[test]
fn a_dry_run_changes_nothing_anywhere() {
    let world = World::new();
    let machine = world.machine("a");
    fill(&machine);
    machine.done(&["push", "c", "work"]);
    machine.write("work/new", "new");
    let (store, work) = (tree(&world.store()), tree(&machine.path("work")));
    for args in
        [&["push", "c", "work", "-n"][..], &["plan", "push", "c", "work"], &["plan", "pull", "c", "work"]]
    {
        machine.done(args);
    }
    assert_eq!(tree(&world.store()), store);
    assert_eq!(tree(&machine.path("work")), work);
    assert!(machine.done(&["push", "c", "work"]).out.contains("1 added"));
}

#[test]
fn a_dry_run_before_there_is_a_store_plans_everything_as_new() {
    let world = World::new();
    let machine = world.machine("a");
    fill(&machine);
    let ended = machine.done(&["push", "c", "work", "-n"]);
    assert!(ended.out.contains("would push: 4 added, 0 changed, 0 deleted"), "{}", ended.seen());
    for args in [&["plan", "push", "c", "work"][..], &["sync", "c", "work", "-n"]] {
        let summary = machine.done(&[args, &["--json"]].concat()).summary();
        assert_eq!(
            (&summary["added"], &summary["requests"], &summary["snapshot"]),
            (&4.into(), &0.into(), &().into())
        );
    }
    assert!(!world.store().exists());
    assert_eq!(machine.call(&["pull", "c", "work", "-n"]).code, 10);
    machine.done(&["store", "init"]);
    assert!(machine.done(&["push", "c", "work", "-n"]).out.contains("4 added"));
    assert_eq!(machine.done(&["context", "list"]).out, "");
    assert!(machine.done(&["push", "c", "work"]).out.contains("4 added"));
}

#[test]
fn a_mount_named_from_below() {
    let machine = World::new().machine("a");
    machine.write("work/sub/f", "x");
    let mut command = machine.command(["push", "c", ".."]);
    let ended = machine.ended(command.current_dir(machine.path("work/sub")).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.seen());
    assert!(machine.done(&["ls", "c"]).out.contains(" sub/f"));
}

#[test]
fn a_push_with_nothing_to_do_is_one_request_and_sees_another_machines_commit() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    fill(&one);
    one.done(&["push", "c", "work"]);
    let summary = one.done(&["--json", "push", "c", "work"]).summary();
    assert_eq!((&summary["requests"], &summary["bytes_sent"]), (&1.into(), &0.into()), "{summary}");
    two.done(&["pull", "c", "work"]);
    two.write("work/theirs", "x");
    two.done(&["push", "c", "work"]);
    let summary = one.done(&["--json", "push", "c", "work"]).summary();
    assert_eq!(summary["snapshot"], two.done(&["--json", "push", "c", "work"]).summary()["snapshot"]);
    assert!(!one.has("work/theirs"), "a push brings nothing");
}

#[test]
fn exit_code_4_both_versions_survive() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    one.write("work/f.txt", "base");
    one.done(&["push", "c", "work"]);
    two.done(&["pull", "c", "work"]);
    one.write("work/f.txt", "from one");
    two.write("work/f.txt", "from two");
    one.done(&["push", "c", "work"]);
    let ended = two.call(&["sync", "c", "work"]);
    assert_eq!(ended.code, 4, "{}", ended.seen());
    assert!(ended.out.contains("1 in conflict"), "{}", ended.seen());
    let mut contents: Vec<_> =
        tree(&two.path("work")).iter().map(|row| row.split('"').nth(1).unwrap().to_owned()).collect();
    contents.sort();
    assert_eq!(contents, ["from one", "from two"]);
    assert_eq!(two.read("work/f.txt"), "from two");
    // The same conflict creates no second copy, and no second warning.
    one.done(&["pull", "c", "work"]);
    assert_eq!(tree(&one.path("work")), tree(&two.path("work")));
}

#[test]
fn exit_code_4_stopped_by_fail() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    one.write("work/f", "base");
    one.done(&["push", "c", "work"]);
    two.done(&["pull", "c", "work"]);
    one.write("work/f", "from one");
    two.write("work/f", "from two");
    one.done(&["push", "c", "work"]);
    let ended = two.call(&["push", "c", "work", "--conflict", "fail"]);
    assert!(ended.code == 4 || ended.err.contains("conflict"), "{}", ended.seen());
    assert_eq!(two.read("work/f"), "from two");
}

#[test]
fn exit_code_3_one_bad_path_does_not_stop_the_rest() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/good", "x");
    machine.write("work/bad", "x");
    machine.done(&["push", "c", "work"]);
    std::fs::remove_file(machine.path("work/bad")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(machine.path("work/bad")).unwrap();
    machine.write("work/more", "x");
    let ended = machine.call(&["push", "c", "work"]);
    assert_eq!(ended.code, 3, "{}", ended.seen());
    assert!(ended.err.contains("error: bad"), "{}", ended.seen());
    let listed = machine.done(&["ls", "c"]).out;
    assert!(listed.contains(" bad") && listed.contains(" more"), "{listed}");
    let json = machine.call(&["--json", "push", "c", "work"]);
    assert_eq!(json.of_type("error")[0]["path"], "bad");
    assert_eq!(json.summary()["failed"], 1);
}

#[test]
fn l10_a_socket_that_the_context_does_not_have_is_incomplete_only_with_strict() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/good", "x");
    let _socket = std::os::unix::net::UnixListener::bind(machine.path("work/socket")).unwrap();
    insta::assert_snapshot!("socket", machine.done(&["push", "c", "work"]).seen());
    let json = machine.done(&["--json", "push", "c", "work"]);
    assert_eq!(json.of_type("warning").len(), 1, "{}", json.out);
    machine.done(&["pull", "c", "work", "--strict"]);
    for ended in [
        machine.call(&["push", "c", "work", "--strict"]),
        machine.call_with(&[("CTXSYNC_STRICT", "1")], &["push", "c", "work"]),
    ] {
        assert_eq!(ended.code, 3, "{}", ended.seen());
        assert!(ended.err.contains("error: socket"), "{}", ended.seen());
    }
}

#[test]
fn exit_code_3_a_white_list_that_holds_nothing() {
    let machine = World::new().machine("a");
    machine.write("work/file", "x");
    machine.write("p.json", r#"{"bwList": {"whiteLists": [{"path": "/wrong"}]}}"#);
    let ended = machine.call(&["push", "c", "work", "-p", "p.json"]);
    assert_eq!(ended.code, 3, "{}", ended.seen());
    assert!(ended.err.contains("warning:") && ended.err.contains("wrong"), "{}", ended.seen());
}

#[test]
fn exit_code_8_d2_an_emptied_mount_is_not_a_deletion_of_everything() {
    let world = World::new();
    let machine = world.machine("a");
    fill(&machine);
    machine.done(&["push", "c", "work"]);
    std::fs::remove_dir_all(machine.path("work")).unwrap();
    std::fs::create_dir(machine.path("work")).unwrap();
    let ended = machine.call(&["push", "c", "work"]);
    assert_eq!(ended.code, 8, "{}", ended.seen());
    let hint = "intended, pass --allow-empty-mount\n";
    assert!(ended.err.contains(hint), "{}", ended.seen());
    machine.done(&["pull", "c", "work"]);
    assert_eq!(machine.read("work/src/main.rs"), "fn main() {}\n");
}

#[test]
fn exit_code_8_d3_more_deletions_than_allowed() {
    let machine = World::new().machine("a");
    for name in ["a", "b", "c", "d"] {
        machine.write(&format!("work/{name}"), name);
    }
    machine.done(&["push", "c", "work"]);
    for name in ["a", "b"] {
        std::fs::remove_file(machine.path("work").join(name)).unwrap();
    }
    let ended = machine.call(&["push", "c", "work", "--max-delete", "1"]);
    assert_eq!(ended.code, 8, "{}", ended.seen());
    assert!(ended.err.contains("intended, pass --max-delete 2\n"), "{}", ended.seen());
    assert_eq!(machine.call(&["push", "c", "work", "--max-delete", "25%"]).code, 8);
    let ended = machine.done(&["push", "c", "work", "--max-delete", "2"]);
    assert!(ended.out.contains("2 deleted"), "{}", ended.seen());
}

#[test]
fn exit_code_10_pull_makes_nothing() {
    let world = World::new();
    let machine = world.machine("a");
    let no_store = machine.call(&["pull", "c", "work"]);
    assert_eq!(no_store.code, 10, "{}", no_store.seen());
    assert!(!world.store().exists());
    machine.done(&["store", "init"]);
    let no_context = machine.call(&["pull", "c", "work"]);
    assert_eq!(no_context.code, 10, "{}", no_context.seen());
}

#[test]
fn only_restricts() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    one.write("work/a/x", "x");
    one.write("work/b/y", "y");
    one.write("work/c", "c");
    one.done(&["push", "c", "work", "--only", "a", "--only", "c"]);
    two.done(&["pull", "c", "work"]);
    assert!(two.has("work/a/x") && two.has("work/c") && !two.has("work/b"));
    one.done(&["push", "c", "work"]);
    let only = two.path("work/b").display().to_string();
    two.done(&["pull", "c", "work", "--only", &only]);
    assert!(two.has("work/b/y"));
}

#[test]
fn max_upload_stops_before_the_commit() {
    let machine = World::new().machine("a");
    machine.write("work/models/big", vec![b'x'; 3 << 20]);
    machine.write("work/data/b/c", vec![b'y'; 1 << 20]);
    for i in 0..2000 {
        machine.write(&format!("work/src/{i}"), "z");
    }
    let ended = machine.call(&["push", "c", "work", "--max-upload", "10K"]);
    assert_eq!(ended.code, 1, "{}", ended.seen());
    let named = "raise --max-upload; the largest new or changed paths: `models` with 3.0 MiB, `data` \
                 with 1.0 MiB, `src` with 2.0 KiB";
    assert!(ended.err.contains(named), "{}", ended.seen());
    machine.done(&["push", "c", "work", "--max-upload", "10M"]);
}

#[test]
fn p12_a_reader_that_goes_away_does_not_stop_a_sync() {
    let world = World::new();
    let machine = world.machine("a");
    for n in 0..50 {
        machine.write(&format!("work/{n}"), "x");
    }
    let mut command = machine.command(["--json", "push", "c", "work"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let ended = machine.ended(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(machine.done(&["log", "c"]).out.contains("50 files"));
}

#[test]
fn exit_codes_130_and_143_and_the_next_push_goes_on() {
    use nix::sys::signal::{Signal, kill};
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let machine = World::new().machine("a");
        machine.done(&["context", "create", "c"]);
        machine.write("work/noise", noise(400_000));
        let mut command = machine.command(["--json", "push", "c", "work", "--bwlimit", "20K"]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(700));
        assert!(child.try_wait().unwrap().is_none(), "still sending");
        kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let ended = machine.ended(child.wait_with_output().unwrap());
        assert_eq!(ended.code, code, "{}", ended.seen());
        ended.summary();
        assert_eq!(machine.done(&["ls", "c"]).out, "");
        assert!(machine.done(&["push", "c", "work"]).out.contains("1 added"));
    }
}

#[test]
fn a_bandwidth_limit_takes_its_time() {
    let machine = World::new().machine("a");
    machine.write("work/noise", noise(200_000));
    let begun = std::time::Instant::now();
    machine.done(&["push", "c", "work", "--bwlimit", "100K"]);
    assert!(begun.elapsed().as_secs_f64() > 1.0, "{:?}", begun.elapsed());
}

#[test]
fn a_log_is_written_for_its_owner_only() {
    let machine = World::new().machine("a");
    machine.write("work/a", "x");
    machine.done(&["push", "c", "work", "--log-file", "log", "-v"]);
    let mode = machine.path("log").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_new_context_is_said_once() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    let created = |args: &[&str]| {
        let said = machine.done(args).err.contains("created context");
        machine.write("work/f", format!("{said:?}{args:?}"));
        let json = machine.done(&[args, &["--json"]].concat());
        (said, json.summary()["created"].clone())
    };
    assert_eq!(created(&["plan", "push", "c", "work"]), (false, json!(false)));
    assert_eq!(created(&["push", "c", "work"]), (true, json!(false)));
    assert_eq!(created(&["sync", "d", "work"]), (true, json!(false)));
    assert_eq!(created(&["pull", "d", "work"]), (false, json!(false)));
    let first = machine.done(&["push", "e", "work", "--json"]);
    assert_eq!(first.summary()["created"], true);
    // It was empty before, but it was there.
    machine.done(&["context", "create", "f"]);
    assert_eq!(created(&["push", "f", "work"]), (false, json!(false)));
    let run = machine.done(&["run", "-c", "g", "work", "--json", "--", "true"]);
    assert_eq!(objects(&run.err).last().unwrap()["created"], true);
}

/// Times are local and sizes short, unless the exact ones are asked for. JSON has the exact ones anyway.
#[test]
fn times_and_sizes_are_shown_as_people_want_them() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x".repeat(2_000));
    let file = std::fs::File::options().write(true).open(machine.path("work/f")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    machine.done(&["push", "c", "work"]);
    let ls = |variables: &[(&str, &str)], options: &[&str]| {
        let ended = machine.call_with(variables, &[&["ls", "c"], options].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out
    };
    let zone = ("TZ", "Asia/Kolkata");
    assert!(ls(&[zone], &[]).contains("  2.0 KiB 2023-11-15 03:43:20  f\n"));
    assert!(ls(&[zone], &["--bytes", "--utc"]).contains("   2000 B 2023-11-14T22:13:20Z f\n"));
    assert!(ls(&[zone, ("CTXSYNC_UTC", "1")], &[]).contains("2023-11-14T22:13:20Z f"));
    let json = &objects(&ls(&[zone], &["--json"]))[0];
    assert_eq!((json["size"].clone(), json["mtime"].clone()), (json!(2000), json!("2023-11-14T22:13:20Z")));
    // A zone that is unknown is UTC.
    assert!(ls(&[("TZ", "Nowhere/At_All")], &[]).contains("2023-11-14 22:13:20"));
}
