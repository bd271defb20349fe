//! The directory of a mount's state, and its lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use policy_core::{Digest, Timestamp};

use super::arrivals::ArrivalsReader;
use super::base::{BaseHeader, BaseReader, is_unfinished, rewrite_header};
use super::cache::Cache;
use super::file::damage;
use super::unflushed::{MAX_SNAPSHOTS, Unflushed};
use crate::env::Env;
use crate::error::Error;
use crate::format::{ContextName, sha256};
use crate::local::CacheLife;

/// The name of a session's socket in the state of its mount.
pub(crate) const SOCKET: &str = "socket";
/// Its name while it is being made.
pub(crate) const NEW_SOCKET: &str = "socket.new";

/// The state of a mount, locked by this process.
#[derive(Debug)]
pub(crate) struct MountState {
    dir: PathBuf,
    mount: PathBuf,
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
    /// The mount's path.
    mount: PathBuf,
    /// See [`ContextState::prove`].
    proving: Arc<AtomicBool>,
}

/// While it lives, the recent base counts.
#[must_use = "the recent base counts as long as it lives"]
pub(crate) struct Proving(Arc<AtomicBool>);

impl Drop for Proving {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
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
        // On a full disk, the lock holds without a name.
        if let Err(error) = write(&mut lock) {
            tracing::debug!(%error, "the lock has no name");
        }
        let locked = Self { dir, mount: mount.to_owned(), _lock: lock };
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
            let entries = match fs::read_dir(&self.dir) {
                // It was removed during the session. What the mount has is pushed all the same.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(others),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() && entry.path() != than.dir {
                    others.push(ContextState { dir: entry.path(), proving: Arc::default(), ..than.clone() });
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
        Ok(ContextState { dir, env: env.clone(), part, mount: self.mount.clone(), proving: Arc::default() })
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
        Self { dir, env: env.clone(), part, mount: mount.to_owned(), proving: Arc::default() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of the base as of the last flush.
    fn flushed_base(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// Returns the path of the base as of now, which is another one only if the mount was synced without a flush.
    fn recent_base(&self) -> PathBuf {
        self.dir.join("base.recent")
    }

    /// Returns the path of the note that there was a sync without a flush.
    fn unflushed(&self) -> PathBuf {
        self.dir.join("unflushed")
    }

    /// Returns the path of the base that counts. After the page cache was lost, that is the one of the last flush.
    fn base(&self) -> Result<PathBuf, Error> {
        let recent = self.recent_base();
        if !self.holds(&recent)? {
            return Ok(self.flushed_base());
        }
        let counts = || Ok::<_, Error>(self.read_unflushed()?.is_some_and(|note| self.lasts(&note)));
        Ok(if self.proving.load(Ordering::Relaxed) || counts()? { recent } else { self.flushed_base() })
    }

    /// Whether there is a base, whatever part of the context it is of.
    pub(crate) fn has_base(&self) -> Result<bool, Error> {
        Ok(self.holds(&self.flushed_base())? || self.holds(&self.recent_base())?)
    }

    /// Lets the recent base count while it is being found out what of it holds, and returns a guard that ends that.
    pub(crate) fn prove(&self) -> Proving {
        self.proving.store(true, Ordering::Relaxed);
        Proving(Arc::clone(&self.proving))
    }

    /// Notes that the recent base is what is known now, and still not flushed.
    pub(crate) fn note_proven(&self, note: Unflushed) -> Result<(), Error> {
        self.write_unflushed(&Unflushed { life: self.cache_life(), ..note })
    }

    /// Returns the life of the page cache that the mount is in; `None` if nothing may rely on it.
    pub(crate) fn cache_life(&self) -> Option<CacheLife> {
        CacheLife::over(&self.mount, &self.dir, &self.env)
    }

    /// Whether the page cache still is the one of the note, so that the mount has what was put there without a flush.
    fn lasts(&self, note: &Unflushed) -> bool {
        note.life.is_some() && note.life == self.cache_life()
    }

    fn read_unflushed(&self) -> Result<Option<Unflushed>, Error> {
        let path = self.unflushed();
        Unflushed::read(&path, &self.env).map_err(|e| Error::local("read", path, e))
    }

    /// Returns the note of the syncs without a flush, if what they wrote may have been lost since.
    pub(crate) fn in_doubt(&self) -> Result<Option<Unflushed>, Error> {
        Ok(self.read_unflushed()?.filter(|note| !self.lasts(note)))
    }

    /// Whether the mount was synced without a flush since the last one.
    pub(crate) fn is_unflushed(&self) -> Result<bool, Error> {
        self.holds(&self.unflushed())
    }

    /// Whether another snapshot can be noted before the next flush.
    pub(crate) fn has_room_unflushed(&self) -> Result<bool, Error> {
        Ok(self.read_unflushed()?.is_none_or(|note| note.snapshots.len() < MAX_SNAPSHOTS))
    }

    /// Notes that the mount is about to be synced with a snapshot without a flush. With `fresh`, the base does not
    /// count.
    pub(crate) fn note_unflushed(&self, header: &BaseHeader, fresh: bool) -> Result<(), Error> {
        let life = self.cache_life();
        let begun = Unflushed { life, fresh: false, snapshots: Vec::new() };
        let mut note = match self.read_unflushed()? {
            Some(note) if note.life == life => note,
            // The mount that it was about is gone.
            _ => {
                remove(self.recent_base())?;
                begun
            }
        };
        if note.snapshots.iter().any(|noted| noted.digest == header.digest) && note.fresh >= fresh {
            return Ok(());
        }
        note.fresh |= fresh;
        note.snapshots.push(header.clone());
        self.write_unflushed(&note)
    }

    /// Notes that the sync with a noted snapshot was completed.
    pub(crate) fn note_completed(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.unflushed();
        match Unflushed::add_completed(&path, digest, &self.env) {
            // Without a note, there is nothing to complete.
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::local("write", path, e)),
            _ => Ok(()),
        }
    }

    /// Notes that a flush has failed: nothing is trusted that was written since the last one.
    pub(crate) fn doubt(&self) -> Result<(), Error> {
        match self.read_unflushed()? {
            Some(note) => self.write_unflushed(&Unflushed { life: None, ..note }),
            None => Ok(()),
        }
    }

    fn write_unflushed(&self, note: &Unflushed) -> Result<(), Error> {
        let path = self.unflushed();
        note.write(&path, &self.env).map_err(|e| Error::local("write", path, e))
    }

    /// Returns inode and ctime of the recent base, which no two of them share; `None` if there is none.
    pub(crate) fn recent_stat(&self) -> Result<Option<(u64, Timestamp)>, Error> {
        let path = self.recent_base();
        match fs::metadata(&path) {
            Ok(stat) => {
                let nanos = u32::try_from(stat.ctime_nsec()).unwrap_or_default();
                Ok(Some((stat.ino(), Timestamp { secs: stat.ctime(), nanos })))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::local("look at", path, e)),
        }
    }

    /// Makes the recent base the one of the last flush, if the mount was flushed after it was written. It was, unless
    /// it is noted that it was not.
    pub(crate) fn settle(&self, flushed: bool) -> Result<(), Error> {
        if !flushed && self.is_unflushed()? {
            return Ok(());
        }
        self.make_flushed(&self.recent_base())?;
        remove(self.unflushed())
    }

    /// Makes the folded base the recent one, while it is being found out what holds.
    pub(crate) fn adopt_proven(&self) -> Result<(), Error> {
        let recent = self.recent_base();
        fs::rename(self.folded_base(), &recent).map_err(|e| Error::local("replace", recent, e))
    }

    fn make_flushed(&self, from: &Path) -> Result<(), Error> {
        let base = self.flushed_base();
        let replace = || {
            match File::open(from) {
                Ok(file) => file.sync_all()?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(e),
            }
            fs::rename(from, &base)?;
            File::open(&self.dir)?.sync_all()
        };
        replace().map_err(|e| Error::local("replace", base.clone(), e))
    }

    /// Forgets everything, so that the mount counts as new.
    pub(crate) fn forget_all(&self) -> Result<(), Error> {
        self.forget_unflushed()?;
        remove(self.flushed_base())?;
        remove(self.unflushed())
    }

    /// Forgets everything that was noted since the last flush, because it may be lost.
    pub(crate) fn forget_unflushed(&self) -> Result<(), Error> {
        self.drop_next()?;
        self.drop_arrivals()?;
        remove(self.recent_base())
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

    /// Makes the folded base the recent base, and removes the journal. The mount was flushed, unless it is noted that it
    /// was not.
    pub(crate) fn adopt_folded(&self) -> Result<(), Error> {
        let recent = self.recent_base();
        if !self.is_unflushed()? {
            self.make_flushed(&self.folded_base())?;
            return self.drop_arrivals();
        }
        fs::rename(self.folded_base(), &recent).map_err(|e| Error::local("replace", recent, e))?;
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

    /// Makes the next base the base, with a header that also has the snapshot's key. `noted` says whether there is a note
    /// of syncs without a flush: then it becomes the recent base.
    pub(crate) fn adopt_next(&self, header: &BaseHeader, noted: bool) -> Result<(), Error> {
        let (next, recent) = (self.next_base(), self.recent_base());
        let cannot = |e| Error::local("replace", recent.clone(), e);
        rewrite_header(&next, header).map_err(cannot)?;
        if !noted {
            return self.make_flushed(&next);
        }
        fs::rename(&next, &recent).map_err(cannot)
    }

    /// Copies the base from another context's state, with a new header. The mount must have been flushed.
    pub(crate) fn take_base(&self, from: &Self, header: &BaseHeader) -> Result<(), Error> {
        let new = self.folded_base();
        let base = from.base()?;
        let take = || {
            fs::copy(base, &new)?;
            rewrite_header(&new, header)
        };
        take().map_err(|e| Error::local("replace", self.flushed_base(), e))?;
        self.make_flushed(&new)
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
        let base = self.base()?;
        let open = |path| BaseReader::open(path, &self.env).map_err(|e| Error::local("read", path, e));
        let opened = match open(&base)? {
            // Another process has just made it the base of the last flush.
            None => open(&self.flushed_base())?,
            opened => opened,
        };
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
        self.forget_all()?;
        Ok(true)
    }

    fn read_through(&self) -> Result<(), (PathBuf, io::Error)> {
        let (next, arrivals, note) = (self.next_base(), self.arrivals(), self.unflushed());
        let unfinished = is_unfinished(&next, &self.env).map_err(|e| (next.clone(), e))?;
        Unflushed::read(&note, &self.env).map_err(|e| (note, e))?;
        for path in [self.flushed_base(), self.recent_base()].into_iter().chain((!unfinished).then_some(next))
        {
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
