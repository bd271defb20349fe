//! The signals that reach this program.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::group::Group;
use super::sentry::{self, Orders, Speaker};
use super::stop::{is_stop, signal_name};
use crate::errors::Failure;
use crate::exit::Exit;

/// A stream of signals, from the moment it is made.
///
/// A stop signal ends the program within two seconds, whatever hangs, unless a session is held: that takes each signal
/// as one to be answered, and ends when it is done with saving.
pub(crate) struct Signals {
    incoming: mpsc::UnboundedReceiver<Signal>,
    outgoing: mpsc::UnboundedSender<Signal>,
    orders: watch::Sender<Orders>,
}

/// Those that a command is told of, and that mean nothing to this program itself.
const PASSED_ON: [Signal; 5] = [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH];

impl Signals {
    /// Listens for SIGTERM and SIGINT.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let orders = watch::Sender::default();
        sentry::start(orders.clone(), outgoing.clone())?;
        Ok(Self { incoming, outgoing, orders })
    }

    /// Says by whom the last words are spoken if the program has to be ended.
    pub(crate) fn speak_through(&self, speaker: Speaker) {
        self.orders.send_modify(|orders| orders.speaker = Some(speaker));
    }

    /// Listens also for those that are passed on to a command.
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

    /// Says whether a session is held, which is saved before the program ends.
    pub(crate) fn hold(&self, held: bool) {
        self.orders.send_modify(|orders| orders.held = held);
    }

    /// Says which group must not outlive this program.
    pub(crate) fn guard(&self, group: Option<Group>) {
        self.orders.send_modify(|orders| orders.group = group);
    }

    /// Ends the program at `at` with this failure, whatever hangs.
    pub(crate) fn end_at(&self, at: Instant, failure: Failure) {
        self.orders.send_modify(|orders| orders.end_at(at, failure));
    }

    /// Ends the program soon, whatever hangs.
    pub(crate) fn end_soon(&self, failure: Failure) {
        self.orders.send_modify(|orders| orders.end_soon(failure));
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        // This has a sender itself: the stream does not end.
        let Some(signal) = self.incoming.recv().await else { std::future::pending().await };
        if self.orders.borrow().held {
            self.orders.send_modify(Orders::answer);
        }
        signal
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
