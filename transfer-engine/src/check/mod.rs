//! Checking a store: whether everything that its snapshots refer to is there and whole.
//!
//! ```text
//! list contexts ─► of each: read its snapshots ─► their packs: size, footer ─► their segments ─► which files are damaged
//!                                                        └─ with data: every block
//! ```
//!
//! A check writes nothing and takes no lock, so it may run beside writers and collections. What others may change
//! meanwhile is asked for again before it is called damaged: a pack that a listing lacks, and a snapshot whose data is
//! gone because it was forgotten.

mod contexts;
mod data;
mod heads;
mod packs;
mod segments;
mod survey;
mod tags;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::pin::pin;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use policy_core::{Timestamp, TreePath};

use crate::error::Error;
use crate::format::{ContextName, PackId, StoreKey};
use crate::monitor::Progress;
use crate::read_data::ReadData;
use crate::store::{Store, undescribed};
use crate::usage::Usage;

use contexts::Checker;
pub(crate) use heads::DamagedParts;
use packs::Packs;
use survey::Survey;

/// How a check is made.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Which contexts; all where it is empty.
    pub contexts: Vec<ContextName>,
    /// Which contents are read.
    pub read_data: ReadData,
    /// Requests under way at once.
    pub concurrency: NonZeroUsize,
    /// Bytes of contents in memory at once, about.
    pub memory: u64,
}

/// An object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The object's key.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// What a check found of one snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CheckedSnapshot {
    /// Its number.
    pub number: u64,
    /// Whether it is the head.
    pub is_head: bool,
    /// When it was made, by its writer's clock; `None` where it can't be read.
    pub created: Option<Timestamp>,
    /// Files that can't be read whole, those included whose names can't be read either.
    pub damaged_files: u64,
    /// What is wrong with the snapshot itself, if something is.
    pub what: Option<String>,
}

impl CheckedSnapshot {
    /// Whether all that the snapshot refers to is there and whole, as far as the check looked.
    pub fn is_whole(&self) -> bool {
        self.damaged_files == 0 && self.what.is_none()
    }
}

/// A file of a context that can't be read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// The file; or, with `unnamed`, the first of those whose names can't be read either.
    pub path: TreePath,
    /// How many entries can't be listed from `path` on, because that part of the tree is damaged.
    pub unnamed: u64,
    /// The newest snapshot in which it is damaged.
    pub newest: u64,
    /// The oldest one.
    pub oldest: u64,
    /// The session that made the oldest one: its machine may still have the file.
    pub session: String,
    /// The damaged object, and what is wrong with it.
    pub cause: Damage,
}

/// What a check found of one context.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CheckedContext {
    /// Its name.
    pub name: ContextName,
    /// Whether it was deleted or renamed: then only its last mark was looked at.
    pub ended: bool,
    /// Its snapshots that are not forgotten, the newest first.
    pub snapshots: Vec<CheckedSnapshot>,
    /// The files that are damaged, by path. No more than [`MOST_FILES`]; the snapshots count all.
    pub files: Vec<DamagedFile>,
    /// Further objects that are not what they should be.
    pub damage: Vec<Damage>,
    /// What is odd, and no damage.
    pub odd: Vec<String>,
    /// The numbers at which newer snapshots have their parents, and at which there is nothing, or another snapshot.
    pub lost_parents: BTreeSet<u64>,
    /// The packs that its snapshots refer to, and in which something is missing or damaged.
    pub damaged_packs: BTreeSet<PackId>,
}

impl CheckedContext {
    /// Whether nothing of it is damaged, as far as the check looked.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.snapshots.iter().all(CheckedSnapshot::is_whole)
    }
}

/// Damaged files of one context that are named.
pub const MOST_FILES: usize = 100_000;

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Contexts that were checked.
    pub contexts: u64,
    /// Those of them in which something is damaged.
    pub damaged_contexts: u64,
    /// Snapshots that were checked.
    pub snapshots: u64,
    /// Those of them in which something is damaged.
    pub damaged_snapshots: u64,
    /// Files that are damaged in some snapshot, each counted once in its context.
    pub damaged_files: u64,
    /// Packs that the snapshots refer to.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of the packs that are missing or damaged.
    pub damaged_packs: u64,
    /// Bytes of contents that were read and verified.
    pub bytes_read: u64,
    /// Packs in the store that no checked snapshot refers to; only counted where all contexts are checked. A collection
    /// deletes them in time.
    pub unused_packs: u64,
    /// What was asked of the store.
    pub usage: Usage,
}

impl CheckReport {
    /// Whether nothing was found to be damaged.
    pub fn is_whole(&self) -> bool {
        self.damaged_contexts == 0 && self.damaged_packs == 0
    }
}

/// Is told what a check finds, as it finds it. Contexts come in the order of their names.
pub trait CheckMonitor: Send + Sync {
    /// A context is checked.
    fn context(&self, checked: &CheckedContext) {
        let _ = checked;
    }
    /// How far the check has come: contexts as files, and bytes of contents.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }
    /// Something is odd, and nothing is lost by it.
    fn warning(&self, message: &str) {
        let _ = message;
    }
}

impl CheckMonitor for crate::monitor::Silent {}

impl Store {
    /// Checks that everything that the snapshots of the contexts refer to is there and whole.
    ///
    /// # Errors
    /// [`Error::NoStore`], and what else is wrong with the store's description; [`Error::NoContext`] for a name that
    /// was asked for; whatever stops the check as a whole. Damage is no error: it is told to the monitor.
    pub async fn check(
        &self,
        options: &CheckOptions,
        monitor: &dyn CheckMonitor,
    ) -> Result<CheckReport, Error> {
        let before = self.usage();
        self.expect_description().await?;
        let packs = Packs::list(self, options).await?;
        let survey = Survey::make(self, &options.contexts).await?;
        let Survey { contexts, tagged, odd } = survey;
        odd.iter().for_each(|message| monitor.warning(message));
        let mut progress = Progress { total_files: contexts.len() as u64, ..Progress::default() };
        let checker = Checker::new(self, &packs, options);
        let (checker, tagged) = (&checker, &tagged);
        let checked = stream::iter(contexts)
            .map(|(name, rows)| {
                async move {
                    let has_tags = tagged.contains(&name);
                    checker.context(name, rows, has_tags).await
                }
                .boxed()
            })
            .buffered(options.concurrency.get());
        let (mut checked, mut report) = (pin!(checked), CheckReport::default());
        let mut damaged_packs = BTreeSet::new();
        while let Some(context) = checked.try_next().await? {
            if context.ended && !options.contexts.is_empty() {
                // The error says what became of it.
                self.require_head(&context.name).await?;
            }
            report.add(&context);
            context.odd.iter().for_each(|message| monitor.warning(message));
            damaged_packs.extend(context.damaged_packs.iter().copied());
            monitor.context(&context);
            progress.files_done += 1;
            progress.bytes_done = packs.bytes_read();
            monitor.progress(&progress);
        }
        packs.describe(options.contexts.is_empty(), &mut report);
        report.damaged_packs = damaged_packs.len() as u64;
        // A store that has vanished meanwhile made everything look lost.
        self.confirm().await?;
        report.usage = self.usage().since(&before);
        Ok(report)
    }
}

impl Store {
    /// Expects the store's description to be there, if there is anything else.
    async fn expect_description(&self) -> Result<(), Error> {
        match self.confirm().await {
            Err(Error::NoStore { .. }) if !self.names().await?.is_empty() => Err(undescribed()),
            described => described.map(drop),
        }
    }
}

impl CheckReport {
    fn add(&mut self, context: &CheckedContext) {
        self.contexts += 1;
        self.damaged_contexts += u64::from(!context.is_whole());
        self.snapshots += context.snapshots.len() as u64;
        self.damaged_snapshots += context.snapshots.iter().filter(|s| !s.is_whole()).count() as u64;
        self.damaged_files += context.files.iter().map(|file| file.unnamed.max(1)).sum::<u64>();
    }
}

/// Returns the key of a pack, to name it.
fn key_of(pack: PackId) -> String {
    StoreKey::Pack(pack).path().to_string()
}

/// Says what is wrong with an object that a request failed on.
///
/// # Errors
/// The error itself, where it says nothing about the object: the store does not answer, or is another one.
async fn fault(store: &Store, error: Error) -> Result<String, Error> {
    match error {
        Error::Store { source: object_store::Error::NotFound { .. }, .. } => {
            Ok("it is not in the store".to_owned())
        }
        // An object that can't be read while others can is damaged, as a bad sector of a disk makes one.
        Error::Store { .. } => match store.confirm().await {
            Ok(_) => Ok(format!("it can't be read: {}", crate::error::chain(&error))),
            Err(_) => Err(error),
        },
        Error::Format { source, .. } => Ok(format!("it is damaged: {source}")),
        Error::Corrupt { what, .. } => Ok(format!("it is damaged: {what}")),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests;
