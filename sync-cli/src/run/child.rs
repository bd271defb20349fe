//! The command: started in a process group of its own, and waited for.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};
use tokio::sync::mpsc;

use super::ended::{Ended, Variable, ended_by};
use super::group::Group;
use super::helper::reaped;
use super::limits::with_limit_before;
use super::strays::Strays;
use super::terminal::Terminal;
use super::threads::refused;
use crate::errors::Failure;
use crate::exit::Exit;

/// What happens to the command.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// It was stopped by this signal (and can continue).
    Stopped(Option<Signal>),
    Ended(Ended),
}

/// The running command.
pub(crate) struct Child {
    pub(super) group: Group,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) terminal: Option<Terminal>,
    pub(super) strays: Strays,
}

impl Child {
    /// Starts the command in `dir`, with these changes to its environment.
    pub(crate) fn start(command: &[OsString], dir: &Path, variables: &[Variable]) -> Result<Self, Failure> {
        let Some((program, args)) = command.split_first() else {
            return Err(Failure::usage("there is no command to run"));
        };
        // Orphans of the command become children of this process, which reaps them. As the first process of a
        // container, it is the only one that can; and a group counts as gone only when its dead are reaped.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::debug!("not made the reaper of orphans: {error}");
        }
        let strays = Strays::none_yet();
        // If no thread can wait for the command, it must not be started.
        let (outgoing, events) = mpsc::unbounded_channel();
        let (started, is_started) = std::sync::mpsc::channel();
        let wait = move || {
            if let Ok(pid) = is_started.recv() {
                reap(pid, &outgoing);
            }
        };
        let reaper = std::thread::Builder::new().name("reaper".into()).spawn(wait);
        reaper.map_err(|error| refused(&error))?;
        let mut starting = Command::new(program);
        starting.args(args).current_dir(dir).process_group(0);
        for (name, value) in variables {
            match value {
                Some(value) => starting.env(name, value),
                None => starting.env_remove(name),
            };
        }
        let child =
            with_limit_before(|| starting.spawn()).map_err(|error| failed_to_start(program, &error))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return Err(Failure::new(Exit::FAILED, "the command has no usable process id"));
        };
        let terminal = Terminal::lend(pid);
        let group = Group(pid);
        if terminal.is_some() {
            // The command may have been stopped because it used the terminal before it owned it.
            group.send(Signal::CONT);
        }
        // The reaper thread waits for this message.
        let _ = started.send(pid);
        Ok(Self { group, events, terminal, strays })
    }
}

impl Child {
    /// Returns the command's process group.
    pub(crate) fn group(&self) -> Group {
        self.group
    }

    /// Whether the command owns the terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }
}

fn failed_to_start(program: &OsString, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NO_COMMAND,
        _ => Exit::NOT_EXECUTABLE,
    };
    let failure = Failure::new(exit, format!("cannot run {}", program.display())).caused_by(error);
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory) {
        return failure.hint("the process limit is reached; raise it, or stop other processes");
    }
    failure.hint("what follows `--` is a program and its arguments; for a shell's words, `-- sh -c '...'`")
}

/// Reaps all children until there are none, and reports the one with this id.
///
/// Other processes that this program started are reported to their `Helper`.
fn reap(command: Pid, outgoing: &mpsc::UnboundedSender<Event>) {
    loop {
        match wait(WaitOptions::UNTRACED) {
            Ok(Some((pid, status))) if pid == command => {
                if let Some(event) = event(status)
                    && outgoing.send(event).is_err()
                {
                    return;
                }
            }
            Ok(Some((pid, status))) => reaped(pid, status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn event(status: WaitStatus) -> Option<Event> {
    let stopped = || status.stopping_signal().map(|signal| Event::Stopped(Signal::from_named_raw(signal)));
    ended_by(status).map(Event::Ended).or_else(stopped)
}
