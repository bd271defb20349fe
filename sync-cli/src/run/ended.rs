//! How a command ended, and the environment that it gets.

use std::ffi::OsString;

use rustix::process::WaitStatus;

use crate::exit::Exit;

/// A change of the command's environment: a variable's new value, or `None` to remove it.
pub(crate) type Variable = (&'static str, Option<OsString>);

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    /// Returns the exit code that a shell would show.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Code(code) => Exit(code),
            Self::Signal(number) => Exit::signal(number),
        }
    }
}

/// Returns how a process ended; `None` if it has not.
pub(super) fn ended_by(status: WaitStatus) -> Option<Ended> {
    // The system keeps eight bits of the code.
    let code = status.exit_status().map(|code| Ended::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
    code.or_else(|| status.terminating_signal().map(Ended::Signal))
}
