//! Sends the events of one task to several listeners.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::monitor::{Monitor, PathEvent, PathProblem, Phase, Progress};

/// Forwards the events of a mount's pushes, or of its pulls, to the session's own monitor and to the current
/// listeners.
pub(super) struct Relay {
    own: Arc<dyn Monitor>,
    listeners: Mutex<Vec<Arc<dyn Monitor>>>,
}

/// A listener, until this is dropped.
pub(super) struct Listening {
    relay: Arc<Relay>,
    listener: Arc<dyn Monitor>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.relay.lock().retain(|l| !Arc::ptr_eq(l, &self.listener));
    }
}

impl Relay {
    pub(super) fn new(own: Arc<dyn Monitor>) -> Arc<Self> {
        Arc::new(Self { own, listeners: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<dyn Monitor>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a listener.
    pub(super) fn listen(self: &Arc<Self>, listener: Arc<dyn Monitor>) -> Listening {
        self.lock().push(Arc::clone(&listener));
        Listening { relay: Arc::clone(self), listener }
    }

    fn each(&self, tell: impl Fn(&dyn Monitor)) {
        tell(&*self.own);
        let listeners = self.lock().clone();
        listeners.iter().for_each(|l| tell(&**l));
    }
}

impl Monitor for Relay {
    fn phase(&self, phase: Phase) {
        self.each(|m| m.phase(phase));
    }

    fn progress(&self, progress: &Progress) {
        self.each(|m| m.progress(progress));
    }

    fn path(&self, event: &PathEvent<'_>) {
        self.each(|m| m.path(event));
    }

    fn warning(&self, warning: &str) {
        self.each(|m| m.warning(warning));
    }

    fn problem(&self, problem: &PathProblem) {
        self.each(|m| m.problem(problem));
    }
}

/// Forwards everything, and notes when a sync has found the head and begins to read the mount.
pub(super) struct Onset {
    pub(super) inner: Arc<dyn Monitor>,
    pub(super) began: watch::Sender<bool>,
}

impl Onset {
    pub(super) fn new(inner: &Arc<Relay>, began: watch::Sender<bool>) -> Self {
        Self { inner: Arc::<Relay>::clone(inner), began }
    }
}

impl Monitor for Onset {
    fn phase(&self, phase: Phase) {
        // A sync that fails while opening goes directly to its end.
        if !matches!(phase, Phase::Opening | Phase::Done) {
            self.began.send_replace(true);
        }
        self.inner.phase(phase);
    }

    fn progress(&self, progress: &Progress) {
        self.inner.progress(progress);
    }

    fn path(&self, event: &PathEvent<'_>) {
        self.inner.path(event);
    }

    fn warning(&self, warning: &str) {
        self.inner.warning(warning);
    }

    fn problem(&self, problem: &PathProblem) {
        self.inner.problem(problem);
    }
}
