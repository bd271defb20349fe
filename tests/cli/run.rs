//! `run`: a session around a command, its signals and its codes.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::running::{Running, is_saved};
use crate::world::{World, noise};

#[test]
fn a_workspace_outlives_its_machine() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    let first = one.call(&[
        "run",
        "-c",
        "c",
        "work",
        "--",
        "sh",
        "-c",
        "mkdir a; echo hello > a/f; echo out; echo err >&2",
    ]);
    assert_eq!((first.code, first.out.as_str()), (0, "out\n"), "{}", first.err);
    assert!(first.err.contains("err\n"));
    let second = two.call(&["run", "-c", "c", "--wait", "work", "--", "cat", "a/f"]);
    assert_eq!((second.code, second.out.as_str()), (0, "hello\n"), "{}", second.err);
}

#[test]
fn the_commands_own_code() {
    let machine = World::new().machine("a");
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -2 $$", 130)]
    {
        assert_eq!(
            machine.call(&["run", "-c", "c", "work", "--", "sh", "-c", script]).code,
            code,
            "{script}"
        );
    }
    assert_eq!(machine.call(&["run", "-c", "c", "work", "--", "no-such-program"]).code, 127);
    machine.write("work/plain", "no program");
    assert_eq!(machine.call(&["run", "-c", "c", "work", "--", "./plain"]).code, 126);
}

#[test]
fn what_the_command_sees() {
    let machine = World::new().machine("a");
    let ended = machine.call(&[
        "run",
        "-c",
        "c",
        "new/dir",
        "--",
        "sh",
        "-c",
        "pwd; echo $CTXSYNC_SESSION; ps -o pgid= -p $$; echo $$",
    ]);
    let lines: Vec<_> = ended.out.lines().map(str::trim).collect();
    assert_eq!(lines[0], machine.path("new/dir").to_str().unwrap());
    assert!(lines[1].starts_with("s-") && lines[1].len() == 18, "{}", lines[1]);
    assert_eq!(lines[2], lines[3], "it leads a group of its own");
}

#[test]
fn sigterm_and_sigint_end_the_command_and_the_upload_still_happens() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let machine = World::new().machine("a");
        let script = "trap 'echo late > late; exit 9' TERM; echo x > made; touch started; while :; do sleep 0.05; done";
        let running = Running::start(&machine, &[], script);
        running.send(signal);
        let ended = running.end();
        assert_eq!(ended.code, code, "{}", ended.err);
        assert!(is_saved(&machine, "made") && is_saved(&machine, "late"), "{}", ended.err);
    }
}

#[test]
fn kill_after() {
    let machine = World::new().machine("a");
    let script = "trap '' TERM; touch started; while :; do sleep 0.05; done";
    let running = Running::start(&machine, &["--kill-after", "300ms"], script);
    let begun = Instant::now();
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 143, "{}", ended.err);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(is_saved(&machine, "started"));
}

#[test]
fn a_second_signal_kills_at_once() {
    let machine = World::new().machine("a");
    let script = "trap 'touch told' TERM; touch started; while :; do sleep 0.05; done";
    let running = Running::start(&machine, &["--kill-after", "60s"], script);
    let begun = Instant::now();
    running.send(Signal::SIGTERM);
    running.wait_for("work/told");
    running.send(Signal::SIGTERM);
    assert_eq!(running.end().code, 143);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn p4_a_signal_more_while_saving_ends_at_once_and_the_next_run_saves() {
    let machine = World::new().machine("a");
    machine.write("noise", noise(400_000));
    let script = "cp ../noise big; touch started; while :; do sleep 0.05; done";
    let mut running = Running::start(&machine, &["--bwlimit", "20K"], script);
    running.wait_for("work/big");
    running.send(Signal::SIGTERM);
    // The release sends at 20 KiB/s, which leaves time for a second signal.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(running.child.try_wait().unwrap().is_none(), "still saving");
    let begun = Instant::now();
    running.send(Signal::SIGTERM);
    assert_eq!(running.end().code, 143);
    assert!(begun.elapsed() < Duration::from_secs(5));
    machine.done(&["push", "c", "work"]);
    assert!(is_saved(&machine, "big"));
}

#[test]
fn other_signals_are_passed_on() {
    let machine = World::new().machine("a");
    let script = "trap 'touch usr1' USR1; trap 'touch hup' HUP; trap 'exit 6' USR2; touch started; \
                  while :; do sleep 0.05; done";
    let running = Running::start(&machine, &[], script);
    running.send(Signal::SIGUSR1);
    running.wait_for("work/usr1");
    running.send(Signal::SIGHUP);
    running.wait_for("work/hup");
    running.send(Signal::SIGUSR2);
    assert_eq!(running.end().code, 6);
}

#[test]
fn the_whole_group_has_ended_before_the_last_scan() {
    let machine = World::new().machine("a");
    // A background process that writes when it is asked to end: a scan that does not wait for it misses the
    // file.
    let script = "sh -c \"trap 'sleep 0.3; echo last > last; exit' TERM; touch ready; while :; do sleep 0.05; done\" & \
                  while ! test -e ready; do sleep 0.01; done; exit 3";
    let begun = Instant::now();
    let mut command = machine.command(["run", "-c", "c", "work", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(is_saved(&machine, "last"));
}

#[test]
fn no_command_where_the_files_cannot_be_brought() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    for entry in std::fs::read_dir(world.store().join("contexts/c")).unwrap() {
        std::fs::write(entry.unwrap().path(), "nonsense").unwrap();
    }
    let other = world.machine("b");
    let ended = other.call(&["run", "-c", "c", "work", "--", "touch", "ran"]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(!other.has("work/ran") && ended.err.contains("error:"));
}

#[test]
fn a_conflict_on_the_way_in_does_not_stop_the_command() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    one.write("work/f", "from one");
    one.done(&["push", "c", "work"]);
    two.write("work/f", "from two");
    let ended = two.call(&["run", "-c", "c", "work", "--", "touch", "ran"]);
    assert_eq!(ended.code, 4, "{}", ended.err);
    assert!(is_saved(&two, "ran"));
    let ended = two.call(&["run", "-c", "c", "work", "--", "sh", "-c", "exit 5"]);
    assert_eq!(ended.code, 5, "{}", ended.err);
}

#[test]
fn by_policy() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write(
        "manual.json",
        r#"{"uploadPolicy": {"autoUpload": false}, "downloadPolicy": {"autoDownload": false}}"#,
    );
    let ended = machine.done(&["run", "-c", "c", "-p", "manual.json", "work", "--", "touch", "f"]);
    assert!(ended.err.contains("autoUpload"), "{}", ended.err);
    assert!(!is_saved(&machine, "f"));
    machine.done(&["run", "-c", "c", "work", "--", "true"]);
    assert!(is_saved(&machine, "f"));
    let other = world.machine("b");
    other.done(&["run", "-c", "c", "-p", "../a/manual.json", "work", "--", "test", "!", "-e", "f"]);
}

#[test]
fn what_a_person_sees() {
    let machine = World::new().machine("a");
    machine.write("work/here", "before");
    let first = machine.call(&["run", "-c", "c", "--wait", "work", "--", "sh", "-c", "echo x > f"]);
    let second = machine.call(&["run", "-c", "c", "--wait", "work", "--", "sh", "-c", "exit 3"]);
    insta::assert_snapshot!([first.seen(), second.seen()].join("\n"));
}
