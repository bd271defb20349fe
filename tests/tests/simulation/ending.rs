//! How syncs end, and what their reports say.

use ctxsync_tests::machine::Ended;
use ctxsync_tests::random::Random;
use transfer_engine::{Error, SyncReport};

use crate::coverage::{met, shape};
use crate::disk::Disk;
use crate::run::Run;
use crate::schedule::{Deed, Step, What};

impl Run {
    /// Describes how a sync ended. It must have succeeded unless something may go wrong.
    pub(crate) async fn told(
        &mut self,
        step: &Step,
        who: usize,
        ended: Option<Ended>,
        disk: &Disk,
    ) -> String {
        self.players[who].is_unflushed &= !disk.has_flushed();
        if let Some((durable, since)) = disk.durable() {
            let player = &mut self.players[who];
            if disk.has_flushed() || since.is_some() {
                player.since = since;
            }
            player.durable = durable;
        }
        if ended.as_ref().is_some_and(|ended| ended.warned("nothing is deleted")) {
            // The mount counts as new.
            self.forget_extracted(who);
        }
        self.note_extracted(who, ended.as_ref()).await;
        let Some(ended) = ended else {
            met("machine gone in the middle of a sync");
            self.players[who].is_cut_short = true;
            if step.files.iter().any(|trouble| trouble.what == What::PowerLoss) {
                self.lose_power(who, &mut Random::new(step.seed)).await;
            }
            self.clock.observe(&self.mount(who));
            return "is gone".to_owned();
        };
        let may_fail =
            step.is_troubled() || matches!(step.deed, Deed::Meanwhile(_) | Deed::Oversleep | Deed::Damage);
        for said in ended.noted.warnings.iter().chain(&ended.noted.problems) {
            self.trace.note(|| format!("    {said}"));
        }
        for warning in &ended.noted.warnings {
            // What follows is the cause.
            met(format!("warning: {}", shape(warning.split(": ").next().unwrap_or_default())));
        }
        match &ended.result {
            Ok(report) => {
                // What is done in the store alone has no phases.
                if !ended.noted.phases.is_empty() {
                    self.note_written_over(who);
                    (self.players[who].taken, self.players[who].is_cut_short) = (None, false);
                }
                // A guard that holds a deletion back also keeps what needs its place.
                let is_guarded = |problem: &String| problem.contains("whose deletion is held back");
                let player = &self.players[who];
                let well = ended.noted.problems.iter().all(|p| is_guarded(p) || player.is_of_archive(p));
                assert!(may_fail || report.failed == 0 || well, "m{who}: {:?}", ended.noted);
                note_report(report);
                figures(report)
            }
            Err(e) => {
                let source = if let Error::Shared(source) = e { source } else { e };
                let may_fail = may_fail
                    || match source {
                        Error::NoContext { .. }
                        | Error::NoSnapshot { .. }
                        | Error::NoPath { .. }
                        | Error::IsDirectory { .. }
                        | Error::NotADirectory { .. }
                        | Error::ContextExists { .. }
                        | Error::Unrelated { .. } => true,
                        // The deadline of a release.
                        Error::OutOfTime { .. } | Error::CommitUnknown { .. } => {
                            matches!(step.deed, Deed::Session(_))
                        }
                        Error::ClockSkew { .. } => self.players[who].ahead > 0,
                        Error::Corrupt { what, .. } => {
                            step.looks_back() && what.starts_with("it landed too late")
                        }
                        _ => false,
                    };
                assert!(may_fail, "m{who}: {e:?}");
                e.to_string()
            }
        }
    }
}

pub(crate) fn figures(report: &SyncReport) -> String {
    format!(
        "snapshot {:?}, {} added, {} changed, {} deleted, {} conflicts, {} held, {} failed",
        report.snapshot,
        report.added,
        report.changed,
        report.deleted,
        report.conflicts,
        report.held_back,
        report.failed
    )
}

/// Counts what a report says of the ways in which a sync may end.
fn note_report(report: &SyncReport) {
    let counted = [
        ("conflict", report.conflicts),
        ("deletion held back", report.held_back),
        ("deletion in doubt", report.in_doubt),
        ("path that could not be synced", report.failed),
        ("path left to the next pull", report.pending),
        ("path at which something else appeared", report.unsettled),
        ("mount that never came to rest", u64::from(report.mount_unsettled)),
        ("lost pack noticed", report.lost_packs),
        ("archive extracted", report.extracted),
        ("file recycled", report.recycled),
        ("file withheld that was recycled", report.withheld),
    ];
    for (what, count) in counted {
        if count > 0 {
            met(format!("report: {what}"));
        }
    }
}
