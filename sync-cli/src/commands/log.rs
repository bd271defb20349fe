//! `log`: a context's snapshots.

use transfer_engine::TagName;
use transfer_engine::format::Snapshot;

use super::Finished;
use super::context::tag_list;
use crate::args::LogArgs;
use crate::errors::Failure;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Ui;
use crate::output::json::{Line, SnapshotLine};
use crate::text;

pub(super) async fn log(args: &LogArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let tags = store.tags(&args.name).await?;
    let mut history = store.history(&args.name).await?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    // Each snapshot is dropped after it is shown, because all of them together may be large.
    while left > 0
        && let Some(snapshot) = history.next(left).await?
    {
        let tags = tags.get(&snapshot.number).map_or(&[][..], Vec::as_slice);
        show(args, means.ui, &snapshot, tags);
        left -= 1;
    }
    Ok(Finished::of_context(&args.name))
}

fn show(args: &LogArgs, ui: &Ui, snapshot: &Snapshot, tags: &[TagName]) {
    let (totals, changes) = (&snapshot.totals, &snapshot.changes);
    if ui.is_json() {
        ui.object(&Line::Snapshot(SnapshotLine {
            context: args.name.as_str(),
            snapshot: snapshot.number,
            time: text::time(snapshot.created),
            added: changes.added,
            changed: changes.changed,
            deleted: changes.deleted,
            files: totals.files,
            bytes: totals.bytes,
            partial: snapshot.partial,
            unsettled: snapshot.is_unsettled(),
            session: &snapshot.session,
            writer: snapshot.writer(),
            tags,
        }));
        return;
    }
    ui.line(&format!(
        "{:>6}  {:<20}  {:>7} added {:>7} changed {:>7} deleted  {:>14}  {:>8}{}{}{}",
        snapshot.number,
        text::time_to_seconds(snapshot.created),
        changes.added,
        changes.changed,
        changes.deleted,
        text::count(totals.files, "file"),
        text::bytes(totals.bytes),
        if snapshot.partial { "  partial" } else { "" },
        if snapshot.is_unsettled() { "  unsettled" } else { "" },
        if tags.is_empty() { String::new() } else { format!("  tags: {}", tag_list(tags)) },
    ));
}
