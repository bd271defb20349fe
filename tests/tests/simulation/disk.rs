//! A machine's file system during one operation: a real one, whose calls fail as the schedule says, and in which
//! another program works.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ctxsync_tests::random::Random;
use futures::FutureExt;
use policy_core::Timestamp;
use rustix::io::Errno;
use tokio::sync::Notify;
use transfer_engine::{Clock, FileFaults};

use crate::copy::Copy;
use crate::coverage;
use crate::outside::{SimClock, is_crash, lock};
use crate::schedule::{Call, FileTrouble, What};
use crate::trace::Trace;

/// The panic that ends a job of a machine that crashes.
pub(crate) struct Crashed;

/// What another program does at a moment.
pub(crate) type Act = Box<dyn Fn(usize) + Send + Sync>;

pub(crate) struct Disk {
    mount: PathBuf,
    troubles: Vec<FileTrouble>,
    /// How many calls of each kind there were.
    changes: AtomicU64,
    renamed: AtomicU64,
    /// Whether the last change was a rename.
    renames: AtomicBool,
    readings: AtomicU64,
    looks: AtomicU64,
    /// The last reading.
    reading: Mutex<(&'static str, PathBuf)>,
    moments: AtomicU64,
    act: Option<Act>,
    /// By how many seconds the machine's clock is ahead of the store's.
    ahead: u64,
    /// Whether all calls fail from now on.
    fails: AtomicBool,
    gone: AtomicBool,
    died: Notify,
    /// What a loss of power would leave of the mount at least, if that is to be known: the mount at its last flush.
    durable: Mutex<Option<Copy>>,
    /// The mount at some moment since.
    since: Mutex<Option<Copy>>,
    /// The number of changes since.
    unflushed: AtomicU64,
    flushing: AtomicBool,
    flushed: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    trace: Trace,
}

impl Disk {
    pub(crate) fn new(mount: &Path, troubles: Vec<FileTrouble>, trace: &Trace) -> Self {
        Self {
            mount: mount.to_owned(),
            troubles,
            changes: AtomicU64::new(0),
            renamed: AtomicU64::new(0),
            renames: AtomicBool::new(false),
            readings: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            reading: Mutex::default(),
            moments: AtomicU64::new(0),
            act: None,
            ahead: 0,
            fails: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            died: Notify::new(),
            durable: Mutex::default(),
            since: Mutex::default(),
            unflushed: AtomicU64::new(0),
            flushing: AtomicBool::new(false),
            flushed: AtomicBool::new(false),
            panic: Mutex::default(),
            trace: trace.clone(),
        }
    }

    pub(crate) fn with(self, act: Option<Act>) -> Self {
        Self { act, ..self }
    }

    pub(crate) fn with_clock_ahead(self, ahead: u64) -> Self {
        Self { ahead, ..self }
    }

    /// Returns a time as the machine's clock shows it.
    fn shown(&self, time: Timestamp) -> Timestamp {
        Timestamp { secs: time.secs.saturating_add_unsigned(self.ahead), ..time }
    }

    pub(crate) fn with_durable(self, durable: Option<Copy>) -> Self {
        Self { durable: Mutex::new(durable), ..self }
    }

    /// Returns the mount at its last flush, and at some moment since.
    pub(crate) fn durable(&self) -> Option<(Copy, Option<Copy>)> {
        self.end_flush();
        Some((lock(&self.durable).clone()?, lock(&self.since).clone()))
    }

    /// Remembers the mount as it is at some changes, each of them as likely as the others.
    fn remember(&self) {
        let number = self.unflushed.fetch_add(1, Ordering::SeqCst);
        if lock(&self.durable).is_some() && Random::new(number).below(number as usize + 1) == 0 {
            *lock(&self.since) = Some(Copy::of(&self.mount));
        }
    }

    /// Whether the mount was flushed.
    pub(crate) fn has_flushed(&self) -> bool {
        self.flushed.load(Ordering::SeqCst)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// The machine is gone: nothing of it runs any more.
    pub(crate) fn die(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }

    async fn died(&self) {
        self.died.notified().await;
    }

    /// Notes how a job ended.
    pub(crate) fn note_end(&self, end: Result<(), Box<dyn Any + Send>>) {
        if let Err(panic) = end
            && !is_crash(&*panic)
        {
            lock(&self.panic).get_or_insert(panic);
        }
    }

    fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.panic).take()
    }

    /// Lets another program act.
    pub(crate) fn moment(&self) {
        self.end_flush();
        let moment = self.moments.fetch_add(1, Ordering::SeqCst);
        if let Some(act) = &self.act {
            act(moment as usize);
        }
    }

    /// What was written before a flush is durable once the flush has ended: when anything else happens, as jobs run one
    /// at a time.
    fn end_flush(&self) {
        if self.flushing.swap(false, Ordering::SeqCst) {
            self.flushed.store(true, Ordering::SeqCst);
            let mut durable = lock(&self.durable);
            if durable.is_some() {
                *durable = Some(Copy::of(&self.mount));
                *lock(&self.since) = None;
                self.unflushed.store(0, Ordering::SeqCst);
            }
        }
    }

    /// Whether a reading goes on with the file of the last one. How often it does depends on the inodes that the kernel
    /// has given: they are in the state, which is compressed.
    fn goes_on(&self, kind: Call, operation: &'static str, path: &Path) -> bool {
        let mut last = lock(&self.reading);
        let goes_on = kind == Call::Reading && last.0 == operation && last.1 == path;
        *last = (operation, path.to_owned());
        goes_on
    }

    fn call(&self, kind: Call, operation: &'static str, path: &Path) -> io::Result<()> {
        let count = match kind {
            Call::Change => &self.changes,
            Call::Renamed => &self.renamed,
            Call::Reading => &self.readings,
            Call::Look => &self.looks,
        };
        if self.is_gone() {
            return Err(io::Error::other("this machine is gone"));
        }
        if self.goes_on(kind, operation, path) {
            return Ok(());
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        self.trace.note(|| format!("    {operation} {}", path.display()));
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("this machine is dead"));
        }
        let due = |t: &&FileTrouble| {
            t.call == kind
                && (number == t.nth || t.stays && number > t.nth && matches!(t.what, What::Fails(_)))
        };
        let Some(trouble) = self.troubles.iter().find(due) else { return Ok(()) };
        coverage::met(format!("file: {} at a {kind}", trouble.what.name()));
        self.trace.note(|| format!("      {}", trouble.what.name()));
        match trouble.what {
            What::Fails(errno) => Err(Errno::from_raw_os_error(errno).into()),
            What::FailsForEver => {
                self.fails.store(true, Ordering::SeqCst);
                Err(io::Error::other("this machine is dead"))
            }
            What::Crashes | What::PowerLoss => {
                self.die();
                resume_unwind(Box::new(Crashed))
            }
        }
    }
}

/// Does work on a machine; `None` if the machine is gone before it is done.
pub(crate) async fn until_gone<T>(disk: &Disk, work: impl Future<Output = T>) -> Option<T> {
    let done = tokio::select! {
        biased;
        () = disk.died() => None,
        done = AssertUnwindSafe(work).catch_unwind() => match done {
            Ok(done) => Some(done),
            Err(panic) if is_crash(&*panic) => None,
            Err(panic) => resume_unwind(panic),
        },
    };
    if let Some(panic) = disk.take_panic() {
        resume_unwind(panic);
    }
    done
}

impl FileFaults for Disk {
    fn before(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        self.moment();
        self.remember();
        if self.renames.swap(operation.starts_with("renameat"), Ordering::SeqCst) {
            self.call(Call::Renamed, operation, path)?;
        }
        self.call(Call::Change, operation, path)?;
        self.flushing.store(operation == "syncfs" && path.starts_with(&self.mount), Ordering::SeqCst);
        Ok(())
    }

    fn before_reading(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        self.call(Call::Reading, operation, path)
    }

    fn before_looking(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        self.moment();
        self.call(Call::Look, operation, path)
    }
}

/// The clock as a machine asks it. Whenever it does, another program may act.
pub(crate) struct MachineClock {
    pub(crate) clock: SimClock,
    pub(crate) disk: Arc<Disk>,
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        self.disk.moment();
        self.disk.shown(self.clock.now())
    }

    fn of_change(&self, inode: u64, ctime: Timestamp) -> Timestamp {
        self.disk.shown(self.clock.of_change(inode, ctime))
    }

    fn wait(&self, time: std::time::Duration) {
        self.disk.moment();
        self.clock.wait(time);
    }
}
