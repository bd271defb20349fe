//! What a sync has to tell of a mount that is looked at several times.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::monitor::{Monitor, PathEvent, PathProblem, Phase, Progress};

/// So many problems are held until it is known whether they last.
const MAX_HELD: usize = 10_000;

/// A monitor that hears of problems once it is known that they last, and of progress once.
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

    /// Begins one more look, which meets anew what lasts.
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
