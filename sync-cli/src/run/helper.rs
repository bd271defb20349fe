//! Processes that this program starts for itself, besides the command. They do not count as left over from
//! the command.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, waitpid};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::ended::{Ended, Variable, ended_by};
use super::group::Group;

/// How often to check whether a helper has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Helpers that have not been waited for. The reaper of all children reports their end here.
static LIVING: Mutex<BTreeMap<i32, watch::Sender<Option<Ended>>>> = Mutex::new(BTreeMap::new());

fn living() -> MutexGuard<'static, BTreeMap<i32, watch::Sender<Option<Ended>>>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes the end of a process that was reaped, if it is a helper.
pub(super) fn reaped(pid: Pid, status: WaitStatus) {
    // `start` holds the lock while it starts a helper, so the helper is known before it can end.
    let mut living = living();
    if let Some(ended) = ended_by(status)
        && let Some(tell) = living.remove(&pid.as_raw_nonzero().get())
    {
        tell.send_replace(Some(ended));
    }
}

/// Whether a process is a helper that has not been waited for.
pub(super) fn is_helper(pid: i32) -> bool {
    living().contains_key(&pid)
}

/// A process in a group of its own. Clones refer to the same process.
#[derive(Debug, Clone)]
pub(super) struct Helper {
    group: Group,
    ended: watch::Receiver<Option<Ended>>,
}

impl Helper {
    /// Runs `command` in a shell in `dir`. Its output goes to standard error.
    pub(super) fn start(command: &OsStr, dir: &Path, variables: &[Variable]) -> io::Result<Self> {
        let mut starting = Command::new("/bin/sh");
        starting.arg("-c").arg(command).current_dir(dir).process_group(0).stdin(Stdio::null());
        starting.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        for (name, value) in variables {
            match value {
                Some(value) => starting.env(name, value),
                None => starting.env_remove(name),
            };
        }
        let mut living = living();
        let pid = starting.spawn()?.id().cast_signed();
        let (tell, ended) = watch::channel(None);
        living.insert(pid, tell);
        let group = Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
        Ok(Self { group: Group(group), ended })
    }

    /// Waits for the process to end, and returns how it ended.
    pub(super) async fn ended(&self) -> Ended {
        loop {
            if let Some(ended) = *self.ended.borrow() {
                return ended;
            }
            if let Ok(Some((pid, status))) = waitpid(Some(self.group.0), WaitOptions::NOHANG) {
                reaped(pid, status);
            } else {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Kills the process and its group.
    pub(super) fn kill(&self) {
        self.group.send(Signal::KILL);
    }

    /// Ends the process and the rest of its group: sends SIGTERM, and SIGKILL after `grace`.
    pub(super) async fn end(&self, grace: Duration) {
        if self.ended.borrow().is_none() {
            self.group.terminate();
            if timeout(grace, self.ended()).await.is_err() {
                self.kill();
                self.ended().await;
            }
        }
    }
}
