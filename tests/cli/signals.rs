//! A signal ends every command, whatever the command waits for (faults P18).

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::running::{Running, until};
use crate::world::{Machine, World, objects};

/// SIGTERM and SIGINT as `/proc/PID/status` shows them. Their handlers are set one after the other.
const BOTH: u64 = 1 << 14 | 1 << 1;

/// Waits until a program has handlers for SIGTERM and SIGINT.
fn wait_until_it_hears(child: &Child) {
    let status = format!("/proc/{}/status", child.id());
    until("it listens for signals", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & BOTH == BOTH)
    });
}

fn fifo(machine: &Machine) -> std::path::PathBuf {
    let path = machine.path("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn p18_whatever_is_waited_for_a_signal_ends_it() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    fifo(&machine);
    // A server that accepts connections and never answers.
    let deaf = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    let waits: &[&[&str]] = &[
        // Standard input, whose other end stays open.
        &["put", "c:x"],
        &["put", "c:x", "fifo"],
        // Nothing reads the FIFO, so opening the log blocks the main thread.
        &["ls", "c", "--log-file", "fifo"],
        &["config", "--log-file", "fifo"],
        &["ls", "c", "--store", "s3://bucket/x"],
        &["push", "c", "work", "--store", "s3://bucket/x"],
        &["run", "-c", "c", "work", "--store", "s3://bucket/x", "--", "true"],
        &["watch", "c", "work", "--store", "s3://bucket/x"],
    ];
    for args in waits {
        for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
            let mut command = machine.command(*args);
            command.env("AWS_ENDPOINT_URL", &endpoint).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "x");
            command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x").stdin(Stdio::piped());
            let running = Running::spawn(&machine, command);
            wait_until_it_hears(&running.child);
            running.send(signal);
            let ended = running.end();
            assert_eq!(ended.code, code, "{args:?}: {}", ended.err);
            assert!(ended.err.contains("error: stopped by SIG"), "{args:?}: {}", ended.err);
        }
    }
}

#[test]
fn p18_who_reads_json_has_its_last_line_also_from_what_hangs() {
    let machine = World::new().machine("a");
    fifo(&machine);
    let running = Running::spawn(&machine, machine.command(["ls", "c", "--json", "--log-file", "fifo"]));
    wait_until_it_hears(&running.child);
    running.send(Signal::SIGTERM);
    let ended = running.end();
    let last = objects(&ended.out).pop().unwrap();
    assert_eq!(
        (&last["message_type"], &last["exit_code"]),
        (&"summary".into(), &143.into()),
        "{}",
        ended.out
    );
}

#[test]
fn p18_nobody_has_to_read_the_last_words() {
    let machine = World::new().machine("a");
    let log = fifo(&machine);
    let mut command = machine.command(["ls", "c", "--log-file"]);
    command.arg(&log);
    // A full pipe, so that a write to it blocks: 64 KiB is the default size.
    let (_reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'x'; 65536]).unwrap();
    command.stderr(writer);
    let mut child = command.spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    wait_until_it_hears(&child);
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    until("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn p18_a_mount_that_is_in_use_and_a_user_who_does_not_answer() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    // A stopped session holds the mount, and its socket accepts connections but does not answer.
    let script = "touch started; while :; do sleep 0.05; done";
    let holder = Running::start(&machine, &[], script);
    holder.send(Signal::SIGSTOP);
    let running = Running::spawn(&machine, machine.command(["push", "c", "work"]));
    wait_until_it_hears(&running.child);
    running.send(Signal::SIGTERM);
    let ended = running.end();
    // It may have found the lock before the signal arrived.
    assert!([1, 143].contains(&ended.code), "{}: {}", ended.code, ended.err);
    holder.send(Signal::SIGCONT);
    holder.send(Signal::SIGTERM);
    assert_eq!(holder.end().code, 143);
}

#[test]
fn p18_no_input_file_is_waited_for() {
    let machine = World::new().machine("a");
    fifo(&machine);
    let odd: &[&[&str]] = &[
        &["push", "c", "work", "-p", "fifo"],
        &["push", "c", "work", "-p", "/dev/zero"],
        &["push", "c", "work", "-p", "work"],
        &["policy", "check", "fifo"],
        &["policy", "show", "/dev/null"],
        &["push", "c", "work", "--config", "fifo"],
        &["push", "c", "work", "--config", "/dev/zero"],
        &["run", "-m", "c=work,policy=fifo", "--", "touch", "ran"],
    ];
    for args in odd {
        let ended = machine.call(args);
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.err);
        assert!(ended.err.contains("caused by: "), "{args:?}: {}", ended.err);
    }
    assert!(!machine.has("work/ran"));
    // A regular file that is reached by a device's name is still a file.
    let policy = machine.write("policy.json", "{}");
    let mut command = machine.command(["policy", "show", "/dev/stdin"]);
    let mut shown = command.stdin(File::open(policy).unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    shown.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(shown.wait().unwrap().success() && text.contains("uploadPolicy"));
}
