//! What a download comes to, path by path: counted, told, and noted for the base.

use std::io;

use policy_core::{Entry, ListMarks, Reason, Verdict};

use super::apply::{Applying, has_outcome};
use super::arriving::Lane;
use super::fetch::{Fetched, Outcome, Told};
use crate::error::Error;
use crate::local::Fingerprint;
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Side};
use crate::plan::PlanStep;
use crate::report::SyncReport;
use crate::state::{ArrivalRow, BaseRow, Change, DeltaState};

/// Rows that are noted together.
const ROWS: usize = 1024;

/// The ledger of one download.
pub(crate) struct Ledger {
    pub(crate) report: SyncReport,
    /// Whether the base will say of every path what the head says.
    pub(crate) agrees: bool,
    /// The lists that the head has something for.
    pub(crate) marks: ListMarks,
    /// Whether it was cut short.
    pub(crate) stopped: bool,
    /// An archive was brought that is to be extracted.
    pub(crate) archives: Vec<policy_core::TreePath>,
    /// Steps that were met.
    pub(crate) met: u64,
    rows: Vec<ArrivalRow>,
}

impl Ledger {
    pub(crate) fn new(report: SyncReport, agrees: bool, marks: ListMarks) -> Self {
        Self { report, agrees, marks, stopped: false, archives: Vec::new(), met: 0, rows: Vec::new() }
    }

    /// Takes note of a step; one without an outcome is settled with that.
    pub(crate) fn meet(&mut self, applying: &Applying<'_>, step: &PlanStep) -> Result<(), Error> {
        self.met += 1;
        if step.remote.is_some() {
            self.marks.note(&applying.filter.scope, &step.path);
        }
        if has_outcome(step) || applying.lane == Lane::Asked {
            return Ok(());
        }
        tell(step, applying.monitor, &mut self.report);
        let row = base_after(step);
        let base = row.as_ref().map_or(step.base.as_ref(), Option::as_ref).map(|r| &r.entry);
        let there = step.remote.as_ref().map(|r| &r.0.entry);
        self.agrees &= match (base, there) {
            (None, None) => true,
            (Some(base), Some(there)) => base.agrees_with(there),
            (Some(entry), None) => step.remote_implied && entry.agrees_with(&Entry::IMPLIED_DIR),
            (None, Some(_)) => false,
        };
        if let Some(row) = row {
            let change = row.map_or(Change::Unset, Change::Set);
            self.note(applying, ArrivalRow { path: step.path.clone(), change })?;
        }
        Ok(())
    }

    /// Whether this download is the one that carries the step out.
    pub(crate) fn takes(&mut self, applying: &Applying<'_>, step: &PlanStep) -> bool {
        match applying.lane {
            Lane::All => !applying.arriving.asked().covers(&step.path),
            // Only what has never been here is brought because it was asked for.
            Lane::Asked => step.decision.verdict == Verdict::Write && step.base.is_none() && !stands(step),
        }
    }

    /// Settles the items of a fetch; what was put in place is noted already.
    pub(crate) fn settle_all(&mut self, applying: &Applying<'_>, done: &Fetched) -> Result<(), Error> {
        for (item, outcome) in done.each() {
            if matches!(outcome, Outcome::Installed(_)) && (applying.would_extract)(&item.path) {
                self.archives.push(item.path.clone());
            }
            self.settle(applying, &item.told, outcome)?;
        }
        Ok(())
    }

    /// Counts and tells what became of a step.
    pub(crate) fn settle(
        &mut self,
        applying: &Applying<'_>,
        told: &Told,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let report = &mut self.report;
        match outcome {
            Outcome::Failed => {
                report.failed += 1;
                report.pending += u64::from(told.action == Action::Add);
                self.agrees = false;
                return Ok(());
            }
            Outcome::Left => {
                self.stopped |= applying.stop.is_cancelled();
                return Ok(());
            }
            Outcome::Taken => {
                report.unsettled += 1;
                self.agrees = false;
                let reason = "something else came to be there while it was on its way, and stays";
                applying.monitor.warning(&format!("`{}`: {reason}; the next upload keeps both", told.path));
                event(applying.monitor, told, Action::Skip, reason);
                return Ok(());
            }
            Outcome::Withheld => {
                report.pending += 1;
                self.agrees = false;
                let reason = "its directory was removed here before it arrived; neither brought nor deleted";
                event(applying.monitor, told, Action::Skip, reason);
                return Ok(());
            }
            Outcome::Installed(_) | Outcome::Made | Outcome::Removed => {}
        }
        match told.action {
            Action::Add => report.added += 1,
            Action::Change => report.changed += 1,
            Action::Delete => report.deleted += 1,
            Action::Conflict => report.conflicts += 1,
            Action::Keep | Action::Skip | Action::Extract => {}
        }
        if is_worth_telling(told.reason) {
            event(applying.monitor, told, told.action, &told.reason.to_string());
        }
        match outcome {
            Outcome::Made => self.set(applying, told, None),
            Outcome::Removed => {
                self.note(applying, ArrivalRow { path: told.path.clone(), change: Change::Unset })
            }
            _ => Ok(()),
        }
    }

    /// Notes the base's row of a path, with the stat under which it was left.
    pub(crate) fn set(
        &mut self,
        applying: &Applying<'_>,
        told: &Told,
        print: Option<Fingerprint>,
    ) -> Result<(), Error> {
        let Some(row) = &told.row else { return Ok(()) };
        let change = Change::Set(BaseRow { print, ..row.clone() });
        self.note(applying, ArrivalRow { path: told.path.clone(), change })
    }

    fn note(&mut self, applying: &Applying<'_>, row: ArrivalRow) -> Result<(), Error> {
        self.rows.push(row);
        if self.rows.len() < ROWS { Ok(()) } else { self.flush(applying) }
    }

    /// Writes down what is noted.
    pub(crate) fn flush(&mut self, applying: &Applying<'_>) -> Result<(), Error> {
        let noted = applying.arriving.note(std::mem::take(&mut self.rows));
        noted.map_err(|e: io::Error| Error::local("note what arrived in", "the local state", e))
    }
}

/// Whether something is at the path in the mount before the step.
pub(crate) fn stands(step: &PlanStep) -> bool {
    match &step.local {
        Some(row) => matches!(row.state, DeltaState::Present { .. }),
        None => step.base.is_some(),
    }
}

/// Returns what is to be told and remembered of a step that has an outcome.
pub(crate) fn told(step: &PlanStep) -> Told {
    let there = step.remote.as_ref().map(|r| &r.0.entry);
    let entry = there.cloned().or_else(|| step.remote_implied.then_some(Entry::IMPLIED_DIR));
    Told {
        path: step.path.clone(),
        action: action_of(step),
        reason: step.decision.reason,
        size: there.or(step.base.as_ref().map(|b| &b.entry)).map_or(0, Entry::size),
        row: entry.map(|entry| BaseRow { path: step.path.clone(), entry, print: None, held: false }),
    }
}

fn action_of(step: &PlanStep) -> Action {
    match step.decision.verdict {
        Verdict::Write if stands(step) => Action::Change,
        Verdict::Write => Action::Add,
        Verdict::Delete => Action::Delete,
        Verdict::Nothing | Verdict::HoldBack | Verdict::Keep => Action::Keep,
        Verdict::KeepBoth | Verdict::Stop => Action::Conflict,
        Verdict::Withhold => Action::Skip,
    }
}

/// Tells the monitor of a step, and counts what is no change.
pub(crate) fn tell(step: &PlanStep, monitor: &dyn Monitor, report: &mut SyncReport) {
    match step.decision.verdict {
        Verdict::Nothing => return,
        Verdict::HoldBack => report.held_back += 1,
        Verdict::KeepBoth | Verdict::Stop => report.conflicts += 1,
        Verdict::Withhold if step.decision.reason == Reason::NeedsDeletion => {
            report.failed += 1;
            monitor.problem(&PathProblem {
                path: step.path.clone(),
                message: step.decision.reason.to_string(),
                hint: "let the deletion through, or move what is in the way".to_owned(),
            });
        }
        _ => {}
    }
    if is_worth_telling(step.decision.reason) {
        let told = told(step);
        event(monitor, &told, told.action, &told.reason.to_string());
    }
}

fn event(monitor: &dyn Monitor, told: &Told, action: Action, reason: &str) {
    monitor.path(&PathEvent { path: &told.path, action, side: Side::Local, reason, size: told.size });
}

/// Whether a step's reason is one that a person wants to read of.
fn is_worth_telling(reason: Reason) -> bool {
    !matches!(reason, Reason::Unchanged | Reason::SameChange | Reason::DeletedOnBoth)
}

/// Returns the row that the base has after a step without an outcome: `None` leaves it as it was.
fn base_after(step: &PlanStep) -> Option<Option<BaseRow>> {
    let local = || match &step.local.as_ref()?.state {
        DeltaState::Present { entry, seen, trusted, .. } => Some(BaseRow {
            path: step.path.clone(),
            entry: entry.clone(),
            print: seen.filter(|_| *trusted),
            held: false,
        }),
        _ => None,
    };
    match (step.decision.verdict, step.decision.reason) {
        (Verdict::Nothing, Reason::DeletedOnBoth) => Some(None),
        (Verdict::Nothing, Reason::SameChange | Reason::Unchanged) => local().map(Some),
        (Verdict::HoldBack, Reason::DeletedThereHeld) if step.base.is_none() => local().map(Some),
        _ => None,
    }
}
