//! `push`, `pull`, `sync`, and `plan`, which is a dry run of any of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy_core::{SyncPolicy, TreePath};
use transfer_engine::format::Snapshot;
use transfer_engine::{
    At, ContextName, ContextPart, ContextSync, Error, Mount, Quiesce, ReadData, Store, SyncOptions,
    SyncReport,
};

use super::odd_place::{self, Unasked};
use super::paths::typed_paths;
use super::{Finished, reminder, running};
use crate::args::{Heal, PlaceArgs, PullArgs, PushArgs, SyncArgs};
use crate::config::Origin;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::{OpenStore, imagined_store, open_for, open_store, refuse_gone};
use crate::output::Watch;
use crate::output::summary::Deed;
use crate::place::{MountPath, PathAt, os_path};
use crate::policy;
use crate::run::Commands;

/// Pushes, or pulls and pushes.
pub(super) async fn push(
    deed: Deed,
    args: &PushArgs,
    dry_run: bool,
    quiesce: Option<&Arc<Commands>>,
    means: Means<'_>,
) -> Result<Finished, Failure> {
    let mut options = means.settings.sync_options()?;
    options.dry_run = dry_run;
    options.quiesce = quiesce.map(|quiesce| Arc::<Commands>::clone(quiesce) as Arc<dyn Quiesce>);
    options.heal = args.heal.map(|heal| match heal {
        Heal::Full => ReadData::All,
        Heal::Quick => ReadData::None,
    });
    let context = args.sync.context.clone().into();
    sync(deed, (&context, false), &args.sync.place, options, means).await
}

pub(super) async fn pull(args: &PullArgs, dry_run: bool, means: Means<'_>) -> Result<Finished, Failure> {
    let options = SyncOptions { dry_run, ..means.settings.sync_options()? };
    sync(Deed::Pull, (&args.context, args.read_only), &args.place, options, means).await
}

/// Shows what would be done.
pub(super) async fn plan(deed: Deed, args: &SyncArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let options = SyncOptions { dry_run: true, ..means.settings.sync_options()? };
    let context = args.context.clone().into();
    sync(deed, (&context, false), &args.place, options, means).await
}

async fn sync(
    deed: Deed,
    (context, read_only): (&PathAt, bool),
    args: &PlaceArgs,
    mut options: SyncOptions,
    means: Means<'_>,
) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let (dir, dry_run) = (absolute(&args.dir)?, options.dry_run);
    let held = running::connect(&dir, means).await?;
    // A session has read its policy, whatever has become of the file since.
    let policy = match &held {
        Some(_) if settings.policy.origin != Origin::Flag => SyncPolicy::default(),
        _ => policy::chosen(settings)?,
    };
    options.only = only(args, means)?;
    options.create = deed != Deed::Pull;
    let sync = mount_of(context, dir, policy, read_only)?;
    refuse_missing(&options.only, &sync, means).await?;
    let watch = Watch::new(ui, dry_run);
    let report = match held {
        Some(_) if options.heal.is_some() => {
            let message = format!("a session holds {}, and --heal needs it alone", sync.path.display());
            return Err(Failure::new(Exit::FAILED, message).hint("end the session first"));
        }
        Some(_) if sync.at != At::Head => {
            let message = format!("a session holds {}, and {context} needs it alone", sync.path.display());
            return Err(Failure::new(Exit::FAILED, message).hint("end the session first"));
        }
        Some(mut session) => {
            running::refuse_other(&session, &sync.place(), &sync.path)?;
            running::sync(&mut session, deed, &options, &watch, means).await?
        }
        None => {
            match deed {
                _ if dry_run => {}
                Deed::Push | Deed::Sync => {
                    odd_place::ask(&sync, Some(&args.dir), Unasked::Refused, means)?;
                }
                _ => odd_place::ask_of_pull(&sync, means)?,
            }
            by_hand(deed, sync, &options, &watch, means).await?
        }
    };
    if options.create && !dry_run {
        reminder::remind(means);
    }
    Ok(Finished {
        exit: Exit::of(&report),
        context: Some(context.part().to_string()),
        report: Some(report),
        deed: Some(deed),
        dry_run,
        ..Finished::default()
    })
}

/// Returns what is synced at a path.
///
/// # Errors
/// A snapshot never changes, so its mount must be read-only.
pub(super) fn mount_of(
    place: &PathAt,
    path: PathBuf,
    policy: SyncPolicy,
    read_only: bool,
) -> Result<ContextSync, Failure> {
    let context = &place.context;
    if context.at != At::Head && !read_only {
        return Err(Failure::usage(format!("{context} is a snapshot: a mount of it is read-only")).hint(format!(
            "say so with --read-only, or `,read-only` after the mount; to work on from it, make a context of it with \
             `ctxsync context fork {context} NAME`"
        )));
    }
    Ok(ContextSync { read_only, at: context.at.clone(), ..bind(&place.part(), path, policy) })
}

/// Syncs a mount that no session holds.
async fn by_hand(
    deed: Deed,
    sync: ContextSync,
    options: &SyncOptions,
    watch: &Watch,
    means: Means<'_>,
) -> Result<SyncReport, Failure> {
    let Means { settings, ui, .. } = means;
    let makes = deed != Deed::Pull;
    let path = sync.path.clone();
    let open = match open_for([&*path], means, makes && !options.dry_run) {
        Err(failure) if failure.exit == Exit::NOT_FOUND && makes => {
            return imagine(deed, sync, options, watch, means).await;
        }
        opened => opened?,
    };
    let mut mount = Mount::open(&open.store, sync.clone(), settings.state_dir()?)?;
    for warning in mount.warnings() {
        ui.warning(&warning);
    }
    let report = match once(deed, &mut mount, options, watch).await {
        // Checking first whether the store exists would cost each push a request.
        Err(Error::NoStore { .. }) if makes && options.dry_run => {
            drop(mount);
            refuse_gone([&*path], means)?;
            return imagine(deed, sync, options, watch, means).await;
        }
        Err(Error::NoStore { .. }) if makes => {
            refuse_gone([&*path], means)?;
            make(&open, ui).await?;
            once(deed, &mut mount, options, watch).await?
        }
        done => done?,
    };
    if report.created {
        tell_created(&sync.context, &open, ui);
    }
    Ok(report)
}

/// Reports a new context, and where it is: a name may be mistyped, and a store another one than was meant.
pub(super) fn tell_created(name: &ContextName, open: &OpenStore, ui: &crate::output::Ui) {
    let on_this_disk = if open.local_dir.is_some() { ", on this machine" } else { "" };
    ui.note(&format!("created context {name} in {}{on_this_disk}", open.store.location()));
}

/// Plans the first sync with a store that does not exist yet: everything is new.
async fn imagine(
    deed: Deed,
    sync: ContextSync,
    options: &SyncOptions,
    watch: &Watch,
    means: Means<'_>,
) -> Result<SyncReport, Failure> {
    let store = imagined_store(means).await?;
    means.ui.note(&format!("there is no store at {} yet: it would be made", store.location()));
    let mut mount = Mount::open(&store, sync, means.settings.state_dir()?)?;
    let mut report = once(deed, &mut mount, options, watch).await?;
    // No request was sent to a real store.
    crate::output::note_usage(&mut report, Default::default());
    Ok(report)
}

async fn once(
    deed: Deed,
    mount: &mut Mount,
    options: &SyncOptions,
    watch: &Watch,
) -> Result<SyncReport, Error> {
    match deed {
        Deed::Push => mount.push(options, watch).await,
        Deed::Sync => mount.sync(options, watch).await,
        Deed::Pull | Deed::Restore | Deed::Fetch => mount.pull(options, watch).await,
    }
}

/// Creates the store, and reports it.
pub(super) async fn make(open: &OpenStore, ui: &crate::output::Ui) -> Result<(), Failure> {
    open.make().await?;
    ui.note(&format!("made a store at {}", open.store.location()));
    // A bucket's name without its scheme is the name of a directory here.
    let here = std::env::current_dir().ok();
    if let Some(dir) = &open.local_dir
        && here.as_deref() == dir.parent()
    {
        let name = dir.file_name().unwrap_or_default().display();
        ui.hint(&format!(
            "it is a directory here; a bucket is given as s3://{name}, gs://{name} or az://{name}"
        ));
    }
    Ok(())
}

/// Binds a context, or a part of it, to a path.
pub(super) fn bind(place: &ContextPart, path: impl Into<PathBuf>, policy: SyncPolicy) -> ContextSync {
    ContextSync::new(place.context.clone(), path, policy).with_part(place.path.clone())
}

pub(super) fn absolute(dir: &Path) -> Result<std::path::PathBuf, Failure> {
    Ok(MountPath::new(dir)?.typed().to_owned())
}

/// Fails if one of the paths is on neither side. It is probably mistyped, and a sync of nothing would look
/// like a success.
async fn refuse_missing(only: &[TreePath], sync: &ContextSync, means: Means<'_>) -> Result<(), Failure> {
    for path in only.iter().filter(|path| !is_in(&sync.path, path)) {
        let is_there = match open_store(means, false) {
            Ok(open) => match open.store.snapshot(&sync.context, sync.at.clone()).await {
                Err(Error::NoStore { .. } | Error::NoContext { .. }) => false,
                found => has(&open.store, &*found?, &sync.place().outer(path)).await?,
            },
            Err(failure) if failure.exit == Exit::NOT_FOUND => false,
            Err(failure) => return Err(failure),
        };
        if !is_there {
            let place = sync.path.display();
            let message = format!("no `{path}` in context {} or in {place}", sync.place());
            return Err(Failure::new(Exit::NOT_FOUND, message)
                .hint("--only takes paths relative to the mount, or absolute ones below it"));
        }
    }
    Ok(())
}

/// Whether there is something at a path below `dir`, as far as can be seen.
pub(super) fn is_in(dir: &Path, path: &TreePath) -> bool {
    match dir.join(os_path(path)).symlink_metadata() {
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        Ok(_) => true,
    }
}

/// Whether a path, or something below it, is in a snapshot.
pub(super) async fn has(store: &Store, snapshot: &Snapshot, path: &TreePath) -> Result<bool, Failure> {
    let mut found = false;
    store.entries(snapshot, path, |_| found = true).await?;
    Ok(found)
}

/// Returns the paths to which `--only` restricts the sync. They are given relative to the mount, or absolute
/// and below it.
fn only(args: &PlaceArgs, means: Means<'_>) -> Result<Vec<TreePath>, Failure> {
    let mount = MountPath::new(&args.dir)?;
    let typed = typed_paths("--only", &args.only, &means.settings.only_origin)?;
    typed.into_iter().map(|path| mount.path_below(Path::new(path))).collect()
}
