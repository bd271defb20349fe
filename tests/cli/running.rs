//! The program while it runs, and what is waited for meanwhile.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{Ended, Machine};

/// The longest that anything which must happen is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that has begun. It is killed where a test ends before it does.
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

    /// Runs `script` in `work`, and waits until it has made the file `started`.
    pub(crate) fn start(machine: &'m Machine, options: &[&str], script: &str) -> Self {
        let args = [&["run", "-c", "c", "work"], options, &["--", "sh", "-c", script]].concat();
        let running = Self::spawn(machine, machine.command(args));
        running.wait_for("work/started");
        running
    }

    /// Waits until a file is there.
    #[track_caller]
    pub(crate) fn wait_for(&self, file: &str) {
        until(&format!("{file} is there"), || self.machine.has(file));
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end, and says how it was.
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
        // One that has ended can't be killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(from: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Waits for something that must happen.
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
