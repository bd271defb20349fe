//! Forgets the snapshots that have the content of recycled files.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use policy_core::{Digest, Node};

use super::is_file;
use crate::error::Error;
use crate::format::{ContextName, TreeEntry, sha256};
use crate::state::Cache;
use crate::store::{Head, Store};
use crate::tree::Tree;

/// How many snapshots are read, or marked, at once.
const AT_ONCE: usize = 16;

/// Files by a hash of path and content, in eight bytes each. The chance of a wrong match is negligible.
#[derive(Default)]
pub(super) struct Files(Vec<u64>);

impl Files {
    /// Adds those of these entries that are recycled. What the store has lost is not: its older snapshots stay.
    pub(super) fn add_recycled(&mut self, entries: &[TreeEntry]) {
        self.0.extend(entries.iter().filter(|e| e.recycled && !e.is_lost()).filter_map(Self::key));
    }

    /// Adds a file.
    pub(super) fn add(&mut self, entry: &TreeEntry) {
        self.0.extend(Self::key(entry));
    }

    fn key(entry: &TreeEntry) -> Option<u64> {
        let Node::File { digest, .. } = &entry.entry.node else { return None };
        let hash = sha256(&[entry.path.as_bytes(), &digest.0].concat());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.0[..8]);
        Some(u64::from_be_bytes(first))
    }

    fn holds(&self, entry: &TreeEntry) -> bool {
        Self::key(entry).is_some_and(|key| self.0.binary_search(&key).is_ok())
    }
}

/// Marks the snapshots before `head` that have the content of files that `head` lists as recycled; returns
/// their numbers, newest first.
///
/// A tag does not protect a snapshot: data that has to be gone by a certain day must be gone.
pub(super) async fn forget(
    store: &Store,
    name: &ContextName,
    head: &Head,
    cache: Option<&Cache>,
) -> Result<Vec<u64>, Error> {
    let mut recycled = Files::default();
    let tree = Tree { store, snapshot: &head.snapshot, cache };
    let mut segments = std::pin::pin!(tree.segments(0..head.snapshot.segments.len()));
    while let Some((_, entries)) = segments.try_next().await? {
        recycled.add_recycled(&entries);
    }
    let holding = holders(store, name, head.key.number, recycled, cache).await?;
    if holding.is_empty() {
        return Ok(holding);
    }
    store.forget_tags(name, |number| holding.contains(&number)).await?;
    stream::iter(holding.clone())
        .map(|number| store.mark_gone(name, number))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(holding)
}

/// Returns the snapshots before number `before` that have the content of one of these files, newest first.
pub(super) async fn holders(
    store: &Store,
    name: &ContextName,
    before: u64,
    mut recycled: Files,
    cache: Option<&Cache>,
) -> Result<Vec<u64>, Error> {
    if recycled.0.is_empty() {
        return Ok(Vec::new());
    }
    recycled.0.sort_unstable();
    let all = store.list_snapshots(name).await?;
    let kept: Vec<u64> = all.into_iter().filter(|(n, gone)| *n < before && !gone).map(|(n, _)| n).collect();
    // Snapshots share most of their segments, so each segment is read only once.
    let mut judged: HashMap<Digest, bool> = HashMap::new();
    let mut holding = Vec::new();
    let mut read = std::pin::pin!(
        stream::iter(kept)
            .map(|number| async move { (number, store.read_snapshot(name, number).await) })
            .buffered(AT_ONCE)
    );
    while let Some((number, found)) = read.next().await {
        let found = match found {
            Ok(found) => found,
            // It was collected meanwhile.
            Err(e) if e.is_of_object() => continue,
            Err(e) => return Err(e),
        };
        let tree = Tree { store, snapshot: &found.snapshot, cache };
        for (index, segment) in found.snapshot.segments.iter().enumerate() {
            let holds = match judged.get(&segment.digest) {
                Some(holds) => *holds,
                None => {
                    let holds = match tree.segment(index).await {
                        Ok(entries) => entries.iter().any(|e| is_file(e) && recycled.holds(e)),
                        // The segment is gone, so it can't lead to any file.
                        Err(e) if e.is_of_object() => false,
                        Err(e) => return Err(e),
                    };
                    judged.insert(segment.digest, holds);
                    holds
                }
            };
            if holds {
                holding.push(number);
                break;
            }
        }
    }
    Ok(holding)
}
