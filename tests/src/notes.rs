//! A monitor that records what is reported to it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use policy_core::TreePath;
use transfer_engine::{Action, Monitor, PathEvent, PathProblem, Phase, Progress};

/// The monitor.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Noted>);

/// What was reported.
#[derive(Debug, Default, Clone)]
pub struct Noted {
    /// Warnings, in order.
    pub warnings: Vec<String>,
    /// Problems, each as `path: message`.
    pub problems: Vec<String>,
    /// The hint of each problem.
    pub hints: Vec<String>,
    /// The action on each path.
    pub events: Vec<(TreePath, Action)>,
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// How many steps of reading files were reported after a plan was begun.
    pub read_after_plan: usize,
}

impl Noted {
    /// Returns how often a phase began.
    pub fn count(&self, phase: Phase) -> usize {
        self.phases.iter().filter(|begun| **begun == phase).count()
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was reported so far.
    pub fn noted(&self) -> Noted {
        self.lock().clone()
    }
}

impl Monitor for Notes {
    fn phase(&self, phase: Phase) {
        self.lock().phases.push(phase);
    }

    fn progress(&self, _: &Progress) {
        let mut noted = self.lock();
        // While sending, progress is that of packs.
        let reads = noted.phases.contains(&Phase::Planning) && noted.phases.last() != Some(&Phase::Sending);
        noted.read_after_plan += usize::from(reads);
    }

    fn path(&self, event: &PathEvent<'_>) {
        self.lock().events.push((event.path.clone(), event.action));
    }

    fn warning(&self, warning: &str) {
        self.lock().warnings.push(warning.to_owned());
    }

    fn problem(&self, problem: &PathProblem) {
        let mut noted = self.lock();
        noted.problems.push(format!("{}: {}", problem.path, problem.message));
        noted.hints.push(problem.hint.clone());
    }
}
