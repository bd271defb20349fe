//! What a merge says of its paths. The words of a plan's reasons are those of a mount and its context, so here they
//! are said with the names of the two contexts.

use policy_core::{Entry, Local, LocalRow, Reason, TreePath, Verdict};

use super::sides::{MergeStep, brings_mark};
use crate::conflict_copies::Copies;
use crate::format::ContextName;
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Side};

/// Reports the steps of a merge.
pub(super) struct Telling<'a> {
    pub(super) from: &'a ContextName,
    pub(super) into: &'a ContextName,
    /// `None` if they were reported already, on an older head.
    pub(super) monitor: Option<&'a dyn Monitor>,
}

/// Whether the context that is merged into has something at the path of a step.
pub(super) fn is_there(step: &MergeStep) -> bool {
    match &step.local {
        Some(row) => matches!(row.local(), Local::Present(_)),
        None => step.base.is_some(),
    }
}

/// Whether the context that is merged differs from the base at the path of a step.
pub(super) fn is_changed_there(step: &MergeStep) -> bool {
    match (&step.base, &step.remote) {
        (Some(base), Some(there)) => !base.0.entry.agrees_with(&there.0.entry),
        (base, there) => base.is_some() != there.is_some(),
    }
}

/// Returns what is reported of a step; `None` if nothing was to be merged.
fn action(step: &MergeStep) -> Option<Action> {
    Some(match step.decision.verdict {
        _ if brings_mark(step) => Action::Change,
        Verdict::Nothing => return None,
        Verdict::Keep if !is_changed_there(step) => return None,
        Verdict::Write if is_there(step) => Action::Change,
        Verdict::Write => Action::Add,
        Verdict::Delete => Action::Delete,
        Verdict::HoldBack | Verdict::Keep => Action::Keep,
        Verdict::KeepBoth | Verdict::Stop => Action::Conflict,
        Verdict::Withhold => Action::Skip,
    })
}

impl Telling<'_> {
    pub(super) fn step(&self, step: &MergeStep) {
        let (Some(monitor), Some(action)) = (self.monitor, action(step)) else { return };
        let path = &step.path;
        let reason = match brings_mark(step) {
            true => format!("extracted in {}", self.from),
            false => self.reason(step.decision.reason),
        };
        if step.decision.reason == Reason::NeedsDeletion {
            let hint = "allow the deletion, or move the new file".to_owned();
            monitor.problem(&PathProblem { path: path.clone(), message: reason.clone(), hint });
        }
        let there = step.remote.as_ref().or(step.base.as_ref()).map(|row| &row.0.entry);
        let size = there.map_or(0, Entry::size);
        monitor.path(&PathEvent { path, action, side: Side::Store, reason: &reason, size });
    }

    pub(super) fn copies(&self, copies: &Copies) {
        if let Some(monitor) = self.monitor {
            let from = self.from;
            copies.tell(|of: &TreePath| format!("{from}'s version of `{of}`, which both changed"), monitor);
        }
    }

    fn reason(&self, reason: Reason) -> String {
        let (from, into) = (self.from, self.into);
        match reason {
            Reason::NewThere => format!("new in {from}"),
            Reason::ChangedThere => format!("changed in {from}"),
            Reason::DeletedThere => format!("deleted in {from}"),
            Reason::DeletedThereHeld => format!("deleted in {from}; held back by the deletion guard"),
            Reason::NewHere => format!("new in {into}"),
            Reason::ChangedHere => format!("changed in {into}"),
            Reason::DeletedHere => format!("deleted in {into}"),
            Reason::ChangeHereBeatsDeletion => {
                format!("changed in {into} and deleted in {from}; the change wins")
            }
            Reason::ChangeThereBeatsDeletion => {
                format!("changed in {from} and deleted in {into}; the change wins")
            }
            Reason::ObjectKeptHere => {
                format!("deleted in {from}; kept, because its git repository has changed in {into}")
            }
            Reason::ObjectKeptThere => {
                format!("deleted in {into}; kept, because its git repository has changed in {from}")
            }
            Reason::BothChanged => "changed in both".to_owned(),
            Reason::BothChangedLocalWins => format!("changed in both; the version of {into} is preferred"),
            Reason::BothChangedRemoteWins => format!("changed in both; the version of {from} is preferred"),
            Reason::Modes => format!("changed in both with only the mode different; that of {into} is kept"),
            Reason::Recycled => format!("recycled or lost in {from}; kept in {into}"),
            // The others speak of no side, or can't happen between two trees.
            other => other.to_string(),
        }
    }
}
