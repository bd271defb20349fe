//! `rm`, `context clear`, `context rename`: change a context without a mount.

use policy_core::TreePath;
use transfer_engine::{At, ContextName, ContextService, Store, SyncReport};

use super::Finished;
use crate::args::{ClearArgs, RenameArgs, RmArgs};
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::place::PathAt;
use crate::text;

/// Returns the context service, with the limits from the settings.
pub(super) fn service(store: &Store, means: Means<'_>) -> Result<ContextService, Failure> {
    let options = means.settings.sync_options()?;
    Ok(ContextService::new(store).with_limits(options.concurrency, options.memory))
}

/// Returns the context of all these places, and their paths.
pub(super) fn one_context(places: &[PathAt]) -> Result<(&ContextName, Vec<TreePath>), Failure> {
    let mut context: Option<&ContextName> = None;
    let mut paths: Vec<TreePath> = Vec::with_capacity(places.len());
    for place in places {
        if place.context.at != At::Head {
            return Err(Failure::usage(format!("{} is history, which stays as it is", place.context)).hint(
                "older snapshots keep the removed files; `ctxsync purge NAME:PATH` takes a path out of all of them",
            ));
        }
        let name = &place.context.name;
        if place.path.is_root() {
            return Err(Failure::usage(format!("what of {name}?")).hint(format!(
                "`ctxsync rm {name}:PATH` removes a file, `ctxsync context clear {name}` everything"
            )));
        }
        if context.is_some_and(|context| context != name) {
            return Err(Failure::usage("these are of several contexts")
                .hint("a removal is one snapshot of one context: call it once for each"));
        }
        context = Some(name);
        paths.push(place.path.clone());
    }
    Ok((context.ok_or_else(|| Failure::usage("no file was given"))?, paths))
}

pub(super) async fn rm(args: &RmArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let (context, paths) = one_context(&args.places)?;
    let store = open_store(means, false)?.store;
    let report = service(&store, means)?.delete_files(context, &paths, args.recursive).await?;
    if !means.ui.is_json() {
        means.ui.line(&told("removed", "from", context, &report));
    }
    Ok(outcome(context, report))
}

pub(super) async fn clear(args: &ClearArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let name = &args.name;
    let store = open_store(means, false)?.store;
    // Check that the context exists before asking for confirmation.
    let head = store.head(name).await?;
    if !args.yes {
        let files = text::count(head.totals.files, "file");
        match means.ui.confirm(&format!("remove all {files} of context {name}, in a new snapshot?")) {
            Some(true) => {}
            Some(false) => return Err(Failure::new(Exit::FAILED, "nothing was removed")),
            None => {
                return Err(Failure::usage(format!("context {name} is cleared only by consent"))
                    .hint("there is no terminal to confirm on; pass --yes"));
            }
        }
    }
    let report = service(&store, means)?.clear(name).await?;
    if !means.ui.is_json() {
        means.ui.line(&told("cleared", "of", name, &report));
    }
    Ok(outcome(name, report))
}

pub(super) async fn rename(args: &RenameArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let head = store.rename_context(&args.name, &args.new_name).await?;
    if !means.ui.is_json() {
        means.ui.line(&format!("renamed context {} to {}", args.name, args.new_name));
    }
    let report = SyncReport { snapshot: Some(head.number), ..SyncReport::default() };
    Ok(outcome(&args.new_name, report))
}

fn told(done: &str, of: &str, context: &ContextName, report: &SyncReport) -> String {
    let number = report.snapshot.unwrap_or(0);
    if report.parent.is_none() {
        return format!("nothing to remove: snapshot {number} of {context} is empty");
    }
    let entries = match report.deleted {
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    };
    format!("{done} {entries} {of} {context}, in snapshot {number}")
}

fn outcome(context: &ContextName, report: SyncReport) -> Finished {
    Finished { report: Some(report), ..Finished::of_context(context) }
}
