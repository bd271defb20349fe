//! Doing what a survey found to be due.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{PutMode, PutOptions, PutPayload};

use super::clock::PassTime;
use super::roots::PackSet;
use super::{CollectMonitor, CollectOptions, CollectReport, Forgotten};
use crate::commit::is_worth_retrying;
use crate::error::Error;
use crate::format::{ContextName, StoreKey, packs_prefix};
use crate::store::Store;

/// Packs that are deleted together.
const BATCH: usize = 4096;
/// How often a tombstone is tried.
const ATTEMPTS: u32 = 5;

impl Store {
    /// Marks snapshots as forgotten.
    pub(super) async fn mark_all(&self, forget: &[Forgotten], options: &CollectOptions) -> Result<(), Error> {
        stream::iter(forget.iter().cloned())
            .map(|forgotten| async move { self.mark_gone(&forgotten.context, forgotten.number).await })
            .buffer_unordered(options.concurrency.get())
            .try_collect()
            .await
    }

    /// Leaves of each snapshot an object without bytes, so that its number stays taken. Its mark stays, too:
    /// whoever looks for it finds it, in whatever order.
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

    /// Deletes the packs that are in no root and older than the grace period.
    pub(super) async fn sweep(
        &self,
        roots: &PackSet,
        time: &PassTime,
        options: &CollectOptions,
        report: &mut CollectReport,
        monitor: &dyn CollectMonitor,
    ) -> Result<(), Error> {
        let prefix = packs_prefix();
        let mut listed = self.objects().list(Some(&prefix));
        let mut batch = BTreeMap::new();
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            let put = meta.last_modified.timestamp();
            time.check(put, self)?;
            match StoreKey::parse(&meta.location) {
                Some(StoreKey::Pack(id)) if roots.holds(&id) => {
                    report.packs_kept += 1;
                    report.bytes_kept += meta.size;
                }
                Some(StoreKey::Pack(_)) if !time.is_old(put) => {
                    report.packs_waiting += 1;
                    report.bytes_waiting += meta.size;
                }
                Some(StoreKey::Pack(_)) if options.dry_run => {
                    report.packs_deleted += 1;
                    report.bytes_deleted += meta.size;
                }
                Some(StoreKey::Pack(_)) => {
                    batch.insert(meta.location, meta.size);
                }
                // Nobody knows whose that is.
                _ => {}
            }
            if batch.len() == BATCH {
                self.delete_all(std::mem::take(&mut batch), report, monitor).await?;
            }
        }
        self.delete_all(batch, report, monitor).await
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
                // Another collector was quicker.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => {
                    report.failed += 1;
                    // One is enough to know the reason.
                    if report.failed == 1 {
                        monitor.warning(&format!("a pack is not deleted: {e}"));
                    }
                }
            }
        }
        // Where a whole batch fails, so will the rest.
        if report.failed - failed_before >= batch.len() as u64 {
            let refused = std::io::Error::other("every deletion was refused");
            let source = object_store::Error::Generic { store: "packs", source: Box::new(refused) };
            return Err(Error::store("delete from", &packs_prefix(), source));
        }
        Ok(())
    }
}
