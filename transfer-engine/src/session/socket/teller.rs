//! Sends the events of a sync to a socket, and never makes the sync wait for the reader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::wire::Event;
use crate::monitor::{Monitor, PathEvent, PathProblem, Phase, Progress};

/// The shortest time between two progress events.
const EVERY: Duration = Duration::from_millis(100);

/// Sends events to a client. Events for which the queue has no room are dropped and counted.
pub(super) struct Teller {
    out: mpsc::Sender<Vec<u8>>,
    left_out: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Teller {
    pub(super) fn new(out: mpsc::Sender<Vec<u8>>) -> Self {
        Self { out, left_out: AtomicU64::new(0), told: Mutex::default() }
    }

    fn tell(&self, event: &Event) {
        // A client that is gone misses nothing.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.out.try_send(event.line()) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns a warning about the dropped events, if there are any.
    pub(super) fn confess(&self) -> Option<Event> {
        let count = self.left_out.load(Ordering::Relaxed);
        let message = format!("{count} lines are not shown, because they were not read as fast as they came");
        (count > 0).then_some(Event::Warning { message })
    }
}

impl Monitor for Teller {
    fn phase(&self, phase: Phase) {
        self.tell(&Event::Phase { phase });
    }

    fn progress(&self, progress: &Progress) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|then| now.saturating_duration_since(then) >= EVERY) {
            *told = Some(now);
            // If it is dropped, the next one has newer figures.
            let _ = self.out.try_send(Event::Progress(*progress).line());
        }
    }

    fn path(&self, event: &PathEvent<'_>) {
        self.tell(&Event::Path {
            path: event.path.into(),
            action: event.action,
            side: event.side,
            reason: event.reason.to_owned(),
            size: event.size,
        });
    }

    fn warning(&self, warning: &str) {
        self.tell(&Event::Warning { message: warning.to_owned() });
    }

    fn problem(&self, problem: &PathProblem) {
        self.tell(&Event::Problem {
            path: (&problem.path).into(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        });
    }
}
