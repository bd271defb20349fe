//! The directory of a mount's state, and its lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use policy_core::Digest;

use super::arrivals::ArrivalsReader;
use super::base::{BaseHeader, BaseReader, is_unfinished, rewrite_header};
use super::cache::Cache;
use super::file::damage;
use crate::env::Env;
use crate::error::Error;
use crate::format::{ContextName, sha256};

/// The name of a session's socket in the state of its mount.
pub(crate) const SOCKET: &str = "socket";
/// Its name while it is being made.
pub(crate) const NEW_SOCKET: &str = "socket.new";

/// The state of a mount, locked by this process.
#[derive(Debug)]
pub(crate) struct MountState {
    dir: PathBuf,
    /// Held until this is dropped.
    _lock: File,
}

/// The state of one context, or of one part of it, at a mount. What was written for another part, or for the whole
/// context, counts as absent: its paths mean other things.
#[derive(Debug, Clone)]
pub(crate) struct ContextState {
    dir: PathBuf,
    env: Env,
    /// See [`BaseHeader::part`].
    part: Option<Digest>,
}

/// Returns the directory of a mount's state.
pub(crate) fn mount_dir(state_dir: &Path, mount: &Path) -> PathBuf {
    state_dir.join("mounts").join(short_hash(mount.as_os_str().as_bytes()))
}

fn short_hash(bytes: &[u8]) -> String {
    sha256(bytes).to_string()[..32].to_owned()
}

impl Drop for MountState {
    /// Removes the session's socket while the lock is held: later it could be the next session's socket.
    fn drop(&mut self) {
        self.remove_sockets();
    }
}

impl MountState {
    /// Locks the state of a mount. `mount` is absolute and has no links.
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
                // The holder's name only improves the message. A process that has just taken the lock gets a
                // moment to write its name.
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
        let locked = Self { dir, _lock: lock };
        // A session holds the lock, so these belong to one that was killed.
        locked.remove_sockets();
        Ok(locked)
    }

    fn remove_sockets(&self) {
        for left in [SOCKET, NEW_SOCKET] {
            // If it stays, it leads nowhere.
            let _ = fs::remove_file(self.dir.join(left));
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the states of all other contexts at this mount.
    pub(crate) fn others(&self, than: &ContextState) -> Result<Vec<ContextState>, Error> {
        let list = || -> io::Result<Vec<ContextState>> {
            let mut others = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() && entry.path() != than.dir {
                    others.push(ContextState { dir: entry.path(), ..than.clone() });
                }
            }
            others.sort_by(|a, b| a.dir.cmp(&b.dir));
            Ok(others)
        };
        list().map_err(|e| Error::local("use the state in", &self.dir, e))
    }

    /// Returns the state of a part of a context at this mount, and creates its directory.
    pub(crate) fn context(
        &self,
        location: &str,
        context: &ContextName,
        part: Option<Digest>,
        env: &Env,
    ) -> Result<ContextState, Error> {
        let dir = context_dir(&self.dir, location, context);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| Error::local("use the state in", &dir, e))?;
        Ok(ContextState { dir, env: env.clone(), part })
    }
}

fn context_dir(mount: &Path, location: &str, context: &ContextName) -> PathBuf {
    mount.join(short_hash(format!("{location}\0{context}").as_bytes()))
}

impl ContextState {
    /// Returns the state of a context, or of a part of it, at a mount, only to be read, because it is not locked. It need
    /// not exist.
    pub(crate) fn unlocked(
        state_dir: &Path,
        mount: &Path,
        location: &str,
        (context, part): (&ContextName, Option<Digest>),
        env: &Env,
    ) -> Self {
        let dir = context_dir(&mount_dir(state_dir, mount), location, context);
        Self { dir, env: env.clone(), part }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// Returns the path of the base that a running commit would give.
    pub(crate) fn next_base(&self) -> PathBuf {
        self.dir.join("base.next")
    }

    /// Returns the path of the journal of arrivals.
    pub(crate) fn arrivals(&self) -> PathBuf {
        self.dir.join("arrivals")
    }

    /// Returns the path of the base into which the journal is being folded.
    pub(crate) fn folded_base(&self) -> PathBuf {
        self.dir.join("base.fold")
    }

    /// Makes the folded base the base, and removes the journal.
    pub(crate) fn adopt_folded(&self) -> Result<(), Error> {
        let adopt = || {
            fs::rename(self.folded_base(), self.base())?;
            File::open(&self.dir)?.sync_all()
        };
        adopt().map_err(|e| Error::local("replace", self.base(), e))?;
        self.drop_arrivals()
    }

    /// Removes the journal of arrivals.
    pub(crate) fn drop_arrivals(&self) -> Result<(), Error> {
        remove(self.arrivals())
    }

    /// Returns the path of the journal of packs that no commit of this mount refers to yet.
    pub(crate) fn packs(&self) -> PathBuf {
        self.dir.join("packs")
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.dir.join("cache"))
    }

    /// Makes the next base the base, with a header that also has the snapshot's key.
    pub(crate) fn adopt_next(&self, header: &BaseHeader) -> Result<(), Error> {
        let (next, base) = (self.next_base(), self.base());
        let adopt = || {
            rewrite_header(&next, header)?;
            fs::rename(&next, &base)?;
            File::open(&self.dir)?.sync_all()
        };
        adopt().map_err(|e| Error::local("replace", base.clone(), e))
    }

    /// Copies the base from another context's state, with a new header.
    pub(crate) fn take_base(&self, from: &Self, header: &BaseHeader) -> Result<(), Error> {
        let new = self.folded_base();
        let take = || {
            fs::copy(from.base(), &new)?;
            rewrite_header(&new, header)?;
            fs::rename(&new, self.base())?;
            File::open(&self.dir)?.sync_all()
        };
        take().map_err(|e| Error::local("replace", self.base(), e))
    }

    /// Removes the next base.
    pub(crate) fn drop_next(&self) -> Result<(), Error> {
        remove(self.next_base())
    }

    /// Returns the header of the base; `None` if there is no base, because the mount is new.
    pub(crate) fn header(&self) -> Result<Option<BaseHeader>, Error> {
        Ok(self.read_base()?.map(|(header, _)| header))
    }

    /// Opens the base; `None` if there is none.
    pub(crate) fn read_base(&self) -> Result<Option<(BaseHeader, BaseReader)>, Error> {
        let opened = BaseReader::open(&self.base(), &self.env);
        let opened = opened.map_err(|e| Error::local("read", self.base(), e))?;
        Ok(opened.filter(|(header, _)| self.is_own(header)))
    }

    /// Whether something was written for the part that the mount has.
    fn is_own(&self, header: &BaseHeader) -> bool {
        header.part == self.part
    }

    /// Returns the header of the next base; `None` if there is none, or if it was not finished.
    pub(crate) fn next_header(&self) -> Result<Option<BaseHeader>, Error> {
        let next = self.next_base();
        let read = || match is_unfinished(&next, &self.env)? {
            true => Ok(None),
            false => BaseReader::open(&next, &self.env),
        };
        let opened = read().map_err(|e| Error::local("read", &next, e))?;
        Ok(opened.map(|(header, _)| header).filter(|header| self.is_own(header)))
    }

    /// Whether a commit may have been interrupted.
    pub(crate) fn has_next_base(&self) -> Result<bool, Error> {
        self.holds(&self.next_base())
    }

    /// Whether a pull was interrupted.
    pub(crate) fn has_arrivals(&self) -> Result<bool, Error> {
        self.holds(&self.arrivals())
    }

    /// Opens the journal of arrivals: see [`ArrivalsReader::open`].
    pub(crate) fn read_arrivals(&self) -> Result<Option<(BaseHeader, bool, ArrivalsReader)>, Error> {
        let path = self.arrivals();
        let opened = ArrivalsReader::open(&path, &self.env).map_err(|e| Error::local("read", path, e))?;
        Ok(opened.filter(|(header, ..)| self.is_own(header)))
    }

    /// Removes the state of a context if any part of it is damaged, and returns whether it was. The parts
    /// depend on each other: a base without its journal would list files that no longer exist.
    pub(crate) fn forget_damaged(&self) -> Result<bool, Error> {
        match self.read_through() {
            Ok(()) => return Ok(false),
            Err((_, e)) if damage(&e).is_some() => {
                tracing::warn!(error = %e, "the local state is damaged");
            }
            Err((path, e)) => return Err(Error::local("read", path, e)),
        }
        self.drop_next()?;
        self.drop_arrivals()?;
        remove(self.base())?;
        Ok(true)
    }

    fn read_through(&self) -> Result<(), (PathBuf, io::Error)> {
        let (base, next, arrivals) = (self.base(), self.next_base(), self.arrivals());
        let unfinished = is_unfinished(&next, &self.env).map_err(|e| (next.clone(), e))?;
        for path in [base].into_iter().chain((!unfinished).then_some(next)) {
            let rows = BaseReader::open(&path, &self.env).map_err(|e| (path.clone(), e))?;
            for row in rows.into_iter().flat_map(|(_, rows)| rows) {
                row.map_err(|e| (path.clone(), e))?;
            }
        }
        let opened = ArrivalsReader::open(&arrivals, &self.env).map_err(|e| (arrivals.clone(), e))?;
        for row in opened.into_iter().flat_map(|(_, _, rows)| rows) {
            row.map_err(|e| (arrivals.clone(), e))?;
        }
        Ok(())
    }

    fn holds(&self, path: &Path) -> Result<bool, Error> {
        let there = self.env.check_reading("stat", path).and_then(|()| path.try_exists());
        there.map_err(|e| Error::local("look at", path, e))
    }
}

fn remove(path: PathBuf) -> Result<(), Error> {
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::local("remove", path, e)),
        _ => Ok(()),
    }
}
