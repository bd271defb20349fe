//! Holds messages back while a mount is scanned several times.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::monitor::{Monitor, PathEvent, PathProblem, Phase, Progress};

/// How many errors are held back until it is known whether they persist.
const MAX_HELD: usize = 10_000;

/// A monitor that forwards errors only when they persist, and each step of the progress only once.
pub(crate) struct Holding<'m> {
    to: &'m dyn Monitor,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    again: bool,
    problems: Vec<PathProblem>,
}

impl<'m> Holding<'m> {
    pub(crate) fn new(to: &'m dyn Monitor) -> Self {
        Self { to, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a further scan, which reports persisting errors again.
    pub(crate) fn look_again(&self) {
        *self.held() = Held { again: true, problems: Vec::new() };
    }

    pub(crate) fn tell(&self) {
        std::mem::take(&mut self.held().problems).iter().for_each(|problem| self.to.problem(problem));
    }
}

impl Monitor for Holding<'_> {
    fn phase(&self, phase: Phase) {
        self.to.phase(phase);
    }

    fn progress(&self, progress: &Progress) {
        if !self.held().again {
            self.to.progress(progress);
        }
    }

    fn path(&self, event: &PathEvent<'_>) {
        self.to.path(event);
    }

    fn warning(&self, warning: &str) {
        self.to.warning(warning);
    }

    fn problem(&self, problem: &PathProblem) {
        let mut held = self.held();
        if held.problems.len() < MAX_HELD {
            held.problems.push(problem.clone());
        } else if !held.again {
            drop(held);
            self.to.problem(problem);
        }
    }
}
