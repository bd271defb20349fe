//! `log`: a context's snapshots.

use transfer_engine::format::Snapshot;
use transfer_engine::{LogOptions, TagName};

use super::Finished;
use super::context::tag_list;
use crate::args::LogArgs;
use crate::errors::Failure;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Ui;
use crate::output::json::{Line, SnapshotLine};
use crate::place::tree_paths;
use crate::text;

pub(super) async fn log(args: &LogArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let tags = store.tags(&args.name).await?;
    let options = LogOptions { limit: args.limit, paths: tree_paths(&args.paths)? };
    let shown = store.log_with(&args.name, &options, |snapshot| {
        let tags = tags.get(&snapshot.number).map_or(&[][..], Vec::as_slice);
        show(args, means.ui, &snapshot, tags);
    });
    if shown.await? == 0 && !options.paths.is_empty() && args.limit != Some(0) {
        let paths: Vec<_> = options.paths.iter().map(|path| format!("`{path}`")).collect();
        means.ui.note(&format!("no snapshot of {} has {}", args.name, paths.join(" or ")));
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
