//! The signals that this program receives.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::group::Group;
use super::sentry::{self, Orders, Speaker};
use super::stop::{is_stop, signal_name};
use crate::errors::Failure;
use crate::exit::Exit;

/// A stream of signals, from its creation on.
///
/// A stop signal ends the program within two seconds, even if something hangs. An exception is a session: it
/// reacts to each signal, and ends when the last push is done.
pub(crate) struct Signals {
    incoming: mpsc::UnboundedReceiver<Signal>,
    outgoing: mpsc::UnboundedSender<Signal>,
    orders: watch::Sender<Orders>,
}

/// Signals that are forwarded to a command, and have no meaning for this program.
const PASSED_ON: [Signal; 5] = [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH];

impl Signals {
    /// Listens for SIGTERM and SIGINT.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let orders = watch::Sender::default();
        sentry::start(orders.clone(), outgoing.clone())?;
        Ok(Self { incoming, outgoing, orders })
    }

    /// Sets how the last message is printed if the program has to be ended by force.
    pub(crate) fn speak_through(&self, speaker: Speaker) {
        self.orders.send_modify(|orders| orders.speaker = Some(speaker));
    }

    /// Also listens for the signals that are forwarded to a command.
    pub(crate) fn listen_for_all(&mut self) -> Result<(), Failure> {
        for which in PASSED_ON {
            let mut stream = signal(SignalKind::from_raw(which.as_raw())).map_err(|error| {
                Failure::new(Exit::FAILED, format!("cannot listen for {}", signal_name(which)))
                    .caused_by(&error)
            })?;
            let outgoing = self.outgoing.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if outgoing.send(which).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(())
    }

    /// Sets whether there is a session, which is pushed before the program ends.
    pub(crate) fn hold(&self, held: bool) {
        self.orders.send_modify(|orders| orders.held = held);
    }

    /// Lets Ctrl-C stop the work, but not the wait for the user to leave the pager, which gets the signal as well.
    pub(crate) fn leave_interrupts_to_the_pager(&self) {
        self.orders.send_modify(|orders| orders.is_paged = true);
    }

    /// Sets the process group that must not outlive this program.
    pub(crate) fn guard(&self, group: Option<Group>) {
        self.orders.send_modify(|orders| orders.group = group);
    }

    /// Ends the program at `at` with this failure, even if something hangs.
    pub(crate) fn end_at(&self, at: Instant, failure: Failure) {
        self.orders.send_modify(|orders| orders.end_at(at, failure));
    }

    /// Ends the program soon, even if something hangs.
    pub(crate) fn end_soon(&self, failure: Failure) {
        self.orders.send_modify(|orders| orders.end_soon(failure));
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        // `self` has a sender, so the stream never ends.
        let Some(signal) = self.incoming.recv().await else { std::future::pending().await };
        if self.orders.borrow().held {
            self.orders.send_modify(Orders::answer);
        }
        signal
    }

    /// Waits for the next stop signal; other signals are dropped.
    pub(crate) async fn next_stop(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if is_stop(signal) {
                return signal;
            }
        }
    }
}
