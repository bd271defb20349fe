//! Reads files of the state. Missing, unreadable and damaged are different cases: only a missing file is
//! `None`, and only a damaged one is a [`FormatError`](crate::format::FormatError).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::format::{FormatError, Part};

/// An open file of the state.
#[derive(Debug)]
pub(super) struct StateFile {
    file: File,
    path: PathBuf,
    env: Env,
}

impl StateFile {
    /// Opens a file; `None` if there is none.
    pub(super) fn open(path: &Path, env: &Env) -> io::Result<Option<Self>> {
        let opened = env.check_reading("openat", path).and_then(|()| File::open(path));
        match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => Ok(Some(Self { file: opened?, path: path.to_owned(), env: env.clone() })),
        }
    }

    /// Reads a whole file; `None` if there is none.
    pub(super) fn read_all(path: &Path, env: &Env) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = Self::open(path, env)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.env.check_reading("pread64", &self.path)?;
        self.file.read_at(buf, at)
    }
}

impl Read for StateFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.env.check_reading("read", &self.path)?;
        self.file.read(buf)
    }
}

/// Fills `buf`. Only bytes that end too early count as damage.
pub(super) fn read_whole(from: &mut impl Read, buf: &mut [u8]) -> io::Result<()> {
    from.read_exact(buf).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::other(FormatError::Truncated { part: Part::State, offset: 0 })
        }
        _ => e,
    })
}

/// Returns what is wrong with the bytes of the state, if the error means that they are damaged.
pub(super) fn damage(error: &io::Error) -> Option<&FormatError> {
    error.get_ref().and_then(|e| e.downcast_ref::<FormatError>()).filter(|e| e.is_damaged_state())
}
