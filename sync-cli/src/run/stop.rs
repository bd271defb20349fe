//! Signals that tell the program to stop.

use rustix::process::Signal;

use crate::errors::Failure;
use crate::exit::Exit;

/// The stop signals.
pub(super) const STOPPING: [Signal; 2] = [Signal::TERM, Signal::INT];
/// Whether this is a stop signal.
pub(crate) fn is_stop(signal: Signal) -> bool {
    STOPPING.contains(&signal)
}

/// Returns a signal's name.
pub(crate) fn signal_name(signal: Signal) -> String {
    match signal {
        Signal::TERM => "SIGTERM".into(),
        Signal::INT => "SIGINT".into(),
        Signal::HUP => "SIGHUP".into(),
        Signal::QUIT => "SIGQUIT".into(),
        other => format!("signal {}", other.as_raw()),
    }
}

/// Returns the failure of work that a signal stopped.
pub(crate) fn interrupted(signal: Signal) -> Failure {
    Failure::new(Exit::signal(signal.as_raw()), format!("stopped by {}", signal_name(signal)))
        .hint("no partial change remains; run the command again to continue")
}
