//! Who the terminal belongs to.

use std::io;

use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{Pid, Signal, kill_current_process_group};
use rustix::termios::{isatty, tcgetpgrp, tcsetpgrp};

/// The terminal on stdin, lent to the command.
#[derive(Debug)]
pub(crate) struct Terminal {
    own: Pid,
    command: Pid,
}

impl Terminal {
    /// Gives the terminal to the command's group, if stdin is one and it is ours to give.
    pub(crate) fn lend(command: Pid) -> Option<Self> {
        let stdin = io::stdin();
        // In a container whose first process has its group outside, there is no such number: 0.
        let own = Pid::from_raw(nix::unistd::getpgrp().as_raw())?;
        if !isatty(&stdin) || tcgetpgrp(&stdin) != Ok(own) {
            return None;
        }
        let terminal = Self { own, command };
        terminal.hand_to(command).then_some(terminal)
    }

    /// Whether the command's group has it.
    pub(crate) fn is_lent(&self) -> bool {
        tcgetpgrp(io::stdin()) == Ok(self.command)
    }

    /// Takes it back.
    pub(crate) fn take_back(&self) {
        self.hand_to(self.own);
    }

    /// Stops this program's group as the user stopped the command, so that the shell has the terminal;
    /// lends it again when the shell lets both go on.
    pub(crate) fn suspend(&self) {
        self.take_back();
        // Where no shell waits, the kernel ignores this, and the command goes on at once.
        let _ = kill_current_process_group(Signal::TSTP);
        self.hand_to(self.command);
    }

    fn hand_to(&self, group: Pid) -> bool {
        // Who is not in the foreground is stopped for trying, unless it blocks the signal. Ignoring it
        // would be inherited by what this program starts; blocking is for this thread and this moment.
        let mut stop = SigSet::empty();
        stop.add(NixSignal::SIGTTOU);
        let blocked = stop.thread_block().is_ok();
        let handed = tcsetpgrp(io::stdin(), group).is_ok();
        if blocked {
            let _ = stop.thread_unblock();
        }
        handed
    }
}
