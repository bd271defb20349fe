//! `watch`: a session in the foreground, which pushes changes until it is told to stop.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use transfer_engine::{Session, TaskState, TaskType};

use super::Finished;
use super::mounts::{require, sends_something};
use super::odd_place::{self, Unasked};
use super::session::{Leave, open, with_checkpoints};
use super::sync::{absolute, mount_of};
use crate::args::WatchArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::output::Ui;
use crate::policy;
use crate::run::interrupted;
use crate::run::{Budget, Signals, is_stop, reap_orphans, signal_name};

/// How often the task is checked for a new checkpoint.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn watch(
    args: &WatchArgs,
    means: Means<'_>,
    signals: &mut Signals,
) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    signals.listen_for_all()?;
    reap_orphans();
    let policy = policy::chosen(settings)?;
    let mut sync = mount_of(&args.context, absolute(&args.dir)?, policy, args.opening.read_only)?;
    odd_place::ask(&sync, Some(&args.dir), Unasked::Warned, means)?;
    if sync.read_only && args.fork_from.is_some() {
        return Err(sends_something("--fork-from"));
    }
    if !sync.policy.upload_policy.auto_upload && !sync.read_only {
        ui.warning("autoUpload is off in the policy: only `ctxsync push` changes the context");
    }
    with_checkpoints(&mut sync);
    let dir = sync.path.clone();
    require(&args.opening, &dir, std::slice::from_mut(&mut sync), means)?;
    let budget = Budget { total: settings.release_timeout.value, kill_after: settings.kill_after.value };
    let made = Cell::new(None);
    let held = tokio::select! {
        held = open(vec![sync], false, (args.fork_from.as_ref(), &made), means) => held?,
        signal = stop_or_hangup(signals) => return Err(interrupted(signal)),
    };
    signals.hold(true);
    ui.note(&format!(
        "watching {} for context {}; SIGTERM, SIGINT or SIGHUP ends it",
        args.dir.display(),
        args.context
    ));
    let arrivals = held.arrivals(ui);
    drop(arrivals.follow());
    let told: Signal = tokio::select! {
        told = stop_or_hangup(signals) => told,
        never = tell_of_checkpoints(&held.session, ui) => match never {},
    };
    let since = Instant::now();
    if !args.opening.read_only {
        ui.note(&format!("{}: saving what is left", signal_name(told)));
    }
    // When a terminal is closed, several SIGHUP may come, and then SIGTERM. Such a signal must not count as a
    // second request to stop.
    let told = Some(told).filter(|told| *told != Signal::HUP);
    let leave = Leave { told, save: false, moments: budget.moments(since), overdue: Exit::INCOMPLETE };
    let closed = held.release(leave, signals, &arrivals).await?;
    // Being told to stop is the normal end of a watch.
    let exit = closed.exit;
    Ok(Finished { exit, report: Some(closed.report), ..Finished::default() })
}

/// Waits for a signal that ends a watch, which may be the hangup of its terminal.
async fn stop_or_hangup(signals: &mut Signals) -> Signal {
    loop {
        let signal = signals.next().await;
        if is_stop(signal) || signal == Signal::HUP {
            return signal;
        }
    }
}

/// Reports each checkpoint that succeeded. Failures are reported elsewhere.
async fn tell_of_checkpoints(session: &Session, ui: &Ui) -> Infallible {
    let mut seen = None;
    loop {
        let rows = session.context().info().context_status_data;
        let upload = rows.iter().find(|row| row.task_type == TaskType::Upload);
        let pushed = upload.filter(|row| row.status == TaskState::Success).and_then(|row| row.snapshot);
        if let Some(number) = pushed
            && seen.replace(number) != Some(number)
        {
            ui.note(&format!("pushed: snapshot {number} is up to date"));
        }
        sleep(LOOK_EVERY).await;
    }
}
