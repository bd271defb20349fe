//! What a snapshot was forked from, or has merged. Snapshots only name what they contain, so this is what is new against
//! the snapshot before.

use crate::error::Error;
use crate::format::{Ancestor, LineageId, Snapshot};
use crate::store::Store;

/// How many snapshots are read to find the one that was merged, among those that came in with it.
const MOST_READ: usize = 8;

/// Where a snapshot's tree came from, besides the snapshot before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// Of the oldest snapshot: what its context was forked from, as [`Snapshot::forked_from`] says.
    pub forked_from: Option<Ancestor>,
    /// What it has merged. Usually one snapshot; more if there were several merges since the snapshot before, because
    /// those between were forgotten, or if what was merged can't be read any more. Then what came in with it counts too.
    pub merged: Vec<Ancestor>,
}

impl Origins {
    pub(super) async fn of(
        store: &Store,
        before: Option<&Snapshot>,
        snapshot: &Snapshot,
    ) -> Result<Self, Error> {
        let Some(before) = before else {
            return Ok(Self { forked_from: snapshot.forked_from(), merged: Vec::new() });
        };
        let merged = merged(store, candidates(before, snapshot)).await?;
        Ok(Self { forked_from: None, merged })
    }
}

/// Returns what a snapshot contains and the one before does not; what was merged comes early.
fn candidates(before: &Snapshot, snapshot: &Snapshot) -> Vec<Ancestor> {
    let (known, mut new) = (before.ancestors(), snapshot.ancestors());
    // A renamed context contains its own snapshots under the old names.
    let own = own_lineages(before).chain(own_lineages(snapshot)).collect::<Vec<_>>();
    let known_number = |one: &Ancestor| known.iter().find(|k| k.lineage == one.lineage).map(|k| k.number);
    new.retain(|one| !own.contains(&one.lineage) && known_number(one) < Some(one.number));
    // A merge adds what it merges last, or at its old place if an older state was merged before. What came in with it
    // may be at both. A fork mostly merges its origin.
    let last = new.last().map(|last| last.lineage);
    new.sort_by_key(|one| match known_number(one) {
        None if Some(one.lineage) == last => 0,
        Some(_) if one.is_origin => 1,
        Some(_) => 2,
        None => 3,
    });
    new
}

/// Returns the lineages that a snapshot belongs to: the context's, and those that it had before it was renamed.
fn own_lineages(snapshot: &Snapshot) -> impl Iterator<Item = LineageId> {
    let renamed = snapshot.ancestors().into_iter().filter(|one| one.nonce == snapshot.nonce);
    std::iter::once(snapshot.lineage).chain(renamed.map(|one| one.lineage))
}

/// Returns the one of these that contains all others; without such a one, all of them.
async fn merged(store: &Store, new: Vec<Ancestor>) -> Result<Vec<Ancestor>, Error> {
    if new.len() < 2 {
        return Ok(new);
    }
    for one in new.iter().take(MOST_READ) {
        let found = match store.read_snapshot(&one.context, one.number).await {
            Ok(found) => found.snapshot,
            Err(error) if error.is_of_object() => continue,
            Err(error) => return Err(error),
        };
        if found.lineage == one.lineage && new.iter().all(|other| found.contains(other)) {
            return Ok(vec![one.clone()]);
        }
    }
    Ok(new)
}
