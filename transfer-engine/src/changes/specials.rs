//! Sockets, FIFOs and devices. They are not stored, and the user should know.

use policy_core::TreePath;

use crate::local::Special;
use crate::monitor::{Monitor, PathProblem};
use crate::plan::PlanStep;
use crate::state::DeltaState;

/// How many are listed.
const NAMED: usize = 5;
/// The hint for one of them.
pub(crate) const EXCLUDE_IT: &str = "exclude it in the white list";

/// Files that no context can store, at paths that are not in the base.
#[derive(Debug, Default, Clone)]
pub(crate) struct Specials {
    pub(crate) total: u64,
    named: Vec<(TreePath, Special)>,
}

impl Specials {
    pub(crate) fn note(&mut self, path: &TreePath, special: Special) {
        self.total += 1;
        if self.named.len() < NAMED {
            self.named.push((path.clone(), special));
        }
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.total += more.total;
        let room = NAMED - self.named.len();
        self.named.extend(more.named.iter().take(room).cloned());
    }

    /// Leaves out those that were already reported because they are in the way.
    pub(crate) fn without(&self, told: &[TreePath]) -> Self {
        let named = self.named.iter().filter(|(path, _)| !told.contains(path)).cloned().collect();
        Self { total: self.total.saturating_sub(told.len() as u64), named }
    }

    /// Returns a warning in one line; `None` if there are none.
    pub(crate) fn warning(&self) -> Option<String> {
        let mut names: Vec<String> =
            self.named.iter().map(|(path, special)| format!("`{path}` is {special}")).collect();
        let more = self.total.saturating_sub(names.len() as u64);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let names = names.join(", ");
        (self.total > 0).then(|| format!("left out, because a context can't hold it: {names}"))
    }

    /// Reports each listed one as a failed path.
    pub(crate) fn tell_failed(&self, monitor: &dyn Monitor) {
        for (path, special) in &self.named {
            tell_in_the_way(path, *special, monitor);
        }
    }
}

/// Returns why a path with such a file fails.
pub(crate) fn in_the_way(special: Special) -> String {
    format!("it is {special}, which a context can't hold")
}

fn tell_in_the_way(path: &TreePath, special: Special, monitor: &dyn Monitor) {
    let (message, hint) = (in_the_way(special), EXCLUDE_IT.to_owned());
    monitor.problem(&PathProblem { path: path.clone(), message, hint });
}

/// Returns the kind of file at the step's path, if no context can store it and the base has nothing there.
pub(crate) fn special_of(step: &PlanStep) -> Option<Special> {
    match step.local.as_ref()?.state {
        DeltaState::Special(special) if step.base.is_none() => Some(special),
        _ => None,
    }
}

/// Reports such a file if the context has an entry at the path; returns whether it does.
pub(crate) fn tell_if_in_the_way(step: &PlanStep, monitor: &dyn Monitor) -> bool {
    match special_of(step) {
        Some(special) if step.remote.is_some() => {
            tell_in_the_way(&step.path, special, monitor);
            true
        }
        _ => false,
    }
}
