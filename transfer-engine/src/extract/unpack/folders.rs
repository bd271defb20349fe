//! The directories of an archive, created and opened level by level below the target's handle.

use std::io;
use std::os::fd::OwnedFd;

use policy_core::TreePath;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::ExtractError;
use super::Extraction;
use super::seen::{Seen, What};
use crate::local::open_dir;

/// The directories that were created. Those from the target to the last one in use are open.
pub(super) struct Folders<'a> {
    job: &'a Extraction<'a>,
    made: Seen,
    open: Vec<(Box<[u8]>, OwnedFd)>,
}

impl<'a> Folders<'a> {
    pub(super) fn new(job: &'a Extraction<'a>) -> Self {
        Self { job, made: Seen::default(), open: Vec::new() }
    }

    /// Whether a directory was created.
    pub(super) fn has(&self, path: &TreePath) -> bool {
        path.is_root() || self.made.has(path.as_bytes(), What::Dir)
    }

    /// Returns the handle of a directory. It is created if it is missing, and so are its parents.
    pub(super) fn open(&mut self, path: &TreePath) -> Result<&OwnedFd, ExtractError> {
        let same = |((open, _), name): &(&(Box<[u8]>, OwnedFd), &[u8])| **open == **name;
        let shared = self.open.iter().zip(path.components()).take_while(same).count();
        self.open.truncate(shared);
        let mut end = 0;
        for (depth, name) in path.components().enumerate() {
            end += name.len() + usize::from(depth > 0);
            if depth < shared {
                continue;
            }
            let here = TreePath::new(&path.as_bytes()[..end])
                .map_err(|e| ExtractError::hostile(path.as_bytes(), e.to_string()))?;
            let new = self.made.note(here.as_bytes(), What::Dir);
            if new {
                self.fault("mkdirat", &here)?;
                let made = rustix::fs::mkdirat(self.last(), name, Mode::from_raw_mode(0o755));
                made.map_err(|e| self.refused("make", &here, e))?;
            }
            let dir = open_dir(self.last(), name).map_err(|e| local("open", &here, e))?;
            if new {
                self.job.into.give(&dir).map_err(|e| local("give away", &here, e))?;
                // The mode must not depend on the umask.
                let opened = rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755));
                opened.map_err(|e| local("set the mode of", &here, e))?;
            }
            self.open.push((name.into(), dir));
        }
        Ok(self.last())
    }

    fn last(&self) -> &OwnedFd {
        self.open.last().map_or(self.job.into.root(), |(_, dir)| dir)
    }

    /// Asks whether a call that changes something should fail, in a test.
    pub(super) fn fault(&self, operation: &'static str, path: &TreePath) -> Result<(), ExtractError> {
        let into = self.job.into;
        match into.env().check_fault(operation, &into.show(path)) {
            Ok(()) => Ok(()),
            Err(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
                Some(e) => Err(self.refused(operation, path, e)),
                None => Err(local(operation, path, e)),
            },
        }
    }

    /// Returns why a name could not be created. It is known by now that no other member has the name. So if
    /// it is taken, the file system treats two names as the same.
    pub(super) fn refused(&self, action: &str, path: &TreePath, e: Errno) -> ExtractError {
        match e {
            Errno::EXIST => ExtractError::hostile(
                path.as_bytes(),
                "has a name that this file system takes for the same as another member's",
            ),
            Errno::NAMETOOLONG | Errno::ILSEQ => {
                ExtractError::unsupported(format!("this file system takes no name such as `{path}`"))
            }
            e => local(action, path, e),
        }
    }
}

/// Returns the error of a call on a path below the target.
pub(super) fn local(action: &str, path: &TreePath, e: impl Into<io::Error>) -> ExtractError {
    ExtractError::local(format!("{action} `{path}`"), e)
}
