//! `restore`: write a snapshot's files into a directory.

use std::sync::Arc;

use transfer_engine::format::Snapshot;
use transfer_engine::{ContextName, Monitor, Store, SyncReport};

use super::Finished;
use super::odd_place::warn_of_mount;
use super::sync::absolute;
use crate::args::RestoreArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Watch;
use crate::output::summary::Deed;
use crate::place::{ContextAt, tree_paths};

pub(super) async fn restore(args: &RestoreArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let Some(dir) = &args.dir else { return Err(Failure::usage("where are the files to be restored?")) };
    let paths = tree_paths(&args.paths)?;
    let store = open_store(means, false)?.store;
    let options = settings.sync_options()?;
    let watch = Watch::new(ui, options.dry_run);
    let snapshot = find(&args.context, &store, &watch).await?;
    warn_of_mount(dir, means);
    let report = store.restore(&snapshot, &absolute(dir)?, &paths, &options, &watch).await?;
    Ok(finished(report, options.dry_run, &args.context.name))
}

/// Finds the snapshot to restore, and warns if its files may not fit together.
pub(super) async fn find(
    context: &ContextAt,
    store: &Store,
    monitor: &dyn Monitor,
) -> Result<Arc<Snapshot>, Failure> {
    let snapshot = store.snapshot(&context.name, context.at.clone()).await?;
    if snapshot.is_unsettled() {
        monitor.warning(&format!(
            "snapshot {} is unsettled: its files were changing while they were read, and may not fit together",
            snapshot.number
        ));
    }
    Ok(snapshot)
}

pub(super) fn finished(report: SyncReport, dry_run: bool, name: &ContextName) -> Finished {
    Finished {
        exit: Exit::of(&report),
        report: Some(report),
        deed: Some(Deed::Restore),
        dry_run,
        ..Finished::of_context(name)
    }
}
