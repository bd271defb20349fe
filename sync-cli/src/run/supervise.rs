//! Passes signals on to the command, and ends it when this program is told to stop.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use super::child::{Child, Ended, Event};
use super::signals::{self, Signals};
use crate::output::Ui;

/// How often it is looked whether a group that was told to end is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long what was killed may take to be gone.
const BURIAL: Duration = Duration::from_secs(3);

/// How a supervised command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Supervised {
    pub(crate) ended: Ended,
    /// The signal that told this program to stop while the command ran.
    pub(crate) told: Option<Signal>,
}

/// The ending of a group: asked first, then killed.
enum Ending {
    /// Nobody asked it to.
    No,
    /// Asked; to be killed then.
    Asked(Instant),
    /// Killed; given up then.
    Killed(Instant),
}

impl Ending {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::Asked(at) | Self::Killed(at) => Some(*at),
        }
    }
}

/// Waits until the command and its whole group have ended.
///
/// SIGTERM and SIGINT ask the group to end and, `kill_after` later, kill it; a second one kills at once.
/// What the command itself leaves running when it ends is ended in the same way.
pub(crate) async fn supervise(
    mut child: Child,
    signals: &mut Signals,
    kill_after: Duration,
    ui: &Ui,
) -> Supervised {
    let group = child.group;
    let mut ended = None;
    let mut told = None;
    let mut ending = Ending::No;
    loop {
        if let Some(ended) = ended {
            if !group.is_alive() {
                break finish(&child, ended, told);
            }
            if matches!(ending, Ending::No) {
                group.terminate();
                ending = Ending::Asked(Instant::now() + kill_after);
            }
        }
        let deadline = ending.deadline();
        tokio::select! {
            event = child.events.recv(), if ended.is_none() => match event {
                Some(Event::Ended(how)) => ended = Some(how),
                Some(Event::Stopped(signal)) => stopped(&child, signal),
                // The reaper ended without a word, which only a lost child explains.
                None => ended = Some(Ended::Signal(Signal::KILL.as_raw())),
            },
            signal = signals.next() => {
                if !signals::is_stop(signal) {
                    group.send(signal);
                } else if told.is_none() && ended.is_none() {
                    ui.note(&format!("{}: ending the command", signals::name(signal)));
                    told = Some(signal);
                    group.terminate();
                    ending = Ending::Asked(Instant::now() + kill_after);
                } else {
                    group.send(Signal::KILL);
                    ending = Ending::Killed(Instant::now() + BURIAL);
                }
            }
            () = until(deadline) => match ending {
                Ending::No | Ending::Asked(_) => {
                    group.send(Signal::KILL);
                    ending = Ending::Killed(Instant::now() + BURIAL);
                }
                Ending::Killed(_) => {
                    ui.warning("some processes of the command can't be ended; what they still write may be missed");
                    break finish(&child, ended.unwrap_or(Ended::Signal(Signal::KILL.as_raw())), told);
                }
            },
            () = sleep(LOOK_EVERY), if ended.is_some() => {}
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn finish(child: &Child, ended: Ended, told: Option<Signal>) -> Supervised {
    if let Some(terminal) = &child.terminal {
        terminal.take_back();
    }
    Supervised { ended, told }
}

/// The command was stopped: by the user, or for asking for the terminal too early.
fn stopped(child: &Child, signal: Option<Signal>) {
    let Some(terminal) = &child.terminal else { return };
    if !(matches!(signal, Some(Signal::TTIN | Signal::TTOU)) && terminal.is_lent()) {
        terminal.suspend();
    }
    child.group.send(Signal::CONT);
}
