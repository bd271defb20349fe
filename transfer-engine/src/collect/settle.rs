//! What is done before anything is collected: moves that were cut short are finished, and what is expired is
//! recycled.

use futures::{StreamExt, TryStreamExt, stream};

use super::clock::PassTime;
use super::survey::is_passing;
use super::{CollectMonitor, CollectOptions, CollectReport};
use crate::error::Error;
use crate::format::ContextName;
use crate::monitor::Silent;
use crate::options::SyncOptions;
use crate::recycle::{self, Recycled, due, holds_placeholders};
use crate::store::Store;

impl Store {
    /// Finishes what was begun in all contexts, and recycles. Trouble with one of them is told.
    pub(super) async fn settle_all(
        &self,
        time: &PassTime,
        options: &CollectOptions,
        report: &mut CollectReport,
        monitor: &dyn CollectMonitor,
    ) -> Result<(), Error> {
        let names = self.names().await?;
        let mut settled = std::pin::pin!(
            stream::iter(names)
                .map(|name| async move { (self.settle(&name, time, options).await, name) })
                .buffer_unordered(options.concurrency.get())
                .map(Ok::<_, Error>)
        );
        while let Some((result, name)) = settled.try_next().await? {
            match result {
                Ok(Some(recycled)) => {
                    report.files_recycled += recycled.files;
                    report.bytes_recycled += recycled.bytes;
                    report.forgotten += recycled.forgotten.len() as u64;
                    monitor.recycled(&name, &recycled);
                }
                Ok(None) => {}
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => monitor.warning(&format!("context {name} can't be settled: {error}")),
            }
        }
        Ok(())
    }

    async fn settle(
        &self,
        name: &ContextName,
        time: &PassTime,
        options: &CollectOptions,
    ) -> Result<Option<Recycled>, Error> {
        let Some(head) = self.find_head(name).await? else { return Ok(None) };
        let head = if options.dry_run { head } else { self.settled(name, head).await? };
        let recycles = head.snapshot.recycle.lifecycle_days.is_some() || holds_placeholders(&head.snapshot);
        if !head.is_live() || !recycles {
            return Ok(None);
        }
        if options.dry_run {
            let due = due(self, name, time.now(), |_| ()).await?;
            let (files, bytes, next) = (due.files, due.bytes, due.next);
            return Ok(Some(Recycled { snapshot: None, files, bytes, forgotten: Vec::new(), next }));
        }
        let sync = SyncOptions {
            concurrency: options.concurrency,
            memory: options.memory,
            ..SyncOptions::default()
        };
        recycle::recycle(self, name, time.now(), &sync, &Silent).await.map(Some)
    }
}
