//! Reports and counts the steps of a push's plan.

use std::collections::BTreeSet;

use policy_core::{Entry, Node, Reason, Towards, TreePath, Verdict, original_path};

use super::attempt::Attempt;
use super::deadline::{Cut, tell_unsent};
use crate::changes::{in_the_way, special_of, tell_if_in_the_way};
use crate::conflict_copies::Copied;
use crate::effect::effect;
use crate::format::TreeEntry;
use crate::local::sqlite;
use crate::monitor::{Action, PathEvent, PathProblem, Side};
use crate::plan::PlanStep;
use crate::report::SyncReport;
use crate::state::{DeltaRow, DeltaState};

/// The figures of a plan.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) added: u64,
    pub(super) changed: u64,
    pub(super) deleted: u64,
    pub(super) stopped: bool,
    pub(super) copies: Vec<Copied>,
    /// Conflict copies that are deleted.
    pub(super) going: BTreeSet<TreePath>,
    /// The journals and logs that are out of scope, of databases that were read.
    pub(super) outside: BTreeSet<TreePath>,
    /// Those of databases with new content.
    pub(super) outdated: BTreeSet<TreePath>,
    pub(super) marks: Option<policy_core::ListMarks>,
    /// Objects of git repositories that are to be sent, and have not been read.
    pub(super) objects: BTreeSet<TreePath>,
    /// Paths at which a file that no context can store is in the way of an entry.
    pub(super) in_the_way: Vec<TreePath>,
}

impl Tally {
    pub(super) fn note(&mut self, step: &PlanStep, attempt: &mut Attempt<'_>, report: &mut SyncReport) {
        if let Some(aging) = &mut attempt.aging {
            aging.note(step, attempt.job.options.dry_run.then_some(attempt.job.monitor));
        }
        let attempt = &*attempt;
        if step.remote.is_some() {
            let scope = &attempt.job.filter.scope;
            self.marks.get_or_insert_with(|| policy_core::ListMarks::new(scope)).note(scope, &step.path);
        }
        let local = step.local.as_ref().and_then(DeltaRow::present).map(|(entry, _)| entry);
        let there = step.remote.as_ref().map(|r| &r.0.entry);
        let size = local.or(there).map_or(0, Entry::size);
        if let (Some(cut), Verdict::Withhold | Verdict::HoldBack) = (attempt.cut, step.decision.verdict)
            && self.leave_out(step, cut, attempt, report)
        {
            return;
        }
        if step.decision.verdict == Verdict::Nothing {
            return;
        }
        self.count(step, attempt, report);
        if step.decision.reason == Reason::ObjectKeptHere && local.is_none() {
            self.objects.insert(step.path.clone());
        }
        if let (Verdict::Write | Verdict::KeepBoth, Some(Entry { node: node @ Node::File { .. }, .. })) =
            (step.decision.verdict, local)
            && there.is_none_or(|there| there.node != *node)
        {
            let outside = sqlite::companions(&step.path).filter(|log| self.outside.contains(log));
            self.outdated.extend(outside);
        }
        let action = effect(step, Towards::Store, 0).action;
        let size = if action == Action::Delete { there.map_or(0, Entry::size) } else { size };
        let special = special_of(step);
        if tell_if_in_the_way(step, attempt.job.monitor) {
            report.failed += 1;
            self.in_the_way.push(step.path.clone());
        }
        if !attempt.told {
            let reason = special.map_or_else(|| step.decision.reason.to_string(), in_the_way);
            attempt.job.monitor.path(&PathEvent {
                path: &step.path,
                action,
                side: Side::Store,
                reason: &reason,
                size,
            });
        }
    }

    fn count(&mut self, step: &PlanStep, attempt: &Attempt<'_>, report: &mut SyncReport) {
        match step.decision.verdict {
            Verdict::Nothing => {}
            Verdict::Write if step.remote.is_some() => self.changed += 1,
            Verdict::Write => self.added += 1,
            Verdict::Delete => {
                self.deleted += 1;
                self.going.extend(original_path(&step.path).map(|_| step.path.clone()));
            }
            Verdict::HoldBack => {
                report.held_back += 1;
                report.in_doubt += u64::from(step.decision.reason == Reason::DeletedHereInDoubt);
            }
            Verdict::Keep => report.pending += u64::from(step.decision.reason == Reason::NotYetBrought),
            Verdict::KeepBoth => {
                report.conflicts += 1;
                let is_here = step.local.as_ref().is_some_and(|row| row.present().is_some());
                self.changed += u64::from(is_here && step.remote.is_some());
                if let (Some(copy), Some(remote)) = (&step.copy, &step.remote) {
                    let entry = TreeEntry { path: copy.clone(), ..remote.0.clone() };
                    self.copies.push(Copied { of: step.path.clone(), entry });
                }
            }
            Verdict::Stop => {
                report.conflicts += 1;
                self.stopped = true;
            }
            Verdict::Withhold => {
                report.withheld += u64::from(step.decision.reason == Reason::Recycled);
                if step.decision.reason == Reason::NeedsDeletion {
                    report.failed += 1;
                    attempt.job.monitor.problem(&PathProblem {
                        path: step.path.clone(),
                        message: step.decision.reason.to_string(),
                        hint: "allow the deletion, or move the new file".to_owned(),
                    });
                }
            }
        }
    }

    /// Counts a path that a partial snapshot lacks; false if it is missing for another reason.
    fn leave_out(
        &mut self,
        step: &PlanStep,
        cut: Cut,
        attempt: &Attempt<'_>,
        report: &mut SyncReport,
    ) -> bool {
        let size = match (step.decision.reason, step.local.as_ref().map(|row| &row.state)) {
            (Reason::Unreadable, Some(DeltaState::Unsent { size })) => *size,
            (Reason::NeedsDeletion, Some(DeltaState::Present { entry, .. })) => entry.size(),
            (Reason::NeedsDeletion, _) => 0,
            // The last round carries it out.
            _ => return cut == Cut::Round && step.decision.verdict == Verdict::HoldBack,
        };
        if cut == Cut::Deadline {
            report.unsent += 1;
            report.unsent_bytes += size;
            if !attempt.told {
                tell_unsent(&step.path, size, attempt.job.monitor);
            }
        }
        true
    }
}
