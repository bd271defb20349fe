//! Copies a context's history to its new name.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use policy_core::Digest;

use super::{AHEAD, Move, taken_over};
use crate::error::Error;
use crate::format::{EncodedSnapshot, Kind, PackId, PackUse, Snapshot, joined};
use crate::store::{Head, unusable};

/// All copies of a rename, oldest first. Each copy has the digest of the one before it, so they are made in
/// order. They are made again when needed, because together they may be too large to keep.
pub(super) struct Copies<'a> {
    this: &'a Move<'a>,
    claim: &'a Head,
    /// The numbers of the snapshots to copy, ascending.
    numbers: Vec<u64>,
    land_by: i64,
}

impl Move<'_> {
    pub(super) async fn copies<'a>(&'a self, claim: &'a Head) -> Result<Copies<'a>, Error> {
        let all = self.store.list_snapshots(self.from).await?;
        let source = self.source.key.number;
        // Snapshots are marked only after all copies exist. So one that is marked now was forgotten before
        // the rename.
        let kept = all.into_iter().filter(|(number, gone)| *number <= source && !gone);
        let mut numbers: Vec<u64> = kept.map(|(number, _)| number).collect();
        numbers.sort_unstable();
        let land_by = self.store.land_by(claim.key.landed).await?;
        Ok(Copies { this: self, claim, numbers, land_by })
    }
}

impl Copies<'_> {
    /// Returns the copy of the head; `None` if another process has completed the rename.
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

    /// Puts all copies except that of the head.
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

    /// Starts to make all copies.
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

    /// Returns the copy of one snapshot; every process makes the same one.
    fn copy(
        &self,
        original: &Snapshot,
        late: &[PackId],
        parent: Digest,
        packs_before: &HashSet<PackId>,
    ) -> Snapshot {
        let land_by = |p: &PackUse| (!packs_before.contains(&p.id)).then_some(self.land_by);
        let pack = |p: &PackUse| taken_over(p, late, land_by(p));
        let copy = Snapshot {
            number: self.claim.key.number + original.number,
            context: self.this.to.clone(),
            lineage: self.this.lineage,
            parent: Some(parent),
            packs: original.packs.iter().map(pack).collect(),
            ..original.clone()
        };
        // What was forked from the original, or has merged it, knows it by its old name.
        copy.with_ancestors(joined(&original.ancestors(), original, false))
    }
}

/// A snapshot to copy, and the packs for which it landed too late.
type Original = (Arc<Snapshot>, Vec<PackId>);

/// Makes the copies one after the other.
struct Each<'a> {
    copies: &'a Copies<'a>,
    read: BoxStream<'a, Result<Original, Error>>,
    parent: Digest,
    packs_before: HashSet<PackId>,
}

impl Each<'_> {
    /// Returns the next copy, and the number of its original.
    async fn next(&mut self) -> Result<Option<(u64, EncodedSnapshot)>, Error> {
        let lineage = self.copies.this.source.snapshot.lineage;
        while let Some((original, late)) = self.read.try_next().await? {
            // Snapshots of another lineage of the old name, or of a rename that was undone, do not belong to
            // this history.
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
