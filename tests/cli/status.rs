//! `status` from another process: before, in every phase, after the end, and after a crash.

use nix::sys::signal::Signal;

use crate::running::{Running, until};
use crate::world::{Machine, World, noise};

fn seen(machine: &Machine) -> String {
    let ended = machine.done(&["status", "work"]);
    // Rates differ from run to run.
    let rates = regex::Regex::new(r", \[SIZE\]/s").unwrap();
    rates.replace_all(&ended.seen(), "").into_owned()
}

#[test]
fn through_the_life_of_a_session() {
    let world = World::new();
    let machine = world.machine("a");
    let mut all = vec![seen(&machine)];
    let script = "touch started; while ! test -e stop; do sleep 0.05; done";
    let running = Running::start(&machine, &["--wait"], script);
    all.push(seen(&machine));
    machine.write("work/stop", "");
    assert_eq!(running.end().code, 0);
    all.push(seen(&machine));
    let mut running = Running::start(&machine, &["--wait"], "rm -f stop; touch again; exec sleep 60");
    running.wait_for("work/again");
    running.send(Signal::SIGKILL);
    running.child.wait().unwrap();
    all.push(seen(&machine));
    machine.done(&["push", "c", "work"]);
    all.push(seen(&machine));
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn while_files_arrive_and_while_they_are_saved() {
    let world = World::new();
    let source = world.machine("source");
    source.write("work/large", noise(1_000_000));
    source.done(&["push", "c", "work"]);
    let machine = world.machine("a");
    let task = |task_type: &str, status: &str| {
        let rows = machine.done(&["--json", "status", "work"]).of_type("task");
        rows.into_iter().find(|row| row["task_type"] == task_type && row["status"] == status)
    };
    let script = "touch started; while ! test -e stop; do sleep 0.05; done; cp large copy; echo >> copy";
    let running = Running::start(&machine, &["--bwlimit", "300K"], script);
    until("it downloads", || task("download", "Running").is_some_and(|row| row["phase"] == "downloading"));
    let waiting = task("upload", "Waiting").unwrap();
    assert_eq!((&waiting["session_status"], &waiting["start_time"]), (&"running".into(), &().into()));
    until("it is there", || task("download", "Success").is_some());
    machine.write("work/large", noise(900_000).split_off(1000));
    machine.write("work/stop", "");
    until("it uploads", || task("upload", "Running").is_some());
    assert_eq!(running.end().code, 0);
    assert_eq!(task("upload", "Success").unwrap()["session_status"], "released");
}

/// A mount whose path is not UTF-8 is identified by its bytes, and calls there reach its session.
#[test]
fn a_mount_whose_path_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let source = world.machine("source");
    source.write("work/f", "x");
    source.done(&["push", "c", "work"]);
    let machine = world.machine("a");
    let program = env!("CARGO_BIN_EXE_ctxsync");
    let script = format!(
        "echo mine > mine && {program} push c . && {program} fetch f && {program} --json status > ../seen"
    );
    let odd = std::ffi::OsStr::from_bytes(b"odd \xff");
    let args =
        ["run".as_ref(), "-c".as_ref(), "c".as_ref(), odd, "--".as_ref(), "sh".as_ref(), "-c".as_ref()];
    let args = args.into_iter().chain([script.as_ref()]);
    let ended = machine.ended(machine.command(args).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.seen());
    let rows = crate::world::objects(&machine.read("seen"));
    let tasks: Vec<_> = rows.iter().filter(|row| row["message_type"] == "task").collect();
    assert!(!tasks.is_empty(), "{rows:?}");
    for task in tasks {
        assert_eq!(task["session_status"], "running", "{task}");
        assert!(task["path"].as_str().unwrap().ends_with("odd \u{fffd}"), "{task}");
        assert!(task["path_bytes"].is_string(), "{task}");
    }
}

#[test]
fn case_22_what_is_only_planned_leaves_the_status_of_real_syncs_alone() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    machine.done(&["pull", "c", "work"]);
    let ended = machine.call(&["push", "--max-upload", "1", "c", "work"]);
    assert_eq!(ended.code, 0);
    machine.write("work/g", "more than a byte");
    assert_eq!(machine.call(&["push", "--max-upload", "1", "c", "work"]).code, 1);
    let before = machine.done(&["status", "--json"]).out;
    let tasks =
        |text: &str| text.lines().filter(|l| l.contains("\"task\"")).map(str::to_owned).collect::<Vec<_>>();
    assert!(before.contains("Failed"), "{before}");
    for args in [
        &["plan", "push", "c", "work"][..],
        &["plan", "pull", "c", "work"],
        &["push", "-n", "c", "work"],
        &["sync", "--dry-run", "c", "work"],
    ] {
        machine.done(args);
        let after = machine.done(&["status", "--json"]).out;
        assert_eq!(tasks(&after), tasks(&before), "{args:?}");
    }
    // A plan inside a session does not change its status either.
    let script = "\"$PROGRAM\" plan push c . && touch planned && while ! test -e stop; do sleep 0.05; done";
    let args = ["run", "-c", "c", "work", "--", "sh", "-c", script];
    let running = Running::spawn(&machine, machine.command(args));
    running.wait_for("work/planned");
    let during = machine.done(&["status", "--json", "work"]).of_type("task");
    let upload = during.iter().find(|task| task["task_type"] == "upload").unwrap();
    assert_eq!(upload["status"], "Waiting", "{during:?}");
    machine.write("work/stop", "");
    assert_eq!(running.end().code, 0);
}
