//! The end of a session: processes that the command leaves behind, and the time limits.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ctxsync_tests::s3::S3Server;
use nix::sys::signal::Signal;

use crate::running::{Running, is_saved, until};
use crate::world::{World, noise, objects};

/// A process that writes when it is asked to end: a scan that does not wait for it misses the file.
const LATE: &str = "trap 'sleep 0.3; echo last > last; exit' TERM; touch ready; while :; do sleep 0.05; done";

#[test]
fn what_left_the_group_has_ended_before_the_last_scan_too() {
    for how in ["setsid sh -c \"$LATE\" &", "(setsid setsid sh -c \"$LATE\" &) ; :"] {
        let machine = World::new().machine("a");
        let script = format!("{how}\nwhile ! test -e ready; do sleep 0.01; done; exit 3");
        let mut command = machine.command(["run", "-c", "c", "work", "--", "sh", "-c", &script]);
        command.env("LATE", LATE);
        let ended = Running::spawn(&machine, command).end();
        assert_eq!(ended.code, 3, "{}", ended.err);
        assert!(is_saved(&machine, "last"), "{how}: {}", ended.err);
    }
}

#[test]
fn what_will_not_end_is_killed_in_and_out_of_the_group() {
    let machine = World::new().machine("a");
    let deaf = "trap '' TERM; touch $0; while :; do sleep 0.05; done";
    let script = "sh -c \"$DEAF\" one & setsid sh -c \"$DEAF\" two &
        while ! test -e one -a -e two; do sleep 0.01; done; touch started; wait";
    let args = ["run", "-c", "c", "--kill-after", "200ms", "work", "--", "sh", "-c", script];
    let mut command = machine.command(args);
    command.env("DEAF", deaf);
    let running = Running::spawn(&machine, command);
    running.wait_for("work/started");
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 143, "{}", ended.err);
    // A process that is still in the directory would be found by its current directory.
    let work = machine.path("work");
    let is_there =
        |entry: std::fs::DirEntry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == work);
    assert!(!std::fs::read_dir("/proc").unwrap().flatten().any(is_there), "{}", ended.err);
}

#[test]
fn what_was_there_before_the_command_is_none_of_its() {
    let machine = World::new().machine("a");
    // The shell replaces itself by ctxsync, which so gets a child that it did not start.
    let script = "sleep 3 & echo $! > bystander; exec $PROGRAM run -c c work -- true";
    let mut command = std::process::Command::new("sh");
    let like = machine.command([""; 0]);
    command.args(["-c", script]).current_dir(machine.path("")).env_clear();
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = Running::spawn(&machine, command).end();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let bystander = machine.read("bystander").trim().parse().unwrap();
    assert!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(bystander), None).is_ok());
}

#[test]
fn orphans_are_reaped() {
    let machine = World::new().machine("a");
    let script = "sh -c '(sh -c \"sleep 0.1; exit 0\" & echo $! > orphan)'; sleep 0.5;
        test -s orphan -a ! -e /proc/$(cat orphan)/stat";
    let ended = machine.call(&["run", "-c", "c", "work", "--", "sh", "-c", script]);
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[test]
fn as_process_1() {
    let machine = World::new().machine("a");
    let like = machine.command([""; 0]);
    let unshared = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script]);
        command.current_dir(machine.path("")).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    };
    if !unshared("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no namespace of processes can be made here");
        return;
    }
    let inside = "test $PPID = 1; sh -c '(sleep 0.1; echo x > orphaned) &'; (setsid sh -c \"$LATE\" &)
        while ! test -e ready -a -e orphaned; do sleep 0.01; done; exit 7";
    let mut command = unshared("exec $PROGRAM run -c c work -- sh -ec \"$INSIDE\"");
    command.env("LATE", LATE).env("INSIDE", inside);
    let ended = Running::spawn(&machine, command).end();
    assert_eq!(ended.code, 7, "{}", ended.err);
    assert!(is_saved(&machine, "orphaned") && is_saved(&machine, "last"), "{}", ended.err);
}

#[test]
fn p3_a_deadline_on_a_slow_link_saves_what_is_small_and_says_what_is_missing() {
    let machine = World::new().machine("a");
    machine.write("noise", noise(20_000_000));
    let script = "cp ../noise large; for i in 1 2 3; do echo $i > small-$i; done; touch started
        trap '' TERM; while :; do sleep 0.05; done";
    let options = ["--bwlimit", "1M", "--release-timeout", "10s", "--kill-after", "200ms"];
    let running = Running::start(&machine, &options, script);
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(ended.err.contains("partial") && ended.err.contains("large"), "{}", ended.err);
    assert!((1..=3).all(|i| is_saved(&machine, &format!("small-{i}"))) && !is_saved(&machine, "large"));
    machine.done(&["push", "c", "work"]);
    assert!(is_saved(&machine, "large"));
}

#[test]
fn without_a_signal_the_time_runs_from_the_commands_end() {
    let machine = World::new().machine("a");
    machine.write("noise", noise(20_000_000));
    let options = ["--bwlimit", "1M", "--release-timeout", "10s"];
    let script = "cp ../noise large; echo x > small; touch started; exit 0";
    let ended = Running::start(&machine, &options, script).end();
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(is_saved(&machine, "small") && !is_saved(&machine, "large"), "{}", ended.err);
    let ended = Running::start(&machine, &options, "exit 6").end();
    assert_eq!(ended.code, 6, "what it was asked for comes first: {}", ended.err);
}

/// Forwards connections until the flag is set, and then keeps them open without forwarding anything.
fn passage(to: &str) -> (String, Arc<AtomicBool>) {
    let silent = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (to, is_silent) = (to.trim_start_matches("http://").to_owned(), Arc::clone(&silent));
    let pump = move |mut from: TcpStream, mut into: TcpStream, silent: Arc<AtomicBool>| {
        let mut bytes = [0; 1 << 14];
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            while silent.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
            if into.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        // The other side must see the end of the stream.
        let _ = into.shutdown(std::net::Shutdown::Write);
    };
    std::thread::spawn(move || {
        for from in listener.incoming().flatten() {
            let Ok(into) = TcpStream::connect(&to) else { continue };
            let back = (into.try_clone().unwrap(), from.try_clone().unwrap(), Arc::clone(&is_silent));
            let silent = Arc::clone(&is_silent);
            std::thread::spawn(move || pump(from, into, silent));
            std::thread::spawn(move || pump(back.0, back.1, back.2));
        }
    });
    (address, silent)
}

#[test]
fn p3_a_store_that_answers_no_more_can_not_hold_up_the_end() {
    let server = S3Server::start().unwrap();
    let (address, silent) = passage(&server.endpoint());
    let machine = World::new().machine("a");
    for json in [false, true] {
        silent.store(false, Ordering::Relaxed);
        let url = server.url(if json { "two" } else { "one" });
        let script = "rm -f started; touch started; while :; do sleep 0.05; done";
        let mut args = vec!["run", "--store", &url, "-c", "c", "work", "--release-timeout", "2s"];
        args.extend(json.then_some("--json"));
        let mut command = machine.command([&args[..], &["--", "sh", "-c", script]].concat());
        command.envs(server.env()).env("AWS_ENDPOINT_URL", &address);
        let running = Running::spawn(&machine, command);
        running.wait_for("work/started");
        silent.store(true, Ordering::Relaxed);
        running.send(Signal::SIGTERM);
        let ended = running.end();
        std::fs::remove_file(machine.path("work/started")).unwrap();
        assert_ne!(ended.code, 0, "{}", ended.err);
        assert!(ended.err.contains("hint"), "{}", ended.err);
        if json {
            let last = objects(&ended.err).pop().unwrap();
            assert_eq!((&last["command"], &last["context"]), (&"run".into(), &"c".into()), "{last}");
            assert_eq!(last["exit_code"], ended.code);
        }
    }
}

#[test]
fn a_second_signal_during_the_release_stops_at_once() {
    let machine = World::new().machine("a");
    machine.write("noise", noise(2_000_000));
    let script = "cp ../noise large; touch started; while :; do sleep 0.05; done";
    let running = Running::start(&machine, &["--bwlimit", "20K", "--json"], script);
    running.send(Signal::SIGTERM);
    // The first pull may still run. A signal that comes before the release does not count as a second one.
    until("it is uploading", || {
        let rows = machine.done(&["--json", "status", "work"]).of_type("task");
        rows.iter().any(|row| row["task_type"] == "upload" && row["status"] == "Running")
    });
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 143, "{}", ended.err);
    let summary = objects(&ended.err).pop().unwrap();
    assert_eq!((&summary["command"], &summary["context"]), (&"run".into(), &"c".into()));
    assert!(summary["requests"].as_u64().unwrap() > 0, "{summary}");
}
