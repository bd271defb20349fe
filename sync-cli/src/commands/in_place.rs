//! `restore --in-place`: a mount and its context become like a snapshot, once what differs in the mount is saved.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use policy_core::{ConflictPolicy, MaxDelete, TreePath, escape};
use transfer_engine::format::Snapshot;
use transfer_engine::{
    Action, ContextName, ContextSync, DiffDir, DiffOptions, DifferenceKind, Monitor, Mount, PathDifference,
    PathEvent, RunningSession, Side, Store, SyncOptions, SyncReport,
};

use super::restore::{find, finished};
use super::sync::absolute;
use super::{Finished, running};
use crate::args::RestoreArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Watch;
use crate::output::summary::{Deed, sentence};
use crate::{policy, text};

/// Pushes, reverts the context and pulls. Each of the three is whole or not at all, and after each of them the next sync
/// goes on as usual.
pub(super) async fn restore(args: &RestoreArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let (name, dir) = (&args.context.name, absolute(args.dir.as_deref().unwrap_or(Path::new(".")))?);
    let options = settings.sync_options()?;
    let watch = Watch::new(ui, options.dry_run);
    let store = open_store(means, false)?.store;
    // After the push, `@-1` would be another one.
    let to = find(&args.context, &store, &watch).await?;
    let sync = ContextSync::new(name.clone(), &dir, policy::chosen(settings)?);
    let mut hand = Hand::of(&sync, &store, means).await?;
    let saving = SyncOptions { conflict: Some(ConflictPolicy::Fail), ..options.clone() };
    let saved = hand.sync(Deed::Push, &saving, &watch, means).await?;
    refuse_unsaved(&saved, name, &dir)?;
    if saved.parent.is_some() || options.dry_run {
        ui.note(&sentence(Deed::Push, &saved, options.dry_run, ui.took(), ui.columns()));
    }
    if options.dry_run {
        let report = foresee(&to, &sync, &store, &watch, means).await?;
        return Ok(finished(report, true, name));
    }
    let reverted = store.revert_context(name, to.number.cast_signed(), &options.session, false).await?;
    if let Some(new) = reverted.snapshot.filter(|_| reverted.parent.is_some()) {
        ui.note(&format!("snapshot {new} of {name} has the files of snapshot {} again", to.number));
    }
    // What the snapshot lacks is deleted because the user said so, and is in the history.
    let max_delete = Some(MaxDelete::Count(u64::MAX));
    let options = SyncOptions { allow_empty_mount: true, max_delete, ..options };
    let pulled = hand.sync(Deed::Pull, &options, &watch, means).await?;
    Ok(finished(SyncReport { parent: reverted.parent, ..pulled }, false, name))
}

/// What works on the mount: this process, or the session that holds it.
enum Hand {
    Own(Box<Mount>),
    Session(RunningSession),
}

impl Hand {
    /// Opens a mount.
    ///
    /// # Errors
    /// A directory that was never synced with the context is refused: all of it would be saved, and then deleted.
    async fn of(sync: &ContextSync, store: &Store, means: Means<'_>) -> Result<Self, Failure> {
        if let Some(session) = running::connect(&sync.path, means).await? {
            running::refuse_other(&session, &sync.place(), &sync.path)?;
            return Ok(Self::Session(session));
        }
        let mount = Mount::open(store, sync.clone(), means.settings.state_dir()?)?;
        if !mount.was_synced()? {
            let dir = escape(sync.path.as_os_str().as_bytes());
            let message = format!("{dir} was never synced with context {}", sync.context);
            return Err(Failure::new(Exit::FAILED, message).hint(format!(
                "`ctxsync pull {} {}` makes it a mount; without --in-place, `restore` writes into any directory",
                sync.context,
                text::shell(&dir)
            )));
        }
        mount.warnings().iter().for_each(|warning| means.ui.warning(warning));
        Ok(Self::Own(Box::new(mount)))
    }

    async fn sync(
        &mut self,
        deed: Deed,
        options: &SyncOptions,
        watch: &Watch,
        means: Means<'_>,
    ) -> Result<SyncReport, Failure> {
        match self {
            Self::Session(session) => running::sync(session, deed, options, watch, means).await,
            Self::Own(mount) if deed == Deed::Push => Ok(mount.push(options, watch).await?),
            Self::Own(mount) => Ok(mount.pull(options, watch).await?),
        }
    }
}

/// Fails if a push has not saved everything that is in the mount, or could not note that it has.
fn refuse_unsaved(saved: &SyncReport, name: &ContextName, dir: &Path) -> Result<(), Failure> {
    let exit = match Exit::of(saved) {
        Exit::DONE if saved.withheld > 0 => Exit::INCOMPLETE,
        exit => exit,
    };
    if exit == Exit::DONE && saved.unnoted {
        // Each saved change would count as one that the context, once it is reverted, does not have.
        let dir = escape(dir.as_os_str().as_bytes());
        let message = format!("{dir} is saved, but was left as it is, because this could not be noted");
        return Err(Failure::new(Exit::FAILED, message).hint("restore again once the disk is well"));
    }
    if exit == Exit::DONE {
        return Ok(());
    }
    let unsaved = [
        (saved.conflicts, "in conflict"),
        (saved.failed, "failed"),
        (saved.held_back, "not deleted (held back)"),
        (saved.unmounted, "not there (file system not mounted)"),
        (saved.withheld, "recycled or lost before and kept here"),
    ];
    let counts = unsaved.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    let dir = escape(dir.as_os_str().as_bytes());
    let message = format!("{dir} was left as it is, because not everything in it is saved");
    let failure = Failure::new(exit, message).hint(format!(
        "`ctxsync sync {name} {}` saves it, or tells what keeps it from that; then restore again",
        text::shell(&dir)
    ));
    Err(match counts.collect::<Vec<_>>().join(", ") {
        counts if counts.is_empty() => failure,
        counts => failure.because(counts),
    })
}

/// Tells what would change in the mount.
async fn foresee(
    to: &Arc<Snapshot>,
    sync: &ContextSync,
    store: &Store,
    watch: &Watch,
    means: Means<'_>,
) -> Result<SyncReport, Failure> {
    let origin = format!("{}@{}", to.context, to.number);
    let (as_in, not_in) = (format!("as in {origin}"), format!("not in {origin}"));
    let tell = |path: &TreePath, action, size| {
        let reason = if action == Action::Delete { &not_in } else { &as_in };
        watch.path(&PathEvent { path, action, side: Side::Local, reason, size });
    };
    let mut report = SyncReport { snapshot: Some(to.number), ..SyncReport::default() };
    let each = |difference: PathDifference| {
        let PathDifference { path, kind, from, before, .. } = difference;
        let size = before.map_or(0, |entry| entry.size());
        if matches!(kind, DifferenceKind::Added | DifferenceKind::Renamed) {
            report.deleted += 1;
            tell(&path, Action::Delete, 0);
        }
        match kind {
            DifferenceKind::Added => {}
            DifferenceKind::Changed => {
                report.changed += 1;
                tell(&path, Action::Change, size);
            }
            DifferenceKind::Deleted | DifferenceKind::Renamed => {
                report.added += 1;
                tell(from.as_ref().unwrap_or(&path), Action::Add, size);
            }
        }
    };
    let own_files = means.settings.own_files();
    let dir = DiffDir { sync, state_dir: means.settings.state_dir()?, own_files: &own_files };
    let found = store.diff_dir(to, dir, &DiffOptions::default(), watch, each).await?;
    report.failed = found.failed;
    // What has not arrived yet arrives as well.
    report.added += found.pending;
    Ok(report)
}
