//! A process group, signalled as a whole.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// A process group that this program started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group(pub(crate) Pid);

impl Group {
    /// Sends a signal to all processes of the group. A group that has ended is no error.
    pub(crate) fn send(self, signal: Signal) {
        if let Err(error) = kill_process_group(self.0, signal)
            && error != Errno::SRCH
        {
            tracing::warn!("cannot send signal {} to the command's group: {error}", signal.as_raw());
        }
    }

    /// Whether any process of the group is left.
    pub(crate) fn is_alive(self) -> bool {
        // A process that may not be signalled is also alive.
        test_kill_process_group(self.0) != Err(Errno::SRCH)
    }

    /// Asks the group to end. Stopped processes must continue to receive the signal.
    pub(crate) fn terminate(self) {
        self.send(Signal::TERM);
        self.send(Signal::CONT);
    }
}
