//! Hints for results that need attention.

use transfer_engine::SyncReport;

use super::Ui;
use super::known::named;

/// Prints a hint for each part of the result that needs attention.
pub(crate) fn advise(ui: &Ui, report: &SyncReport) {
    let (conflicts, held_back) = ui.known().take_paths();
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
        let held = (report.held_back - report.in_doubt) as usize;
        ui.hint(&format!("{}if the deletions are intended, pass {by}", label("held back", &held_back, held)));
    }
    if report.unmounted > 0 {
        ui.hint(
            "mount the file system again; if its files are meant to be deleted, pass --allow-empty-mount",
        );
    }
    if report.conflicts > 0 && !report.stopped_by_conflict {
        let which = label("in conflict", &conflicts, report.conflicts as usize);
        ui.hint(&format!("{which}the other version of each is beside it, as NAME.conflict-DIGEST.EXT"));
    }
}

/// Names the first of so many paths before a hint about them.
fn label(what: &str, paths: &[String], all: usize) -> String {
    if paths.is_empty() { String::new() } else { format!("{what}: {}; ", named(paths, all)) }
}
