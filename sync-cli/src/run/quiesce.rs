//! The commands that run before and after a mount is read.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};
use transfer_engine::Quiesce;

use super::ended::{Ended, Variable};
use super::helper::Helper;

/// How long a command that took too long has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);
/// The least time for `--resume`, whatever the deadline.
const LEAST: Duration = Duration::from_millis(500);

/// Runs `--quiesce` and `--resume`.
#[derive(Debug)]
pub(crate) struct Commands {
    quiesce: Option<OsString>,
    resume: Option<OsString>,
    most: Duration,
    variables: OnceLock<Vec<Variable>>,
    /// Held from `--quiesce` to `--resume`: mounts are read one after the other.
    turn: Arc<tokio::sync::Mutex<()>>,
    reading: Mutex<Option<Reading>>,
}

/// The mount that is being read.
#[derive(Debug)]
struct Reading {
    mount: PathBuf,
    /// The running command.
    helper: Option<Helper>,
    /// Whether `--quiesce` was started, so that `--resume` is due.
    is_begun: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Commands {
    /// Returns the commands, if there are any. Each has the time limit `most`.
    pub(crate) fn new(
        quiesce: Option<OsString>,
        resume: Option<OsString>,
        most: Duration,
    ) -> Option<Arc<Self>> {
        (quiesce.is_some() || resume.is_some()).then(|| {
            Arc::new(Self {
                quiesce,
                resume,
                most,
                variables: OnceLock::new(),
                turn: Arc::default(),
                reading: Mutex::default(),
            })
        })
    }

    /// Sets additional environment variables for the commands.
    pub(crate) fn set_variables(&self, variables: Vec<Variable>) {
        // The variables are set once, before anything is read.
        let _ = self.variables.set(variables);
    }

    /// Waits until every due `--resume` has run, but no longer than `most`.
    pub(crate) async fn wait_resumed(&self, most: Duration) {
        if timeout(most, self.turn.lock()).await.is_err() {
            self.resume_now();
        }
    }

    /// Starts `--resume` if it is due, and does not wait for it, as there is no time left.
    pub(crate) fn resume_now(&self) {
        let Some(reading) = self.reading().take().filter(|reading| reading.is_begun) else { return };
        if let Some(helper) = &reading.helper {
            helper.kill();
        }
        if let Some(command) = &self.resume
            && let Err(error) = self.start(command, &reading.mount)
        {
            tracing::warn!("--resume was not run: {error}");
        }
    }

    fn reading(&self) -> MutexGuard<'_, Option<Reading>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, command: &OsStr, mount: &Path) -> io::Result<Helper> {
        Helper::start(command, mount, self.variables.get().map_or(&[], Vec::as_slice))
    }

    /// Returns the time limit of a command: at most a third of the remaining time.
    fn limit(&self, deadline: Option<Instant>) -> Duration {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        left.map_or(self.most, |left| self.most.min(left / 3))
    }

    async fn begin(&self, mount: &Path, deadline: Option<Instant>) -> io::Result<()> {
        let limit = self.limit(deadline);
        let turn = timeout(limit, Arc::clone(&self.turn).lock_owned());
        let turn = turn.await.map_err(|_| too_long("another mount is still read", limit))?;
        let helper = self.quiesce.as_ref().map(|command| self.start(command, mount)).transpose()?;
        let reading =
            Reading { mount: mount.to_owned(), helper: helper.clone(), is_begun: true, _turn: turn };
        *self.reading() = Some(reading);
        match helper {
            Some(helper) => ended("--quiesce", timeout(limit, helper.ended()).await.ok(), limit),
            None => Ok(()),
        }
    }

    async fn end(&self, mount: &Path, deadline: Option<Instant>) -> io::Result<()> {
        let before = match &mut *self.reading() {
            Some(reading) if reading.mount == mount => reading.helper.take(),
            // This mount's turn never came.
            _ => return Ok(()),
        };
        if let Some(helper) = before {
            helper.end(GRACE.min(self.limit(deadline))).await;
        }
        let limit = self.limit(deadline).max(LEAST.min(self.most));
        let resumed = match self.resume.as_ref().map(|command| self.start(command, mount)).transpose() {
            Ok(None) => Ok(()),
            Ok(Some(helper)) => {
                // The command is running, so `resume_now` must not start it again.
                if let Some(reading) = &mut *self.reading() {
                    reading.is_begun = false;
                }
                let resumed = ended("--resume", timeout(limit, helper.ended()).await.ok(), limit);
                helper.end(GRACE).await;
                resumed
            }
            Err(error) => Err(error),
        };
        // Let the next mount have its turn.
        self.reading().take();
        resumed
    }
}

/// The future that the engine awaits.
type Resulting<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

impl Quiesce for Commands {
    fn quiesce<'a>(&'a self, mount: &'a Path, deadline: Option<Instant>) -> Resulting<'a> {
        Box::pin(self.begin(mount, deadline))
    }

    fn resume<'a>(&'a self, mount: &'a Path, deadline: Option<Instant>) -> Resulting<'a> {
        Box::pin(self.end(mount, deadline))
    }
}

fn ended(option: &str, how: Option<Ended>, limit: Duration) -> io::Result<()> {
    match how {
        Some(Ended::Code(0)) => Ok(()),
        Some(Ended::Code(code)) => Err(io::Error::other(format!("{option} ended with code {code}"))),
        Some(Ended::Signal(signal)) => {
            Err(io::Error::other(format!("{option} was ended by signal {signal}")))
        }
        None => Err(too_long(&format!("{option} did not end"), limit)),
    }
}

fn too_long(what: &str, limit: Duration) -> io::Error {
    let seconds = limit.as_secs_f64();
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {seconds:.1} s"))
}
