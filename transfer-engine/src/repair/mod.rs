//! Repairing contexts of which the store has lost something: each gets a new head that is whole again.
//!
//! ```text
//! check ─► the head can be read? ── yes ─► its tree, and for parts that can't be read an older one's ┐
//!                                └─ no ──► the newest snapshot that can be read                     ├─► a new head
//! chunks that can't be read ─► the same chunk in another pack? ── copied, or the file is left out ──┘
//! ```
//!
//! Nothing is deleted. A file that is left out stays in the tree as a placeholder, so that no machine takes it as
//! deleted, and a machine that has it can send it again. If names are lost as well, the context begins anew, with another
//! lineage: then no machine's base fits it, and none deletes anything.

mod description;
mod mend;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use futures::StreamExt;
use object_store::path::Path;
use policy_core::TreePath;

use crate::check::{CheckMonitor, CheckOptions, CheckReport, CheckedContext, Damage};
use crate::error::Error;
use crate::format::{ContextName, StoreKey, TagName};
use crate::monitor::Progress;
use crate::read_data::ReadData;
use crate::store::{Head, Store};

/// How many packs are asked for at once before a snapshot is forgotten.
const AT_ONCE: usize = 16;

/// How a repair is made.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// Which contexts; all if it is empty.
    pub contexts: Vec<ContextName>,
    /// Which contents are read to find damage.
    pub read_data: ReadData,
    /// Only reports what would be done.
    pub dry_run: bool,
    /// Marks older snapshots in which something is damaged as forgotten, once the head is whole.
    pub forget_damaged: bool,
    /// The number of concurrent requests.
    pub concurrency: NonZeroUsize,
    /// Roughly how many bytes of memory a repair may take.
    pub memory: u64,
}

/// What a repair does about a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// Its content was found in other packs, and copied.
    Healed,
    /// It is taken from an older snapshot, because the head's part of the tree can't be read.
    FromOlder,
    /// It is left out: its content is nowhere in the store.
    LeftOut,
}

/// What became of a context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Whether the head is damaged, so that the context gets a new one.
    pub head_damaged: bool,
    /// The new head; `None` in a dry run, or if the head is whole.
    pub snapshot: Option<u64>,
    /// The snapshot whose tree the new head has, if that is not the old head.
    pub from: Option<u64>,
    /// Files that were healed.
    pub healed: u64,
    /// Files that were taken from older snapshots.
    pub from_older: u64,
    /// Files that were left out.
    pub left_out: u64,
    /// Paths whose names are lost, at most.
    pub unnamed: u64,
    /// Whether the context begins anew, with another lineage.
    pub begins_anew: bool,
    /// Tags that can't be read, or whose snapshots are not there, and that were deleted; in a dry run, that would be.
    pub untagged: Vec<TagName>,
    /// Older snapshots that were marked as forgotten.
    pub forgotten: Vec<u64>,
    /// Older snapshots in which something is damaged, and which stay.
    pub damaged_left: Vec<u64>,
    /// Why nothing can be repaired.
    pub beyond: Option<String>,
    /// What stopped the repair of this context, and may pass: an object that can't be read now, or other writers.
    pub failed: Option<String>,
}

/// What a repair came to.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was found.
    pub check: CheckReport,
    /// Whether the store's description was missing or damaged. In a dry run nothing else is looked at then.
    pub described: bool,
    /// Contexts that got a new head, or would in a dry run.
    pub repaired: u64,
    /// Contexts that are beyond repair.
    pub beyond: u64,
    /// Contexts of which the repair failed. The others were repaired.
    pub failed: u64,
    /// Files that were healed, or taken from older snapshots.
    pub healed: u64,
    /// Files that were left out, lost names included.
    pub left_out: u64,
}

/// Is told what a repair does, as it does it; in a dry run, what it would do.
pub trait RepairMonitor: Send + Sync {
    /// A damaged file of a context, and what is done about it.
    fn file(&self, context: &ContextName, path: &TreePath, fate: Fate, cause: &Damage) {
        let _ = (context, path, fate, cause);
    }
    /// A context in which something was damaged.
    fn context(&self, context: &ContextName, repaired: &Repaired) {
        let _ = (context, repaired);
    }
    /// How far the check has come that comes first.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }
    /// Something is odd, and nothing is lost by it.
    fn warning(&self, message: &str) {
        let _ = message;
    }
}

impl RepairMonitor for crate::monitor::Silent {}

/// Keeps the contexts in which a check finds damage.
struct Damaged<'a> {
    monitor: &'a dyn RepairMonitor,
    contexts: std::sync::Mutex<Vec<CheckedContext>>,
}

impl CheckMonitor for Damaged<'_> {
    fn context(&self, checked: &CheckedContext) {
        if !checked.is_whole() {
            let kept = CheckedContext { files: Vec::new(), ..checked.clone() };
            self.contexts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(kept);
        }
    }

    fn progress(&self, progress: &Progress) {
        self.monitor.progress(progress);
    }

    fn warning(&self, message: &str) {
        self.monitor.warning(message);
    }
}

impl Store {
    /// Checks contexts, and gives each whose head is damaged a new head that is whole.
    ///
    /// # Errors
    /// As [`Store::check`], and whatever keeps all contexts from being repaired. What concerns one context is no error:
    /// the monitor is told, and the others are repaired.
    pub async fn repair(
        &self,
        options: &RepairOptions,
        monitor: &dyn RepairMonitor,
    ) -> Result<RepairReport, Error> {
        let described = self.repair_description(options.dry_run).await?;
        if described && options.dry_run {
            return Ok(RepairReport { described, ..RepairReport::default() });
        }
        let damaged = Damaged { monitor, contexts: std::sync::Mutex::default() };
        let check = CheckOptions {
            contexts: options.contexts.clone(),
            read_data: options.read_data.clone(),
            concurrency: options.concurrency,
            memory: options.memory,
        };
        let check = self.check(&check, &damaged).await?;
        let mut report = RepairReport { check, described, ..RepairReport::default() };
        let contexts = damaged.contexts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for checked in contexts {
            let repaired = match self.repair_context(&checked, options, monitor).await {
                Ok(repaired) => repaired,
                Err(error) => Repaired { failed: Some(self.of_context(error).await?), ..Repaired::default() },
            };
            report.repaired += u64::from(repaired.head_damaged);
            report.beyond += u64::from(repaired.beyond.is_some());
            report.failed += u64::from(repaired.failed.is_some());
            report.healed += repaired.healed + repaired.from_older;
            report.left_out += repaired.left_out + repaired.unnamed;
            monitor.context(&checked.name, &repaired);
        }
        Ok(report)
    }

    /// Says why the repair of one context failed.
    ///
    /// # Errors
    /// The error itself, where it would stop the others as well: the store does not answer, or is another one.
    async fn of_context(&self, error: Error) -> Result<String, Error> {
        match error {
            Error::Store { .. } if self.confirm().await.is_err() => Err(error),
            // Also that it was deleted or renamed meanwhile.
            Error::Store { .. }
            | Error::Format { .. }
            | Error::Corrupt { .. }
            | Error::NoContext { .. }
            | Error::NoSnapshot { .. }
            | Error::Moved { .. }
            | Error::Beaten { .. }
            | Error::TooLate { .. }
            | Error::CommitUnknown { .. } => Ok(crate::error::chain(&error)),
            _ => Err(error),
        }
    }

    async fn repair_context(
        &self,
        checked: &CheckedContext,
        options: &RepairOptions,
        monitor: &dyn RepairMonitor,
    ) -> Result<Repaired, Error> {
        let mut repaired = self.mend(&checked.name, options, monitor).await?;
        repaired.untagged = self.delete_damaged_tags(checked, options).await?;
        let older = checked.snapshots.iter().filter(|snapshot| !snapshot.is_head || repaired.head_damaged);
        let older = older.filter(|s| !s.is_whole()).map(|s| s.number);
        let damaged: BTreeSet<u64> = older.chain(checked.lost_parents.iter().copied()).collect();
        let damaged: Vec<u64> = damaged.into_iter().rev().collect();
        if !options.forget_damaged || options.dry_run || repaired.beyond.is_some() {
            repaired.damaged_left = damaged;
            return Ok(repaired);
        }
        self.delete_tags(&checked.name, |_, number| number.is_some_and(|n| damaged.contains(&n))).await?;
        for number in damaged {
            match self.forget_damaged(checked, number).await? {
                true => repaired.forgotten.push(number),
                false => repaired.damaged_left.push(number),
            }
        }
        Ok(repaired)
    }

    /// Deletes the tags that can't be read; with the damaged snapshots also those whose snapshots are not in the store.
    async fn delete_damaged_tags(
        &self,
        checked: &CheckedContext,
        options: &RepairOptions,
    ) -> Result<Vec<TagName>, Error> {
        let keys = checked.damage.iter().filter_map(|damage| Path::parse(&damage.key).ok());
        let damaged: BTreeSet<Path> = keys.filter(is_tag).collect();
        if damaged.is_empty() {
            return Ok(Vec::new());
        }
        let (listed, tags) = self.raw_listing(&checked.name).await?;
        let mut deleted = Vec::new();
        for (tag, number) in self.read_tags(&checked.name, tags).await {
            let (context, lineage, name) = (checked.name.clone(), tag.lineage, tag.name.clone());
            let is_deleted = damaged.contains(&StoreKey::Tag { context, lineage, name }.path())
                && match number {
                    Ok(number) => options.forget_damaged && !listed.contains_key(&number),
                    Err(error) => error.is_of_object() && !error.is_of_later_format(),
                };
            if is_deleted {
                if !options.dry_run {
                    self.delete_tag(&checked.name, &tag, None).await?;
                }
                deleted.push(tag.name);
            }
        }
        Ok(deleted)
    }

    /// Marks a damaged snapshot as forgotten. One that is missing gets the empty object that stays of a forgotten one as
    /// well. Returns false if it is whole after all: a listing has lacked it, or a newer program has written it.
    async fn forget_damaged(&self, checked: &CheckedContext, number: u64) -> Result<bool, Error> {
        let key = StoreKey::Snapshot { context: checked.name.clone(), number }.path();
        let is_missing = checked.snapshots.iter().all(|snapshot| snapshot.number != number);
        if is_missing && self.is_there(&key).await? {
            return Ok(false);
        }
        if !is_missing {
            match self.read_snapshot(&checked.name, number).await {
                Err(error) if error.is_of_later_format() => return Ok(false),
                Err(error) if error.is_denied() => return Err(error),
                Err(_) => {}
                Ok(snapshot) => self.refuse_denied(&snapshot).await?,
            }
        }
        // The mark comes first: an empty object without one is damage.
        self.mark_gone(&checked.name, number).await?;
        // Whatever is answered: if something is under the key afterwards, the mark says what it is.
        if is_missing
            && let Err(answer) = self.put_new(&key, Vec::new()).await
            && !self.is_there(&key).await?
        {
            return Err(Error::store("write", &key, answer));
        }
        Ok(true)
    }

    /// Fails if a pack of the snapshot may not be read by this user: others can read it, so it is not damaged.
    async fn refuse_denied(&self, snapshot: &Head) -> Result<(), Error> {
        let begins = snapshot.snapshot.packs.iter().map(|pack| self.get_range(pack.id, 0, 1));
        let mut begins = futures::stream::iter(begins).buffer_unordered(AT_ONCE);
        while let Some(begin) = begins.next().await {
            if let Err(error) = begin
                && error.is_denied()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn is_there(&self, key: &Path) -> Result<bool, Error> {
        match self.stat(key).await {
            Ok(_) => Ok(true),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_tag(key: &Path) -> bool {
    matches!(StoreKey::parse(key), Some(StoreKey::Tag { .. }))
}
