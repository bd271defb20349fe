//! Flushing a mount after the process that synced it has ended.

use std::path::{Path, PathBuf};

use super::Mount;
use crate::env::Env;
use crate::error::Error;
use crate::state::ContextState;

/// A mount that a pull did not wait for, and where its state is. Both paths are all that another process needs to flush
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftUnflushed {
    mount: PathBuf,
    state: PathBuf,
}

impl LeftUnflushed {
    /// Returns what another process was told by [`LeftUnflushed::mount`] and [`LeftUnflushed::state`].
    pub fn new(mount: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self { mount: mount.into(), state: state.into() }
    }

    /// Returns the mount's path.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Returns the directory with the state of the context at the mount.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Flushes the file system of the mount, and notes for the next sync that it was. Takes no lock, so that no other
    /// process has to wait. If another sync has begun meanwhile, the note does not count.
    ///
    /// # Errors
    /// The disk can't be flushed, or the state can't be read or written.
    pub fn flush(&self) -> Result<(), Error> {
        ContextState::at(self.state.clone(), &self.mount, &Env::real()).flush_unlocked()
    }
}

impl Mount {
    /// Returns what is left to be flushed after a sync with [`SyncOptions::flush_behind`](crate::SyncOptions); `None` if
    /// nothing is. After a loss of power before that flush, the next sync has to find out what was lost.
    ///
    /// # Errors
    /// The state can't be read or written.
    pub fn left_unflushed(&self) -> Result<Option<LeftUnflushed>, Error> {
        if !self.files.is_unflushed()? {
            return Ok(None);
        }
        if self.files.is_in_memory() && !self.files.has_arrivals()? {
            self.files.settle(true)?;
            return Ok(None);
        }
        Ok(Some(LeftUnflushed::new(&self.path, self.files.dir())))
    }
}
