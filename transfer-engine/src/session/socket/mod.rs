//! Requests of other processes, through a Unix socket beside the state of a mount that a session holds.

mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod server;
mod teller;
mod wire;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::local::os::NAMES_OF_OPEN;

pub use client::RunningSession;
pub(super) use server::{Door, barrier};

/// The longest path in the address of a socket: unix(7), and unix(4) of macOS.
const MAX_ADDRESS: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A directory, and a path to a socket in it that is short enough.
struct Way {
    /// Keeps the path valid.
    _dir: Option<File>,
    to: PathBuf,
}

impl Way {
    /// Returns the path to `name` in `dir`. If it is too long, it goes through the directory's handle.
    fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let direct = dir.join(name);
        if direct.as_os_str().len() <= MAX_ADDRESS {
            fs::symlink_metadata(dir)?;
            return Ok(Self { _dir: None, to: direct });
        }
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = File::from(openat(CWD, dir, flags, Mode::empty())?);
        let to = Path::new(NAMES_OF_OPEN).join(dir.as_raw_fd().to_string()).join(name);
        Ok(Self { _dir: Some(dir), to })
    }
}
