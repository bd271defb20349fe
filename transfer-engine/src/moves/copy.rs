//! The copies of a context's history under its new name.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use policy_core::Digest;

use super::{Move, taken_over};
use crate::error::Error;
use crate::format::{EncodedSnapshot, Kind, PackId, PackUse, Snapshot};
use crate::store::{Head, unusable};

/// Snapshots that are read ahead, and puts under way: each may be large.
const AHEAD: usize = 4;

/// All copies of a move, oldest first. Each names the digest of the one before it, so that they are made in
/// order; they are made anew each time, because together they may be too large to keep.
pub(super) struct Copies<'a> {
    this: &'a Move<'a>,
    claim: &'a Head,
    /// The numbers of the snapshots that are copied, ascending.
    numbers: Vec<u64>,
    land_by: i64,
}

impl Move<'_> {
    pub(super) async fn copies<'a>(&'a self, claim: &'a Head) -> Result<Copies<'a>, Error> {
        let all = self.store.list_snapshots(self.from).await?;
        let source = self.source.key.number;
        // Marks are made only when all copies are; what is gone now, somebody forgot before the move.
        let kept = all.into_iter().filter(|(number, gone)| *number <= source && !gone);
        let mut numbers: Vec<u64> = kept.map(|(number, _)| number).collect();
        numbers.sort_unstable();
        let land_by = self.store.land_by(claim.key.landed).await?;
        Ok(Copies { this: self, claim, numbers, land_by })
    }
}

impl Copies<'_> {
    /// Returns the copy of the head; `None` if the move was finished by somebody else.
    pub(super) async fn head(&self) -> Result<Option<EncodedSnapshot>, Error> {
        let mut head = None;
        let mut copies = self.each();
        while let Some((number, copy)) = copies.next().await? {
            if number == self.this.source.key.number {
                head = Some(copy);
            }
        }
        Ok(head)
    }

    /// Puts all copies but that of the head.
    pub(super) async fn below_head(&self) -> Result<(), Error> {
        let (store, to) = (self.this.store, self.this.to);
        let mut puts = FuturesUnordered::new();
        let mut copies = self.each();
        while let Some((number, copy)) = copies.next().await? {
            if number == self.this.source.key.number {
                continue;
            }
            if puts.len() >= AHEAD {
                puts.try_next().await?;
            }
            let number = self.claim.key.number + number;
            puts.push(async move { store.commit(to, number, copy.bytes, copy.digest).await.map(drop) });
        }
        puts.try_collect().await
    }

    /// Begins to make all copies.
    fn each(&self) -> Each<'_> {
        let Move { store, from, source, .. } = self.this;
        let read = stream::iter(self.numbers.clone())
            .map(move |number| {
                let read = async move {
                    if number == source.key.number {
                        return Ok((Arc::clone(&source.snapshot), source.late_packs()));
                    }
                    let read = store.read_snapshot(from, number).await?;
                    let late = read.late_packs();
                    Ok::<_, Error>((read.snapshot, late))
                };
                read.boxed()
            })
            .buffered(AHEAD)
            .boxed();
        Each { copies: self, read, parent: self.claim.digest, packs_before: HashSet::new() }
    }

    /// Returns the copy of one snapshot; everybody who makes it makes the same.
    fn copy(
        &self,
        original: &Snapshot,
        late: &[PackId],
        parent: Digest,
        packs_before: &HashSet<PackId>,
    ) -> Snapshot {
        let land_by = |p: &PackUse| (!packs_before.contains(&p.id)).then_some(self.land_by);
        let pack = |p: &PackUse| taken_over(p, late, land_by(p));
        Snapshot {
            number: self.claim.key.number + original.number,
            context: self.this.to.clone(),
            lineage: self.this.lineage,
            parent: Some(parent),
            packs: original.packs.iter().map(pack).collect(),
            ..original.clone()
        }
    }
}

/// A snapshot that is copied, and those of its packs that it landed too late for.
type Original = (Arc<Snapshot>, Vec<PackId>);

/// The copies, one after the other.
struct Each<'a> {
    copies: &'a Copies<'a>,
    read: BoxStream<'a, Result<Original, Error>>,
    parent: Digest,
    packs_before: HashSet<PackId>,
}

impl Each<'_> {
    /// Returns the next copy, with the number of what it is a copy of.
    async fn next(&mut self) -> Result<Option<(u64, EncodedSnapshot)>, Error> {
        let lineage = self.copies.this.source.snapshot.lineage;
        while let Some((original, late)) = self.read.try_next().await? {
            // Another life of the old name, or a move that was undone: no part of this history.
            if original.lineage != lineage || original.kind != Kind::Normal {
                continue;
            }
            let copy = self.copies.copy(&original, &late, self.parent, &self.packs_before);
            let encoded = copy.encode().map_err(|e| unusable("the copy of a snapshot", e))?;
            self.parent = encoded.digest;
            self.packs_before = original.packs.iter().map(|p| p.id).filter(|id| !late.contains(id)).collect();
            return Ok(Some((original.number, encoded)));
        }
        Ok(None)
    }
}
