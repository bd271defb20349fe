//! Hears the signals that end the program, on a thread of its own, and ends it when its time is over.
//!
//! Everything else may hang: a read of a pipe that nobody writes to, a disk that does not answer, a thread that
//! can't be had. So the thread that hears does nothing else.

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

/// How long an orderly end may take once a signal has asked for it.
const ORDERLY: Duration = Duration::from_secs(1);
/// How long a session may take to hear the first signal: what its command did is not given up because a machine is
/// slow.
const HELD: Duration = Duration::from_secs(10);
/// How long the last words may take. Who does not read them can't hold up the end.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Says why the program ends.
pub(crate) type Speaker = Box<dyn Fn(&Failure) + Send + Sync>;

/// What the sentry has to know.
#[derive(Default)]
pub(super) struct Orders {
    /// When the program ends by itself, and as what.
    end: Option<End>,
    /// Whether signals are answered by something that saves first.
    pub(super) held: bool,
    /// Stop signals that were heard so far.
    heard: u32,
    /// What must not outlive the program.
    pub(super) group: Option<Group>,
    pub(super) speaker: Option<Speaker>,
}

struct End {
    at: Instant,
    failure: Failure,
    /// Whether it is because of a signal, which may be answered otherwise.
    told: bool,
}

impl Orders {
    /// Notes a stop signal: unless somebody answers it, the program ends soon.
    fn hear(&mut self, signal: Signal) {
        let patience = if self.held && self.heard == 0 { HELD } else { ORDERLY };
        self.heard += 1;
        self.end_by(Instant::now() + patience, interrupted(signal), true);
    }

    /// Ends the program at `at`, or at what was said before if that is earlier.
    fn end_by(&mut self, at: Instant, failure: Failure, told: bool) {
        if self.end.as_ref().is_none_or(|end| at < end.at) {
            self.end = Some(End { at, failure, told });
        }
    }

    /// Ends the program at `at`, whatever hangs.
    pub(super) fn end_at(&mut self, at: Instant, failure: Failure) {
        self.end_by(at, failure, false);
    }

    /// Ends the program soon.
    pub(super) fn end_soon(&mut self, failure: Failure) {
        self.end_by(Instant::now() + ORDERLY, failure, true);
    }

    /// A signal was answered: what follows from it takes its own time.
    pub(super) fn answer(&mut self) {
        if self.end.as_ref().is_some_and(|end| end.told) {
            self.end = None;
        }
    }
}

/// Starts the sentry, which passes on each stop signal. When this returns, none of them ends the program by itself any
/// more, nor does a file that gets too long for a limit: writing to it is an error like any other.
pub(super) fn start(orders: watch::Sender<Orders>, outgoing: UnboundedSender<Signal>) -> Result<(), Failure> {
    let (ready, is_ready) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| cannot("prepare for signals", &error))?;
    let stand = move || {
        runtime.block_on(async {
            let streams = STOPPING.into_iter().chain([Signal::XFSZ]).map(|which| {
                let stream = signal(SignalKind::from_raw(which.as_raw()))?;
                Ok((which, stream))
            });
            match streams.collect::<std::io::Result<Vec<_>>>() {
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
                // Nobody may listen yet, or any more.
                let _ = outgoing.send(signal);
            },
            () = until(end) => leave(orders),
            // The orders live as long as this.
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

/// Ends the program, unless it was told otherwise in the last moment.
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
            // Nobody waits for it any longer than that.
            let _ = said.send(());
        };
        // Where no thread can be had, the code alone must do.
        if thread::Builder::new().spawn(speak).is_ok() {
            let _ = was_said.recv_timeout(LAST_WORDS);
        }
    }
    std::process::exit(code.into());
}
