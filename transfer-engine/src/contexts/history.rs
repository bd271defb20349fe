//! The snapshots of a context, newest first.

use std::sync::Arc;
use std::vec::IntoIter;

use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};

use crate::error::Error;
use crate::format::{ContextName, Kind, LineageId, Snapshot};
use crate::store::Store;

/// How many snapshots are read at once.
const AHEAD: usize = 16;

/// The reading of a snapshot, with its number.
type Reading<'a> = BoxFuture<'a, (u64, Result<Arc<Snapshot>, Error>)>;

/// The snapshots of a context that are not forgotten, newest first. Each is read when it is asked for, or shortly before.
pub(crate) struct History<'a> {
    store: &'a Store,
    name: ContextName,
    lineage: LineageId,
    /// The lineages that this one goes on from: a repair that may have lost names gives the context another one.
    earlier: Vec<LineageId>,
    /// The head, until it is asked for.
    head: Option<Arc<Snapshot>>,
    /// The numbers that are not read yet.
    numbers: IntoIter<u64>,
    reading: FuturesOrdered<Reading<'a>>,
}

/// A snapshot that can't be read.
pub(crate) struct DamagedSnapshot {
    pub(crate) number: u64,
    pub(crate) error: Error,
}

impl Store {
    /// Finds the snapshots of a context, and reads none but the head.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Moved`], and those of listing the snapshots.
    pub(crate) async fn history(&self, name: &ContextName) -> Result<History<'_>, Error> {
        let (newest, lineage, head) = match self.require_head(name).await {
            Ok(head) => (head.key.number, head.snapshot.lineage, Some(head.snapshot)),
            Err(error) => match (&error, self.newest_of(name).await) {
                (Error::DamagedHead { number, .. }, Ok(found)) => (*number, found.snapshot.lineage, None),
                _ => return Err(error),
            },
        };
        let listed = self.list_snapshots(name).await?.into_iter();
        // An empty object without a mark is damage, and as a head it is told.
        let is_told = |number: u64, gone: bool| !gone || (head.is_none() && number == newest);
        let numbers = listed.filter(|(number, gone)| *number <= newest && is_told(*number, *gone));
        let numbers: Vec<u64> = numbers.map(|(number, _)| number).collect();
        Ok(History {
            store: self,
            name: name.clone(),
            lineage,
            earlier: Vec::new(),
            head,
            numbers: numbers.into_iter(),
            reading: FuturesOrdered::new(),
        })
    }

    /// Returns all snapshots of a context that are not forgotten, newest first. Together they may take much
    /// memory; [`Store::each_snapshot`] does not keep them.
    pub async fn log(&self, name: &ContextName) -> Result<Vec<Arc<Snapshot>>, Error> {
        let mut log = Vec::new();
        self.each_snapshot(name, |snapshot| log.push(snapshot)).await?;
        Ok(log)
    }

    /// Calls `each` for every snapshot of a context that is not forgotten, newest first, while further ones
    /// are read.
    ///
    /// # Errors
    /// [`Error::NoContext`] and [`Error::Moved`] before the first call; other errors may come later.
    pub async fn each_snapshot(
        &self,
        name: &ContextName,
        mut each: impl FnMut(Arc<Snapshot>),
    ) -> Result<(), Error> {
        let mut history = self.history(name).await?;
        while let Some(snapshot) = history.next(usize::MAX).await? {
            each(snapshot);
        }
        Ok(())
    }
}

impl<'a> History<'a> {
    /// Returns the next snapshot; `None` after the oldest one. `wanted` says how many snapshots will be asked for, this
    /// one included, as far as is known: of so many, some are read at once.
    ///
    /// # Errors
    /// Those of reading a snapshot.
    pub(crate) async fn next(&mut self, wanted: usize) -> Result<Option<Arc<Snapshot>>, Error> {
        self.next_or_damaged(wanted).await?.transpose().map_err(|damaged| damaged.error)
    }

    /// The same, and goes on after a snapshot that is damaged.
    ///
    /// # Errors
    /// Those of reading a snapshot, if they do not say that it is damaged.
    pub(crate) async fn next_or_damaged(
        &mut self,
        wanted: usize,
    ) -> Result<Option<Result<Arc<Snapshot>, DamagedSnapshot>>, Error> {
        loop {
            while self.reading.len() < wanted.clamp(1, AHEAD) {
                let Some(number) = self.numbers.next() else { break };
                let read = self.read(number);
                self.reading.push_back(read);
            }
            let Some((number, read)) = self.reading.next().await else { return Ok(None) };
            let snapshot = match read {
                Ok(snapshot) => snapshot,
                Err(error) if error.is_of_object() => {
                    return Ok(Some(Err(DamagedSnapshot { number, error })));
                }
                Err(error) => return Err(error),
            };
            // Snapshots before the last deletion belong to another lineage.
            let goes_on = snapshot.kind == Kind::Normal && self.earlier.contains(&snapshot.lineage);
            if snapshot.lineage != self.lineage && !goes_on {
                self.numbers = IntoIter::default();
                self.reading.clear();
                return Ok(None);
            }
            // Terminal snapshots and claims are not states of the context.
            if snapshot.kind == Kind::Normal {
                self.lineage = snapshot.lineage;
                let ours = snapshot.ancestors().into_iter().filter(|one| one.context == self.name);
                self.earlier = ours.map(|one| one.lineage).collect();
                return Ok(Some(Ok(snapshot)));
            }
        }
    }

    fn read(&mut self, number: u64) -> Reading<'a> {
        if let Some(head) = self.head.take_if(|head| head.number == number) {
            return std::future::ready((number, Ok(head))).boxed();
        }
        let (store, name) = (self.store, self.name.clone());
        async move { (number, store.read_snapshot(&name, number).await.map(|head| head.snapshot)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;

    use super::*;
    use crate::env::Env;

    #[tokio::test]
    async fn a_history_that_is_read_is_not_kept() {
        let store = Store::new(Arc::new(InMemory::new()), "memory:", Env::real());
        store.init(Duration::from_secs(60)).await.unwrap();
        let name: ContextName = "c".parse().unwrap();
        store.create_context(&name).await.unwrap();
        for _ in 0..100 {
            let head = store.require_head(&name).await.unwrap();
            let next = head.ended(Kind::Normal, &store).unwrap();
            store.commit_bare(next, Some(&head.key)).await.unwrap().unwrap();
        }
        let (mut seen, mut numbers) = (Vec::new(), Vec::new());
        let each = |snapshot: Arc<Snapshot>| {
            assert!(seen.iter().all(|s: &std::sync::Weak<Snapshot>| s.strong_count() == 0));
            seen.push(Arc::downgrade(&snapshot));
            numbers.push(snapshot.number);
        };
        store.each_snapshot(&name, each).await.unwrap();
        assert_eq!(numbers, (1..=101).rev().collect::<Vec<_>>());
        assert_eq!(store.log(&name).await.unwrap().len(), 101);
    }
}
