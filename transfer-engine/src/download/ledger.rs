//! The ledger of a pull: its results are counted, reported, and noted for the base, path by path.

use std::collections::VecDeque;
use std::io;

use policy_core::{Entry, ListMarks, Node, Reason, Towards, TreePath, Verdict};
use rustix::fs::FileType;

use super::applying::{Applying, RETRY, has_outcome, is_local_dir};
use super::dir_times::DirTimes;
use super::extracting::{Fate, Out, PulledArchive};
use super::fetch::Fetched;
use super::item::{Applied, Told};
use super::place::with_print;
use crate::changes::{special_of, tell_if_in_the_way};
use crate::count::{count, count_are};
use crate::effect::{Effect, effect, has_same_content};
use crate::error::Error;
use crate::local::{Fingerprint, MountDir, ScanFilter, names};
use crate::mixed::Mixed;
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Side, copy_reason};
use crate::plan::{Filter, PlanStep, archive_of, has_lost_mark, stands, was_extracted};
use crate::report::SyncReport;
use crate::state::{Archive, ArrivalRow, BaseRow, Change, DeltaState, Held, Lane};

/// The number of rows that are written together.
const ROWS: usize = 1024;

/// The ledger of one download.
pub(crate) struct Ledger {
    pub(crate) report: SyncReport,
    /// Whether base and head will agree on every path.
    pub(crate) agrees: bool,
    /// The white lists that match something in the head.
    pub(crate) marks: ListMarks,
    /// Whether the pull was stopped.
    pub(crate) stopped: bool,
    /// Archives that were pulled and are to be extracted.
    pub(super) archives: VecDeque<PulledArchive>,
    /// The number of steps.
    pub(crate) met: u64,
    /// Whether one of them concerns a path that the context has recycled.
    pub(crate) recycled: bool,
    /// Whether a fetch has left something that differs from the context.
    pub(crate) leaves: bool,
    /// Whether deletions are held back because the context was emptied.
    pub(super) lost: bool,
    /// The number of those that an earlier pull held back, for the same reason.
    pub(super) still_held: u64,
    /// Databases of which both sides have changed a file.
    pub(super) mixed: Mixed,
    /// The times of directories.
    pub(super) times: DirTimes,
    rows: Vec<ArrivalRow>,
}

impl Ledger {
    pub(super) fn new(report: SyncReport, agrees: bool, marks: ListMarks, times: DirTimes) -> Self {
        Self {
            report,
            agrees,
            marks,
            stopped: false,
            archives: VecDeque::new(),
            met: 0,
            recycled: false,
            leaves: false,
            lost: false,
            still_held: 0,
            mixed: Mixed::default(),
            times,
            rows: Vec::new(),
        }
    }

    /// Processes a step. A step that needs no work is closed at once.
    pub(crate) fn meet(&mut self, applying: &Applying<'_>, step: &PlanStep) -> Result<(), Error> {
        let (there, dir_stood) = (step.remote.as_ref().map(|r| &r.0.entry), is_local_dir(step));
        self.times.see(&step.path, dir_stood, stands(step) && !dir_stood, there);
        self.mixed.note(step);
        // Recycled files can't be pulled.
        self.met += u64::from(!step.recycled);
        self.recycled |= step.recycled;
        if step.remote.is_some() {
            self.marks.note(&applying.filter.scope, &step.path);
        }
        if has_outcome(step) || applying.lane == Lane::Asked {
            return Ok(());
        }
        tell(step, &applying.filter, applying.monitor, &mut self.report);
        let Effect { base: row, agrees, .. } = effect(step, Towards::Mount, 0);
        let row = row.or_else(|| self.held_row(step).map(Some)).or_else(|| remarked(step).map(Some));
        let row = row.map(|row| row.map(|row| row.among(&applying.file_systems)));
        self.agrees &= agrees;
        let archive = row.as_ref().map_or(step.base.as_ref(), Option::as_ref).map(|r| &r.archive);
        let awaits_mark = match archive {
            Some(Archive::Pending) => applying.filter.extracts(&step.path),
            Some(archive) => archive.came_out(),
            None => false,
        };
        // The next snapshot will say that the archive was extracted; until then, base and head differ.
        self.agrees &= !awaits_mark || step.remote.as_ref().is_some_and(|r| r.0.extracted);
        if let Some(row) = row {
            let change = row.map_or(Change::Unset, Change::Set);
            self.note(applying, ArrivalRow { path: step.path.clone(), change })?;
        }
        Ok(())
    }

    /// Forgets that the mount had these paths. If the pull ends before they arrive, they are pending, and not deleted.
    pub(super) fn forget(&mut self, applying: &Applying<'_>, paths: Vec<TreePath>) -> Result<(), Error> {
        for path in paths {
            self.note(applying, ArrivalRow { path, change: Change::Unset })?;
        }
        self.flush(applying)
    }

    /// Returns what to say of deletions that an earlier pull held back.
    pub(super) fn still_held_warning(&self) -> Option<String> {
        let held = self.still_held;
        (held > 0).then(|| {
            format!(
                "{} still held back, because an earlier pull found the context emptied",
                count_are(held, "deletion")
            )
        })
    }

    /// Returns the base's row of a path that stays although the context was emptied, or of one that the context has again.
    /// The row has to remember it, because with what is added later, the context will no longer look empty. What a push held
    /// back is met only if the user has said that it was meant; then it counts like any other deletion.
    fn held_row(&mut self, step: &PlanStep) -> Option<BaseRow> {
        let base = step.base.as_ref()?;
        let held = match (base.held, step.decision.reason) {
            (Held::There, _) if step.remote.is_some() => Held::No,
            (Held::Here, _) => Held::No,
            (Held::There, Reason::DeletedThereHeld) => {
                self.still_held += 1;
                return None;
            }
            (Held::No, Reason::DeletedThereHeld) if self.lost => Held::There,
            _ => return None,
        };
        Some(BaseRow { held, ..base.clone() })
    }

    /// Whether this pull carries out the step.
    pub(crate) fn takes(&mut self, applying: &Applying<'_>, step: &PlanStep) -> bool {
        match applying.lane {
            Lane::All => !applying.arriving.asked().covers(&step.path),
            // A fetch only pulls files that have never been in the mount.
            Lane::Asked => step.decision.verdict == Verdict::Write && step.base.is_none() && !stands(step),
        }
    }

    /// Notes a step that is not carried out. If a fetch leaves it, the full pull, which leaves it to the fetch, has to
    /// check everything once more.
    pub(super) fn leave(&mut self, applying: &Applying<'_>, step: &PlanStep) {
        let differs = has_outcome(step) || step.decision.verdict == Verdict::HoldBack;
        self.leaves |= applying.lane == Lane::Asked && differs;
    }

    /// Notes that a step is carried out; it is closed when that is done.
    pub(super) fn expect(&mut self, told: &Told) {
        self.times.expect(&told.path, concerns_dir(told));
    }

    /// Adds an archive to be extracted.
    pub(super) fn queue_archive(&mut self, archive: PulledArchive) {
        self.times.expect(&archive.row.path, false);
        self.archives.push_back(archive);
    }

    /// Notes that a file stays which the context has no more. The next push sends it.
    pub(super) fn keep_copy(&mut self, applying: &Applying<'_>, told: &Told) -> Result<(), Error> {
        self.times.ended(&told.path, concerns_dir(told), false);
        self.agrees = false;
        self.note(applying, ArrivalRow { path: told.path.clone(), change: Change::Unset })
    }

    /// Notes the results of a fetch. What was put in place is in the journal already.
    pub(crate) fn close_all(&mut self, applying: &Applying<'_>, done: &Fetched) -> Result<(), Error> {
        for (item, outcome) in done.each() {
            if let (Applied::Installed(print), Some(row)) = (outcome, &item.told.row)
                && row.archive == Archive::Pending
                && row.path == item.path
            {
                match print {
                    Some(print) => {
                        let row = with_print(row, item, &print, applying.dir.env().now());
                        self.queue_archive(PulledArchive { row, print });
                    }
                    // It could not be looked at, or is another file by now.
                    None => {
                        self.agrees = false;
                        self.report.failed += 1;
                        applying.monitor.problem(&PathProblem {
                            path: row.path.clone(),
                            message: "it could not be looked at after it was put in place, and is not extracted yet"
                                .to_owned(),
                            hint: RETRY.to_owned(),
                        });
                    }
                }
            }
            self.close(applying, &item.told, outcome)?;
        }
        Ok(())
    }

    /// Counts and reports the result of a step.
    pub(crate) fn close(
        &mut self,
        applying: &Applying<'_>,
        told: &Told,
        outcome: Applied,
    ) -> Result<(), Error> {
        let is_done = matches!(outcome, Applied::Installed(_) | Applied::Made | Applied::Removed);
        self.times.ended(&told.path, concerns_dir(told), is_done);
        let report = &mut self.report;
        match outcome {
            Applied::Failed => {
                report.failed += 1;
                report.pending += u64::from(told.action == Action::Add);
                self.agrees = false;
                return Ok(());
            }
            Applied::Left => {
                self.stopped |= applying.stop.is_cancelled();
                return Ok(());
            }
            Applied::Taken if is_left_out(applying, &told.path) => {
                report.failed += 1;
                report.pending += 1;
                self.agrees = false;
                applying.monitor.problem(&PathProblem {
                    path: told.path.clone(),
                    message: "what is at its path here takes no part in the sync; it is left as it is"
                        .to_owned(),
                    hint: "move it away, or let the policy leave out the whole path".to_owned(),
                });
                return Ok(());
            }
            Applied::Taken => {
                report.unsettled += 1;
                self.agrees = false;
                let reason = "something else appeared here during the pull, and stays";
                applying.monitor.warning(&format!("`{}`: {reason}; the next push keeps both", told.path));
                event(applying.monitor, told, Action::Skip, reason);
                return Ok(());
            }
            Applied::Withheld => {
                report.pending += 1;
                self.agrees = false;
                if let Some(row) = &told.row {
                    applying.arriving.withhold(&row.path, &row.entry);
                }
                let reason = "its directory was removed here before it arrived; neither pulled nor deleted";
                event(applying.monitor, told, Action::Skip, reason);
                return Ok(());
            }
            Applied::Installed(_) | Applied::Made | Applied::Removed => {}
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
        if let Some(copy) = &told.copy {
            report.added += 1;
            tell_copy(applying.monitor, &told.path, copy, told.size);
        }
        match outcome {
            Applied::Made => self.set(applying, told, None),
            Applied::Removed => {
                self.note(applying, ArrivalRow { path: told.path.clone(), change: Change::Unset })
            }
            _ => Ok(()),
        }
    }

    /// Counts and reports the result for an archive.
    pub(super) fn close_archive(&mut self, applying: &Applying<'_>, archive: &PulledArchive, fate: Fate) {
        let row = &archive.row;
        self.times.ended(&row.path, false, matches!(fate, Fate::Out(_)));
        let (message, hint) = match fate {
            Fate::NoArchive => return,
            Fate::Stopped => {
                self.stopped = true;
                return;
            }
            Fate::Left => {
                self.agrees = false;
                return;
            }
            Fate::Out(out) => {
                self.agrees = false;
                return self.close_extracted(applying, &row.path, *out);
            }
            Fate::Later => {
                ("something else appeared where it was to be extracted".to_owned(), RETRY.to_owned())
            }
            Fate::Failed(trouble) => {
                let hint = trouble.hint_or(RETRY);
                (trouble.message, hint)
            }
            Fate::Refused(message) => {
                let hint = "it is left as it is; remove it, or leave it out by extractPolicy.paths";
                (message, hint.to_owned())
            }
        };
        self.agrees = false;
        self.report.failed += 1;
        applying.monitor.problem(&PathProblem { path: row.path.clone(), message, hint });
    }

    /// Counts and reports the result of an extraction.
    fn close_extracted(&mut self, applying: &Applying<'_>, archive: &TreePath, out: Out) {
        let Out { into, extracted, left_out, stays } = out;
        let (report, monitor) = (&mut self.report, applying.monitor);
        report.extracted += u64::from(extracted.members > 0 || extracted.left_out_total == 0);
        let members = count(extracted.members, "member");
        let place = if into.is_root() { "the mount".to_owned() } else { format!("`{into}`") };
        monitor.path(&PathEvent {
            path: archive,
            action: Action::Extract,
            side: Side::Local,
            reason: &format!("{members} into {place}"),
            size: extracted.bytes,
        });
        for warning in &extracted.warnings {
            monitor.warning(&format!("`{archive}`: {warning}"));
        }
        if extracted.left_out_total > 0 {
            let first = extracted.left_out.first().map(|p| format!(", such as `{p}`")).unwrap_or_default();
            monitor.warning(&format!(
                "`{archive}` stays: {} of its members take no part here{first}",
                extracted.left_out_total
            ));
        }
        if let Some(why) = stays {
            report.failed += 1;
            let hint = why.hint_or(RETRY);
            monitor.problem(&PathProblem { path: archive.clone(), message: why.message, hint });
        }
        report.failed += left_out.total;
        for path in left_out.named {
            monitor.problem(&PathProblem {
                message: format!("`{archive}` has something else at this path; it is left as it is"),
                hint: format!("look into `{archive}`, which stays"),
                path,
            });
        }
    }

    /// Notes the base's row of a path, with the fingerprint of the file.
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

    /// Notes a directory that could not be removed. It needs a row, so that it counts as deleted in the
    /// context.
    pub(super) fn keep_dir(
        &mut self,
        applying: &Applying<'_>,
        path: &TreePath,
        mode: u16,
    ) -> Result<(), Error> {
        let row = BaseRow::new(path.clone(), Entry { mode, ..Entry::IMPLIED_DIR }, None);
        self.agrees = false;
        self.note(applying, ArrivalRow { path: path.clone(), change: Change::Set(row) })
    }

    /// Counts a path that has no step.
    pub(super) fn note_failed(&mut self) {
        self.report.failed += 1;
    }

    fn note(&mut self, applying: &Applying<'_>, row: ArrivalRow) -> Result<(), Error> {
        self.rows.push(row);
        if self.rows.len() < ROWS { Ok(()) } else { self.flush(applying) }
    }

    /// Writes the noted rows to the journal.
    pub(crate) fn flush(&mut self, applying: &Applying<'_>) -> Result<(), Error> {
        let noted = applying.arriving.note(std::mem::take(&mut self.rows));
        noted.map_err(|e: io::Error| Error::local("note what arrived in", "the local state", e))
    }
}

/// Whether something is at this path in the mount that no push sends: it is out of scope, or a directory in which
/// everything is.
fn is_left_out(applying: &Applying<'_>, path: &TreePath) -> bool {
    let Applying { dir, filter, .. } = applying;
    let Some(stat) = dir.stat(path).ok().flatten() else { return false };
    match FileType::from_raw_mode(stat.st_mode).is_dir() {
        true => !filter.in_scope(path, true) || has_nothing_in_scope(dir, filter, path).unwrap_or(false),
        false => !filter.in_scope(path, false),
    }
}

/// Whether a directory is not empty, and all that is in it is out of scope.
fn has_nothing_in_scope(dir: &MountDir, filter: &Filter, path: &TreePath) -> io::Result<bool> {
    let mut open = vec![path.clone()];
    while let Some(path) = open.pop() {
        let names = names(&dir.dir(&path)?)?;
        if names.is_empty() {
            return Ok(false);
        }
        for name in &names {
            let path = path.join(name).map_err(io::Error::other)?;
            let Some(stat) = dir.stat(&path)? else { continue };
            match FileType::from_raw_mode(stat.st_mode).is_dir() {
                true if filter.may_hold(&path) => open.push(path),
                false if filter.in_scope(&path, false) => return Ok(false),
                _ => {}
            }
        }
    }
    Ok(true)
}

/// Whether it is a directory that is pulled, or gets another mode.
fn concerns_dir(told: &Told) -> bool {
    told.action != Action::Delete && told.row.as_ref().is_some_and(|row| row.entry.is_dir())
}

/// Returns what to report and note of a step that has an outcome.
pub(crate) fn told(step: &PlanStep, filter: &Filter) -> Told {
    let there = step.remote.as_ref().map(|r| &r.0.entry);
    let Effect { action, base, .. } = effect(step, Towards::Mount, 0);
    Told {
        path: step.path.clone(),
        action,
        reason: step.decision.reason,
        size: there.or(step.base.as_ref().map(|b| &b.entry)).map_or(0, Entry::size),
        row: base.flatten().map(|row| BaseRow { archive: archive_after(step, &row.entry, filter), ..row }),
        copy: None,
    }
}

/// Returns the base's new row if the context has begun or ceased to say that an archive was extracted.
fn remarked(step: &PlanStep) -> Option<BaseRow> {
    let (base, there) = (step.base.as_ref()?, step.remote.as_ref()?);
    let archive = match &base.archive {
        _ if has_lost_mark(step) => Archive::No,
        known if known.is_extracted() && !known.is_marked() && there.0.extracted => {
            known.clone().into_marked()
        }
        _ => return None,
    };
    Some(BaseRow { archive, ..base.clone() })
}

/// Returns what is to be done with an archive that a step pulls.
fn archive_after(step: &PlanStep, entry: &Entry, filter: &Filter) -> Archive {
    if step.decision.verdict != Verdict::Write || !matches!(entry.node, Node::File { .. }) {
        return Archive::No;
    }
    match archive_of(step, entry) {
        known @ Archive::Extracted { .. } => known,
        _ if was_extracted(step) => Archive::Extracted { at: None, drop: false, marked: true, scope: None },
        // Only the mode changes.
        known if has_same_content(step) => known,
        _ if filter.extracts(&step.path) => Archive::Pending,
        _ => Archive::No,
    }
}

/// Returns an archive that an earlier pull fetched but did not extract or remove.
pub(super) fn unfinished(step: &PlanStep, filter: &Filter) -> Option<PulledArchive> {
    let base = step.base.as_ref()?;
    let is_due = match &base.archive {
        Archive::Pending => !step.remote.as_ref()?.0.extracted,
        Archive::Extracted { drop, .. } => *drop,
        Archive::No => false,
    };
    let is_done = !is_due || has_lost_mark(step);
    if is_done || step.decision.reason != Reason::Unchanged || !filter.extracts(&step.path) {
        return None;
    }
    let print = match &step.local {
        None => base.print?,
        Some(row) => match &row.state {
            DeltaState::Present { seen, .. } => (*seen)?,
            _ => return None,
        },
    };
    Some(PulledArchive { row: base.clone(), print })
}

/// Reports and counts a step that is planned but not carried out.
pub(super) fn tell_planned(step: &PlanStep, filter: &Filter, monitor: &dyn Monitor, report: &mut SyncReport) {
    tell(step, filter, monitor, report);
    match step.decision.verdict {
        Verdict::Write if stands(step) => report.changed += 1,
        Verdict::Write => report.added += 1,
        Verdict::Delete => report.deleted += 1,
        _ => {}
    }
    let told = told(step, filter);
    if told.row.as_ref().is_some_and(|row| row.archive == Archive::Pending)
        || unfinished(step, filter).is_some()
    {
        report.extracted += 1;
        event(monitor, &told, Action::Extract, "its name is an archive's; extracted if its content is");
    }
}

/// Reports a step, and counts it unless it is a change.
fn tell(step: &PlanStep, filter: &Filter, monitor: &dyn Monitor, report: &mut SyncReport) {
    match step.decision.verdict {
        Verdict::Nothing => return,
        Verdict::HoldBack => report.held_back += 1,
        Verdict::KeepBoth | Verdict::Stop => report.conflicts += 1,
        Verdict::Withhold if step.decision.reason == Reason::Recycled => report.withheld += 1,
        Verdict::Withhold if step.decision.reason == Reason::NeedsDeletion => {
            report.failed += 1;
            monitor.problem(&PathProblem {
                path: step.path.clone(),
                message: step.decision.reason.to_string(),
                hint: "allow the deletion, or move the path that is in the way".to_owned(),
            });
        }
        _ => {}
    }
    if tell_if_in_the_way(step, monitor) {
        report.failed += 1;
    } else if special_of(step).is_some() {
        // Nothing is to be pulled there.
        return;
    }
    if is_worth_telling(step.decision.reason) {
        let told = told(step, filter);
        event(monitor, &told, told.action, &told.reason.to_string());
    }
}

fn event(monitor: &dyn Monitor, told: &Told, action: Action, reason: &str) {
    monitor.path(&PathEvent { path: &told.path, action, side: Side::Local, reason, size: told.size });
}

/// Reports that the context's version of `of` is kept as a conflict copy.
pub(crate) fn tell_copy(monitor: &dyn Monitor, of: &TreePath, copy: &TreePath, size: u64) {
    let reason = copy_reason(of);
    monitor.path(&PathEvent { path: copy, action: Action::Add, side: Side::Local, reason: &reason, size });
}

/// Whether a step's reason is of interest to a person.
fn is_worth_telling(reason: Reason) -> bool {
    !matches!(reason, Reason::Unchanged | Reason::SameChange | Reason::DeletedOnBoth)
}
