//! The newest snapshot that two contexts have in common: the base of a merge.
//!
//! Each snapshot names the newest snapshot of each other lineage that it contains ([`Ancestor`]); of its own lineage
//! it contains all that came before it. So what two snapshots have in common is, for each lineage that both know, the
//! older one of the two. The base is the one of these that contains the others. If none contains all others, because
//! two contexts have merged each other's older states, the base is the one of them that landed last.

use std::cmp::Reverse;

use crate::error::Error;
use crate::format::{Ancestor, ContextName, Kind, LineageId, Snapshot};
use crate::store::{Head, Store};

/// Returns what a snapshot contains: for each lineage, the newest snapshot.
fn contained(snapshot: &Snapshot) -> Vec<Ancestor> {
    let own = Ancestor::of(snapshot);
    let mut all = snapshot.ancestors();
    all.retain(|ancestor| ancestor.lineage != own.lineage);
    all.push(own);
    all
}

/// Whether a snapshot contains another one.
pub(super) fn contains(snapshot: &Snapshot, other: &Snapshot) -> bool {
    let has = |one: &Ancestor| one.lineage == other.lineage && one.number >= other.number;
    contained(snapshot).iter().any(has)
}

/// Finds the newest snapshot that both contain and that is not forgotten; `None` if there is none.
pub(super) async fn common(store: &Store, into: &Head, from: &Head) -> Result<Option<Head>, Error> {
    let mut found = Vec::new();
    for (at, up_to) in shared(&into.snapshot, &from.snapshot) {
        let newest = newest_kept(store, &at.context, at.lineage, up_to).await?;
        // A fork begins with the tree of its origin, which may have been forgotten since.
        let newest = match newest {
            Some(newest) => Some(newest),
            None => beginning(store, [into, from], &at, up_to).await?,
        };
        found.extend(newest);
    }
    if found.is_empty() {
        found = renamed(store, into, from).await?;
    }
    let is_within =
        |one: &Head, other: &Head| one.digest != other.digest && contains(&other.snapshot, &one.snapshot);
    let newest = found.iter().filter(|one| !found.iter().any(|other| is_within(one, other)));
    Ok(newest.max_by_key(|one| (one.key.landed, Reverse(one.snapshot.lineage.0))).cloned())
}

/// Returns the lineages that both contain, each with the number up to which.
fn shared(into: &Snapshot, from: &Snapshot) -> Vec<(Ancestor, u64)> {
    let theirs = contained(from);
    let both = contained(into).into_iter().filter_map(|mine| {
        let their = theirs.iter().find(|their| their.lineage == mine.lineage)?;
        let number = mine.number.min(their.number);
        Some((if mine.number == number { mine } else { their.clone() }, number))
    });
    both.collect()
}

/// Returns the newest snapshot of a lineage, up to a number, that is not forgotten and whose packs all count.
async fn newest_kept(
    store: &Store,
    name: &ContextName,
    lineage: LineageId,
    up_to: u64,
) -> Result<Option<Head>, Error> {
    for (number, gone) in store.list_snapshots(name).await? {
        if number > up_to || gone {
            continue;
        }
        let found = match store.read_snapshot(name, number).await {
            Ok(found) => found,
            Err(error) if error.is_of_object() => continue,
            Err(error) => return Err(error),
        };
        if found.snapshot.lineage != lineage {
            return Ok(None);
        }
        if found.snapshot.kind == Kind::Normal && found.late_packs().is_empty() {
            return Ok(Some(found));
        }
    }
    Ok(None)
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
        if first.snapshot.lineage == snapshot.lineage
            && first.snapshot.parent.is_none()
            && first.late_packs().is_empty()
        {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// Looks for what one side contains in the histories of the contexts that the other side knows, by the nonces, which a
/// rename does not change. Reads all these histories, so it comes last.
async fn renamed(store: &Store, into: &Head, from: &Head) -> Result<Vec<Head>, Error> {
    let mut found = Vec::new();
    for (one, other) in [(into, from), (from, into)] {
        let wanted = contained(&one.snapshot);
        for place in contained(&other.snapshot) {
            for (number, gone) in store.list_snapshots(&place.context).await? {
                if gone || number > place.number {
                    continue;
                }
                let Ok(snapshot) = store.read_snapshot(&place.context, number).await else { continue };
                let is_wanted = wanted.iter().any(|wanted| wanted.nonce == snapshot.snapshot.nonce);
                if is_wanted && snapshot.is_live() && snapshot.late_packs().is_empty() {
                    found.push(snapshot);
                    break;
                }
            }
        }
    }
    Ok(found)
}
