//! Collecting garbage: forgetting snapshots, and deleting the packs that no snapshot needs.
//!
//! ```text
//! the store's time ─► finish moves, recycle ─► list all snapshots, read the roots ─► plan
//!                                                                                     │
//! gather ◄─ delete packs in no root ◄─ list packs ◄─ put tombstones ◄─ mark as forgotten ┘
//! ```
//!
//! Data is gathered last, so that the retention judges the snapshots that a dry run has shown, and not the one that
//! gathering adds.
//!
//! A collection is one pass without state, locks or marks. It may run beside any number of writers and other
//! collectors, and may be killed at any point. `docs/collecting.md` explains why that is safe. It depends on
//! writers too: a snapshot refers only to packs of its parent, and to packs so young that no collection may
//! judge them before the snapshot is visible.

mod clock;
mod roots;
mod survey;
mod sweep;
mod tags;
mod tidy;
mod witness;

use std::num::NonZeroUsize;

use policy_core::{KeptFor, RetentionRules};

use crate::error::Error;
use crate::format::ContextName;
use crate::options::Gathering;
use crate::recycle::Recycled;
use crate::store::Store;
use crate::usage::Usage;

use clock::PassTime;
use survey::Survey;

/// The options of a collection.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Which snapshots of live contexts are kept.
    pub retention: RetentionRules,
    /// Declares that no other process uses the store during the collection, so that nothing has to wait for
    /// the grace period. If one does, what it is about to commit is lost.
    pub exclusive: bool,
    /// Writes nothing, and reports what would be done. Ages are then by this machine's clock, because only a
    /// put tells the store's time.
    pub dry_run: bool,
    /// When data is moved to new packs. Mostly dead packs are rewritten only with a retention, because
    /// without one nothing is ever dead.
    pub gathering: Gathering,
    /// The number of concurrent requests.
    pub concurrency: NonZeroUsize,
    /// Roughly how many bytes of snapshots are in memory at once.
    pub memory: u64,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            retention: RetentionRules::default(),
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
#[non_exhaustive]
pub enum Why {
    /// The retention does not keep it.
    Retention,
    /// Its context was deleted, and the deletion was interrupted.
    Deleted,
    /// It has the content of recycled files.
    Recycled,
}

/// A snapshot that is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forgotten {
    /// The context.
    pub context: ContextName,
    /// The snapshot's number.
    pub number: u64,
    /// When it landed, by the store's clock, in seconds since 1970.
    pub landed: i64,
    /// The reason.
    pub why: Why,
}

/// A snapshot that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The context.
    pub context: ContextName,
    /// The snapshot's number.
    pub number: u64,
    /// When it landed, by the store's clock, in seconds since 1970.
    pub landed: i64,
    /// Why it is kept.
    pub reasons: Vec<KeptFor>,
}

/// A snapshot that has to be read and can't be. Because of it, nothing is deleted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unreadable {
    /// The object.
    pub key: String,
    /// Why it can't be read; `None` if another collector erased it after it was listed.
    pub error: Option<Error>,
}

/// A pack that a snapshot needs and that is missing in the store. Because of it, no pack is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostPack {
    /// The pack's key.
    pub key: String,
    /// A context that needs it.
    pub context: ContextName,
    /// The newest snapshot of that context that needs it.
    pub number: u64,
    /// Whether that snapshot is the head.
    pub is_head: bool,
}

/// The result of a collection; with `dry_run`, what it would be.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CollectReport {
    /// The time by which ages were judged, in seconds since 1970.
    pub time: i64,
    /// The age in seconds from which objects may be deleted; 0 if the collection is exclusive.
    pub grace: u64,
    /// Contexts that were examined, including deleted and renamed ones.
    pub contexts: u64,
    /// Patterns of the retention that match no live context.
    pub unmatched: Vec<String>,
    /// Snapshots whose packs are kept.
    pub snapshots: u64,
    /// Snapshots that this collection marked as forgotten.
    pub forgotten: u64,
    /// Files that were recycled.
    pub files_recycled: u64,
    /// The bytes of those files.
    pub bytes_recycled: u64,
    /// Packs that the heads no longer need, because the data they needed was moved.
    pub packs_gathered: u64,
    /// The bytes that were moved.
    pub bytes_gathered: u64,
    /// Forgotten snapshots that this collection erased: an object without bytes remains of each.
    pub erased: u64,
    /// Numbers of deleted contexts of which nothing is left after this collection.
    pub freed: u64,
    /// Snapshots that could not be read; if there are any, nothing was deleted.
    pub unreadable: u64,
    /// Packs that are kept.
    pub packs_kept: u64,
    /// The bytes of those packs.
    pub bytes_kept: u64,
    /// Packs to which no snapshot refers and that are too young to be deleted.
    pub packs_waiting: u64,
    /// The bytes of those packs.
    pub bytes_waiting: u64,
    /// Packs that were deleted.
    pub packs_deleted: u64,
    /// The bytes of those packs.
    pub bytes_deleted: u64,
    /// Packs that are needed but missing; if there are any, no pack was deleted.
    pub packs_lost: u64,
    /// Packs that the store failed to delete.
    pub failed: u64,
    /// The requests and bytes of the collection.
    pub usage: Usage,
}

/// Receives what a collection does; with `dry_run`, what it would do.
pub trait CollectMonitor: Send + Sync {
    /// A snapshot is kept by a rule. This is called in a dry run only. Together with `forgotten`, it gets the
    /// snapshots of a context newest first.
    fn kept(&self, kept: &Kept) {
        let _ = kept;
    }
    /// A snapshot is forgotten.
    fn forgotten(&self, forgotten: &Forgotten) {
        let _ = forgotten;
    }
    /// Files were recycled, or will be; snapshots with their content are forgotten.
    fn recycled(&self, context: &ContextName, recycled: &Recycled) {
        let _ = (context, recycled);
    }
    /// Data of a context was moved, or would be: from this many packs, this many bytes.
    fn gathered(&self, context: &ContextName, packs: u64, bytes: u64) {
        let _ = (context, packs, bytes);
    }
    /// A snapshot can't be read.
    fn unreadable(&self, unreadable: &Unreadable) {
        let _ = unreadable;
    }
    /// A pack is needed but missing.
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
    /// Collects garbage in one pass: completes interrupted renames and deletions, recycles files, forgets the
    /// snapshots that the retention does not keep, deletes the packs that no snapshot needs, and gathers scattered
    /// data.
    ///
    /// # Errors
    /// [`Error::NoStore`]; [`Error::ClockSkew`] if the store's clock and this machine's differ so much that
    /// one of them is wrong; [`Error::BadListing`] if a listing of the store can't be complete; and errors of
    /// the store. After an error, the next collection does the rest.
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
        // This comes before the first listing: whatever is not listed has landed later than this.
        let time = PassTime::take(self, options).await?;
        (report.time, report.grace) = (time.now(), time.grace());
        let known = self.tidy_all(&time, options, report, monitor).await?;
        let mut survey = Survey::make(self, &time, options, &known, monitor).await?;
        survey.describe(&options.retention, report);
        if report.unreadable > 0 {
            return Ok(());
        }
        survey.tell(monitor);
        if !options.dry_run {
            for (name, deletion) in &survey.untag {
                let is_below = |number: Option<u64>| number.is_none_or(|number| number < *deletion);
                self.delete_tags(name, |_, number| is_below(number)).await?;
            }
            self.mark_all(survey.forgotten(), options).await?;
            self.erase_all(&survey.erase, options).await?;
            self.free_all(&survey.free, report, monitor).await?;
        }
        self.sweep(&mut survey, &time, options, report, monitor).await?;
        self.gather_all(&known.scattered, options, report, monitor).await
    }
}
