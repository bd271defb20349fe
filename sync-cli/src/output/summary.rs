//! The result of a command: the last line for people, the last object for programs.

use std::time::Duration;

use policy_core::Timestamp;
use serde::Serialize;
use transfer_engine::SyncReport;

use crate::exit::Exit;
use crate::text;

/// The last object of `--json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) command: String,
    pub(crate) context: Option<String>,
    pub(crate) snapshot: Option<u64>,
    pub(crate) parent: Option<u64>,
    /// Whether the context is new.
    pub(crate) created: bool,
    pub(crate) added: u64,
    pub(crate) changed: u64,
    pub(crate) deleted: u64,
    pub(crate) unchanged: u64,
    pub(crate) extracted: u64,
    pub(crate) conflicts: u64,
    pub(crate) failed: u64,
    pub(crate) pending: u64,
    pub(crate) held_back: u64,
    /// Paths on file systems that are not mounted now.
    pub(crate) unmounted: u64,
    /// Local files that the context has recycled.
    pub(crate) withheld: u64,
    /// Files that left the context because of their age.
    pub(crate) recycled: u64,
    /// When the next file expires.
    pub(crate) next_expiry: Option<String>,
    pub(crate) total_bytes: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_stored: u64,
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) partial: bool,
    /// Whether `--quiesce` or `--resume` failed, and the mount was read nevertheless.
    pub(crate) quiesce_failed: bool,
    /// Whether the mount kept changing while it was read.
    pub(crate) unsettled: bool,
    pub(crate) dry_run: bool,
    pub(crate) exit_code: u8,
    /// The additional fields of `gc`.
    #[serde(flatten)]
    pub(crate) collected: Option<Collected>,
    /// What `check` adds.
    #[serde(flatten)]
    pub(crate) checked: Option<Checked>,
    /// What `repair` adds.
    #[serde(flatten)]
    pub(crate) repaired: Option<Mended>,
    /// What `copy` adds.
    #[serde(flatten)]
    pub(crate) copied: Option<Copied>,
    /// What `diff` adds.
    #[serde(flatten)]
    pub(crate) compared: Option<Compared>,
}

/// The further figures of a comparison.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Compared {
    pub(crate) renamed: u64,
    pub(crate) bytes_added: u64,
    pub(crate) bytes_deleted: u64,
}

/// The result of a repair.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Mended {
    pub(crate) contexts_repaired: u64,
    pub(crate) contexts_beyond_repair: u64,
    pub(crate) contexts_failed: u64,
    pub(crate) files_healed: u64,
    pub(crate) files_left_out: u64,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Checked {
    pub(crate) contexts: u64,
    pub(crate) contexts_damaged: u64,
    pub(crate) snapshots: u64,
    pub(crate) snapshots_damaged: u64,
    pub(crate) files_damaged: u64,
    pub(crate) packs: u64,
    pub(crate) packs_bytes: u64,
    pub(crate) packs_damaged: u64,
    pub(crate) packs_unused: u64,
}

/// The figures of a copy to another store.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Copied {
    pub(crate) contexts: u64,
    pub(crate) contexts_copied: u64,
    pub(crate) contexts_failed: u64,
    pub(crate) snapshots: u64,
    pub(crate) snapshots_failed: u64,
    pub(crate) tags: u64,
    pub(crate) tags_failed: u64,
    pub(crate) packs: u64,
    pub(crate) bytes_copied: u64,
}

/// The result of a collection.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Collected {
    pub(crate) contexts: u64,
    pub(crate) snapshots: u64,
    pub(crate) forgotten: u64,
    pub(crate) files_recycled: u64,
    pub(crate) bytes_recycled: u64,
    pub(crate) packs_gathered: u64,
    pub(crate) bytes_gathered: u64,
    pub(crate) erased: u64,
    pub(crate) freed: u64,
    pub(crate) unreadable: u64,
    pub(crate) packs_kept: u64,
    pub(crate) bytes_kept: u64,
    pub(crate) packs_waiting: u64,
    pub(crate) bytes_waiting: u64,
    pub(crate) packs_lost: u64,
    pub(crate) packs_deleted: u64,
    pub(crate) bytes_deleted: u64,
    pub(crate) leftovers_deleted: u64,
}

impl Summary {
    pub(crate) fn new(
        command: &str,
        context: Option<String>,
        report: &SyncReport,
        dry_run: bool,
        took: Duration,
        exit: Exit,
    ) -> Self {
        Self {
            command: command.to_owned(),
            context,
            // The plan of a first snapshot has no number yet.
            snapshot: report.snapshot.filter(|number| *number > 0),
            parent: report.parent,
            created: report.created,
            added: report.added,
            changed: report.changed,
            deleted: report.deleted,
            unchanged: report.unchanged,
            extracted: report.extracted,
            conflicts: report.conflicts,
            failed: report.failed,
            pending: report.pending,
            held_back: report.held_back,
            unmounted: report.unmounted,
            withheld: report.withheld,
            recycled: report.recycled,
            next_expiry: report.next_expiry.map(|secs| text::time(Timestamp { secs, nanos: 0 })),
            total_bytes: report.total_bytes,
            bytes_read: report.bytes_read,
            bytes_sent: report.bytes_sent,
            bytes_received: report.bytes_received,
            bytes_stored: report.bytes_stored,
            requests: report.requests,
            // Milliseconds are precise enough.
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            partial: report.partial,
            quiesce_failed: report.quiesce_failed,
            unsettled: report.mount_unsettled,
            dry_run,
            exit_code: exit.0,
            collected: None,
            checked: None,
            repaired: None,
            copied: None,
            compared: None,
        }
    }
}

/// What was done; decides the verb of the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Push,
    Pull,
    Sync,
    Restore,
    Fetch,
}

impl Deed {
    fn base(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Sync => "sync",
            Self::Restore => "restore",
            Self::Fetch => "fetch",
        }
    }

    fn past(self) -> &'static str {
        match self {
            Self::Push => "pushed",
            Self::Pull => "pulled",
            Self::Sync => "synced",
            Self::Restore => "restored",
            Self::Fetch => "fetched",
        }
    }
}

/// Returns the one line that says what a sync did. If it would be longer than `columns`, it leaves out what is zero.
pub(crate) fn sentence(
    deed: Deed,
    report: &SyncReport,
    dry_run: bool,
    took: Duration,
    columns: Option<usize>,
) -> String {
    let line = sentence_with(deed, report, dry_run, took, true);
    match columns {
        Some(columns) if line.len() > columns => sentence_with(deed, report, dry_run, took, false),
        _ => line,
    }
}

fn sentence_with(deed: Deed, report: &SyncReport, dry_run: bool, took: Duration, with_zeros: bool) -> String {
    let snapshot = report.snapshot.map_or_else(|| "an empty context".to_owned(), |n| format!("snapshot {n}"));
    let counts = [(report.added, "added"), (report.changed, "changed"), (report.deleted, "deleted")];
    let is_shown = |count: u64| with_zeros || count > 0 || counts.iter().all(|(count, _)| *count == 0);
    let shown = counts.iter().filter(|(count, _)| is_shown(*count));
    let mut counts = shown.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ");
    if report.extracted > 0 {
        counts.push_str(&format!(", {} extracted", report.extracted));
    }
    let done = report.added + report.changed + report.deleted + report.extracted + report.recycled;
    let nothing = done == 0 && report.parent.is_none();
    let mut line = if report.stopped_by_conflict {
        format!("stopped by a conflict, nothing was {}", deed.past())
    } else if dry_run {
        format!("would {}: {counts}", deed.base())
    } else if nothing {
        format!("nothing to {}: {snapshot} is up to date", deed.base())
    } else {
        format!("{} {snapshot}: {counts}", deed.past())
    };
    let others = [
        (report.recycled, "recycled"),
        (report.withheld, "recycled or lost before and kept here"),
        (report.conflicts, "in conflict"),
        (report.failed, "failed"),
        (report.unsettled, "to be resolved by the next push"),
        (report.held_back, "not deleted (held back)"),
        (report.unmounted, "not there (file system not mounted)"),
        (report.pending, "pending"),
    ];
    for (n, what) in others.into_iter().filter(|(n, _)| *n > 0) {
        line.push_str(&format!(", {n} {what}"));
    }
    if report.partial {
        line.push_str(", partial");
    }
    if report.quiesce_failed {
        line.push_str(", not quiesced or not resumed");
    }
    if report.mount_unsettled {
        line.push_str(", unsettled");
    }
    if let Some(secs) = report.next_expiry.filter(|_| dry_run) {
        line.push_str(&format!("; the next file expires at {}", text::moment(Timestamp { secs, nanos: 0 })));
    }
    if !dry_run && !nothing && !report.stopped_by_conflict {
        let (sent, received) = (text::bytes(report.bytes_sent), text::bytes(report.bytes_received));
        let total = text::bytes(report.total_bytes);
        line.push_str(&match deed {
            Deed::Push => format!("; {sent} sent of {total}"),
            Deed::Pull | Deed::Restore | Deed::Fetch => format!("; {received} received of {total}"),
            Deed::Sync => format!("; {sent} sent and {received} received of {total}"),
        });
    }
    line.push_str(&format!("; {}", text::span(took)));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> SyncReport {
        SyncReport {
            snapshot: Some(42),
            parent: Some(41),
            added: 12,
            changed: 3,
            deleted: 1,
            bytes_sent: 1_258_291,
            bytes_received: 2_048,
            total_bytes: 310 << 20,
            ..SyncReport::default()
        }
    }

    const TOOK: Duration = Duration::from_millis(800);

    #[test]
    fn every_deed_has_its_sentence() {
        let line = |deed| sentence(deed, &report(), false, TOOK, None);
        insta::assert_snapshot!([Deed::Push, Deed::Pull, Deed::Sync, Deed::Restore].map(line).join("\n"), @"
        pushed snapshot 42: 12 added, 3 changed, 1 deleted; 1.2 MiB sent of 310 MiB; 0.8 s
        pulled snapshot 42: 12 added, 3 changed, 1 deleted; 2.0 KiB received of 310 MiB; 0.8 s
        synced snapshot 42: 12 added, 3 changed, 1 deleted; 1.2 MiB sent and 2.0 KiB received of 310 MiB; 0.8 s
        restored snapshot 42: 12 added, 3 changed, 1 deleted; 2.0 KiB received of 310 MiB; 0.8 s
        ");
    }

    #[test]
    fn a_line_that_does_not_fit_leaves_out_what_is_zero() {
        let line = |added, columns| {
            let report = SyncReport { added, changed: 0, deleted: 0, ..report() };
            sentence(Deed::Push, &report, false, TOOK, columns)
        };
        assert!(line(1224, Some(80)).starts_with("pushed snapshot 42: 1224 added; 1.2 MiB sent"));
        assert_eq!(line(0, Some(40)), line(0, None));
        assert_eq!(line(1224, Some(200)), line(1224, None));
    }

    #[test]
    fn other_ends() {
        let nothing = SyncReport { snapshot: Some(7), unchanged: 3, ..SyncReport::default() };
        let aged = SyncReport {
            snapshot: Some(9),
            recycled: 2,
            withheld: 1,
            next_expiry: Some(1_700_000_000),
            ..SyncReport::default()
        };
        let trouble =
            SyncReport { conflicts: 2, failed: 3, held_back: 4, pending: 5, partial: true, ..report() };
        let stopped = SyncReport { stopped_by_conflict: true, conflicts: 1, ..SyncReport::default() };
        let lines = [
            sentence(Deed::Push, &nothing, false, TOOK, None),
            sentence(Deed::Pull, &SyncReport::default(), false, TOOK, None),
            sentence(Deed::Push, &report(), true, TOOK, None),
            sentence(Deed::Push, &trouble, false, TOOK, None),
            sentence(Deed::Sync, &stopped, false, TOOK, None),
            sentence(Deed::Push, &aged, false, TOOK, None),
            sentence(Deed::Push, &aged, true, TOOK, None),
        ];
        insta::assert_snapshot!(lines.join("\n"), @"
        nothing to push: snapshot 7 is up to date; 0.8 s
        nothing to pull: an empty context is up to date; 0.8 s
        would push: 12 added, 3 changed, 1 deleted; 0.8 s
        pushed snapshot 42: 12 added, 3 changed, 1 deleted, 2 in conflict, 3 failed, 4 not deleted (held back), 5 pending, partial; 1.2 MiB sent of 310 MiB; 0.8 s
        stopped by a conflict, nothing was synced, 1 in conflict; 0.8 s
        pushed snapshot 9: 0 added, 0 changed, 0 deleted, 2 recycled, 1 recycled or lost before and kept here; 0 B sent of 0 B; 0.8 s
        would push: 0 added, 0 changed, 0 deleted, 2 recycled, 1 recycled or lost before and kept here; the next file expires at 2023-11-14T22:13:20Z; 0.8 s
        ");
    }
}
