//! Sessions from outside and inside: when files arrive, and which process carries out a call.

use ctxsync_tests::s3::S3Server;
use nix::sys::signal::Signal;

use crate::running::{Running, is_saved, until};
use crate::world::{Ended, Machine, World, noise};

/// So slow that the large file can't arrive while a test checks.
const SLOW: &str = "100K";
const LARGE: usize = 3_000_000;
/// The length of a file that can't arrive before a command has begun.
const LATER: usize = 300_000;

/// Fills context `c` with a large file and some small ones, from another machine.
fn fill(world: &World) {
    let machine = world.machine("source");
    machine.write("work/large", noise(LARGE));
    machine.write("work/dir/c", noise(LATER));
    for name in ["a", "b"] {
        machine.write(&format!("work/{name}"), name);
    }
    machine.done(&["push", "c", "work"]);
}

/// Runs `script` in a session on context `c`.
fn run(machine: &Machine, options: &[&str], script: &str) -> Ended {
    machine.call(&[&["run", "-c", "c", "work"], options, &["--", "sh", "-ec", script]].concat())
}

#[test]
fn the_command_starts_while_files_still_arrive_and_nothing_that_has_not_is_lost() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    let ended = run(&machine, &["--bwlimit", SLOW], "test ! -e large; echo mine > new");
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("had not arrived yet: the context keeps"), "{}", ended.err);
    assert!(ended.err.contains("the command began before all files were there"), "{}", ended.err);
    assert!(!machine.has("work/large") && is_saved(&machine, "large") && is_saved(&machine, "new"));
    let ended = run(&machine, &["--wait"], "test -e large -a -e dir/c");
    assert_eq!(ended.code, 0, "{}", ended.err);
}

/// A pull that the release stops is not over, but what has failed by then has failed.
#[test]
fn a_path_that_failed_is_in_the_exit_code_though_the_pull_did_not_end() {
    let world = World::new();
    let source = world.machine("source");
    source.write("work/damaged", noise(1000));
    source.done(&["push", "c", "work"]);
    for pack in std::fs::read_dir(world.store().join("packs")).unwrap() {
        let pack = pack.unwrap().path();
        let mut bytes = std::fs::read(&pack).unwrap();
        bytes[100] ^= 1;
        std::fs::write(pack, bytes).unwrap();
    }
    source.write("work/large", noise(LARGE));
    source.done(&["push", "c", "work"]);
    let machine = world.machine("a");
    let script = r#"until ls -a | grep -q ctxsync-stage; do sleep 0.02; done; sleep 2; test ! -e large"#;
    let ended = run(&machine, &["--bwlimit", SLOW], script);
    assert!(ended.code == 3 && ended.err.contains("error: damaged: "), "{}", ended.seen());
    assert!(ended.err.contains("had not arrived yet: the context keeps"), "{}", ended.seen());
}

#[test]
fn a_session_goes_by_the_policy_that_it_has_read() {
    for damage in ["echo '{' > ../policy.json", "rm ../policy.json"] {
        let machine = World::new().machine("a");
        machine.write("policy.json", r#"{"bwList": {"ignorePatterns": ["*.tmp"]}}"#);
        let script = format!(
            "{damage}; touch saved left.tmp; $PROGRAM plan push c . >&2; $PROGRAM push c .; $PROGRAM ls c
            $PROGRAM pull c . >&2; $PROGRAM sync c . >&2"
        );
        let ended = run(&machine, &["-p", "policy.json"], &script);
        assert_eq!(ended.code, 0, "{damage}: {}", ended.seen());
        assert!(ended.out.contains(" saved\n") && !ended.out.contains("left.tmp"), "{}", ended.seen());
        // One that is typed still has to be one.
        let ended = run(&machine, &[], "echo '{' > ../policy.json; $PROGRAM push -p ../policy.json c .");
        assert_eq!(ended.code, 2, "{}", ended.seen());
    }
}

#[test]
fn download_before_start_is_wait_by_policy() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    machine.write("p.json", r#"{"downloadPolicy": {"downloadStrategy": "DownloadBeforeStart"}}"#);
    let ended = run(&machine, &["-p", "p.json"], "test -e large -a -e dir/c");
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[test]
fn from_inside_the_session_carries_it_out() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    let script = "
        test ! -e dir/c
        $PROGRAM fetch dir/c; test -e dir/c
        (mkdir -p sub; cd sub; $PROGRAM fetch ../a \"$PWD/../b\"); test -e a -a -e b -a ! -e large
        echo mine > new; $PROGRAM push c .
        $PROGRAM ls c | grep -q ' new$'
        $PROGRAM --json push c . > ../summary; $PROGRAM plan push c . ; $PROGRAM push c . -n
        $PROGRAM --json status . > ../status
        if $PROGRAM push other .; then exit 1; fi
        if $PROGRAM fetch nothing; then exit 1; fi";
    let ended = run(&machine, &["--bwlimit", SLOW], script);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    // The file, and the empty directory.
    assert!(ended.out.contains("pushed snapshot 3: 2 added"), "{}", ended.out);
    assert!(ended.err.contains("works on context c there, not other"), "{}", ended.err);
    assert!(ended.err.contains("error: no `nothing`"), "{}", ended.err);
    let last = |file: &str| machine.read(file).lines().last().unwrap().parse::<serde_json::Value>().unwrap();
    let summary = last("summary");
    assert_eq!(
        (&summary["command"], &summary["context"], &summary["snapshot"], &summary["pending"]),
        (&"push".into(), &"c".into(), &3.into(), &1.into()),
        "{summary}"
    );
    let rows: Vec<serde_json::Value> =
        machine.read("status").lines().map(|line| line.parse().unwrap()).collect();
    // The pull pauses for the push, and then goes on.
    let goes_on = |row: &serde_json::Value| {
        let status = row["status"].as_str().unwrap_or_default();
        row["task_type"] == "download"
            && row["session_status"] == "running"
            && ["Running", "Waiting"].contains(&status)
    };
    assert!(rows.iter().any(goes_on), "{rows:?}");
}

#[test]
fn options_and_relative_paths_of_the_outer_call_lead_the_inner_ones_to_the_same() {
    let machine = World::new().machine("a");
    machine.write("p.json", r#"{"bwList": {"whiteLists": [{"path": "in"}]}}"#);
    let script = "mkdir in sub; echo x > in/f; echo x > out; cd sub
        $PROGRAM push c ..; $PROGRAM ls c; $PROGRAM explain c out --mount ..";
    let options = ["--store", "there", "--state-dir", "kept", "-p", "p.json"];
    let ended = run(&machine, &options, script);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains(" in/f") && !ended.out.contains(" out\n"), "{}", ended.out);
    assert!(
        ended.out.contains("pushed snapshot 2: 1 added") && ended.out.contains("out  out"),
        "{}",
        ended.out
    );
    assert!(machine.has("there/ctxsync.json") && machine.has("kept/mounts"));
}

#[test]
fn fetch_without_a_session() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    machine.write("p.json", r#"{"downloadPolicy": {"autoDownload": false}}"#);
    let nothing = machine.call(&["fetch", "a"]);
    assert_eq!(nothing.code, 2, "{}", nothing.seen());
    assert_eq!(run(&machine, &["-p", "p.json"], "test ! -e a").code, 0);
    let ended = machine.done(&["fetch", "a", "dir", "--mount", "work"]);
    assert!(ended.out.contains("fetched snapshot 2: 2 added"), "{}", ended.seen());
    assert!(machine.has("work/dir/c") && !machine.has("work/b"));
    machine.done(&["fetch", "work/b", "--mount", "work", "-c", "c"]);
    assert_eq!(machine.call(&["fetch", "nothing", "--mount", "work"]).code, 10);
    machine.done(&["push", "d", "work"]);
    let several = machine.call(&["fetch", "large", "--mount", "work"]);
    assert_eq!(several.code, 2, "{}", several.seen());
    assert!(several.err.contains("c, d") && several.err.contains("--context"), "{}", several.seen());
}

#[test]
fn several_mounts() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("p.json", r#"{"bwList": {"whiteLists": [{"path": "in"}]}}"#);
    let script = "mkdir ../two/in; echo 1 > f; echo 2 > ../two/in/f; echo 2 > ../two/out; pwd";
    let args = ["run", "-c", "c", "-m", "d=two,policy=p.json", "work", "--", "sh", "-ec", script];
    let ended = machine.call(&args);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out.trim(), machine.path("work").to_str().unwrap());
    assert!(ended.err.contains(&format!("{}: pushed snapshot 2: 1 added", machine.path("two").display())));
    assert!(is_saved(&machine, "f"));
    let two = machine.done(&["ls", "d"]).out;
    assert!(two.contains(" in/f") && !two.contains(" out"), "{two}");
    let args =
        ["--json", "run", "-m", "c=work", "-m", "d=two", "--wait", "--", "sh", "-c", "echo 3 > work/g"];
    let ended = machine.call(&args);
    let lines = crate::world::objects(&ended.err);
    let summary = lines.last().unwrap();
    assert_eq!(
        (ended.code, &summary["context"], &summary["snapshot"]),
        (0, &"c,d".into(), &3.into()),
        "{}",
        ended.err
    );
    let paths: Vec<_> = lines.iter().filter(|line| line["message_type"] == "path").collect();
    assert!(paths.iter().all(|line| line["mount"].is_string()), "{paths:?}");
}

#[test]
fn mounts_that_contain_each_other_are_refused() {
    let machine = World::new().machine("a");
    std::os::unix::fs::symlink("work", machine.path("link")).unwrap();
    for other in ["d=work", "d=work/below", "d=.", "d=link/x"] {
        let ended = machine.call(&["run", "-c", "c", "-m", other, "work", "--", "touch", "ran"]);
        assert_eq!(ended.code, 2, "{other}: {}", ended.seen());
        assert!(ended.err.contains("contain each other"), "{}", ended.seen());
    }
    for wrong in ["d", "d=", "=work", "bad name=x", "d=x,policy=missing.json"] {
        assert_eq!(machine.call(&["run", "-m", wrong, "--", "touch", "ran"]).code, 2, "{wrong}");
    }
    assert!(!machine.has("ran") && !machine.has("work/ran") && !machine.has("state"));
}

#[test]
fn mounts_from_the_variable() {
    let machine = World::new().machine("a");
    let mut command = machine.command(["run", "--", "sh", "-c", "echo 1 > one/f; echo 2 > two/f"]);
    let ended = machine.ended(command.env("CTXSYNC_MOUNTS", "c=one;d=two").output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(is_saved(&machine, "f") && machine.done(&["ls", "d"]).out.contains(" f"));
}

#[test]
fn in_a_bucket() {
    let server = S3Server::start().unwrap();
    let world = World::new();
    let machine = world.machine("a");
    let url = server.url("prefix");
    let call = |machine: &Machine, args: &[&str]| {
        let mut command = machine.command([&["--store", &url], args].concat());
        machine.ended(command.envs(server.env()).output().unwrap())
    };
    let script = "echo x > f; $PROGRAM push c .; $PROGRAM ls c; echo y > g";
    let ended = call(&machine, &["run", "-c", "c", "work", "--", "sh", "-ec", script]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains(" f\n"), "{}", ended.out);
    let other = world.machine("b");
    let script = "$PROGRAM fetch g; cat g";
    let ended = call(&other, &["run", "-c", "c", "work", "--", "sh", "-ec", script]);
    assert_eq!((ended.code, ended.out.ends_with("y\n")), (0, true), "{}{}", ended.out, ended.err);
}

#[test]
fn a_session_that_was_killed_is_gone_on_with() {
    let world = World::new();
    fill(&world);
    let machine = world.machine("a");
    let script = "$PROGRAM fetch a; rm a; echo mine > new; touch started; while :; do sleep 0.05; done";
    let mut running = Running::start(&machine, &["--bwlimit", SLOW], script);
    running.send(Signal::SIGKILL);
    running.child.wait().unwrap();
    // The killed session could not end its command, which is still running.
    let shown = machine.done(&["status", "work"]);
    assert!(shown.out.contains("(interrupted)"), "{}", shown.out);
    let ended = run(&machine, &["--wait"], "test -e large -a -e b -a -e new -a ! -e a");
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(is_saved(&machine, "new") && is_saved(&machine, "large") && !is_saved(&machine, "a"));
    // The command would loop for ever.
    let _ = std::process::Command::new("fuser").args(["-k", "work"]).current_dir(machine.path("")).output();
}

#[test]
fn another_machine_waits_for_nothing() {
    let world = World::new();
    fill(&world);
    let (one, two) = (world.machine("a"), world.machine("b"));
    let running = Running::start(&one, &["--bwlimit", SLOW], "touch started; while :; do sleep 0.05; done");
    two.write("work/theirs", "x");
    two.done(&["push", "c", "work"]);
    until("the other's push is there", || is_saved(&two, "theirs"));
    running.send(Signal::SIGTERM);
    assert_eq!(running.end().code, 143);
    assert!(is_saved(&two, "theirs") && is_saved(&two, "started"));
}

#[test]
fn run_save_saves_at_the_end_although_auto_upload_is_off() {
    let machine = World::new().machine("a");
    machine.write("p.json", r#"{"uploadPolicy": {"autoUpload": false}}"#);
    let run = |more: &[&str], file: &str| {
        let script = format!("echo x >{file}");
        let args = [&["run", "-p", "p.json", "-c", "c"], more, &["work", "--", "sh", "-c", &script]].concat();
        machine.done(&args)
    };
    let ended = run(&[], "first");
    assert!(ended.err.contains("`run --save`"), "{}", ended.err);
    assert!(!is_saved(&machine, "first"));
    let ended = run(&["--save"], "second");
    assert!(!ended.err.contains("autoUpload"), "{}", ended.err);
    assert!(is_saved(&machine, "first") && is_saved(&machine, "second"));
    machine.done(&["run", "--save", "-c", "c", "work", "--", "touch", "third"]);
    assert!(is_saved(&machine, "third"));
}
