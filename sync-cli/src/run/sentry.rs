//! Receives the signals that end the program, on a thread of its own, and ends the program when its time is
//! over.
//!
//! Everything else may hang: a read of a pipe that nobody writes to, a disk that does not answer, a thread
//! that can't be started. So this thread does nothing else.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::group::Group;
use super::stop::{STOPPING, interrupted};
use crate::errors::Failure;
use crate::exit::Exit;

/// How long an orderly end may take after a signal.
const ORDERLY: Duration = Duration::from_secs(1);
/// How long a session may take to react to the first signal. A slow machine is no reason to lose the
/// command's work.
const HELD: Duration = Duration::from_secs(10);
/// How long printing the last message may take. A reader that does not read can't delay the end.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Prints why the program ends.
pub(crate) type Speaker = Box<dyn Fn(&Failure) + Send + Sync>;

/// What the thread has to know.
#[derive(Default)]
pub(super) struct Orders {
    /// When the program is to end by force, and with which failure.
    end: Option<End>,
    /// Whether a session reacts to signals, and pushes first.
    pub(super) held: bool,
    /// Whether a pager shows the results. It reacts to SIGINT in its own way.
    pub(super) is_paged: bool,
    /// The number of stop signals so far.
    heard: u32,
    /// The process group that must not outlive the program.
    pub(super) group: Option<Group>,
    pub(super) speaker: Option<Speaker>,
}

struct End {
    at: Instant,
    failure: Failure,
    /// Whether a signal caused it. Then a session's reaction cancels it.
    told: bool,
}

impl Orders {
    /// Notes a stop signal. Unless something reacts to it, the program ends soon.
    fn hear(&mut self, signal: Signal) {
        if self.is_paged && signal == Signal::INT {
            return;
        }
        let patience = if self.held && self.heard == 0 { HELD } else { ORDERLY };
        self.heard += 1;
        self.end_by(Instant::now() + patience, interrupted(signal), true);
    }

    /// Ends the program at `at`, or at the time set before if that is earlier.
    fn end_by(&mut self, at: Instant, failure: Failure, told: bool) {
        if self.end.as_ref().is_none_or(|end| at < end.at) {
            self.end = Some(End { at, failure, told });
        }
    }

    /// Ends the program at `at`, even if something hangs.
    pub(super) fn end_at(&mut self, at: Instant, failure: Failure) {
        self.end_by(at, failure, false);
    }

    /// Ends the program soon.
    pub(super) fn end_soon(&mut self, failure: Failure) {
        self.end_by(Instant::now() + ORDERLY, failure, true);
    }

    /// Notes that something reacted to a signal. What it does then has its own time limit.
    pub(super) fn answer(&mut self) {
        if self.end.as_ref().is_some_and(|end| end.told) {
            self.end = None;
        }
    }
}

/// Starts the thread, which forwards each stop signal. When this returns, stop signals no longer end the
/// program by default. Neither does a file that exceeds the size limit (SIGXFSZ): writing to it is an
/// ordinary error.
pub(super) fn start(orders: watch::Sender<Orders>, outgoing: UnboundedSender<Signal>) -> Result<(), Failure> {
    let (ready, is_ready) = mpsc::channel();
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = can_open_files().and_then(|()| build());
    let runtime = runtime.map_err(|error| cannot("prepare for signals", &error))?;
    let stand = move || {
        runtime.block_on(async {
            let streams = STOPPING.into_iter().chain([Signal::XFSZ]).map(|which| {
                let stream = signal(SignalKind::from_raw(which.as_raw()))?;
                Ok((which, stream))
            });
            match streams.collect::<io::Result<Vec<_>>>() {
                Ok(streams) => {
                    let _ = ready.send(Ok(()));
                    stand(streams, &orders, &outgoing).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(stand)
        .map_err(|error| super::threads::refused(&error))?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(cannot("listen for signals", &error)),
        Err(error) => Err(cannot("listen for signals", &error)),
    }
}

/// Checks whether a few more files can be opened: where the runtime prepares for signals, it panics if not.
fn can_open_files() -> io::Result<()> {
    (0..4).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>().map(drop)
}

fn cannot(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::FAILED, format!("cannot {what}")).caused_by(error)
}

async fn stand(
    streams: Vec<(Signal, tokio::signal::unix::Signal)>,
    orders: &watch::Sender<Orders>,
    outgoing: &UnboundedSender<Signal>,
) {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    for (which, mut stream) in streams {
        let heard = heard.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let _ = heard.send(which);
            }
        });
    }
    let mut changes = orders.subscribe();
    loop {
        let end = changes.borrow_and_update().end.as_ref().map(|end| end.at);
        tokio::select! {
            Some(signal) = hears.recv() => if STOPPING.contains(&signal) {
                orders.send_modify(|orders| orders.hear(signal));
                // There may be no listener yet, or no longer.
                let _ = outgoing.send(signal);
            },
            () = until(end) => leave(orders),
            // The sender of the orders lives as long as this thread.
            _ = changes.changed() => {}
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Ends the program, unless the order was cancelled at the last moment.
fn leave(orders: &watch::Sender<Orders>) {
    let mut last = (None, None);
    orders.send_if_modified(|orders| {
        let over = |end: &mut End| end.at <= Instant::now();
        if let Some(end) = orders.end.take_if(over) {
            if let Some(group) = orders.group {
                group.send(Signal::KILL);
            }
            last = (Some(end.failure), orders.speaker.take());
        }
        false
    });
    let (Some(failure), speaker) = last else { return };
    let code = failure.exit.0;
    if let Some(speaker) = speaker {
        let (said, was_said) = mpsc::channel();
        let speak = move || {
            speaker(&failure);
            // The receiver may have given up.
            let _ = said.send(());
        };
        // If no thread can be started, the exit code has to be enough.
        if thread::Builder::new().spawn(speak).is_ok() {
            let _ = was_said.recv_timeout(LAST_WORDS);
        }
    }
    std::process::exit(code.into());
}
