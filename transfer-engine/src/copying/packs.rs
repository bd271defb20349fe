//! What the packs of the source became in the destination.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::holders::{HolderId, Holders};
use crate::error::Error;
use crate::format::{PackId, PackUse, Snapshot, TRAILER_LEN};
use crate::store::{Head, Store};
use crate::tree::PutPack;

/// A pack of the destination with the bytes of one of the source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Twin {
    pub(super) id: PackId,
    pub(super) size: u64,
    pub(super) footer_len: u32,
    held: Held,
}

/// Why a pack of the destination may be counted on.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// This run has put it, and a snapshot that lists it must land by then.
    Put { land_by: i64 },
    /// A snapshot lists it.
    By(HolderId),
}

/// What a pack is recognized by before its trailer is read: its size and the length of its footer.
type Shape = (u64, u32);

/// The packs of both stores that have met so far.
pub(super) struct Packs<'a> {
    src: &'a Store,
    dst: &'a Store,
    pub(super) holders: Holders<'a>,
    twins: HashMap<PackId, Twin>,
    /// Packs of the destination that may be the twin of one.
    candidates: HashMap<Shape, Vec<(PackId, HolderId)>>,
    /// The same, once their trailers are known.
    trailers: HashMap<Vec<u8>, Vec<(PackId, HolderId)>>,
    /// All packs of the destination that are a twin or a candidate: none is the twin of two.
    met: HashSet<PackId>,
    /// Packs of the source that would be copied, in a dry run.
    planned: HashSet<PackId>,
    /// What is wrong with packs of the source.
    damaged: HashMap<PackId, Arc<Error>>,
    /// What was put and no snapshot lists yet: how many bytes, and since when.
    pending: (u64, Option<Instant>),
}

/// Packs of the destination that a snapshot may list, each with by when the snapshot must land.
pub(super) type Usable = HashMap<PackId, PackUse>;

/// Returns the packs that hold the content of a snapshot, in the order in which it lists them. A pack that has only
/// segments is not needed: the copy has segments of its own.
pub(super) fn needed(snapshot: &Snapshot) -> impl Iterator<Item = &PackUse> {
    let used: HashSet<u32> = snapshot.segments.iter().flat_map(|s| &s.packs).map(|(pack, _)| *pack).collect();
    let indexed = snapshot.packs.iter().zip(0u32..);
    indexed.filter(move |(_, index)| used.contains(index)).map(|(pack, _)| pack)
}

impl<'a> Packs<'a> {
    pub(super) fn new(src: &'a Store, dst: &'a Store, holders: Holders<'a>) -> Self {
        Self {
            src,
            dst,
            holders,
            twins: HashMap::new(),
            candidates: HashMap::new(),
            trailers: HashMap::new(),
            met: HashSet::new(),
            planned: HashSet::new(),
            damaged: HashMap::new(),
            pending: (0, None),
        }
    }

    pub(super) fn twin(&self, id: &PackId) -> Option<&Twin> {
        self.twins.get(id)
    }

    /// Returns the packs of a snapshot that the destination may lack.
    pub(super) fn unknown(&self, snapshot: &Snapshot) -> Vec<PackUse> {
        let is_known =
            |id| self.twins.contains_key(id) || self.damaged.contains_key(id) || self.planned.contains(id);
        needed(snapshot).filter(|pack| !is_known(&pack.id)).copied().collect()
    }

    /// Returns what is wrong with the packs that a snapshot needs.
    pub(super) fn damage(&self, snapshot: &Snapshot) -> Option<Error> {
        needed(snapshot).find_map(|pack| self.damaged.get(&pack.id)).cloned().map(Error::Shared)
    }

    pub(super) fn note_planned(&mut self, id: PackId) {
        self.planned.insert(id);
    }

    pub(super) fn note_damage(&mut self, id: PackId, damage: Error) {
        self.damaged.insert(id, Arc::new(damage));
    }

    /// Notes a pack that this run has put.
    pub(super) fn note_put(&mut self, source: PackId, id: PackId, put: &PutPack) {
        let held = Held::Put { land_by: put.land_by };
        self.twins.insert(source, Twin { id, size: put.size, footer_len: put.footer_len, held });
        self.met.insert(id);
        self.pending.0 += put.size;
        self.pending.1.get_or_insert_with(Instant::now);
    }

    /// Returns how many bytes were put that no snapshot lists yet, and since when.
    pub(super) fn pending(&self) -> (u64, Option<Instant>) {
        self.pending
    }

    /// Returns the packs that no snapshot lists yet, each with by when one must.
    pub(super) fn pending_packs(&self) -> Vec<PackUse> {
        let pending = self.twins.values().filter_map(|twin| match twin.held {
            Held::Put { land_by } => Some(PackUse {
                id: twin.id,
                size: twin.size,
                footer_len: twin.footer_len,
                live: 0,
                land_by: Some(land_by),
            }),
            Held::By(_) => None,
        });
        pending.collect()
    }

    /// Returns the packs of the destination that are in a snapshot other than this one.
    pub(super) fn held_elsewhere(&self, than: Option<HolderId>) -> HashSet<PackId> {
        let elsewhere = |twin: &&Twin| matches!(twin.held, Held::By(id) if Some(id) != than);
        self.twins.values().filter(elsewhere).map(|twin| twin.id).collect()
    }

    /// Notes that a snapshot of the destination has landed, and lists these packs.
    pub(super) fn note_listed(&mut self, listed: &[PackUse], holder: HolderId) {
        let listed: HashSet<PackId> = listed.iter().map(|pack| pack.id).collect();
        let mut left = 0;
        for twin in self.twins.values_mut() {
            if listed.contains(&twin.id) {
                twin.held = Held::By(holder);
            } else if matches!(twin.held, Held::Put { .. }) {
                left += twin.size;
            }
        }
        self.pending = (left, self.pending.1.filter(|_| left > 0));
    }

    /// Forgets what does not count because a snapshot landed too late: its late packs, and whatever else was put so long
    /// before. That is put again.
    pub(super) fn note_late(&mut self, snapshot: &Head) {
        let late: HashSet<PackId> = snapshot.late_packs().into_iter().collect();
        let landed = snapshot.key.landed;
        self.twins.retain(|_, twin| {
            !late.contains(&twin.id) && !matches!(twin.held, Held::Put { land_by } if land_by <= landed)
        });
        self.holders.doubt();
        if self.pending_packs().is_empty() {
            self.pending = (0, None);
        }
    }

    /// Learns from a snapshot of the source and its copy: the copy lists the packs in the same order. What landed too
    /// late does not count.
    pub(super) fn pair(&mut self, original: &Snapshot, copy: &Head, holder: HolderId) {
        let late = copy.late_packs();
        let pairs: Vec<_> = needed(original).zip(&copy.snapshot.packs).collect();
        let is_same = |(a, b): &(&PackUse, &PackUse)| (a.size, a.footer_len) == (b.size, b.footer_len);
        if pairs.len() < needed(original).count() || !pairs.iter().all(is_same) {
            return self.offer(copy, holder);
        }
        for (source, pack) in pairs {
            if !late.contains(&pack.id) && !self.twins.contains_key(&source.id) && self.met.insert(pack.id) {
                let (id, size, footer_len) = (pack.id, pack.size, pack.footer_len);
                self.twins.insert(source.id, Twin { id, size, footer_len, held: Held::By(holder) });
            }
        }
    }

    /// Offers the packs of a snapshot of the destination as twins of some of the source.
    pub(super) fn offer(&mut self, head: &Head, holder: HolderId) {
        let late = head.late_packs();
        for pack in head.snapshot.packs.iter().filter(|pack| !late.contains(&pack.id)) {
            if self.met.insert(pack.id) {
                self.candidates.entry((pack.size, pack.footer_len)).or_default().push((pack.id, holder));
            }
        }
    }

    /// Recognizes packs of the source by their trailers among those that were offered; returns the others.
    pub(super) async fn recognize(
        &mut self,
        wanted: Vec<PackUse>,
        concurrency: usize,
    ) -> Result<Vec<PackUse>, Error> {
        let (src, dst) = (self.src, self.dst);
        let shape = |pack: &PackUse| (pack.size, pack.footer_len);
        let shapes: HashSet<Shape> = wanted.iter().map(shape).collect();
        let mut offered = Vec::new();
        for shape in shapes {
            let of_shape = self.candidates.get_mut(&shape).map(std::mem::take).unwrap_or_default();
            offered.extend(of_shape.into_iter().map(|(id, by)| (shape.0, id, by)));
        }
        let mut read = stream::iter(offered)
            .map(|(size, id, by)| async move { Ok::<_, Error>((trailer(dst, id, size).await?, id, by)) })
            .buffer_unordered(concurrency);
        while let Some((trailer, id, by)) = read.try_next().await? {
            if let Some(trailer) = trailer {
                self.trailers.entry(trailer).or_default().push((id, by));
            }
        }
        let (alike, mut others): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|pack| self.candidates.contains_key(&shape(pack)));
        let mut read = stream::iter(alike)
            .map(|pack| async move { Ok::<_, Error>((trailer(src, pack.id, pack.size).await?, pack)) })
            .buffered(concurrency);
        while let Some((trailer, pack)) = read.try_next().await? {
            match trailer.and_then(|trailer| self.trailers.get_mut(&trailer)?.pop()) {
                Some((id, by)) => {
                    let (size, footer_len) = (pack.size, pack.footer_len);
                    self.twins.insert(pack.id, Twin { id, size, footer_len, held: Held::By(by) });
                }
                None => others.push(pack),
            }
        }
        Ok(others)
    }

    /// Returns the packs that a copy may list, as it has to list them: the twins of those that the original needs, and
    /// those of the copy before it. `None` if a twin can't be counted on any more: it is forgotten.
    pub(super) async fn usable(
        &mut self,
        original: &Snapshot,
        before: Option<(&Head, HolderId)>,
    ) -> Result<Option<Usable>, Error> {
        let mut usable = Usable::new();
        if let Some((copy, holder)) = before
            && let Some(land_by) = self.holders.land_by(holder).await?
        {
            let late = copy.late_packs();
            let in_time = copy.snapshot.packs.iter().filter(|pack| !late.contains(&pack.id));
            usable.extend(in_time.map(|p| (p.id, PackUse { live: 0, land_by: Some(land_by), ..*p })));
        }
        for pack in needed(original) {
            let Some(Twin { id, size, footer_len, held }) = self.twins.get(&pack.id).copied() else {
                return Ok(None);
            };
            let land_by = match held {
                Held::Put { land_by } => land_by,
                Held::By(holder) => match self.holders.land_by(holder).await? {
                    Some(land_by) => land_by,
                    None => {
                        self.twins.retain(|_, twin| !matches!(twin.held, Held::By(by) if by == holder));
                        return Ok(None);
                    }
                },
            };
            usable.insert(id, PackUse { id, size, footer_len, live: 0, land_by: Some(land_by) });
        }
        Ok(Some(usable))
    }
}

/// Reads the trailer of a pack: it has the digest of the footer, which has those of all chunks. `None` if the pack is
/// not there, or not what its snapshot says.
async fn trailer(store: &Store, id: PackId, size: u64) -> Result<Option<Vec<u8>>, Error> {
    let start = size.saturating_sub(TRAILER_LEN as u64);
    match store.get_range(id, start, size).await {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        Err(Error::Corrupt { .. }) => Ok(None),
        Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}
