//! What a snapshot contains besides its own history: the snapshots that it was forked from or has merged. A
//! merge finds the newest common ancestor of two contexts with it (`docs/branches.md`).

use super::Snapshot;
use crate::format::error::Part;
use crate::format::wire::{Reader, Writer};
use crate::format::{ContextName, LineageId};

/// The most ancestors that a snapshot names. When a merge adds one more, the one that was added first is
/// dropped; the origin of a fork stays.
pub const MAX_ANCESTORS: usize = 256;

/// A context's name has at most so many bytes.
const MAX_NAME: usize = 128;
/// The flag of the ancestor that a context was forked from.
const ORIGIN: u8 = 1;

/// A snapshot of another lineage that is contained in a snapshot, with everything before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    /// The context that it was in.
    pub context: ContextName,
    /// Its lineage.
    pub lineage: LineageId,
    /// Its number.
    pub number: u64,
    /// Its nonce. It stays the same when the context is renamed, unlike lineage and number.
    pub nonce: [u8; 16],
    /// Whether the context was forked from it.
    pub is_origin: bool,
}

impl Ancestor {
    /// Returns a snapshot as an ancestor of others.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self {
            context: snapshot.context.clone(),
            lineage: snapshot.lineage,
            number: snapshot.number,
            nonce: snapshot.nonce,
            is_origin: false,
        }
    }
}

/// Returns the ancestors of a snapshot that succeeds `own` and contains `other`: for each lineage, the newest
/// snapshot. If `forked`, the new snapshot begins a context, and `other` is its origin.
pub(crate) fn joined(own: &[Ancestor], other: &Snapshot, forked: bool) -> Vec<Ancestor> {
    let theirs = other.ancestors().into_iter().map(|one| Ancestor { is_origin: false, ..one });
    let other = Ancestor { is_origin: forked, ..Ancestor::of(other) };
    let mut all: Vec<Ancestor> = own.to_vec();
    for one in theirs.chain([other]) {
        match all.iter_mut().find(|known| known.lineage == one.lineage) {
            Some(known) if known.number < one.number => {
                *known = Ancestor { is_origin: known.is_origin || one.is_origin, ..one };
            }
            Some(_) => {}
            None => all.push(one),
        }
    }
    while all.len() > MAX_ANCESTORS {
        let oldest = all.iter().position(|one| !one.is_origin).unwrap_or_default();
        all.remove(oldest);
    }
    all
}

pub(super) fn encode(ancestors: &[Ancestor]) -> Vec<u8> {
    let mut out = Writer::new();
    out.varint(ancestors.len() as u64);
    for one in ancestors {
        out.u8(if one.is_origin { ORIGIN } else { 0 });
        out.bytes(&one.lineage.0);
        out.varint(one.number);
        out.bytes(&one.nonce);
        out.blob(one.context.as_str().as_bytes());
    }
    out.into_vec()
}

/// Decodes ancestors; none if they can't be read. They save a merge from conflicts, and nothing else depends
/// on them.
pub(super) fn decode(bytes: &[u8]) -> Vec<Ancestor> {
    let mut from = Reader::new(Part::Snapshot, bytes);
    let mut decode = || {
        let count = from.varint_max("a number of ancestors", MAX_ANCESTORS as u64).ok()?;
        let mut all = Vec::new();
        for _ in 0..count {
            let is_origin = from.u8().ok()? & ORIGIN != 0;
            let (lineage, number) = (LineageId(from.array().ok()?), from.varint().ok()?);
            let nonce = from.array().ok()?;
            let name = from.blob("a context's name", MAX_NAME).ok()?;
            let context = ContextName::new(str::from_utf8(name).ok()?).ok()?;
            all.push(Ancestor { context, lineage, number, nonce, is_origin });
        }
        Some(all)
    };
    decode().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::StoreId;

    fn snapshot(lineage: u16, number: u64) -> Snapshot {
        let name = format!("c{lineage}").parse().unwrap();
        let mut id = [0; 16];
        id[..2].copy_from_slice(&lineage.to_le_bytes());
        Snapshot { number, ..Snapshot::empty(StoreId([0; 16]), name, LineageId(id)) }
    }

    fn ancestor() -> impl Strategy<Value = Ancestor> {
        (any::<[u8; 16]>(), any::<u64>(), any::<[u8; 16]>(), any::<bool>(), "[a-z]{1,9}").prop_map(
            |(lineage, number, nonce, is_origin, name)| Ancestor {
                context: name.parse().unwrap(),
                lineage: LineageId(lineage),
                number,
                nonce,
                is_origin,
            },
        )
    }

    proptest! {
        #[test]
        fn ancestors_are_read_back(all in prop::collection::vec(ancestor(), 0..MAX_ANCESTORS)) {
            prop_assert_eq!(decode(&encode(&all)), all);
        }

        #[test]
        fn any_bytes_are_read_or_passed_over(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).len() <= MAX_ANCESTORS);
        }
    }

    #[test]
    fn the_newest_of_each_lineage_is_kept() {
        let fork = snapshot(2, 1).with_ancestors(joined(&[], &snapshot(1, 5), true));
        assert_eq!(fork.forked_from().map(|a| (a.lineage.0[0], a.number)), Some((1, 5)));
        let older = joined(&fork.ancestors(), &snapshot(1, 3), false);
        assert_eq!(older, fork.ancestors());
        let newer = joined(&fork.ancestors(), &snapshot(1, 8), false);
        assert_eq!((newer.len(), newer[0].number, newer[0].is_origin), (1, 8, true));
        // What was the fork's origin is only an ancestor of what merges the fork.
        let into = joined(&[], &fork, false);
        let found: Vec<_> = into.iter().map(|a| (a.lineage.0[0], a.number, a.is_origin)).collect();
        assert_eq!(found, [(1, 5, false), (2, 1, false)]);
    }

    #[test]
    fn the_oldest_ancestors_are_dropped_and_the_origin_is_not() {
        let mut all = joined(&[], &snapshot(1000, 1), true);
        for lineage in 0..400 {
            all = joined(&all, &snapshot(lineage, 1), false);
        }
        assert_eq!(all.len(), MAX_ANCESTORS);
        assert!(all[0].is_origin);
        assert_eq!(all.last().unwrap().context.as_str(), "c399");
    }
}
