//! The steps before a collection: interrupted renames are completed, and expired files are recycled. And the step
//! after it: scattered data is gathered.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use super::clock::PassTime;
use super::witness::is_passing;
use super::{CollectMonitor, CollectOptions, CollectReport};
use crate::edit::{Change, Edit, EditOptions, scattered};
use crate::error::Error;
use crate::format::{Ancestor, ContextName, PackId};
use crate::monitor::Silent;
use crate::options::SyncOptions;
use crate::recycle::{self, Foreseen, Recycled, foresee, holds_placeholders};
use crate::store::{Head, Store};

/// The time, in seconds, that a copy's files stay after they have expired. A collection of the store that they come from
/// removes them, and the next copy brings that. Only if neither happens are they removed here, which gives the context
/// a snapshot of its own.
const COPY_WAITS: i64 = 7 * 24 * 60 * 60;

/// What was found on the way.
#[derive(Default)]
pub(super) struct Known {
    pub(super) names: Vec<ContextName>,
    pub(super) merge_bases: MergeBases,
    /// The snapshots that recycling forgets, or would forget, of each context.
    pub(super) recycled: BTreeMap<ContextName, BTreeSet<u64>>,
    /// In a dry run: the contexts in which recycling would make a new head, and the packs that this would need.
    pub(super) needed: BTreeMap<ContextName, BTreeSet<PackId>>,
    /// Contexts with scattered data.
    pub(super) scattered: Vec<ContextName>,
}

/// The snapshots that heads were forked from or have merged last, by their nonces, which a rename does not change. Each
/// with the context whose head says so; `None` for several.
#[derive(Default)]
pub(super) struct MergeBases(BTreeMap<[u8; 16], Option<ContextName>>);

impl MergeBases {
    fn note(&mut self, by: &ContextName, snapshots: Vec<Ancestor>) {
        for snapshot in snapshots {
            let known = self.0.entry(snapshot.nonce).or_insert_with(|| Some(by.clone()));
            known.take_if(|known| known != by);
        }
    }

    /// Whether a context other than `own` was forked from the snapshot with this nonce, or has merged it last. What a
    /// context has of itself, from a merge back, is no base of later merges.
    pub(super) fn have(&self, nonce: [u8; 16], own: &ContextName) -> bool {
        self.0.get(&nonce).is_some_and(|by| by.as_ref() != Some(own))
    }
}

/// What was done to one context.
#[derive(Default)]
struct Tidied {
    contains: Vec<Ancestor>,
    recycled: Option<Foreseen>,
    is_scattered: bool,
}

impl Store {
    /// Completes what was interrupted in all contexts, and recycles. Errors of single contexts are reported.
    pub(super) async fn tidy_all(
        &self,
        time: &PassTime,
        options: &CollectOptions,
        report: &mut CollectReport,
        monitor: &dyn CollectMonitor,
    ) -> Result<Known, Error> {
        let heads = self.newest_keys().await?;
        let mut known = Known { names: heads.keys().cloned().collect(), ..Known::default() };
        let mut tidied = std::pin::pin!(
            stream::iter(heads)
                .map(|(name, key)| async move {
                    let mut tidied = Tidied::default();
                    let result = match self.read_listed(&name, key).await {
                        Ok(Some(head)) => self.tidy(head, time, options, &mut tidied).await,
                        Ok(None) => Ok(()),
                        Err(error) => Err(error),
                    };
                    (name, tidied, result)
                })
                .buffer_unordered(options.concurrency.get())
                .map(Ok::<_, Error>)
        );
        while let Some((name, tidied, result)) = tidied.try_next().await? {
            known.merge_bases.note(&name, tidied.contains);
            if let Some(Foreseen { recycled, needed }) = tidied.recycled {
                report.files_recycled += recycled.files;
                report.bytes_recycled += recycled.bytes;
                report.forgotten += recycled.forgotten.len() as u64;
                // A context in which files were lost has placeholders, but nothing to tell of.
                if recycled != Recycled::default() {
                    monitor.recycled(&name, &recycled);
                }
                if options.dry_run && recycled.files > 0 {
                    known.needed.insert(name.clone(), needed);
                }
                known.recycled.insert(name.clone(), recycled.forgotten.into_iter().collect());
            }
            pass_over(&name, result, monitor)?;
            known.scattered.extend(tidied.is_scattered.then_some(name));
        }
        known.scattered.sort_unstable();
        Ok(known)
    }

    /// Processes one context, and reports what was done even if the rest fails.
    async fn tidy(
        &self,
        head: Head,
        time: &PassTime,
        options: &CollectOptions,
        tidied: &mut Tidied,
    ) -> Result<(), Error> {
        let name = &head.snapshot.context.clone();
        let mut head = if options.dry_run { head } else { self.head_after_move(name, head).await? };
        if !head.is_live() {
            return Ok(());
        }
        tidied.contains = head.snapshot.ancestors();
        tidied.recycled = self.recycle_expired(name, &head, time, options).await?;
        if tidied.recycled.as_ref().is_some_and(|foreseen| foreseen.recycled.snapshot.is_some()) {
            head = self.require_head(name).await?;
        }
        tidied.is_scattered = scattered_in(name, &head, options).is_some();
        Ok(())
    }

    async fn recycle_expired(
        &self,
        name: &ContextName,
        head: &Head,
        time: &PassTime,
        options: &CollectOptions,
    ) -> Result<Option<Foreseen>, Error> {
        if head.snapshot.recycle.lifecycle_days.is_none() && !holds_placeholders(&head.snapshot) {
            return Ok(None);
        }
        let is_copy = head.snapshot.copied_from().is_some();
        let now = if is_copy { time.now().saturating_sub(COPY_WAITS) } else { time.now() };
        if options.dry_run {
            return foresee(self, name, head, now).await.map(Some);
        }
        let sync = SyncOptions {
            concurrency: options.concurrency,
            memory: options.memory,
            ..SyncOptions::default()
        };
        let recycled = recycle::recycle(self, name, now, &sync, &Silent).await?;
        Ok(Some(Foreseen { recycled, ..Foreseen::default() }))
    }

    /// Moves scattered data in these contexts, one after the other, because each takes the memory of a push. Errors of
    /// single contexts are reported.
    pub(super) async fn gather_all(
        &self,
        names: &[ContextName],
        options: &CollectOptions,
        report: &mut CollectReport,
        monitor: &dyn CollectMonitor,
    ) -> Result<(), Error> {
        for name in names {
            match self.gather(name, options).await {
                Ok(Some((packs, bytes))) => {
                    report.packs_gathered += packs;
                    report.bytes_gathered += bytes;
                    monitor.gathered(name, packs, bytes);
                }
                Ok(None) => {}
                Err(error) => pass_over(name, Err(error), monitor)?,
            }
        }
        Ok(())
    }

    /// Moves scattered data; returns from how many packs, and how many bytes.
    async fn gather(
        &self,
        name: &ContextName,
        options: &CollectOptions,
    ) -> Result<Option<(u64, u64)>, Error> {
        let head = self.require_head(name).await?;
        let Some((packs, bytes)) = scattered_in(name, &head, options) else { return Ok(None) };
        let count = packs.len() as u64;
        if !options.dry_run {
            let (concurrency, memory) = (options.concurrency, options.memory);
            let edit = EditOptions { session: String::new(), concurrency, memory };
            Edit::new(self, name, &edit).commit(&mut Change::Gather(packs), head).await?;
        }
        Ok(Some((count, bytes)))
    }
}

/// Returns the packs out of which a head's data should be moved, and the number of bytes; `None` if there are none.
fn scattered_in(
    name: &ContextName,
    head: &Head,
    options: &CollectOptions,
) -> Option<(BTreeSet<PackId>, u64)> {
    let frees_space = !options.retention.of(name.as_str()).keeps_all();
    let (packs, bytes) = scattered(&head.snapshot, &options.gathering, frees_space);
    // If the head landed too late, its own writer does not rely on it yet. Then this is left to a later
    // collection. A copy is left as it is: with a snapshot of its own, it would not be continued.
    let leaves = packs.is_empty() || !head.late_packs().is_empty() || head.snapshot.copied_from().is_some();
    (!leaves).then_some((packs, bytes))
}

/// Reports that a context could not be processed, unless the whole collection has to end.
fn pass_over(
    name: &ContextName,
    result: Result<(), Error>,
    monitor: &dyn CollectMonitor,
) -> Result<(), Error> {
    match result {
        Err(error) if is_passing(&error) => Err(error),
        Err(error) => {
            monitor.warning(&format!("cannot process context {name}: {error}; it is left as it is"));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
