//! Snapshots of the destination that keep packs from being collected, and until when that is known.

use tokio::time::Instant;

use crate::error::Error;
use crate::format::{ContextName, StoreKey};
use crate::store::Store;

/// A snapshot of the destination that lists packs. It was not forgotten at `seen`, by the store's clock, or later.
#[derive(Debug)]
struct Holder {
    context: ContextName,
    number: u64,
    seen: i64,
    /// When that was, by this machine's clock; `None` if it has to be looked at again.
    at: Option<Instant>,
}

/// One of the holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HolderId(usize);

/// All snapshots whose packs this run counts on.
pub(super) struct Holders<'a> {
    dst: &'a Store,
    /// The grace period, in seconds.
    grace: i64,
    all: Vec<Holder>,
    /// A time of the store, and when it was taken.
    time: Option<(i64, Instant)>,
}

impl<'a> Holders<'a> {
    pub(super) async fn new(dst: &'a Store) -> Result<Self, Error> {
        let grace = i64::try_from(dst.meta().await?.grace_seconds).unwrap_or(i64::MAX);
        Ok(Self { dst, grace, all: Vec::new(), time: None })
    }

    /// Returns the destination's grace period, in seconds.
    pub(super) fn grace(&self) -> u64 {
        self.grace.unsigned_abs()
    }

    /// Returns a time of the store that has passed, and is not long ago. What is seen after it counts from then.
    pub(super) async fn now(&mut self) -> Result<(i64, Instant), Error> {
        match self.time {
            Some(time) if time.1.elapsed().as_secs() < self.grace() / 8 => Ok(time),
            _ => {
                let at = Instant::now();
                let (now, probe) = self.dst.time().await?;
                // A collection deletes what stays of it.
                let _ = self.dst.delete(&StoreKey::Pack(probe).path()).await;
                Ok(*self.time.insert((now, at)))
            }
        }
    }

    /// Trusts no time any more that was taken before: this machine may have slept without noticing.
    pub(super) fn doubt(&mut self) {
        self.time = None;
        self.all.iter_mut().for_each(|holder| holder.at = None);
    }

    /// Adds a snapshot that was seen after `seen`.
    pub(super) fn add(&mut self, context: &ContextName, number: u64, seen: (i64, Instant)) -> HolderId {
        self.all.push(Holder { context: context.clone(), number, seen: seen.0, at: Some(seen.1) });
        HolderId(self.all.len() - 1)
    }

    /// Returns by when a snapshot must land that takes over packs of this one; `None` if it was forgotten meanwhile.
    /// A part of the grace period is left for what happens until then.
    pub(super) async fn land_by(&mut self, id: HolderId) -> Result<Option<i64>, Error> {
        let is_recent = |at: Instant| at.elapsed().as_secs() < self.grace() / 4;
        if !self.all[id.0].at.is_some_and(is_recent) {
            let (seen, at) = self.now().await?;
            let holder = &mut self.all[id.0];
            let gone = StoreKey::Gone { context: holder.context.clone(), number: holder.number }.path();
            match self.dst.stat(&gone).await {
                Ok(_) => return Ok(None),
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {}
                Err(e) => return Err(e),
            }
            (holder.seen, holder.at) = (seen, Some(at));
        }
        let seen = self.all[id.0].seen;
        Ok(Some(seen.saturating_add(self.grace - self.grace / 4)))
    }
}
