//! What is finished before anything is forgotten: moves that were cut short.

use futures::{StreamExt, TryStreamExt, stream};

use super::survey::is_passing;
use super::{CollectMonitor, CollectOptions};
use crate::error::Error;
use crate::format::ContextName;
use crate::store::Store;

impl Store {
    /// Finishes what was begun in all contexts. Trouble with one of them is told: nothing is forgotten there.
    pub(super) async fn settle_all(
        &self,
        options: &CollectOptions,
        monitor: &dyn CollectMonitor,
    ) -> Result<(), Error> {
        let names = self.names().await?;
        stream::iter(names)
            .map(|name| async move {
                if let Err(error) = self.settle(&name).await {
                    if is_passing(&error) {
                        return Err(error);
                    }
                    monitor.warning(&format!("context {name} can't be settled: {error}"));
                }
                Ok(())
            })
            .buffer_unordered(options.concurrency.get())
            .try_collect()
            .await
    }

    async fn settle(&self, name: &ContextName) -> Result<(), Error> {
        let Some(head) = self.find_head(name).await? else { return Ok(()) };
        self.settled(name, head).await.map(drop)
    }
}
