//! Carries out what a survey has planned.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{PutMode, PutOptions, PutPayload};

use super::clock::PassTime;
use super::survey::{Remains, Survey};
use super::witness::bad;
use super::{CollectMonitor, CollectOptions, CollectReport, Forgotten, LostPack};
use crate::commit::is_worth_retrying;
use crate::error::Error;
use crate::format::{ContextName, Kind, StoreKey, packs_prefix};
use crate::store::Store;

/// How many packs are deleted together.
const BATCH: usize = 4096;
/// How often the put of a tombstone is tried.
const ATTEMPTS: u32 = 5;

impl Store {
    /// Marks snapshots as forgotten.
    pub(super) async fn mark_all(
        &self,
        forget: impl Iterator<Item = &Forgotten>,
        options: &CollectOptions,
    ) -> Result<(), Error> {
        let keys: Vec<_> = forget.map(|forgotten| (forgotten.context.clone(), forgotten.number)).collect();
        stream::iter(keys)
            .map(|(name, number)| async move { self.mark_gone(&name, number).await })
            .buffer_unordered(options.concurrency.get())
            .try_collect()
            .await
    }

    /// Replaces each snapshot by an object without bytes, so that its number stays taken. The mark stays too,
    /// so that every reader finds it, in whatever order it reads.
    pub(super) async fn erase_all(
        &self,
        erase: &[(ContextName, u64)],
        options: &CollectOptions,
    ) -> Result<(), Error> {
        stream::iter(erase.iter().cloned())
            .map(|(name, number)| async move { self.erase(&name, number).await })
            .buffer_unordered(options.concurrency.get())
            .try_collect()
            .await
    }

    async fn erase(&self, name: &ContextName, number: u64) -> Result<(), Error> {
        let key = StoreKey::Snapshot { context: name.clone(), number }.path();
        for attempt in 1.. {
            let put = PutOptions { mode: PutMode::Overwrite, ..Default::default() };
            match self.objects().put_opts(&key, PutPayload::new(), put).await {
                Ok(_) => break,
                Err(e) if attempt < ATTEMPTS && is_worth_retrying(&e) => self.back_off(attempt).await?,
                Err(e) => return Err(Error::store("erase", &key, e)),
            }
        }
        Ok(())
    }

    /// Deletes what is left of erased snapshots: the tombstones before the marks, because a tombstone without its mark
    /// looks like a damaged snapshot. What a collection that dies leaves is deleted by the next.
    pub(super) async fn free_all(
        &self,
        remains: &[Remains],
        report: &mut CollectReport,
        monitor: &dyn CollectMonitor,
    ) -> Result<(), Error> {
        let key = |one: &Remains| StoreKey::Snapshot { context: one.context.clone(), number: one.number };
        let mark = |one: &Remains| StoreKey::Gone { context: one.context.clone(), number: one.number };
        let tombstones = remains.iter().filter(|one| one.has_tombstone).map(|one| key(one).path()).collect();
        let marks = remains.iter().filter(|one| one.has_mark).map(|one| mark(one).path()).collect();
        for keys in [tombstones, marks] {
            if !self.delete_remains(keys, monitor).await? {
                report.freed = 0;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Deletes some objects; returns whether all of them are gone.
    async fn delete_remains(&self, keys: Vec<Path>, monitor: &dyn CollectMonitor) -> Result<bool, Error> {
        let mut deleted = self.objects().delete_stream(stream::iter(keys.into_iter().map(Ok)).boxed());
        while let Some(result) = deleted.next().await {
            match result {
                // Another collection may have been faster.
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => {
                    monitor.warning(&format!("cannot delete what is left of a deleted context: {e}"));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Deletes the packs that no root refers to and that are older than the grace period, unless a needed
    /// pack is lost.
    pub(super) async fn sweep(
        &self,
        survey: &mut Survey,
        time: &PassTime,
        options: &CollectOptions,
        report: &mut CollectReport,
        monitor: &dyn CollectMonitor,
    ) -> Result<(), Error> {
        let prefix = packs_prefix();
        let mut listed = self.list_all(&prefix);
        let mut unused = Vec::new();
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            let put = meta.last_modified.timestamp();
            time.check(put, self)?;
            match StoreKey::parse(&meta.location) {
                Some(StoreKey::Pack(id)) if survey.roots.meet(&id) => {
                    report.packs_kept += 1;
                    report.bytes_kept += meta.size;
                }
                Some(StoreKey::Pack(_)) if !time.is_old(put) => {
                    report.packs_waiting += 1;
                    report.bytes_waiting += meta.size;
                }
                Some(StoreKey::Pack(id)) => unused.push((id, meta.size)),
                // The object does not belong to this program.
                _ => {}
            }
        }
        if report.contexts == 0 && !unused.is_empty() {
            let what = "there are packs and no context; even one that was deleted leaves a mark".to_owned();
            return Err(bad(self, what));
        }
        // The lost data may be in a pack that seems unused.
        report.packs_lost = self.tell_lost(survey, options, monitor).await?;
        if report.packs_lost > 0 {
            return Ok(());
        }
        for batch in unused.chunks(BATCH) {
            if options.dry_run {
                report.packs_deleted += batch.len() as u64;
                report.bytes_deleted += batch.iter().map(|(_, size)| size).sum::<u64>();
                continue;
            }
            let batch = batch.iter().map(|(id, size)| (StoreKey::Pack(*id).path(), *size)).collect();
            self.delete_all(batch, report, monitor).await?;
        }
        Ok(())
    }

    /// Reports packs that are needed but were not listed, and returns their number.
    ///
    /// # Errors
    /// [`Error::BadListing`] if one of them exists nevertheless.
    async fn tell_lost(
        &self,
        survey: &Survey,
        options: &CollectOptions,
        monitor: &dyn CollectMonitor,
    ) -> Result<u64, Error> {
        let mut lost = BTreeSet::new();
        for id in survey.roots.not_met() {
            let key = StoreKey::Pack(id).path();
            match self.stat(&key).await {
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => lost.insert(id),
                Ok(_) => return Err(bad(self, format!("it lacks {key}, which is there"))),
                Err(e) => return Err(e),
            };
        }
        if lost.is_empty() {
            return Ok(0);
        }
        // The snapshots that need a lost pack are searched for only now, because remembering them for all
        // packs would take too much memory.
        let (mut told, leaving) = (BTreeSet::new(), survey.leaving());
        for name in self.names().await? {
            let kept = self.list_snapshots(&name).await?.into_iter().filter(|(_, gone)| !gone);
            let mut mine = lost.clone();
            let head = kept.clone().next().map(|(number, _)| number);
            let of = &name;
            let mut read = stream::iter(kept)
                .map(|(number, _)| async move { self.read_snapshot(of, number).await })
                .buffered(options.concurrency.get());
            while let Some(snapshot) = read.try_next().await? {
                // What is below a deletion is about to be forgotten, if it isn't yet.
                if snapshot.snapshot.kind == (Kind::Terminal { moved_to: None }) {
                    break;
                }
                // Packs that landed too late count as absent anyway.
                let late = snapshot.late_packs();
                let number = snapshot.key.number;
                let still = match leaving.contains(&(&name, number)) {
                    false => None,
                    // What stays of a head whose files are recycled is needed by the next head.
                    true if Some(number) == head => survey.needed(&name),
                    true => continue,
                };
                let counts = |id| !late.contains(id) && still.is_none_or(|still| still.contains(id));
                for pack in snapshot.snapshot.packs.iter().filter(|pack| counts(&pack.id)) {
                    if mine.remove(&pack.id) {
                        told.insert(pack.id);
                        monitor.lost(&LostPack {
                            key: StoreKey::Pack(pack.id).path().to_string(),
                            context: name.clone(),
                            number,
                            is_head: Some(number) == head,
                        });
                    }
                }
            }
        }
        // Packs that only forgotten snapshots need are no loss.
        Ok(told.len() as u64)
    }

    async fn delete_all(
        &self,
        batch: BTreeMap<Path, u64>,
        report: &mut CollectReport,
        monitor: &dyn CollectMonitor,
    ) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let paths: Vec<_> = batch.keys().cloned().map(Ok).collect();
        let mut deleted = self.objects().delete_stream(stream::iter(paths).boxed());
        let failed_before = report.failed;
        while let Some(result) = deleted.next().await {
            match result {
                Ok(path) => {
                    report.packs_deleted += 1;
                    report.bytes_deleted += batch.get(&path).copied().unwrap_or(0);
                }
                // Another collector has deleted it.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => {
                    report.failed += 1;
                    // One message is enough to know the reason.
                    if report.failed == 1 {
                        monitor.warning(&format!("cannot delete a pack: {e}"));
                    }
                }
            }
        }
        // If a whole batch fails, the rest will fail too.
        if report.failed - failed_before >= batch.len() as u64 {
            let refused = std::io::Error::other("every deletion was refused");
            let source = object_store::Error::Generic { store: "packs", source: Box::new(refused) };
            return Err(Error::store("delete from", &packs_prefix(), source));
        }
        Ok(())
    }
}
