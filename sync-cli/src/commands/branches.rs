//! `context fork`, `context merge` and `context revert`, and the fork with which a session begins.

use std::os::unix::ffi::OsStrExt;

use policy_core::{ConflictPolicy, TreePath};
use transfer_engine::format::LineageId;
use transfer_engine::{At, Context, ContextName, Error, MergeOptions, Store, SyncReport};

use super::Finished;
use super::paths::typed_paths;
use crate::args::{ForkArgs, MergeArgs, RevertArgs};
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::json::{ContextLine, Line};
use crate::output::{Ui, Watch};
use crate::place::{ContextAt, tree_path};
use crate::text;

pub(super) async fn fork(args: &ForkArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let head = store.fork_context(&args.from.name, args.from.at.clone(), &args.to).await?;
    if means.ui.is_json() {
        means.ui.object(&Line::Context(ContextLine::of(&Context::from(&*head), Some(&[]))));
    } else {
        let files = text::count(head.totals.files, "file");
        let size = text::bytes(head.totals.bytes);
        let origin = text::forked_from(&head).unwrap_or_else(|| args.from.to_string());
        means.ui.line(&format!("forked {} to {}: {files}, {size}", origin, args.to));
    }
    let report = SyncReport { snapshot: Some(head.number), ..SyncReport::default() };
    Ok(Finished { report: Some(report), ..Finished::of_context(&args.to) })
}

/// Forks a context for a session, where it is missing; returns its lineage, and `None` if another machine has just made
/// it.
pub(super) async fn begin_as(
    store: &Store,
    from: &ContextAt,
    to: &ContextName,
    ui: &Ui,
) -> Result<Option<LineageId>, Failure> {
    match store.fork_context(&from.name, from.at.clone(), to).await {
        Ok(head) => {
            let origin = text::forked_from(&head).unwrap_or_else(|| from.to_string());
            ui.note(&format!("forked {origin} to {to}"));
            Ok(Some(head.lineage))
        }
        Err(Error::ContextExists { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn merge(args: &MergeArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let sync = means.settings.sync_options()?;
    let options = MergeOptions {
        dry_run: sync.dry_run,
        only: only(args, means)?,
        conflict: sync.conflict.unwrap_or(ConflictPolicy::KeepBoth),
        max_delete: sync.max_delete,
        allow_empty: sync.allow_empty_mount,
        unrelated: args.unrelated,
        concurrency: sync.concurrency,
        memory: sync.memory,
        session: sync.session,
    };
    let store = open_store(means, false)?.store;
    let watch = Watch::new(means.ui, options.dry_run);
    let (from, into) = (&args.from, &args.into);
    let report = store.merge_context(&from.name, from.at.clone(), into, &options, &watch).await?;
    if !means.ui.is_json() {
        let (counts, number) = (counts(&report), report.snapshot.unwrap_or_default());
        let line = match report.parent {
            _ if report.stopped_by_conflict => format!("stopped by a conflict, nothing was merged: {counts}"),
            _ if options.dry_run => format!("would merge {from} into {into}: {counts}"),
            Some(_) => format!("merged {from} into {into} in snapshot {number}: {counts}"),
            None if report.conflicts + report.failed + report.held_back > 0 => {
                format!("merged nothing of {from} into {into}: {counts}")
            }
            None if !args.only.is_empty() => {
                format!("nothing to merge: snapshot {number} of {into} has all of {from} at these paths")
            }
            None => format!("nothing to merge: snapshot {number} of {into} has everything of {from}"),
        };
        means.ui.line(&line);
    }
    Ok(Finished {
        exit: Exit::of(&report),
        report: Some(report),
        dry_run: options.dry_run,
        ..Finished::of_context(into)
    })
}

/// Returns the paths to which `--only` restricts a merge.
fn only(args: &MergeArgs, means: Means<'_>) -> Result<Vec<TreePath>, Failure> {
    let typed = typed_paths("--only", &args.only, &means.settings.only_origin)?;
    typed.into_iter().map(|path| tree_path(path.as_bytes()).map_err(Failure::usage)).collect()
}

/// Returns the figures of a merge or a revert.
fn counts(report: &SyncReport) -> String {
    let mut counts =
        format!("{} added, {} changed, {} deleted", report.added, report.changed, report.deleted);
    for (n, what) in [
        (report.conflicts, "in conflict"),
        (report.failed, "failed"),
        (report.held_back, "not deleted (held back)"),
    ] {
        if n > 0 {
            counts.push_str(&format!(", {n} {what}"));
        }
    }
    counts
}

pub(super) async fn revert(args: &RevertArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let (name, dry_run) = (&args.context.name, means.settings.dry_run.value);
    if args.context.at == At::Head {
        return Err(Failure::usage(format!("to which snapshot of {name}?"))
            .hint(format!("`ctxsync log {name}` lists them; give one as {name}@N")));
    }
    let store = open_store(means, false)?.store;
    let session = means.settings.sync_options()?.session;
    let report = store.revert_context(name, args.context.at.clone(), &session, dry_run).await?;
    if !means.ui.is_json() {
        let counts = counts(&report);
        let number = report.snapshot.unwrap_or_default();
        let line = match (report.parent, dry_run) {
            (_, true) => format!("would revert {name} to {}: {counts}", args.context),
            (Some(_), _) => format!("reverted {name} to {} in snapshot {number}: {counts}", args.context),
            (None, _) => format!("nothing to revert: snapshot {number} of {name} is like {}", args.context),
        };
        means.ui.line(&line);
    }
    Ok(Finished { report: Some(report), dry_run, ..Finished::of_context(name) })
}
