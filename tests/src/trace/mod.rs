//! Runs a program and stops it at each of its system calls, in all of its threads: to kill it there, or to
//! have the call fail. The calls of all threads come in one sequence, in which they begin. (`strace -e inject`
//! counts those of each thread, and so can't reach each moment of a program with threads.)

mod calls;

use std::collections::HashMap;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

pub use calls::{Call, without_numbers};
pub use nix::errno::Errno;

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It is carried out.
    Go,
    /// It is not carried out: the process gets SIGKILL before.
    Kill,
    /// It is not carried out: it returns this error.
    Fail(Errno),
}

/// How a traced program ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Whether [`Act::Kill`] ended it.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.status.signal() == Some(libc::SIGKILL)
    }

    /// Returns the exit code, unless a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// A program that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Returns whether programs can be traced here. If not, prints that a test is skipped; if `CTXSYNC_TRACED` is
/// set, as it is in CI, the test fails instead.
#[must_use]
#[expect(clippy::print_stdout, reason = "who runs the tests has to see what was not tested")]
pub fn may_trace() -> bool {
    let Err(reason) = start(&Command::new("true")).map(|tracee| tracee.run(&mut |_| Act::Go)) else {
        return true;
    };
    assert!(std::env::var_os("CTXSYNC_TRACED").is_none(), "CTXSYNC_TRACED is set, but {reason}");
    println!("skipped: {reason}");
    false
}

/// Runs a program to its end, and asks at each system call what becomes of it. What the program starts is not
/// traced; it has ended as well when this returns, unless it closed its output.
///
/// # Panics
/// If the program can't be traced, or hangs.
pub fn trace(command: &Command, mut act: impl FnMut(&Call) -> Act) -> Ran {
    start(command).unwrap_or_else(|reason| panic!("{reason}")).run(&mut act)
}

/// A process that is traced, before its first instruction.
struct Tracee {
    child: Child,
    output: [mpsc::Receiver<Vec<u8>>; 2],
}

/// Starts a program, and seizes it before its first instruction.
fn start(command: &Command) -> Result<Tracee, String> {
    // The shell waits until it is traced, and becomes the program.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"read -r go && exec "$0" "$@" </dev/null"#]).arg(command.get_program());
    shell.args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn().map_err(|e| format!("/bin/sh: {e}"))?;
    let output = [read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap())];
    let options = Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_EXITKILL;
    if let Err(e) = ptrace::seize(pid_of(&child), options) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("processes can't be traced here: {e}"));
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    Ok(Tracee { child, output })
}

/// Lets a thread go on to the next begin or end of a system call. It may be gone.
fn go(thread: Pid, signal: Option<Signal>) {
    let _ = ptrace::syscall(thread, signal);
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Reads to the end, which comes when every process that has the other end is gone.
fn read(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

impl Tracee {
    fn run(mut self, act: &mut dyn FnMut(&Call) -> Act) -> Ran {
        let main = pid_of(&self.child);
        let (ended, hung) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let hangs = hung.recv_timeout(HANGS) == Err(mpsc::RecvTimeoutError::Timeout);
            if hangs {
                let _ = kill(main, Signal::SIGKILL);
            }
            hangs
        });
        // Threads that are in a system call, with what it has to return if it was not carried out.
        let mut inside = HashMap::<Pid, Option<Errno>>::new();
        // The first stop is in the middle of `execve`.
        inside.insert(main, None);
        let status = loop {
            // Other tests wait for children of their own at the same time, in other threads.
            let stop = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD));
            match stop.unwrap() {
                WaitStatus::Exited(pid, code) if pid == main => break ExitStatus::from_raw(code << 8),
                WaitStatus::Signaled(pid, signal, _) if pid == main => {
                    break ExitStatus::from_raw(signal as i32);
                }
                WaitStatus::PtraceSyscall(pid) => {
                    self.syscall(main, pid, &mut inside, act);
                    go(pid, None);
                }
                WaitStatus::PtraceEvent(pid, ..) => go(pid, None),
                WaitStatus::Stopped(pid, signal) => go(pid, Some(signal)),
                _ => {}
            }
        };
        drop(ended);
        // It was waited for behind the back of `Child`.
        let _ = self.child.try_wait();
        assert!(!watchdog.join().unwrap(), "the program hangs");
        let [out, err] = self.output.map(|output| {
            let bytes = output.recv_timeout(HANGS).unwrap_or_else(|_| panic!("what it started hangs"));
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ran { status, out, err }
    }

    /// Handles the begin or the end of a system call.
    fn syscall(
        &self,
        main: Pid,
        pid: Pid,
        inside: &mut HashMap<Pid, Option<Errno>>,
        act: &mut dyn FnMut(&Call) -> Act,
    ) {
        // A thread of a process that was killed may be gone: then there is nothing to do.
        let Ok(mut registers) = ptrace::getregs(pid) else { return };
        if let Some(failed) = inside.remove(&pid) {
            if let Some(error) = failed {
                registers.rax = (-i64::from(error as i32)).cast_unsigned();
                let _ = ptrace::setregs(pid, registers);
            }
            return;
        }
        let call = Call::new(pid, &registers);
        let failed = match act(&call) {
            Act::Go => None,
            Act::Kill => {
                let _ = kill(main, Signal::SIGKILL);
                None
            }
            Act::Fail(error) => {
                // There is no such system call.
                registers.orig_rax = u64::MAX;
                let _ = ptrace::setregs(pid, registers);
                Some(error)
            }
        };
        inside.insert(pid, failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `mkdir`, and returns how it ended and whether there is a directory.
    fn mkdir(at_mkdir: Act) -> (Ran, bool) {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        let mut command = Command::new("/bin/mkdir");
        command.arg(&new);
        let mut made = 0;
        let ran = trace(&command, |call| {
            let is_it = call.changes() && call.objects() == [new.clone()];
            made += u32::from(is_it);
            if is_it { at_mkdir } else { Act::Go }
        });
        assert_eq!(made, 1, "{ran:?}");
        (ran, new.exists())
    }

    #[test]
    fn calls_are_carried_out_or_fail_or_end_the_process_before() {
        if !may_trace() {
            return;
        }
        let (ran, made) = mkdir(Act::Go);
        assert!(ran.code() == Some(0) && made, "{ran:?}");
        let (ran, made) = mkdir(Act::Kill);
        assert!(ran.is_killed() && !made, "{ran:?}");
        let (ran, made) = mkdir(Act::Fail(Errno::ENOSPC));
        assert!(ran.code() == Some(1) && ran.err.contains("No space left") && !made, "{ran:?}");
    }
}
