//! Hints for results that need attention.

use transfer_engine::SyncReport;

use super::Ui;

/// Prints a hint for each part of the result that needs attention.
pub(crate) fn advise(ui: &Ui, report: &SyncReport) {
    if report.nothing_in_scope {
        ui.hint("no white list matches any file here; `ctxsync explain` shows how its paths are read");
    }
    // A partial snapshot has no deletions; the next push commits them.
    if report.held_back > report.in_doubt && !report.partial {
        let guards = ui.known().guards();
        let all = "--allow-empty-mount";
        let by = match (guards.lost_mount, guards.too_many) {
            (true, Some(many)) => format!("{all} and --max-delete {many}"),
            (false, Some(many)) => format!("--max-delete {many}"),
            // If the deletions were already held back by an earlier push, that push's guard still applies.
            (_, None) => all.to_owned(),
        };
        ui.hint(&format!("if the deletions are intended, pass {by}"));
    }
    if report.unmounted > 0 {
        ui.hint(
            "mount the file system again; if its files are meant to be deleted, pass --allow-empty-mount",
        );
    }
    if report.conflicts > 0 && !report.stopped_by_conflict {
        ui.hint("the other version of each path in conflict is beside it, as NAME.conflict-DIGEST.EXT");
    }
}
