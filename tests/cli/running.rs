//! The program while it runs, and waiting for what it does.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{Ended, Machine};

/// Timeout for everything that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that is running. It is killed if the test ends first.
pub(crate) struct Running<'m> {
    pub(crate) machine: &'m Machine,
    pub(crate) child: Child,
}

impl<'m> Running<'m> {
    /// Starts a call.
    pub(crate) fn spawn(machine: &'m Machine, mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { machine, child }
    }

    /// Runs `script` in `work`, and waits until it has created the file `started`.
    pub(crate) fn start(machine: &'m Machine, options: &[&str], script: &str) -> Self {
        let args = [&["run", "-c", "c", "work"], options, &["--", "sh", "-c", script]].concat();
        let running = Self::spawn(machine, machine.command(args));
        running.wait_for("work/started");
        running
    }

    /// Waits until a file exists.
    #[track_caller]
    pub(crate) fn wait_for(&self, file: &str) {
        until(&format!("{file} is there"), || self.machine.has(file));
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until the call ends, and returns how it ended.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        until("it ends", || self.child.try_wait().unwrap().is_some());
        let child = &mut self.child;
        let output = std::process::Output {
            status: child.wait().unwrap(),
            stdout: read(child.stdout.take()),
            stderr: read(child.stderr.take()),
        };
        self.machine.ended(output)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(from: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Waits until a condition holds, which must happen.
#[track_caller]
pub(crate) fn until(what: &str, happened: impl FnMut() -> bool) {
    assert!(within(PATIENCE, happened), "in vain: {what}");
}

fn within(time: Duration, mut happened: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !happened() {
        if begun.elapsed() > time {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Whether the context `c` has a path.
pub(crate) fn is_saved(machine: &Machine, path: &str) -> bool {
    machine.done(&["ls", "c"]).out.lines().any(|line| line.ends_with(&format!(" {path}")))
}
