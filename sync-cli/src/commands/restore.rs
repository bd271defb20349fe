//! `restore`: write a snapshot's files into a directory.

use std::os::unix::ffi::OsStrExt;

use transfer_engine::Monitor;

use super::Finished;
use super::sync::absolute;
use crate::args::RestoreArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Watch;
use crate::output::summary::Deed;
use crate::place::tree_path;

pub(super) async fn restore(args: &RestoreArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let paths = args.paths.iter().map(|path| tree_path(path.as_bytes()).map_err(Failure::usage));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let store = open_store(means, false)?.store;
    let snapshot = store.snapshot(&args.context.name, args.context.at.clone()).await?;
    let options = settings.sync_options()?;
    let watch = Watch::new(ui, options.dry_run);
    if snapshot.is_unsettled() {
        watch.warning(&format!(
            "snapshot {} is unsettled: its files were changing while they were read, and may not fit together",
            snapshot.number
        ));
    }
    let report = store.restore(&snapshot, &absolute(&args.dir)?, &paths, &options, &watch).await?;
    Ok(Finished {
        exit: Exit::of(&report),
        report: Some(report),
        deed: Some(Deed::Restore),
        dry_run: options.dry_run,
        ..Finished::of_context(&args.context.name)
    })
}
