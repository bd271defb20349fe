//! Output that nobody reads holds up neither the work, nor signals, nor the end (faults P18).

use std::io::{PipeReader, Write};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::running::{is_saved, until};
use crate::world::{Machine, World, objects};

/// Starts a command whose output goes to a pipe that is full, and whose reader does not read.
fn start(mut command: Command) -> (Stuck, PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // The default size of a pipe.
    writer.write_all(&[b' '; 65536]).unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    (Stuck(command.spawn().unwrap()), reader)
}

/// A call that is running. It is killed if the test ends first.
struct Stuck(Child);

impl Stuck {
    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// Waits until the call ends, and returns its code.
    #[track_caller]
    fn code(&mut self) -> Option<i32> {
        until("it ends", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn machine() -> Machine {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    machine
}

#[test]
fn p18_a_session_passes_a_signal_on_and_saves() {
    let machine = machine();
    // The shell itself says on stderr that `sleep` was ended.
    let script =
        "exec 2>../err; trap 'echo 2 >last; exit 0' TERM; echo 1 >started; while :; do sleep 0.05; done";
    for options in [&[][..], &["--json"], &["-v", "--release-timeout", "20s"]] {
        let args = [&["run", "-c", "c", "work"], options, &["--", "sh", "-c", script]].concat();
        let (mut run, _reader) = start(machine.command(args));
        until("it has started", || machine.has("work/started"));
        run.send(Signal::SIGTERM);
        assert_eq!(run.code(), Some(143), "{options:?}");
        assert!(is_saved(&machine, "last"), "{options:?}");
        machine.done(&["rm", "c:last"]);
        machine.done(&["pull", "c", "work"]);
        std::fs::remove_file(machine.path("work/started")).unwrap();
    }
}

#[test]
fn p18_a_command_that_waits_for_the_files_is_started() {
    let machine = machine();
    let (mut run, _reader) =
        start(machine.command(["run", "--wait", "-c", "c", "work", "--", "touch", "new"]));
    assert_eq!(run.code(), Some(0));
    assert!(is_saved(&machine, "new"));
}

#[test]
fn p18_checkpoints_are_made() {
    let machine = machine();
    machine.write("p.json", r#"{"uploadPolicy":{"uploadStrategy":{"UploadOnChange":{"debounceMs":100}}}}"#);
    let script = "touch new; while ! test -e ../go; do sleep 0.05; done";
    for options in [&["--json", "-v"][..], &["-v"]] {
        let args =
            [&["run", "-p", "p.json", "-c", "c", "work"], options, &["--", "sh", "-c", script]].concat();
        let (mut run, _reader) = start(machine.command(args));
        until("a checkpoint is made", || is_saved(&machine, "new"));
        machine.write("go", "");
        assert_eq!(run.code(), Some(0), "{options:?}");
        std::fs::remove_file(machine.path("go")).unwrap();
        std::fs::remove_file(machine.path("work/new")).unwrap();
        machine.done(&["push", "c", "work"]);
    }
}

#[test]
fn p18_a_watch_saves_and_ends() {
    let machine = machine();
    machine.write("work/new", "x");
    let (mut watch, _reader) = start(machine.command(["watch", "c", "work"]));
    until("a checkpoint is made", || is_saved(&machine, "new"));
    machine.write("work/last", "x");
    watch.send(Signal::SIGTERM);
    assert_eq!(watch.code(), Some(0));
    assert!(is_saved(&machine, "last"));
}

#[test]
fn a_slow_reader_misses_nothing() {
    let machine = machine();
    for file in 0..3000 {
        machine.write(&format!("work/{file}"), "x");
    }
    let mut command = machine.command(["run", "--json", "--no-progress", "-c", "c", "work", "--", "true"]);
    let mut run = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut read = Vec::new();
    let mut from = run.stderr.take().unwrap();
    let mut piece = [0; 8192];
    loop {
        let n = std::io::Read::read(&mut from, &mut piece).unwrap();
        if n == 0 {
            break;
        }
        read.extend_from_slice(&piece[..n]);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(run.wait().unwrap().success());
    let read = objects(std::str::from_utf8(&read).unwrap());
    let paths = read.iter().filter(|line| line["message_type"] == "path").count();
    assert_eq!((paths, &read.last().unwrap()["message_type"]), (3000, &"summary".into()));
}
