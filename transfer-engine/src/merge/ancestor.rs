//! The newest snapshot that two contexts have in common: the base of a merge.
//!
//! Each snapshot names the newest snapshot of each other lineage that it contains ([`Ancestor`]); of its own lineage
//! it contains all that came before it. So what two snapshots have in common is, for each lineage that both know, the
//! older one of the two. The base is the one of these that contains the others. If none contains all others, because
//! two contexts have merged each other's older states, the base is the one of them that landed last, and what the others
//! say against a deletion or a replacement prevails.

use std::cmp::Reverse;

use crate::error::Error;
use crate::format::{Ancestor, ContextName, Kind, Snapshot};
use crate::store::{Head, Store};

/// How many renames of one context are followed: names that were given back and forth must not hold a merge up.
const MOST_RENAMES: usize = 32;

/// Finds the newest snapshots that both contain: none of them contains another. The one that landed last comes first;
/// it is the base. Empty if they have none in common, or if one of these was forgotten: an older snapshot could not tell
/// what either has undone since.
pub(super) async fn common(store: &Store, into: &Head, from: &Head) -> Result<Vec<Head>, Error> {
    let mut found: Vec<Head> = Vec::new();
    let mut is_missing = false;
    for (at, number) in shared(&into.snapshot, &from.snapshot) {
        let exact = match exactly(store, &at, number).await? {
            Some(exact) => Some(exact),
            // A fork begins with the tree of its origin; a renamed context has copies of its snapshots.
            None => match beginning(store, [into, from], &at, number).await? {
                Some(begins) => Some(begins),
                None => copy_of(store, [into, from], &at).await?,
            },
        };
        is_missing |= exact.is_none();
        found.extend(exact);
    }
    let is_within = |one: &Head, other: &Head| {
        one.digest != other.digest && other.snapshot.contains(&Ancestor::of(&one.snapshot))
    };
    let newest = found.iter().filter(|one| !found.iter().any(|other| is_within(one, other)));
    let mut newest: Vec<Head> = newest.cloned().collect();
    newest.sort_by_key(|one| (Reverse(one.key.landed), one.snapshot.lineage.0));
    newest.dedup_by_key(|one| one.digest);
    // One that is missing may be newer than all others, unless the first of these contains everything that both have.
    let has_all = |one: &Head| {
        let all = shared(&into.snapshot, &from.snapshot);
        all.into_iter().all(|(at, number)| one.snapshot.contains(&Ancestor { number, ..at }))
    };
    if is_missing && !newest.first().is_some_and(has_all) {
        newest.clear();
    }
    Ok(newest)
}

/// Returns the lineages that both contain, each with the number up to which.
fn shared(into: &Snapshot, from: &Snapshot) -> Vec<(Ancestor, u64)> {
    let theirs = from.contained();
    let both = into.contained().into_iter().filter_map(|mine| {
        let their = theirs.iter().find(|their| their.lineage == mine.lineage)?;
        let number = mine.number.min(their.number);
        Some((if mine.number == number { mine } else { their.clone() }, number))
    });
    both.collect()
}

/// Returns a snapshot of a lineage, if it is not forgotten and its packs all count.
async fn exactly(store: &Store, at: &Ancestor, number: u64) -> Result<Option<Head>, Error> {
    let kept = store.list_snapshots(&at.context).await?;
    if !kept.contains(&(number, false)) {
        return Ok(None);
    }
    let found = match store.read_snapshot(&at.context, number).await {
        Ok(found) => found,
        Err(error) if error.is_of_object() => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_it = found.snapshot.lineage == at.lineage && is_whole(&found);
    Ok(is_it.then_some(found))
}

/// Whether it is a state of its context, and all its packs count.
fn is_whole(found: &Head) -> bool {
    found.snapshot.kind == Kind::Normal && found.late_packs().is_empty()
}

/// Returns the first snapshot of a context that was forked from exactly this snapshot: it has the same tree.
async fn beginning(
    store: &Store,
    sides: [&Head; 2],
    origin: &Ancestor,
    number: u64,
) -> Result<Option<Head>, Error> {
    for side in sides {
        let snapshot = &side.snapshot;
        let is_origin = |from: Ancestor| (from.lineage, from.number) == (origin.lineage, number);
        if !snapshot.forked_from().is_some_and(is_origin) {
            continue;
        }
        let kept = store.list_snapshots(&snapshot.context).await?;
        let Some((first, _)) = kept.into_iter().rev().find(|(_, gone)| !gone) else { continue };
        let first = store.read_snapshot(&snapshot.context, first).await?;
        if first.snapshot.lineage == snapshot.lineage && first.snapshot.parent.is_none() && is_whole(&first) {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// Looks for the copy of a snapshot in the histories of both contexts and of its own, which may have been renamed, by its
/// nonce, which a rename does not change. Reads these histories, so it comes last.
async fn copy_of(store: &Store, sides: [&Head; 2], at: &Ancestor) -> Result<Option<Head>, Error> {
    let mut places = sides.map(|side| (side.snapshot.context.clone(), side.key.number)).to_vec();
    places.extend(renamed(store, &at.context).await?.map(|name| (name, u64::MAX)));
    for (name, newest) in places {
        for (number, gone) in store.list_snapshots(&name).await? {
            if gone || number > newest {
                continue;
            }
            let found = match store.read_snapshot(&name, number).await {
                Ok(found) => found,
                Err(error) if error.is_of_object() => continue,
                Err(error) => return Err(error),
            };
            if found.snapshot.nonce == at.nonce && is_whole(&found) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// Returns the name that a context has now, if it was renamed.
async fn renamed(store: &Store, name: &ContextName) -> Result<Option<ContextName>, Error> {
    let mut now = None;
    for _ in 0..MOST_RENAMES {
        let head = store.find_head(now.as_ref().unwrap_or(name)).await?;
        match head.as_ref().and_then(Head::moved_to) {
            Some(to) => now = Some(to.clone()),
            None => break,
        }
    }
    Ok(now)
}
