//! Collecting garbage: forgetting snapshots, and deleting the packs that no snapshot needs.
//!
//! ```text
//! the store's time ─► finish moves, recycle, gather ─► list all snapshots, read the roots ─► plan
//!                                                                                     │
//!        delete packs in no root ◄─ list packs ◄─ put tombstones ◄─ mark as forgotten ┘
//! ```
//!
//! One pass without state, locks or marks: it may run beside any number of writers and other collectors, and
//! die at any point. What makes that safe is told in `docs/collecting.md` and rests on writers as well:
//! a snapshot refers to packs of the one before it, and to packs so young that no pass may judge them before
//! the snapshot shows.

mod clock;
mod roots;
mod survey;
mod sweep;
mod tidy;
mod witness;

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use crate::edit::Gathering;
use crate::error::Error;
use crate::format::ContextName;
use crate::recycle::Recycled;
use crate::store::Store;
use crate::usage::Usage;

use clock::PassTime;
use survey::Survey;

/// Which snapshots of a live context a pass keeps, besides the head. A snapshot is kept if either says so;
/// without both all are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many.
    pub last: Option<NonZeroU64>,
    /// Those that landed less than this long ago.
    pub within: Option<Duration>,
}

impl Retention {
    /// Whether all snapshots are kept.
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }
}

/// How a pass is made.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// What is kept.
    pub retention: Retention,
    /// Nobody else uses the store while the pass runs, so that nothing has to wait for the grace period. If
    /// somebody does, what they are about to commit is lost.
    pub exclusive: bool,
    /// Nothing is written; what would be done is told. Ages are by this machine's clock then, because only a
    /// put tells the store's.
    pub dry_run: bool,
    /// When data is moved to new packs. What is mostly dead is moved only with a retention, without which
    /// nothing is ever dead.
    pub gathering: Gathering,
    /// Requests under way at once.
    pub concurrency: NonZeroUsize,
    /// Bytes of snapshots in memory at once, about.
    pub memory: u64,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            exclusive: false,
            dry_run: false,
            gathering: Gathering::default(),
            concurrency: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            memory: 256 << 20,
        }
    }
}

/// Why a snapshot is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The retention does not keep it.
    Retention,
    /// Its context was deleted, and who did that did not come to an end.
    Deleted,
}

/// A snapshot that is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The context.
    pub context: ContextName,
    /// The snapshot's number.
    pub number: u64,
    /// When it landed, by the store's clock, in seconds since 1970.
    pub landed: i64,
    /// Why.
    pub why: Why,
}

/// A snapshot that a pass had to read and could not: because of it nothing is deleted.
#[derive(Debug)]
pub struct Unreadable {
    /// The object.
    pub key: String,
    /// Why it can't be read; none where it was erased after it had been listed, which another collector does.
    pub error: Option<Error>,
}

/// A pack that a snapshot needs and that is not in the store: because of it no pack is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPack {
    /// The pack's key.
    pub key: String,
    /// A context that needs it.
    pub context: ContextName,
    /// The newest of its snapshots that do.
    pub number: u64,
    /// Whether that is the head.
    pub is_head: bool,
}

/// What a pass came to; with `dry_run`, what it would come to.
#[derive(Debug, Default)]
pub struct CollectReport {
    /// The time by which ages were judged, in seconds since 1970.
    pub time: i64,
    /// How old something must be to be deleted, in seconds; nothing where the pass is exclusive.
    pub grace: u64,
    /// Contexts that were looked at, also those that are deleted or moved.
    pub contexts: u64,
    /// Snapshots whose packs are kept.
    pub snapshots: u64,
    /// Snapshots that this pass marked as forgotten.
    pub forgotten: u64,
    /// Files that left a context by age.
    pub files_recycled: u64,
    /// Their bytes.
    pub bytes_recycled: u64,
    /// Packs that the heads of contexts do not need any more, because what they needed of them was moved.
    pub packs_gathered: u64,
    /// The bytes that were moved.
    pub bytes_gathered: u64,
    /// Forgotten snapshots that this pass erased: what is left of each is an object without bytes.
    pub erased: u64,
    /// Snapshots that could not be read; if there are any, nothing was deleted.
    pub unreadable: u64,
    /// Packs that are kept.
    pub packs_kept: u64,
    /// Their bytes.
    pub bytes_kept: u64,
    /// Packs that no snapshot refers to and that are too young to be deleted.
    pub packs_waiting: u64,
    /// Their bytes.
    pub bytes_waiting: u64,
    /// Packs that were deleted.
    pub packs_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Packs that are needed and not there; if there are any, no pack was deleted.
    pub packs_lost: u64,
    /// Packs that the store did not delete although it was asked to.
    pub failed: u64,
    /// What was asked of the store.
    pub usage: Usage,
}

/// Is told what a pass does, as it does it; with `dry_run`, what it would do.
pub trait CollectMonitor: Send + Sync {
    /// A snapshot is forgotten.
    fn forgotten(&self, forgotten: &Forgotten) {
        let _ = forgotten;
    }
    /// Files have left a context by age, or will; snapshots that hold them are forgotten.
    fn recycled(&self, context: &ContextName, recycled: &Recycled) {
        let _ = (context, recycled);
    }
    /// Data of a context was moved, or would be: from so many packs, so many bytes.
    fn gathered(&self, context: &ContextName, packs: u64, bytes: u64) {
        let _ = (context, packs, bytes);
    }
    /// A snapshot can't be read.
    fn unreadable(&self, unreadable: &Unreadable) {
        let _ = unreadable;
    }
    /// A pack is needed and not there.
    fn lost(&self, lost: &LostPack) {
        let _ = lost;
    }
    /// Something went wrong that does not stop the pass.
    fn warning(&self, message: &str) {
        let _ = message;
    }
}

impl CollectMonitor for crate::monitor::Silent {}

impl Store {
    /// Collects garbage, in one pass: finishes moves and deletions that were cut short, recycles, moves data that
    /// lies scattered, forgets what the retention does not keep, and deletes the packs that no snapshot needs.
    ///
    /// # Errors
    /// [`Error::NoStore`]; [`Error::ClockSkew`] where the store's clock and this machine's differ so much
    /// that one of them is wrong; [`Error::BadListing`] where what the store lists can't be all that there is;
    /// whatever the store says. A pass that ended early is made good by the next.
    pub async fn collect(
        &self,
        options: &CollectOptions,
        monitor: &dyn CollectMonitor,
    ) -> Result<CollectReport, Error> {
        let before = self.usage();
        let mut report = CollectReport::default();
        self.collect_into(&mut report, options, monitor).await?;
        report.usage = self.usage().since(&before);
        Ok(report)
    }

    async fn collect_into(
        &self,
        report: &mut CollectReport,
        options: &CollectOptions,
        monitor: &dyn CollectMonitor,
    ) -> Result<(), Error> {
        // Before the first listing: whatever this does not list has landed later than this.
        let time = PassTime::take(self, options).await?;
        (report.time, report.grace) = (time.now(), time.grace());
        let known = self.tidy_all(&time, options, report, monitor).await?;
        let mut survey = Survey::make(self, &time, options, &known, monitor).await?;
        survey.describe(report);
        if report.unreadable > 0 {
            return Ok(());
        }
        survey.forget.iter().for_each(|forgotten| monitor.forgotten(forgotten));
        if !options.dry_run {
            self.mark_all(&survey.forget, options).await?;
            self.erase_all(&survey.erase, options).await?;
        }
        self.sweep(&mut survey.roots, &time, options, report, monitor).await
    }
}
