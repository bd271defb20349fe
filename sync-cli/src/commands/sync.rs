//! `push`, `pull`, `sync`, and `plan`, which is any of them as a dry run.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use policy_core::TreePath;
use transfer_engine::{ContextSync, Error, Mount, SyncOptions, SyncReport};

use super::{Means, Outcome};
use crate::args::SyncArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::open_store::{OpenStore, open_store};
use crate::output::Watch;
use crate::output::summary::Deed;
use crate::place::MountPath;
use crate::{config::Origin, policy};

pub(super) async fn sync(
    deed: Deed,
    args: &SyncArgs,
    dry_run: bool,
    means: Means<'_>,
) -> Result<Outcome, Failure> {
    let Means { settings, ui } = means;
    let policy = policy::chosen(settings)?;
    let writes = deed != Deed::Pull && !dry_run;
    let mut options = settings.sync_options();
    options.dry_run = dry_run;
    options.only = only(args, means)?;
    options.create = deed != Deed::Pull;
    let open = open_store(settings, writes)?;
    let sync = ContextSync::new(args.context.clone(), absolute(&args.dir)?, policy);
    let mut mount = Mount::open(&open.store, sync, &settings.state_dir.value)?;
    for warning in mount.warnings() {
        ui.warning(&warning);
    }
    let watch = Watch::new(ui, dry_run);
    let report = match once(deed, &mut mount, &options, &watch).await {
        // Looking first whether the store is there would cost every push a request.
        Err(Error::NoStore { .. }) if writes => {
            make(&open, ui).await?;
            once(deed, &mut mount, &options, &watch).await
        }
        done => done,
    }?;
    Ok(Outcome {
        exit: Exit::of(&report),
        context: Some(args.context.to_string()),
        report: Some(report),
        deed: Some(deed),
        dry_run,
        failed: false,
    })
}

async fn once(
    deed: Deed,
    mount: &mut Mount,
    options: &SyncOptions,
    watch: &Watch<'_>,
) -> Result<SyncReport, Error> {
    match deed {
        Deed::Push => mount.push(options, watch).await,
        Deed::Sync => mount.sync(options, watch).await,
        Deed::Pull | Deed::Restore => mount.pull(options, watch).await,
    }
}

/// Makes the store, and says so.
pub(super) async fn make(open: &OpenStore, ui: &crate::output::Ui) -> Result<(), Failure> {
    open.make().await?;
    ui.note(&format!("made a store at {}", open.store.location()));
    Ok(())
}

pub(super) fn absolute(dir: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(dir).map_err(|error| Failure::local("resolve", dir, &error))
}

/// Returns the paths that the sync is restricted to: relative to the mount, or absolute and below it.
fn only(args: &SyncArgs, means: Means<'_>) -> Result<Vec<TreePath>, Failure> {
    let mount = MountPath::new(&args.dir)?;
    let from_variable = matches!(means.settings.only_origin, Origin::Variable(_));
    let mut paths = Vec::new();
    for typed in &args.only {
        let separator = |b: &u8| *b == b',' && from_variable;
        for path in typed.as_bytes().split(separator) {
            paths.push(mount.path_below(Path::new(std::ffi::OsStr::from_bytes(path)))?);
        }
    }
    Ok(paths)
}
