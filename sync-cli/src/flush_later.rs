//! The flush that a pull does not wait for: another process of this program does it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use transfer_engine::{Error, LeftUnflushed, Mount};

use crate::exit::Exit;

/// The variable that makes a process flush a mount, and do nothing else.
const VARIABLE: &str = "_CTXSYNC_FLUSH";

/// Lets another process flush what a sync has left to be flushed. Where none can be started, flushes it here.
///
/// # Errors
/// As [`Mount::left_unflushed`] and [`LeftUnflushed::flush`].
pub(crate) fn start(mount: &Mount) -> Result<(), Error> {
    let Some(left) = mount.left_unflushed()? else { return Ok(()) };
    match spawn(&left) {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::debug!(%error, "no process can be started that flushes the mount");
            left.flush()
        }
    }
}

fn spawn(left: &LeftUnflushed) -> io::Result<()> {
    let mut flush = Command::new(std::env::current_exe()?);
    flush.arg("flush").arg(left.mount()).arg(left.state());
    // Nothing is kept open or busy but the mount's file system, and no secret is passed on.
    flush.env_clear().env(VARIABLE, "1").current_dir("/").process_group(0);
    flush.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    flush.spawn().map(drop)
}

/// Flushes a mount, if this is the process for that.
pub(crate) fn answer(args: &[OsString]) -> Option<Exit> {
    std::env::var_os(VARIABLE)?;
    let [_, flush, mount, state] = args else { return None };
    if flush != OsStr::new("flush") {
        return None;
    }
    // There is nobody to tell. If it fails, the next sync flushes, or compares after a loss of power.
    let flushed = LeftUnflushed::new(Path::new(mount), Path::new(state)).flush();
    Some(if flushed.is_ok() { Exit::DONE } else { Exit::FAILED })
}
