//! A session that this process holds: how it is opened, and released in time.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use policy_core::UploadStrategy;
use rustix::process::Signal;
use storage_backends::Patience;
use tokio::time::{Instant, sleep_until};
use transfer_engine::format::LineageId;
use transfer_engine::{
    ContextSync, CreateSessionParams, Error, ErrorKind, MountResult, ReleaseOptions, Session, SyncOptions,
    SyncReport,
};

use super::RESUMED_WITHIN;
use super::arrivals::Arrivals;
use super::branches::begin_as;
use super::sync::{make, tell_created};
use super::variables::variables;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::metrics::Metrics;
use crate::open_store::{OpenStore, open_for, refuse_gone};
use crate::output::summary::{Deed, sentence};
use crate::output::{SessionWatch, Tally, Ui, advise, note_usage};
use crate::place::ContextAt;
use crate::run::interrupted;
use crate::run::{Commands, Moments, Signals, is_stop, signal_name};

/// A session, with what its release needs.
pub(super) struct Held<'a> {
    pub(super) session: Session,
    pub(super) means: Means<'a>,
    /// Whether the session has several mounts.
    pub(super) several: bool,
    /// Whether the first context will be deleted, so that its changes are not missed.
    pub(super) drops_first: bool,
    /// Whether the first context is new.
    created: bool,
    /// Of each mount, whether nothing of it is pushed whatever its policy says.
    read_only: Vec<bool>,
    /// Counts the files of the pulls.
    pub(super) pulled: Arc<Tally>,
    /// How long failed requests are retried.
    patience: Patience,
    /// The commands that run before and after each reading of the mount.
    quiesce: Option<Arc<Commands>>,
    /// Dropped after the release, and then writes the last figures.
    _metrics: Option<Metrics>,
}

/// Opens a session on these mounts. At the end they are pushed as their policies say, or in any case
/// (`save`). A missing store or context is created; the first context as a fork, if `fork_from` says of what. Notes
/// in `made` the lineage of the first context if it was, even if the session can't be opened then.
pub(super) async fn open<'a>(
    syncs: Vec<ContextSync>,
    save: bool,
    (fork_from, made): (Option<&ContextAt>, &Cell<Option<LineageId>>),
    means: Means<'a>,
) -> Result<Held<'a>, Failure> {
    let Means { settings, ui, .. } = means;
    let several = syncs.len() > 1;
    if several {
        let names: Vec<_> = syncs.iter().map(|sync| sync.place().to_string()).collect();
        ui.known().note_context(&names.join(","));
    } else if let Some(sync) = syncs.first() {
        ui.known().note_context(&sync.place());
    }
    let mut options = settings.sync_options()?;
    options.create = false;
    let read_only: Vec<bool> = syncs.iter().map(|sync| sync.read_only).collect();
    let open = open_for(syncs.iter().map(|sync| &*sync.path), means, !read_only.contains(&true))?;
    let monitor = Arc::new(SessionWatch::new(ui, several));
    let quiesce = means.quiesce();
    if let Some(quiesce) = &quiesce {
        options.quiesce = Some(quiesce.clone());
    }
    // This runs at the same time, so that a user without write permission hears of it before any work is
    // done.
    let pushes = syncs.iter().any(|sync| !sync.read_only && (save || sync.policy.upload_policy.auto_upload));
    let writable = async { if pushes { open.prove_writable().await } else { Ok(()) } };
    let begun = begin(&open, syncs, (fork_from, made), (options, &monitor), means);
    let ((session, metrics), ()) = tokio::try_join!(begun, writable)?;
    if let Some(quiesce) = &quiesce {
        quiesce.set_variables(variables(session.id(), settings));
    }
    let (pulled, patience) = (monitor.pulled(), open.patience);
    Ok(Held {
        session,
        means,
        several,
        drops_first: false,
        created: made.get().is_some(),
        read_only,
        pulled,
        patience,
        quiesce,
        _metrics: metrics,
    })
}

/// Opens the mounts, and creates what is missing. Later than this, nothing is created: what is missing then
/// has vanished.
async fn begin(
    open: &OpenStore,
    syncs: Vec<ContextSync>,
    (fork_from, made_first): (Option<&ContextAt>, &Cell<Option<LineageId>>),
    (mut options, monitor): (SyncOptions, &Arc<SessionWatch>),
    means: Means<'_>,
) -> Result<(Session, Option<Metrics>), Failure> {
    let Means { settings, ui, .. } = means;
    let state_dir = settings.state_dir()?;
    let paths: Vec<PathBuf> = syncs.iter().map(|sync| sync.path.clone()).collect();
    let mut made = false;
    let session = loop {
        let mut params = CreateSessionParams::new(syncs.clone(), state_dir);
        params.options = options.clone();
        params.monitor = Arc::<SessionWatch>::clone(monitor);
        params.safety_scan = Some(settings.safety_scan.value).filter(|every| !every.is_zero());
        match Session::create(&open.store, params).await {
            Ok(session) => break session,
            Err(error)
                if error.kind() == ErrorKind::NoStore
                    && !made
                    && !syncs.iter().any(|sync| sync.read_only) =>
            {
                made = true;
                refuse_gone(paths.iter().map(|path| &**path), means)?;
                make(open, ui).await?;
            }
            // The message shows a mistyped name, which would otherwise silently become a new context.
            Err(error) if error.kind() == ErrorKind::NoContext && !options.create => {
                if matches!(error, Error::NoPart { .. }) && !syncs.iter().any(|sync| sync.read_only) {
                    ui.note(&format!("{error}: it is created"));
                }
                for (at, sync) in syncs.iter().enumerate() {
                    if let Some(from) = fork_from.filter(|_| at == 0) {
                        made_first.set(begin_as(&open.store, from, &sync.context, ui).await?);
                        continue;
                    }
                    // The next try fails because this one is missing.
                    if sync.read_only || !sync.has_required()? {
                        continue;
                    }
                    match open.store.create_context(&sync.context).await {
                        Ok(new) => {
                            made_first.set(made_first.get().or((at == 0).then_some(new.lineage)));
                            tell_created(&sync.context, open, ui);
                        }
                        Err(Error::ContextExists { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                options.create = true;
            }
            Err(error) if error.kind() == ErrorKind::NoContext => {
                return Err(Failure::from(error)
                    .hint("it is not created: a new context is empty, and this mount is read-only or requires paths"));
            }
            Err(error) => return Err(error.into()),
        }
    };
    let metrics = match &settings.metrics_file.value {
        Some(file) => Some(Metrics::start(file, state_dir, paths)?),
        None => None,
    };
    Ok((session, metrics))
}

/// How to release a session.
pub(super) struct Leave {
    /// The signal that told this program to stop, if any.
    pub(super) told: Option<Signal>,
    /// Whether to push even if the policy has autoUpload off.
    pub(super) save: bool,
    /// The deadlines of the release's steps.
    pub(super) moments: Option<Moments>,
    /// The exit code if a deadline is missed.
    pub(super) overdue: Exit,
}

/// The result of a release.
pub(super) struct Closed {
    /// The figures of all mounts together.
    pub(super) report: SyncReport,
    /// The worst exit code of all mounts.
    pub(super) exit: Exit,
}

impl Held<'_> {
    /// Returns what follows the pulls in the background.
    pub(super) fn arrivals(&self, ui: &Arc<Ui>) -> Arc<Arrivals> {
        Arrivals::of(self.session.clone(), Arc::clone(&self.pulled), self.several, Arc::clone(ui))
    }

    /// Releases the session. The first signal to stop does not interrupt the push, the second does.
    pub(super) async fn release(
        self,
        leave: Leave,
        signals: &mut Signals,
        arrivals: &Arrivals,
    ) -> Result<Closed, Failure> {
        let ui = self.means.ui;
        let Leave { mut told, save, moments, overdue: code } = leave;
        if let Some(moments) = moments {
            signals.end_at(moments.exit, overdue().ending_with(code));
        }
        let began = ui.took();
        let deadline = moments.map(|moments| moments.commit);
        let options = ReleaseOptions { sync_context: save, deadline };
        // A store that does not answer is retried as long as there is time, however long it has been away
        // before.
        self.patience.renew(options.deadline);
        let release = self.session.release(options);
        tokio::pin!(release);
        let released = loop {
            tokio::select! {
                released = &mut release => break released,
                () = until(moments.map(|moments| moments.give_up)) => {
                    self.quiesce.iter().for_each(|quiesce| quiesce.resume_now());
                    return Err(overdue());
                }
                signal = signals.next() => {
                    if !is_stop(signal) {
                        continue;
                    }
                    if told.is_some() {
                        signals.end_soon(interrupted(signal));
                        self.quiesce.iter().for_each(|quiesce| quiesce.resume_now());
                        return Err(interrupted(signal));
                    }
                    told = Some(signal);
                    ui.note(&format!("{}: saving first; once more stops at once", signal_name(signal)));
                }
            }
        };
        signals.hold(false);
        if let Some(quiesce) = &self.quiesce {
            // If a checkpoint was interrupted, writers may still be paused.
            quiesce.wait_resumed(RESUMED_WITHIN).await;
        }
        let took = ui.took().saturating_sub(began);
        Ok(self.close(released?.mounts, arrivals.end(), took))
    }

    /// Reports the result of each mount, and adds the figures up.
    fn close(&self, mounts: Vec<MountResult>, pulled: SyncReport, took: Duration) -> Closed {
        let ui = self.means.ui;
        let mut total = pulled;
        let mut failed = None;
        // A context that was renamed meanwhile is shown by its new name.
        let names: Vec<_> = mounts.iter().map(|mount| mount.place().to_string()).collect();
        ui.known().note_context(&names.join(","));
        let own = mounts.first().and_then(|mount| mount.report.as_ref());
        if let Some(own) = own {
            (total.snapshot, total.parent) = (own.snapshot, own.parent);
        }
        total.created = self.created;
        for (at, mount) in mounts.iter().enumerate() {
            let path = mount.path.to_string_lossy();
            let shown = self.several.then_some(&*path);
            let prefix = shown.map(|path| format!("{path}: ")).unwrap_or_default();
            match (&mount.error, &mount.report) {
                (Some(error), _) => {
                    let failure = Failure::from(&**error).at_mount(shown);
                    ui.failure(&failure);
                    failed = failed.or(Some(failure.exit));
                }
                (None, Some(report)) => {
                    ui.note(&format!("{prefix}{}", sentence(Deed::Push, report, false, took, ui.columns())));
                    advise(ui, report);
                    add(&mut total, report);
                }
                (None, None) if at == 0 && self.drops_first => {}
                (None, None) if self.read_only.get(at) == Some(&true) => ui.note(&format!(
                    "{prefix}nothing was pushed: the mount is read-only; what changed in it stays there"
                )),
                (None, None) => ui.note(&format!(
                    "{prefix}nothing was pushed: the policy has autoUpload off; `ctxsync push {} {}` saves what changed, and `run --save` at the end",
                    crate::text::shell(&mount.place().to_string()),
                    crate::text::shell(&path)
                )),
            }
        }
        if total.pending > 0 {
            let paths = crate::text::count(total.pending, "path");
            ui.note(&format!("{paths} had not arrived yet: the context keeps what has not"));
        }
        note_usage(&mut total, ui.known().usage());
        Closed { exit: failed.unwrap_or_else(|| Exit::of(&total)), report: total }
    }
}

fn overdue() -> Failure {
    Failure::new(Exit::INCOMPLETE, "the release was not done in time; not everything was pushed")
        .hint("what is in the store already is not sent again by the next session on this machine")
}

/// Adds the figures of one mount, or of one direction, to the total.
pub(super) fn add(total: &mut SyncReport, report: &SyncReport) {
    total.added += report.added;
    total.changed += report.changed;
    total.deleted += report.deleted;
    total.unchanged += report.unchanged;
    total.extracted += report.extracted;
    total.conflicts += report.conflicts;
    total.failed += report.failed;
    total.pending += report.pending;
    total.held_back += report.held_back;
    total.unmounted += report.unmounted;
    total.in_doubt += report.in_doubt;
    total.withheld += report.withheld;
    total.recycled += report.recycled;
    total.next_expiry = total.next_expiry.into_iter().chain(report.next_expiry).min();
    total.total_bytes += report.total_bytes;
    total.bytes_read += report.bytes_read;
    total.bytes_stored += report.bytes_stored;
    total.partial |= report.partial;
    total.lost_packs += report.lost_packs;
    total.mount_unsettled |= report.mount_unsettled;
    total.nothing_in_scope |= report.nothing_in_scope;
    total.quiesce_failed |= report.quiesce_failed;
    total.stopped_by_conflict |= report.stopped_by_conflict;
}

pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Turns on checkpoints during the session, unless the policy says itself when to push.
pub(super) fn with_checkpoints(sync: &mut ContextSync) {
    const DEBOUNCE_MS: u32 = 2000;
    let strategy = &mut sync.policy.upload_policy.upload_strategy;
    if *strategy == UploadStrategy::UploadBeforeResourceRelease {
        *strategy = UploadStrategy::UploadOnChange { debounce_ms: DEBOUNCE_MS };
    }
}
