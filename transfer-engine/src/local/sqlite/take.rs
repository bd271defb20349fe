//! Reads a database as it is at one moment.
//!
//! - The shared lock on the database stops writers that use a rollback journal, and stops the last connection
//!   from copying the write-ahead log into the database when it closes.
//! - The checkpoint lock on the log's index stops all others from copying the log. It does not delay other
//!   writes: new transactions are appended to the log.
//! - If the whole log has been copied already, a writer may start it again from the beginning; the log's
//!   header shows that.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::fstat;

use super::super::fingerprint::Fingerprint;
use super::super::mount_dir::stat_at;
use super::held::{self, let_go};
use super::locks::{CHECKPOINT, PENDING, RESERVED, SHARED, free, is_taken, share};
use super::{HEADER, Member, is_database};
use crate::env::Env;
use crate::local::os;

/// How often a log is read if it is restarted meanwhile. Without a checkpoint, a log is restarted once.
const ATTEMPTS: u32 = 5;
/// The length of a log's header.
const WAL_HEADER: usize = 32;
/// How many bytes are copied before checking whether a writer waits.
const STEP: u64 = 16 << 20;
/// How long a writer may have to wait while a database is copied. Many give up after five seconds.
const WRITERS_WAIT: Duration = Duration::from_secs(3);

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("it vanished")]
    Gone,
    #[error("another program has it locked")]
    Locked,
    #[error("it keeps changing while it is read")]
    Moving,
    #[error("a program that writes to it would have to wait too long while it is copied")]
    TooLong,
    #[error("cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Gone,
            io::ErrorKind::UnexpectedEof => Self::Moving,
            _ => Self::Io(e),
        }
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(e: rustix::io::Errno) -> Self {
        io::Error::from(e).into()
    }
}

/// The bytes of a file of a database.
#[derive(Debug)]
pub(crate) enum Content {
    /// The file has the known stat, so it is not read again.
    Unchanged,
    Short(Bytes),
    /// A temporary copy.
    Long(File),
}

/// A file of a database, and its stat when it was read.
#[derive(Debug)]
pub(crate) struct TakenFile {
    pub(crate) print: Fingerprint,
    pub(crate) trusted: bool,
    pub(crate) content: Content,
}

/// The existing files of a database, read at one moment.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) files: Vec<(Member, TakenFile)>,
}

/// What to read, and how.
pub(crate) struct Wanted<'a> {
    /// The database's directory and name.
    pub(crate) dir: &'a OwnedFd,
    pub(crate) name: &'a [u8],
    /// The known stats of its files.
    pub(crate) known: &'a dyn Fn(Member) -> Option<Fingerprint>,
    /// Files up to this length are read into memory; longer ones are copied to a file in `spool_dir`.
    pub(crate) short: u64,
    pub(crate) spool_dir: &'a Path,
    pub(crate) env: &'a Env,
}

/// Reads a database and the files that belong to it. It does not wait for locks: after [`Trouble::Locked`] or
/// [`Trouble::Moving`], the caller may retry a moment later.
pub(crate) fn take(wanted: &Wanted<'_>) -> Result<Taken, Trouble> {
    let mut locked = Locked::open(wanted)?;
    let taken = locked.read(wanted);
    drop(locked);
    taken
}

/// A database, locked for reading.
struct Locked {
    database: Option<File>,
    index: Option<File>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        // A file that is kept open would keep its locks.
        for (file, range) in [(self.index.take(), CHECKPOINT), (self.database.take(), SHARED)] {
            if let Some(file) = file {
                let _ = free(&file, range);
                let_go(file);
            }
        }
    }
}

impl Locked {
    fn open(wanted: &Wanted<'_>) -> Result<Self, Trouble> {
        let mut locked = Self { database: None, index: None };
        let database = locked.database.insert(held::open(wanted.dir, wanted.name)?);
        // A writer that waits for the readers to end has locked this range. It must not be overtaken.
        if !share(database, PENDING)? {
            return Err(Trouble::Locked);
        }
        let shared = share(database, SHARED);
        free(database, PENDING)?;
        if !shared? {
            return Err(Trouble::Locked);
        }
        if let Some(index) = open_member(wanted, Member::Shm)?
            && !share(locked.index.insert(index), CHECKPOINT)?
        {
            return Err(Trouble::Locked);
        }
        Ok(locked)
    }

    fn read(&mut self, wanted: &Wanted<'_>) -> Result<Taken, Trouble> {
        let Some(database) = &self.database else { return Err(Trouble::Gone) };
        let mut taken = Taken::default();
        let mut begin = [0; HEADER];
        database.read_exact_at(&mut begin, 0)?;
        if !is_database(&begin) {
            return Err(Trouble::Moving);
        }
        let before = Fingerprint::of(&fstat(database)?);
        taken.files.push((Member::Database, copy(wanted, Member::Database, database, database)?));
        // The journal of a running transaction is useless: the database is still as it was before.
        if !is_taken(database, RESERVED)?
            && let Some(journal) = open_member(wanted, Member::Journal)?
        {
            taken.files.push((Member::Journal, copy(wanted, Member::Journal, &journal, database)?));
        }
        if let Some(log) = open_member(wanted, Member::Wal)? {
            taken.files.push((Member::Wal, read_log(wanted, &log, database)?));
        }
        // Without an index, nobody had the log open. If there is one now, its owner may have changed the
        // database.
        let came = self.index.is_none() && stat_at(wanted.dir, &name_of(wanted, Member::Shm))?.is_some();
        let still = stat_at(wanted.dir, wanted.name)?.map(|stat| Fingerprint::of(&stat));
        if came || still != Some(before) {
            return Err(Trouble::Moving);
        }
        Ok(taken)
    }
}

fn name_of(wanted: &Wanted<'_>, member: Member) -> Vec<u8> {
    [wanted.name, member.suffix().as_bytes()].concat()
}

fn open_member(wanted: &Wanted<'_>, member: Member) -> Result<Option<File>, Trouble> {
    match held::open(wanted.dir, &name_of(wanted, member)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// Reads a log up to its current end, and again if it was restarted meanwhile.
fn read_log(wanted: &Wanted<'_>, log: &File, database: &File) -> Result<TakenFile, Trouble> {
    for _ in 0..ATTEMPTS {
        let before = header_of(log)?;
        match copy(wanted, Member::Wal, log, database) {
            // The log was truncated.
            Err(Trouble::Moving) => {}
            Ok(taken) if header_of(log)? == before => return Ok(taken),
            Err(trouble) => return Err(trouble),
            Ok(_) => {}
        }
    }
    Err(Trouble::Moving)
}

fn header_of(log: &File) -> io::Result<Vec<u8>> {
    let mut header = vec![0; WAL_HEADER];
    let mut len = 0;
    while len < header.len() {
        match log.read_at(&mut header[len..], len as u64)? {
            0 => break,
            more => len += more,
        }
    }
    header.truncate(len);
    Ok(header)
}

/// Reads a file up to its current length.
fn copy(wanted: &Wanted<'_>, member: Member, file: &File, database: &File) -> Result<TakenFile, Trouble> {
    let moment = wanted.env.now();
    let print = Fingerprint::of(&fstat(file)?);
    let content = if (wanted.known)(member) == Some(print) {
        Content::Unchanged
    } else if print.size <= wanted.short {
        let mut bytes = vec![0; print.size as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Content::Short(bytes.into())
    } else {
        Content::Long(copy_long(wanted, file, print.size, database)?)
    };
    Ok(TakenFile { print, trusted: !print.by_clock(wanted.env).is_racy(moment), content })
}

/// Copies a long file, so that the locks need not be held while it is sent.
fn copy_long(wanted: &Wanted<'_>, file: &File, size: u64, database: &File) -> Result<File, Trouble> {
    let copy = tempfile::tempfile_in(wanted.spool_dir)?;
    if let Some(clone) = os::clone_file(&copy, file, wanted.dir)? {
        clone.set_len(size)?;
        return Ok(clone);
    }
    let (mut from, mut to) = (file, &copy);
    from.seek(SeekFrom::Start(0))?;
    let (mut left, mut waits) = (size, None);
    while left > 0 {
        let copied = io::copy(&mut io::Read::take(&mut from, STEP.min(left)), &mut to)?;
        if copied == 0 {
            return Err(Trouble::Moving);
        }
        left -= copied;
        waits = match is_taken(database, PENDING)? {
            true => waits.or_else(|| Some(Instant::now())),
            false => None,
        };
        if waits.is_some_and(|since| since.elapsed() > WRITERS_WAIT) {
            return Err(Trouble::TooLong);
        }
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    use policy_core::Timestamp;

    use super::*;

    /// A clock that runs something before each file is read.
    struct Meanwhile<F>(F);

    impl<F: Fn() + Send + Sync> crate::env::Clock for Meanwhile<F> {
        fn now(&self) -> Timestamp {
            (self.0)();
            Timestamp::default()
        }
    }

    /// Makes a database that has only a header, with a log, an index and a journal.
    fn make() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let mut header = vec![0; 4096];
        header[..16].copy_from_slice(b"SQLite format 3\0");
        (header[16], header[18], header[19]) = (0x10, 1, 1);
        std::fs::write(dir.path().join("db"), header).unwrap();
        for member in [Member::Journal, Member::Wal, Member::Shm] {
            let name = format!("db{}", member.suffix());
            std::fs::write(dir.path().join(name), format!("{member:?} {}", "x".repeat(200))).unwrap();
        }
        let fd = File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    fn take_with(dir: &OwnedFd, env: &Env) -> Result<Taken, Trouble> {
        let spool_dir = std::env::temp_dir();
        take(&Wanted { dir, name: b"db", known: &|_| None, short: 1 << 20, spool_dir: &spool_dir, env })
    }

    fn members(taken: &Taken) -> Vec<Member> {
        taken.files.iter().map(|(member, _)| *member).collect()
    }

    /// Tries to lock a range as a writer does; it is unlocked when the result is dropped.
    fn write_lock(path: &Path, start: i64, len: i64) -> Option<File> {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: start,
            l_len: len,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).is_ok().then_some(file)
    }

    #[test]
    fn l27_nobody_writes_the_database_while_it_is_read() {
        let (dir, fd) = make();
        let [db, shm] = ["db", "db-shm"].map(|name| dir.path().join(name));
        let free = |want: bool| {
            assert_eq!(write_lock(&db, 0x4000_0002, 510).is_some(), want, "the readers");
            assert_eq!(write_lock(&shm, 121, 1).is_some(), want, "the checkpoint");
            // A waiting writer can announce itself.
            assert!(write_lock(&db, 0x4000_0000, 1).is_some() && write_lock(&db, 0x4000_0001, 1).is_some());
        };
        let asked = Arc::new(AtomicU32::new(0));
        let (count, locked) = (asked.clone(), {
            let (db, shm) = (db.clone(), shm.clone());
            move || {
                assert!(write_lock(&db, 0x4000_0002, 510).is_none() && write_lock(&shm, 121, 1).is_none());
            }
        });
        let env = Env::real().with_clock(Arc::new(Meanwhile(move || {
            locked();
            count.fetch_add(1, Ordering::SeqCst);
        })));
        free(true);
        let taken = take_with(&fd, &env).unwrap();
        assert_eq!(members(&taken), [Member::Database, Member::Journal, Member::Wal]);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        free(true);
    }

    #[test]
    fn l27_a_writer_keeps_the_database_from_being_read() {
        let (dir, fd) = make();
        let [db, shm] = ["db", "db-shm"].map(|name| dir.path().join(name));
        for (path, start, len) in [(&db, 0x4000_0000, 1), (&db, 0x4000_0002, 510), (&shm, 121, 1)] {
            let lock = write_lock(path, start, len);
            assert!(lock.is_some());
            assert!(matches!(take_with(&fd, &Env::real()), Err(Trouble::Locked)), "{start}");
        }
        // A transaction that has just begun leaves the database as it is, so its journal is not taken.
        let lock = write_lock(&db, 0x4000_0001, 1);
        assert_eq!(members(&take_with(&fd, &Env::real()).unwrap()), [Member::Database, Member::Wal]);
        drop(lock);
        assert!(members(&take_with(&fd, &Env::real()).unwrap()).contains(&Member::Journal));
    }

    #[test]
    fn l27_a_log_that_is_begun_anew_is_read_again() {
        for (times, sound) in [(1, true), (100, false)] {
            let (dir, fd) = make();
            let wal = dir.path().join("db-wal");
            let (asked, path) = (AtomicU32::new(0), wal.clone());
            // The clock is also asked for the database and the journal, which are read first.
            let env = Env::real().with_clock(Arc::new(Meanwhile(move || {
                let asked = asked.fetch_add(1, Ordering::SeqCst);
                if (2..2 + times).contains(&asked) {
                    let log = File::options().write(true).open(&path).unwrap();
                    log.write_all_at(format!("begun {asked}").as_bytes(), 0).unwrap();
                }
            })));
            match take_with(&fd, &env) {
                Ok(taken) => {
                    assert!(sound);
                    let Some((Member::Wal, TakenFile { content: Content::Short(bytes), .. })) =
                        taken.files.last()
                    else {
                        panic!("{taken:?}")
                    };
                    assert_eq!(bytes[..], std::fs::read(&wal).unwrap()[..]);
                }
                Err(trouble) => assert!(!sound && matches!(trouble, Trouble::Moving), "{trouble:?}"),
            }
        }
    }

    #[test]
    fn l27_who_comes_while_there_is_no_index_is_noticed() {
        let (dir, fd) = make();
        let shm = dir.path().join("db-shm");
        std::fs::remove_file(&shm).unwrap();
        assert!(take_with(&fd, &Env::real()).is_ok());
        let came = shm.clone();
        let env = Env::real().with_clock(Arc::new(Meanwhile(move || std::fs::write(&came, "").unwrap())));
        assert!(matches!(take_with(&fd, &env), Err(Trouble::Moving)));
        // A program that ignores the locks changes the database.
        let db = dir.path().join("db");
        let env = Env::real().with_clock(Arc::new(Meanwhile(move || {
            let file = File::options().append(true).open(&db).unwrap();
            std::io::Write::write_all(&mut &file, b"more").unwrap();
        })));
        assert!(matches!(take_with(&fd, &env), Err(Trouble::Moving)));
    }
}
