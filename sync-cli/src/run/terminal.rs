//! Which process group owns the terminal.

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
    /// Gives the terminal to the command's group, if stdin is a terminal and this program owns it.
    pub(crate) fn lend(command: Pid) -> Option<Self> {
        let stdin = io::stdin();
        // In a container, the first process may have a group from outside, which has no number: 0.
        let own = Pid::from_raw(nix::unistd::getpgrp().as_raw())?;
        if !isatty(&stdin) || tcgetpgrp(&stdin) != Ok(own) {
            return None;
        }
        let terminal = Self { own, command };
        terminal.hand_to(command).then_some(terminal)
    }

    /// Whether the command's group owns it.
    pub(crate) fn is_lent(&self) -> bool {
        tcgetpgrp(io::stdin()) == Ok(self.command)
    }

    /// Takes it back.
    pub(crate) fn take_back(&self) {
        self.hand_to(self.own);
    }

    /// Stops this program's group too when the user stops the command, so that the shell gets the terminal.
    /// Gives the terminal to the command again when the shell continues both.
    pub(crate) fn suspend(&self) {
        self.take_back();
        // If there is no shell, the kernel ignores this signal, and the command continues at once.
        let _ = kill_current_process_group(Signal::TSTP);
        self.hand_to(self.command);
    }

    fn hand_to(&self, group: Pid) -> bool {
        // A background process that sets the terminal's owner is stopped, unless it blocks or ignores
        // SIGTTOU. Child processes would inherit that it is ignored, so it is blocked, only for this thread
        // and this call.
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
