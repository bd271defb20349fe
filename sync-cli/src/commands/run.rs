//! `run`: a session round a command.

use std::path::Path;

use policy_core::UploadStrategy;
use transfer_engine::{ContextSync, Error, Mount, SyncOptions, SyncReport};

use super::sync::{absolute, make};
use super::{Means, Outcome, interrupted};
use crate::app::advise;
use crate::args::RunArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::open_store::{OpenStore, open_store};
use crate::output::Watch;
use crate::output::summary::{Deed, sentence};
use crate::policy;
use crate::run::{Child, Signals, Supervised, is_stop, signal_name, supervise};

pub(super) async fn run(args: &RunArgs, means: Means<'_>) -> Result<Outcome, Failure> {
    let Means { settings, ui } = means;
    // From here on no signal ends this program by itself.
    let mut signals = Signals::all()?;
    let policy = policy::chosen(settings)?;
    let (brings, saves) = (policy.download_policy.auto_download, policy.upload_policy.auto_upload);
    if saves && policy.upload_policy.upload_strategy != UploadStrategy::UploadBeforeResourceRelease {
        ui.warning(
            "uploadPolicy.uploadStrategy asks for checkpoints during the session, which this version does not \
             make yet: everything is uploaded at the end",
        );
    }
    let dir = absolute(&args.dir)?;
    let open = open_store(settings, true)?;
    let sync = ContextSync::new(args.context.clone(), &dir, policy);
    let mut mount = Mount::open(&open.store, sync, &settings.state_dir.value)?;
    for warning in mount.warnings() {
        ui.warning(&warning);
    }
    let mut options = settings.sync_options();
    options.create = true;
    options.session = session_id()?;

    let opened = tokio::select! {
        opened = begin(brings, &mut mount, &open, args, &options, means) => opened?,
        signal = signals.next_stop() => return Err(interrupted(signal)),
    };
    create_dir(&dir)?;
    ui.rest();
    let child = Child::start(&args.command, &dir, &options.session)?;
    let supervised = supervise(child, &mut signals, settings.kill_after.value, ui).await;

    let saved = if saves {
        save(&mut mount, &options, &mut signals, supervised, means).await
    } else {
        ui.note(&format!(
            "nothing was pushed: the policy has autoUpload off; `ctxsync push {} {}` saves what changed",
            args.context,
            args.dir.display()
        ));
        Ok(SyncReport::default())
    };
    let saved = match saved {
        Ok(saved) => saved,
        // How the command ended is what the caller asked for; that saving failed is said all the same.
        Err(failure) => {
            let exit = final_exit(supervised, failure.exit);
            return Err(failure.ending_with(exit));
        }
    };
    let mut report = opened.unwrap_or_default();
    if saves {
        report.absorb(&saved);
    }
    // A conflict of the pull is a copy by now, and the figures of both count.
    let exit = final_exit(supervised, Exit::of(&report));
    Ok(Outcome { exit, report: Some(report), ..Outcome::of_context(&args.context) })
}

/// Brings the context's files, or at least finds out that there is a context to save to.
async fn begin(
    brings: bool,
    mount: &mut Mount,
    open: &OpenStore,
    args: &RunArgs,
    options: &SyncOptions,
    means: Means<'_>,
) -> Result<Option<SyncReport>, Failure> {
    let ui = means.ui;
    let watch = Watch::new(ui, false);
    let began = ui.took();
    let mut first = true;
    loop {
        let found = if brings {
            mount.pull(options, &watch).await.map(Some)
        } else {
            open.store.head(&args.context).await.map(|_| None)
        };
        match found {
            // A command that works for hours must not find out at its end that nothing can be saved.
            Err(Error::NoStore { .. }) if first => make(open, ui).await?,
            Err(Error::NoContext { .. }) => {}
            Ok(Some(report)) => {
                report_sync(Deed::Pull, &report, ui.took().saturating_sub(began), means);
                if report.stopped_by_conflict {
                    return Err(Failure::new(
                        Exit::CONFLICTS,
                        "the command was not run: a conflict stopped the pull",
                    )
                    .hint("settle it by hand, or choose another --conflict; keep-both loses nothing"));
                }
                if report.is_incomplete() {
                    ui.warning("not everything could be brought; the command runs with what is there");
                }
                return Ok(Some(report));
            }
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        first = false;
        match open.store.create_context(&args.context).await {
            Ok(_) => ui.note(&format!("created context {}", args.context)),
            // Another machine was faster.
            Err(Error::ContextExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Uploads what changed. Being told to stop is no reason to lose it; being told twice is.
async fn save(
    mount: &mut Mount,
    options: &SyncOptions,
    signals: &mut Signals,
    supervised: Supervised,
    means: Means<'_>,
) -> Result<SyncReport, Failure> {
    let ui = means.ui;
    let watch = Watch::new(ui, false);
    let began = ui.took();
    let mut told = supervised.told.is_some();
    let push = mount.push(options, &watch);
    tokio::pin!(push);
    let report = loop {
        tokio::select! {
            report = &mut push => break report?,
            signal = signals.next() => {
                if !is_stop(signal) {
                    continue;
                }
                if told {
                    return Err(interrupted(signal));
                }
                told = true;
                ui.note(&format!("{}: saving first; once more stops at once", signal_name(signal)));
            }
        }
    };
    report_sync(Deed::Push, &report, ui.took().saturating_sub(began), means);
    Ok(report)
}

fn report_sync(deed: Deed, report: &SyncReport, took: std::time::Duration, means: Means<'_>) {
    // The result of `run` is its command's; this is news on the way.
    means.ui.note(&sentence(deed, report, false, took));
    if !means.ui.is_json() {
        advise(means.ui, report);
    }
}

/// Returns the command's own code; but where saving or bringing was not all well and the command ended
/// well, or ended because it was told to, the sync's.
fn final_exit(supervised: Supervised, sync: Exit) -> Exit {
    match supervised.told {
        Some(_) if sync != Exit::DONE => sync,
        Some(signal) => Exit::signal(signal.as_raw()),
        None => match supervised.ended.exit() {
            Exit::DONE => sync,
            command => command,
        },
    }
}

/// Returns a name for this session that no other has.
fn session_id() -> Result<String, Failure> {
    let random = getrandom::u64().map_err(|error| {
        Failure::new(Exit::FAILED, "the system gives no random numbers").caused_by(&error)
    })?;
    Ok(format!("s-{random:016x}"))
}

fn create_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::local("create", dir, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Ended;
    use rustix::process::Signal;

    #[test]
    fn codes() {
        let code = |ended, told, sync| final_exit(Supervised { ended, told }, sync).0;
        assert_eq!(code(Ended::Code(0), None, Exit::DONE), 0);
        assert_eq!(code(Ended::Code(7), None, Exit::CONFLICTS), 7);
        assert_eq!(code(Ended::Code(0), None, Exit::CONFLICTS), 4);
        assert_eq!(code(Ended::Signal(9), None, Exit::DONE), 137);
        assert_eq!(code(Ended::Signal(15), Some(Signal::TERM), Exit::DONE), 143);
        assert_eq!(code(Ended::Code(0), Some(Signal::INT), Exit::DONE), 130);
        assert_eq!(code(Ended::Signal(15), Some(Signal::TERM), Exit::INCOMPLETE), 3);
    }
}
