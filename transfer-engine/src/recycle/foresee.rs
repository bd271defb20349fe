//! Tells what a recycling would do, for a dry run.

use std::collections::BTreeSet;

use futures::TryStreamExt;

use super::forget::{Files, holders};
use super::{Due, Recycled, Recycling, rule_of};
use crate::error::Error;
use crate::format::{ContextName, PackId};
use crate::monitor::Silent;
use crate::store::{Head, Store};
use crate::tree::Tree;

/// What a recycling of a context would do.
#[derive(Debug, Default)]
pub(crate) struct Foreseen {
    pub(crate) recycled: Recycled,
    /// The packs with data of the files that stay. The data moves out of some of them, unless they are lost.
    pub(crate) needed: BTreeSet<PackId>,
}

/// Returns what [`recycle`](super::recycle) would do at `now`. Writes nothing.
///
/// # Errors
/// Errors of the store.
pub(crate) async fn foresee(
    store: &Store,
    name: &ContextName,
    head: &Head,
    now: i64,
) -> Result<Foreseen, Error> {
    let mut foreseen = Foreseen::default();
    if !head.late_packs().is_empty() {
        return Ok(foreseen);
    }
    let recycling = rule_of(&head.snapshot).map(|rule| Recycling::new(rule, now, &Silent));
    let (mut due, mut gone) = (Due::default(), Files::default());
    let tree = Tree { store, snapshot: &head.snapshot, cache: None };
    let mut segments = std::pin::pin!(tree.segments(0..head.snapshot.segments.len()));
    while let Some((_, entries)) = segments.try_next().await? {
        gone.add_recycled(&entries);
        for entry in &entries {
            let file = recycling.as_ref().and_then(|recycling| recycling.due(entry));
            file.iter().for_each(|file| due.count(file));
            match file {
                Some(file) if file.is_expired => gone.add(entry),
                _ => foreseen.needed.extend(entry.chunks.iter().map(|chunk| chunk.block.pack)),
            }
        }
    }
    // With expired files, the head is one of the older snapshots.
    let before = head.key.number + u64::from(due.files > 0);
    let forgotten = holders(store, name, before, gone, None).await?;
    let Due { files, bytes, next, .. } = due;
    foreseen.recycled = Recycled { snapshot: None, files, bytes, forgotten, next };
    Ok(foreseen)
}
