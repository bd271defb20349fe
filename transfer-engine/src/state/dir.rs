//! Where the state of a mount lies, and its lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::base::{BaseHeader, BaseReader, rewrite_header};
use super::cache::Cache;
use crate::error::Error;
use crate::format::{ContextName, sha256};

/// The state of a mount, locked by this process.
#[derive(Debug)]
pub(crate) struct MountState {
    dir: PathBuf,
    /// Held until this is dropped.
    _lock: File,
}

/// The state of one context at a mount.
#[derive(Debug, Clone)]
pub(crate) struct ContextState {
    dir: PathBuf,
}

/// Returns the directory of a mount's state.
pub(crate) fn mount_dir(state_dir: &Path, mount: &Path) -> PathBuf {
    state_dir.join("mounts").join(short_hash(mount.as_os_str().as_bytes()))
}

fn short_hash(bytes: &[u8]) -> String {
    sha256(bytes).to_string()[..32].to_owned()
}

impl MountState {
    /// Locks the state of a mount, whose path is absolute and without links.
    pub(crate) fn lock(state_dir: &Path, mount: &Path) -> Result<Self, Error> {
        let dir = mount_dir(state_dir, mount);
        let cannot = |e| Error::local("use the state in", dir.clone(), e);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(cannot)?;
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy: the refusal stands without it. One who has just taken the
                // lock is given a moment to write its name.
                for _ in 0..10 {
                    let read = lock.seek(SeekFrom::Start(0)).and_then(|_| lock.read_to_string(&mut holder));
                    if read.is_err() || !holder.is_empty() {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                return Err(Error::Locked { mount: mount.to_owned(), holder });
            }
            Err(TryLockError::Error(e)) => return Err(cannot(e)),
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let holder = format!("process {} on {host}", std::process::id());
        let write = |lock: &mut File| -> io::Result<()> {
            lock.set_len(0)?;
            lock.seek(SeekFrom::Start(0))?;
            lock.write_all(holder.as_bytes())
        };
        write(&mut lock).map_err(cannot)?;
        Ok(Self { dir, _lock: lock })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the state of a context at this mount, making its directory.
    pub(crate) fn context(&self, location: &str, context: &ContextName) -> Result<ContextState, Error> {
        let dir = self.dir.join(short_hash(format!("{location}\0{context}").as_bytes()));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| Error::local("use the state in", &dir, e))?;
        Ok(ContextState { dir })
    }
}

impl ContextState {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// The base that a commit under way would give.
    pub(crate) fn next_base(&self) -> PathBuf {
        self.dir.join("base.next")
    }

    /// What a download has put in place since the base was written.
    pub(crate) fn arrivals(&self) -> PathBuf {
        self.dir.join("arrivals")
    }

    /// The base while what arrived is written into it.
    pub(crate) fn folded_base(&self) -> PathBuf {
        self.dir.join("base.fold")
    }

    /// Takes the folded base as the base, and forgets what was written into it.
    pub(crate) fn adopt_folded(&self) -> Result<(), Error> {
        let adopt = || {
            fs::rename(self.folded_base(), self.base())?;
            File::open(&self.dir)?.sync_all()
        };
        adopt().map_err(|e| Error::local("replace", self.base(), e))?;
        self.drop_arrivals()
    }

    /// Forgets what arrived.
    pub(crate) fn drop_arrivals(&self) -> Result<(), Error> {
        match fs::remove_file(self.arrivals()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::local("remove", self.arrivals(), e)),
            _ => Ok(()),
        }
    }

    /// The packs that were put and that no commit of this mount refers to yet.
    pub(crate) fn packs(&self) -> PathBuf {
        self.dir.join("packs")
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.dir.join("cache"))
    }

    /// Takes the next base as the base, under a header that now also knows the snapshot's key.
    pub(crate) fn adopt_next(&self, header: &BaseHeader) -> Result<(), Error> {
        let (next, base) = (self.next_base(), self.base());
        let adopt = || {
            rewrite_header(&next, header)?;
            fs::rename(&next, &base)?;
            File::open(&self.dir)?.sync_all()
        };
        adopt().map_err(|e| Error::local("replace", base.clone(), e))
    }

    /// Drops the next base.
    pub(crate) fn drop_next(&self) -> Result<(), Error> {
        match fs::remove_file(self.next_base()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::local("remove", self.next_base(), e)),
            _ => Ok(()),
        }
    }

    /// Drops a base that can't be read.
    pub(crate) fn drop_base(&self) -> Result<(), Error> {
        fs::remove_file(self.base()).map_err(|e| Error::local("remove", self.base(), e))
    }

    /// Returns the header of the base, or `None` where there is none that can be used: then the mount is
    /// treated as new, which deletes nothing on either side.
    pub(crate) fn header(&self) -> Option<BaseHeader> {
        usable(BaseReader::header(&self.base()))
    }

    /// Returns the header of the next base.
    pub(crate) fn next_header(&self) -> Option<BaseHeader> {
        usable(BaseReader::header(&self.next_base()))
    }
}

fn usable(header: io::Result<Option<BaseHeader>>) -> Option<BaseHeader> {
    header.unwrap_or_else(|e| {
        tracing::warn!(error = %e, "the local state can't be read; the mount is treated as new");
        None
    })
}
