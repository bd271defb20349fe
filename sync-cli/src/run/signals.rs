//! The signals that reach this program.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::errors::Failure;
use crate::exit::Exit;

/// A stream of signals, from the moment it is made.
pub(crate) struct Signals {
    incoming: mpsc::UnboundedReceiver<Signal>,
}

/// Those that end what is going on.
const STOPPING: [Signal; 2] = [Signal::TERM, Signal::INT];
/// Those that a command is told of, and that mean nothing to this program itself.
const PASSED_ON: [Signal; 5] = [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH];

impl Signals {
    /// Listens for SIGTERM and SIGINT.
    pub(crate) fn stopping() -> Result<Self, Failure> {
        Self::listen(&STOPPING)
    }

    /// Listens for these, and for those that are passed on to a command.
    pub(crate) fn all() -> Result<Self, Failure> {
        Self::listen(&[&STOPPING[..], &PASSED_ON[..]].concat())
    }

    fn listen(which: &[Signal]) -> Result<Self, Failure> {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        for &which in which {
            let mut stream = signal(SignalKind::from_raw(which.as_raw())).map_err(|error| {
                Failure::new(Exit::FAILED, format!("cannot listen for {}", name(which))).caused_by(&error)
            })?;
            let outgoing = outgoing.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if outgoing.send(which).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { incoming })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.incoming.recv().await {
            Some(signal) => signal,
            // The senders live as long as the runtime: there will be none any more.
            None => std::future::pending().await,
        }
    }

    /// Waits for the next one that ends what is going on; others are dropped.
    pub(crate) async fn next_stop(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if is_stop(signal) {
                return signal;
            }
        }
    }
}

/// Whether this one tells the program to come to an end.
pub(crate) fn is_stop(signal: Signal) -> bool {
    STOPPING.contains(&signal)
}

/// Returns a signal's name.
pub(crate) fn name(signal: Signal) -> String {
    match signal {
        Signal::TERM => "SIGTERM".into(),
        Signal::INT => "SIGINT".into(),
        Signal::HUP => "SIGHUP".into(),
        Signal::QUIT => "SIGQUIT".into(),
        other => format!("signal {}", other.as_raw()),
    }
}
