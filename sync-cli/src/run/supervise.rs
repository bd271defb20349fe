//! Forwards signals to the command, and ends the command when this program is told to stop.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use super::budget::Budget;
use super::child::{Child, Event};
use super::ended::Ended;
use super::signals::Signals;
use super::stop::{is_stop, signal_name};
use crate::output::Ui;

/// How often to check whether the processes are gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a supervised command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Supervised {
    pub(crate) ended: Ended,
    /// The signal that told this program to stop while the command ran.
    pub(crate) told: Option<Signal>,
    /// When the time limit started: at the signal, or when the command ended by itself.
    pub(crate) since: Instant,
}

/// The steps of ending what the command started: first SIGTERM, then SIGKILL.
enum Ending {
    /// Not started.
    No,
    /// SIGTERM was sent; SIGKILL follows at this time.
    Asked(Instant),
    /// SIGKILL was sent; at this time the wait ends.
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

/// Waits until the command and everything that it started have ended.
///
/// SIGTERM and SIGINT are answered by asking the group to end, and by killing it after the budget's grace. A
/// second signal kills it at once. Processes that the command leaves running when it ends, inside its group
/// or outside, are ended in the same way.
pub(crate) async fn supervise(
    mut child: Child,
    signals: &mut Signals,
    budget: Budget,
    ui: &Ui,
) -> Supervised {
    let mut ended = None;
    let mut told = None;
    let mut since = None;
    let mut ending = Ending::No;
    let mut all_asked = false;
    loop {
        if let Some(ended) = ended {
            if !child.group.is_alive() && !child.strays.are_alive() {
                break finish(&child, ended, told, since);
            }
            if !all_asked {
                all_asked = true;
                child.group.terminate();
                child.strays.terminate();
                if matches!(ending, Ending::No) {
                    ending = Ending::Asked(Instant::now() + budget.grace());
                }
            }
            if matches!(ending, Ending::Killed(_)) {
                // A process may have started another one just before it was killed.
                kill(&child);
            }
        }
        let deadline = ending.deadline();
        tokio::select! {
            event = child.events.recv(), if ended.is_none() => match event {
                Some(Event::Ended(how)) => {
                    ended = Some(how);
                    since.get_or_insert_with(Instant::now);
                }
                Some(Event::Stopped(signal)) => stopped(&child, signal),
                // The reaper can only end without a report if the child was lost.
                None => ended = Some(Ended::Signal(Signal::KILL.as_raw())),
            },
            signal = signals.next() => {
                if !is_stop(signal) {
                    child.group.send(signal);
                } else if told.is_none() && ended.is_none() {
                    ui.note(&format!("{}: ending the command", signal_name(signal)));
                    told = Some(signal);
                    since = Some(Instant::now());
                    child.group.terminate();
                    ending = Ending::Asked(Instant::now() + budget.grace());
                } else {
                    kill(&child);
                    ending = Ending::Killed(Instant::now() + budget.burial());
                }
            }
            () = until(deadline) => match ending {
                Ending::No | Ending::Asked(_) => {
                    kill(&child);
                    ending = Ending::Killed(Instant::now() + budget.burial());
                }
                Ending::Killed(_) => {
                    ui.warning("some processes of the command could not be stopped; later writes by them are not pushed");
                    break finish(&child, ended.unwrap_or(Ended::Signal(Signal::KILL.as_raw())), told, since);
                }
            },
            () = sleep(LOOK_EVERY), if ended.is_some() => {}
        }
    }
}

fn kill(child: &Child) {
    child.group.send(Signal::KILL);
    child.strays.send(Signal::KILL);
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn finish(child: &Child, ended: Ended, told: Option<Signal>, since: Option<Instant>) -> Supervised {
    if let Some(terminal) = &child.terminal {
        terminal.take_back();
    }
    Supervised { ended, told, since: since.unwrap_or_else(Instant::now) }
}

/// The command was stopped: by the user, or because it used the terminal too early.
fn stopped(child: &Child, signal: Option<Signal>) {
    let Some(terminal) = &child.terminal else { return };
    if !(matches!(signal, Some(Signal::TTIN | Signal::TTOU)) && terminal.is_lent()) {
        terminal.suspend();
    }
    child.group.send(Signal::CONT);
}
