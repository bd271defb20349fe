//! Checks that the store's listings are complete. A collection deletes what no snapshot needs, so a snapshot
//! missing in a listing would cost data: a listing may come from a cache, end too early, or be of another
//! store.
//!
//! Two facts help. A snapshot never vanishes at once, because a tombstone replaces what is forgotten, for a grace
//! period at least; and the newest of each context never does. And whether a single object exists can be found out without a listing.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;

use super::clock::PassTime;
use crate::error::Error;
use crate::format::{ContextName, StoreKey, contexts_prefix};
use crate::store::Store;
use crate::tags::{Listed, ListedTag};

/// What was listed before, with one listing.
pub(super) struct Witness {
    contexts: BTreeMap<ContextName, Seen>,
    tags: BTreeMap<ContextName, Vec<ListedTag>>,
    is_ordered: bool,
}

/// What was listed of a context.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The number of snapshots that are no tombstones.
    snapshots: u64,
    /// The newest number.
    newest: u64,
    /// The number of all keys.
    keys: u64,
}

impl Witness {
    /// Lists everything below `contexts/`.
    pub(super) async fn take(store: &Store, time: &PassTime) -> Result<Self, Error> {
        let prefix = contexts_prefix();
        let mut contexts: BTreeMap<ContextName, Seen> = BTreeMap::new();
        let mut tags: BTreeMap<ContextName, Vec<ListedTag>> = BTreeMap::new();
        let (mut listed, mut last, mut is_ordered) = (store.list_all(&prefix), None, true);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            is_ordered &= last.as_ref().is_none_or(|last| *last < meta.location);
            let key = StoreKey::parse(&meta.location);
            if let Some(context) = key.as_ref().and_then(StoreKey::context) {
                contexts.entry(context.clone()).or_default().keys += 1;
            }
            match key {
                Some(StoreKey::Snapshot { context, number }) => {
                    let seen = contexts.entry(context).or_default();
                    seen.snapshots += u64::from(meta.size > 0);
                    seen.newest = seen.newest.max(number);
                }
                Some(StoreKey::Tag { context, lineage, name }) => {
                    let landed = meta.last_modified.timestamp();
                    tags.entry(context).or_default().push(ListedTag { lineage, name, landed });
                }
                _ => {}
            }
            last = last.max(Some(meta.location));
        }
        // A server that silently ends each listing after one page returns the rest if it is asked for it.
        let this = Self { contexts, tags, is_ordered };
        let Some(last) = last else { return Ok(this) };
        match store.objects().list_with_offset(Some(&prefix), &last).next().await {
            None => Ok(this),
            Some(Ok(more)) if time.may_be_later(more.last_modified.timestamp()) => Ok(this),
            Some(Ok(more)) => {
                Err(bad(store, format!("it ends at {last}, and {} comes after that", more.location)))
            }
            Some(Err(e)) => Err(Error::store("list", &prefix, e)),
        }
    }

    /// Returns the contexts with the numbers of their keys; `None` if they were not listed in order.
    pub(super) fn keys(&self) -> Option<impl Iterator<Item = (ContextName, u64)>> {
        self.is_ordered.then(|| self.contexts.iter().map(|(name, seen)| (name.clone(), seen.keys)))
    }

    /// Fails unless all contexts that were listed before are listed now.
    pub(super) fn agrees_on(
        &self,
        store: &Store,
        known: &[ContextName],
        names: &[ContextName],
    ) -> Result<(), Error> {
        let names: BTreeSet<_> = names.iter().collect();
        match known.iter().chain(self.contexts.keys()).find(|name| !names.contains(name)) {
            Some(name) => {
                Err(bad(store, format!("it lacks the context {name}, which was listed a moment before")))
            }
            None => Ok(()),
        }
    }

    /// Returns when the earliest of the tags landed that a later listing of a context lacks, or has anew.
    pub(super) fn lost_tag(&self, name: &ContextName, listed: &[ListedTag]) -> Option<i64> {
        let before = self.tags.get(name).into_iter().flatten();
        before.filter(|tag| !listed.contains(tag)).map(|tag| tag.landed).min()
    }

    /// Fails if the listing of a context lacks snapshots or tombstones that were listed before, or any that
    /// exist: after the newest number, and where numbers are missing, as they are in a renamed context.
    pub(super) async fn confirms(
        &self,
        store: &Store,
        name: &ContextName,
        listed: &BTreeMap<u64, Listed>,
        time: &PassTime,
    ) -> Result<(), Error> {
        let keys = || listed.values().filter_map(|object| object.snapshot.as_ref());
        let numbers: Vec<u64> = keys().map(|key| key.number).collect();
        // Old tombstones may be deleted by another collection. Snapshots may be erased, but not longer ago.
        let there = keys().filter(|key| key.size > 0 || time.may_be_later(key.landed)).count() as u64;
        let newest = numbers.last().copied().unwrap_or(0);
        let before = self.contexts.get(name).copied().unwrap_or_default();
        if there < before.snapshots || newest < before.newest {
            let what = format!("it lacks snapshots of {name} that were listed a moment before");
            return Err(bad(store, what));
        }
        let mut absent: Vec<u64> = newest.checked_add(1).into_iter().collect();
        let mut expected = 1;
        for number in numbers {
            absent.extend((number > expected).then(|| number - 1));
            expected = number.saturating_add(1);
        }
        for number in absent {
            let key = StoreKey::Snapshot { context: name.clone(), number }.path();
            match store.stat(&key).await {
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {}
                Ok(found) if time.may_be_later(found.last_modified.timestamp()) => {}
                Ok(_) => return Err(bad(store, format!("it lacks {key}, which is there"))),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

pub(super) fn bad(store: &Store, what: String) -> Error {
    Error::BadListing { location: store.location().to_owned(), what }
}

/// Whether an error says nothing about the object, so that the whole collection fails.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Store { source, .. } if !matches!(source, object_store::Error::NotFound { .. }))
}
