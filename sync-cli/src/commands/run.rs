//! `run`: a command inside a session.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::time::Instant;
use transfer_engine::format::LineageId;
use transfer_engine::{ContextName, Error};

use super::Finished;
use super::arrivals::Arrivals;
use super::mounts::Mounts;
use super::odd_place::{self, Unasked};
use super::reminder;
use super::session::{Closed, Held, Leave, open};
use super::variables::variables;
use crate::args::RunArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::run::interrupted;
use crate::run::{Budget, Child, Ended, Signals, Supervised, supervise};

/// What preceded the release.
struct End {
    /// How the command ended; `None` if it was not run.
    command: Option<Ended>,
    /// Why it was not run.
    failure: Option<Failure>,
    /// The signal that told this program to stop.
    told: Option<Signal>,
    /// When the time limit of the release started.
    since: Instant,
}

pub(super) async fn run(
    args: &RunArgs,
    means: Means<'_>,
    signals: &mut Signals,
) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    // From here on, signals no longer end the program by default.
    signals.listen_for_all()?;
    let drops = args.ephemeral && !args.keep_if_changed && !args.keep_if_ok;
    if drops && args.save {
        return Err(Failure::usage("--save pushes at the end, and --ephemeral then deletes the context")
            .hint(
                "leave one of the two out, or say with --keep-if-ok or --keep-if-changed when it is kept",
            ));
    }
    let mut mounts = Mounts::of_run(args, means)?;
    if args.context.is_some()
        && let Some(sync) = mounts.syncs.first()
    {
        odd_place::ask(sync, args.dir.as_deref(), Unasked::Warned, means)?;
    }
    if drops && let Some(sync) = mounts.syncs.first_mut() {
        // What is deleted anyway need not be pushed.
        sync.policy.upload_policy.auto_upload = false;
    }
    let budget = Budget { total: settings.release_timeout.value, kill_after: settings.kill_after.value };
    let made = Cell::new(None);
    let held = tokio::select! {
        held = open(mounts.syncs, args.save, (args.fork_from.as_ref(), &made), means) => held,
        signal = signals.next_stop() => Err(interrupted(signal)),
    };
    let mut held = match held {
        Ok(held) => held,
        Err(failure) => {
            if let Some(made) = args.name().filter(|_| args.ephemeral).zip(made.get()) {
                delete(made, means).await?;
            }
            return Err(failure);
        }
    };
    if args.ephemeral && made.get().is_none() {
        return Err(kept_safe(args));
    }
    held.drops_first = drops;
    let ephemeral = args.name().filter(|_| args.ephemeral).zip(made.get());
    signals.hold(true);
    let arrivals = held.arrivals(ui);
    let end = work(args, &mounts.dir, &held, &arrivals, signals, budget).await;

    let overdue = final_exit(&end, Exit::INCOMPLETE);
    let leave = Leave { told: end.told, save: args.save, moments: budget.moments(end.since), overdue };
    let released = held.release(leave, signals, &arrivals).await;
    let closed = match released {
        Ok(closed) => closed,
        // The exit code is the command's. A failed push is still reported.
        Err(failure) => {
            let exit = final_exit(&end, failure.exit);
            return Err(failure.ending_with(exit));
        }
    };
    if closed.report.pending > 0 && !args.wait {
        ui.note("the command began before all files were there; with --wait it begins when they are");
    }
    reminder::remind(means);
    let mut exit = final_exit(&end, closed.exit);
    if let Some(made) = ephemeral
        && let Err(failure) = end_ephemeral(args, made, (&end, &closed), means).await
    {
        ui.failure(&failure);
        exit = if exit == Exit::DONE { Exit::FAILED } else { exit };
    }
    match end.failure {
        Some(failure) => Err(failure.ending_with(exit).with_report(closed.report)),
        None => Ok(Finished { exit, report: Some(closed.report), ..Finished::default() }),
    }
}

/// Returns the failure of `--ephemeral` with a context that was there before.
fn kept_safe(args: &RunArgs) -> Failure {
    let context = args.name().map(ToString::to_string).unwrap_or_default();
    Failure::new(
        Exit::FAILED,
        format!("context `{context}` exists, and --ephemeral would delete it at the end"),
    )
    .hint("--ephemeral deletes only what it has made: choose another name, or leave it out")
}

/// Deletes the session's context, unless it is to be kept.
async fn end_ephemeral(
    args: &RunArgs,
    (context, lineage): (&ContextName, LineageId),
    (end, closed): (&End, &Closed),
    means: Means<'_>,
) -> Result<(), Failure> {
    let is_ok = matches!(end.command.map(Ended::exit), Some(Exit::DONE));
    let store = open_store(means, false)?.store;
    // The first snapshot of a context has no parent.
    let has_parent = match store.head(context).await {
        Ok(head) => head.parent.is_some(),
        // It was renamed: what has its name now is not the session's.
        Err(Error::Moved { .. }) => return delete((context, lineage), means).await,
        Err(error) => return Err(error.into()),
    };
    // Without a push that has everything, it is not known what has changed.
    let is_saved = closed.exit == Exit::DONE && closed.report.held_back == 0;
    let has_changed = args.keep_if_changed && (!is_saved || has_parent);
    if has_changed || args.keep_if_ok && is_ok {
        means.ui.note(&format!("kept context {context}"));
        return Ok(());
    }
    delete((context, lineage), means).await
}

/// Deletes what the session has made; not another context that has its name by now.
async fn delete((context, lineage): (&ContextName, LineageId), means: Means<'_>) -> Result<(), Failure> {
    if open_store(means, false)?.store.delete_context_of(context, lineage).await? {
        means.ui.note(&format!("deleted context {context}"));
    } else {
        means.ui.warning(&format!(
            "context {context} is not the one that this session made any more: nothing was deleted"
        ));
    }
    Ok(())
}

/// Runs the command to its end, with `--wait` after all files have arrived.
async fn work(
    args: &RunArgs,
    dir: &Path,
    held: &Held<'_>,
    arrivals: &Arc<Arrivals>,
    signals: &mut Signals,
    budget: Budget,
) -> End {
    let Means { settings, ui, .. } = held.means;
    let not_run =
        |failure: Option<Failure>, told| End { command: None, failure, told, since: Instant::now() };
    if args.wait {
        let waited = tokio::select! {
            waited = arrivals.wait() => waited,
            signal = signals.next_stop() => return not_run(Some(interrupted(signal)), Some(signal)),
        };
        if let Err(failure) = waited {
            return not_run(Some(failure.hint("the command was not run")), None);
        }
    }
    // What was said so far comes before what the command says.
    ui.flush();
    let started = create_dir(dir)
        .and_then(|()| Child::start(&args.command, dir, &variables(held.session.id(), settings)));
    let child = match started {
        Ok(child) => child,
        Err(failure) => return not_run(Some(failure), None),
    };
    if !args.wait {
        drop(arrivals.follow());
    }
    // The progress display must not disturb an editor or a shell that has the terminal.
    ui.rest(child.has_terminal());
    signals.guard(Some(child.group()));
    let Supervised { ended, told, since } = supervise(child, signals, budget, ui).await;
    signals.guard(None);
    ui.resume();
    End { command: Some(ended), failure: None, told, since }
}

/// Returns the command's exit code. If the command succeeded, or ended because it was told to stop, and the
/// sync did not succeed, returns the sync's code.
fn final_exit(end: &End, sync: Exit) -> Exit {
    match (end.told, &end.failure, end.command) {
        (Some(_), ..) if sync != Exit::DONE => sync,
        (Some(signal), ..) => Exit::signal(signal.as_raw()),
        (None, Some(failure), _) => failure.exit,
        (None, None, command) => match command.map(Ended::exit) {
            None | Some(Exit::DONE) => sync,
            Some(command) => command,
        },
    }
}

fn create_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::local("create", dir, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let code = |command, told, sync| {
            let failure = None;
            final_exit(&End { command: Some(command), failure, told, since: Instant::now() }, sync).0
        };
        assert_eq!(code(Ended::Code(0), None, Exit::DONE), 0);
        assert_eq!(code(Ended::Code(7), None, Exit::CONFLICTS), 7);
        assert_eq!(code(Ended::Code(0), None, Exit::CONFLICTS), 4);
        assert_eq!(code(Ended::Signal(9), None, Exit::DONE), 137);
        assert_eq!(code(Ended::Signal(15), Some(Signal::TERM), Exit::DONE), 143);
        assert_eq!(code(Ended::Code(0), Some(Signal::INT), Exit::DONE), 130);
        assert_eq!(code(Ended::Signal(15), Some(Signal::TERM), Exit::INCOMPLETE), 3);
    }
}
