//! `log`: a context's snapshots.

use transfer_engine::format::{Changes, Snapshot};
use transfer_engine::{ContextName, Error, LogOptions, LogRow, Origins, TagName};

use super::Finished;
use super::context::tag_list;
use crate::args::LogArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Ui;
use crate::output::json::{Line, OriginsFields, SnapshotLine};
use crate::place::tree_paths;
use crate::text;

/// The columns of [`row`].
const HEADER: &str = "snapshot  time                 changes; files and size in all";

pub(super) async fn log(args: &LogArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let tags = store.tags(&args.name).await?;
    let options = LogOptions { limit: args.limit, paths: tree_paths(&args.paths)?, origins: args.graph };
    let mut damaged = 0;
    let shown = store.log_with(&args.name, &options, |row| {
        let (snapshot, origins) = match row {
            LogRow::Snapshot(snapshot, origins) => (snapshot, origins),
            LogRow::Damaged { number, error } => {
                damaged += 1;
                return show_damaged(&args.name, number, &error, means.ui);
            }
        };
        means.ui.header(HEADER);
        let tags = tags.get(&snapshot.number).map_or(&[][..], Vec::as_slice);
        match (means.ui.is_json(), args.graph) {
            (true, _) => show_json(&snapshot, args.graph.then_some(&origins), tags, means.ui),
            (false, true) => show_node(&snapshot, &origins, tags, means.ui),
            (false, false) => show(&snapshot, tags, means.ui),
        }
    });
    let shown = shown.await?;
    if damaged > 0 {
        return Ok(Finished { exit: Exit::INCOMPLETE, ..Finished::of_context(&args.name) });
    }
    if shown == 0 && !options.paths.is_empty() && args.limit != Some(0) {
        let paths: Vec<_> = options.paths.iter().map(|path| format!("`{path}`")).collect();
        means.ui.note(&format!("no snapshot of {} has {}", args.name, paths.join(" or ")));
    }
    Ok(Finished::of_context(&args.name))
}

fn show_damaged(context: &ContextName, number: u64, error: &Error, ui: &Ui) {
    let failure = Failure::new(Exit::INCOMPLETE, format!("{context}@{number} can't be read"));
    ui.failure(&failure.caused_by(error).hint(format!("`ctxsync check {context}` shows what is damaged")));
}

fn show_json(snapshot: &Snapshot, origins: Option<&Origins>, tags: &[TagName], ui: &Ui) {
    let (totals, changes) = (&snapshot.totals, &snapshot.changes);
    ui.object(&Line::Snapshot(SnapshotLine {
        context: snapshot.context.as_str(),
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
        origins: origins.map(|origins| OriginsFields {
            forked_from: origins.forked_from.as_ref().map(text::ancestor),
            merged: origins.merged.iter().map(text::ancestor).collect(),
        }),
    }));
}

fn show(snapshot: &Snapshot, tags: &[TagName], ui: &Ui) {
    ui.line(&row(' ', snapshot, tags, ui.columns()));
}

/// Shows a snapshot as a node of a graph, short enough for a line of a terminal.
fn show_node(snapshot: &Snapshot, origins: &Origins, tags: &[TagName], ui: &Ui) {
    ui.line(&row('*', snapshot, tags, ui.columns()));
    for merged in &origins.merged {
        ui.line(&format!("|\\     merged {}", text::ancestor(merged)));
    }
    if let Some(origin) = &origins.forked_from {
        ui.line(&format!(" \\     forked from {}", text::ancestor(origin)));
    }
}

/// Returns the line of a snapshot. If it would be longer than `columns`, it leaves out the number of files.
fn row(mark: char, snapshot: &Snapshot, tags: &[TagName], columns: Option<usize>) -> String {
    let row = |files: &str| {
        format!(
            "{mark}{:>7}  {}  {}; {files}{}{}",
            snapshot.number,
            text::moment(snapshot.created),
            counts(&snapshot.changes),
            text::bytes(snapshot.totals.bytes),
            marks(snapshot, tags),
        )
    };
    let whole = row(&format!("{}, ", text::count(snapshot.totals.files, "file")));
    if columns.is_some_and(|columns| whole.len() > columns) { row("") } else { whole }
}

/// Returns the changes that there are.
fn counts(changes: &Changes) -> String {
    let Changes { added, changed, deleted } = changes;
    let all = [(added, "added"), (changed, "changed"), (deleted, "deleted")];
    let some: Vec<_> = all.iter().filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if some.is_empty() { "no changes".to_owned() } else { some.join(", ") }
}

/// Returns what is special about a snapshot.
fn marks(snapshot: &Snapshot, tags: &[TagName]) -> String {
    format!(
        "{}{}{}",
        if snapshot.partial { "  partial" } else { "" },
        if snapshot.is_unsettled() { "  unsettled" } else { "" },
        if tags.is_empty() { String::new() } else { format!("  tags: {}", tag_list(tags)) },
    )
}
