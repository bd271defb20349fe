//! The tree of a copy: the segments of the original, with the packs of the destination in the place of those of the
//! source. Each segment stays one, so that the copies of two snapshots share the segments that the originals share.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use policy_core::{Digest, TreePath};

use super::packs::{Packs, Usable, needed};
use crate::error::Error;
use crate::format::{PackId, PackUse, Place, SegmentRef, Snapshot, StoreKey, TreeEntry, encode_segment};
use crate::monitor::Silent;
use crate::packing::PackSink;
use crate::store::{Head, Store, unusable};
use crate::tree::{SegmentSink, Tree};

/// The copy that comes before the one that is made, and what it is a copy of, if the source still has that.
pub(super) struct Before {
    pub(super) original: Option<Arc<Snapshot>>,
    pub(super) copy: Head,
}

/// A segment of the copy.
struct Part {
    first: TreePath,
    entries: u32,
    digest: Digest,
    len: u32,
    at: At,
    /// The packs that its chunks are in, each with how many bytes they take there.
    uses: Vec<(PackId, u64)>,
}

enum At {
    Inline(Bytes),
    Pack(PackId, u32),
}

/// The lists of a snapshot that describe its tree.
pub(super) struct Lists {
    pub(super) packs: Vec<PackUse>,
    pub(super) segments: Vec<SegmentRef>,
    pub(super) inline: Bytes,
}

/// Makes the tree of the copy of a snapshot, whose needed packs all have twins in `usable`. What is new of it goes to
/// `sink`, and is in the destination when this returns.
pub(super) async fn copy_tree(
    src: &Store,
    original: &Snapshot,
    (packs, usable): (&Packs<'_>, &Usable),
    before: Option<&Before>,
    sink: &mut PackSink,
) -> Result<Lists, Error> {
    let twins: HashMap<PackId, PackId> =
        needed(original).filter_map(|pack| Some((pack.id, packs.twin(&pack.id)?.id))).collect();
    let known = Known::of(before, usable);
    let mut parts: Vec<Option<Part>> = Vec::with_capacity(original.segments.len());
    for segment in &original.segments {
        let part = match known.copy_of(original, segment, &twins) {
            Some(part) => Some(placed(part, segment, sink).await?),
            None => None,
        };
        parts.push(part);
    }
    let missing: Vec<usize> = (0..parts.len()).filter(|at| parts[*at].is_none()).collect();
    let tree = Tree { store: src, snapshot: original, cache: None };
    let twins = Arc::new(twins);
    let mut segments = std::pin::pin!(tree.segments(missing));
    while let Some((index, entries)) = segments.try_next().await? {
        let part = renamed(src, original, entries, Arc::clone(&twins)).await?;
        let part = known.with_digest(&part.digest).unwrap_or(part);
        parts[index] = Some(placed(part, &original.segments[index], sink).await?);
    }
    sink.flush(&Silent).await?;
    list(original, &twins, parts.into_iter().flatten(), usable, sink)
}

/// Puts a part where the original has it. What the original has in a pack would be too much to be embedded.
async fn placed(part: Part, original: &SegmentRef, sink: &mut PackSink) -> Result<Part, Error> {
    match (&part.at, original.place) {
        (At::Inline(bytes), Place::Pack { .. }) => {
            let (pack, offset) = sink.add_segment(bytes.clone(), part.digest).await?;
            Ok(Part { at: At::Pack(pack, offset), ..part })
        }
        _ => Ok(part),
    }
}

/// Returns a segment whose entries refer to the twins of their packs.
async fn renamed(
    src: &Store,
    original: &Snapshot,
    mut entries: Vec<TreeEntry>,
    twins: Arc<HashMap<PackId, PackId>>,
) -> Result<Part, Error> {
    let encoding = move || {
        for chunk in entries.iter_mut().flat_map(|entry| &mut entry.chunks) {
            let Some(twin) = twins.get(&chunk.block.pack) else { return Err(chunk.block.pack) };
            chunk.block.pack = *twin;
        }
        Ok(encode_segment(&entries))
    };
    let encoded = src.env().blocking(encoding).await;
    let encoded = encoded.map_err(|lost| Error::local("encode", "a segment", lost))?;
    let key = || {
        let (context, number) = (original.context.clone(), original.number);
        StoreKey::Snapshot { context, number }.path().to_string()
    };
    let encoded = encoded.map_err(|pack| Error::Corrupt {
        key: key(),
        what: format!("one of its segments refers to pack {pack}, which it does not list"),
    })?;
    let encoded = encoded.map_err(|source| unusable(key(), source))?;
    let len = u32::try_from(encoded.bytes.len()).unwrap_or(u32::MAX);
    let (first, entries, digest, uses) = (encoded.first, encoded.entries, encoded.digest, encoded.packs);
    Ok(Part { first, entries, digest, len, at: At::Inline(encoded.bytes), uses })
}

/// The segments of the copy before.
struct Known<'a> {
    before: Option<&'a Before>,
    usable: &'a Usable,
    /// Where each digest is, in the original and in the copy.
    originals: HashMap<Digest, usize>,
    copies: HashMap<Digest, usize>,
}

impl<'a> Known<'a> {
    fn of(before: Option<&'a Before>, usable: &'a Usable) -> Self {
        let digests = |snapshot: &Snapshot| {
            snapshot.segments.iter().enumerate().map(|(at, segment)| (segment.digest, at)).collect()
        };
        let originals = before.and_then(|before| {
            let original = before.original.as_ref()?;
            // The copy has a segment for each of the original.
            (original.segments.len() == before.copy.snapshot.segments.len()).then(|| digests(original))
        });
        let copies = before.map(|before| digests(&before.copy.snapshot)).unwrap_or_default();
        Self { before, usable, originals: originals.unwrap_or_default(), copies }
    }

    /// Returns the copy of a segment, if the snapshot before has it, with all that it refers to in twins.
    fn copy_of(
        &self,
        original: &Snapshot,
        segment: &SegmentRef,
        twins: &HashMap<PackId, PackId>,
    ) -> Option<Part> {
        let part = self.part(*self.originals.get(&segment.digest)?)?;
        let id = |pack: &u32| twins.get(&original.packs.get(*pack as usize)?.id).copied();
        let expected: Option<BTreeSet<PackId>> = segment.packs.iter().map(|(pack, _)| id(pack)).collect();
        let found: BTreeSet<PackId> = part.uses.iter().map(|(pack, _)| *pack).collect();
        let is_same = part.first == segment.first && part.entries == segment.entries;
        (is_same && expected == Some(found)).then_some(part)
    }

    /// Returns the segment of this digest, if the copy before has it.
    fn with_digest(&self, digest: &Digest) -> Option<Part> {
        self.part(*self.copies.get(digest)?)
    }

    fn part(&self, index: usize) -> Option<Part> {
        let copy = &self.before?.copy.snapshot;
        let segment = copy.segments.get(index)?;
        let id = |pack: u32| copy.packs.get(pack as usize).map(|pack| pack.id);
        let at = match segment.place {
            Place::Inline { .. } => At::Inline(copy.inline_segment(segment)?),
            Place::Pack { pack, offset } => {
                At::Pack(id(pack).filter(|id| self.usable.contains_key(id))?, offset)
            }
        };
        let uses = segment.packs.iter().map(|(pack, live)| Some((id(*pack)?, *live)));
        let (first, digest) = (segment.first.clone(), segment.digest);
        Some(Part {
            first,
            entries: segment.entries,
            digest,
            len: segment.len,
            at,
            uses: uses.collect::<Option<_>>()?,
        })
    }
}

/// Lists packs and segments: first the twins, in the order of the original's packs.
fn list(
    original: &Snapshot,
    twins: &HashMap<PackId, PackId>,
    parts: impl Iterator<Item = Part>,
    usable: &Usable,
    sink: &PackSink,
) -> Result<Lists, Error> {
    let mut table = Table { packs: Vec::new(), index: HashMap::new(), usable, sink };
    for twin in needed(original).filter_map(|pack| twins.get(&pack.id)) {
        table.add(*twin, 0)?;
    }
    let (mut segments, mut inline) = (Vec::with_capacity(original.segments.len()), BytesMut::new());
    for part in parts {
        let Part { first, entries, digest, len, at, uses } = part;
        let place = match at {
            At::Inline(bytes) => {
                let offset = u32::try_from(inline.len()).unwrap_or(u32::MAX);
                inline.extend_from_slice(&bytes);
                Place::Inline { offset }
            }
            At::Pack(pack, offset) => Place::Pack { pack: table.add(pack, u64::from(len))?, offset },
        };
        let packs = uses.into_iter().map(|(id, live)| Ok((table.add(id, live)?, live)));
        let packs = packs.collect::<Result<_, Error>>()?;
        segments.push(SegmentRef { first, entries, digest, len, place, packs });
    }
    let mut packs = table.packs;
    for pack in &mut packs {
        // Chunks that several entries share are counted for each of them.
        pack.live = pack.live.min(pack.size - u64::from(pack.footer_len));
    }
    Ok(Lists { packs, segments, inline: inline.freeze() })
}

struct Table<'a> {
    packs: Vec<PackUse>,
    index: HashMap<PackId, u32>,
    usable: &'a Usable,
    sink: &'a PackSink,
}

impl Table<'_> {
    /// Returns the index of a pack, of which so many more bytes are referred to.
    fn add(&mut self, id: PackId, live: u64) -> Result<u32, Error> {
        let index = match self.index.get(&id) {
            Some(index) => *index,
            None => {
                let put = self.sink.put(&id).map(|put| PackUse {
                    id,
                    size: put.size,
                    footer_len: put.footer_len,
                    live: 0,
                    land_by: Some(put.land_by),
                });
                let lost = || Error::Corrupt {
                    key: id.to_string(),
                    what: "a pack is referred to that was not put".to_owned(),
                };
                let pack = self.usable.get(&id).copied().or(put).ok_or_else(lost)?;
                let index = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
                self.packs.push(pack);
                self.index.insert(id, index);
                index
            }
        };
        let pack = &mut self.packs[index as usize];
        pack.live = pack.live.saturating_add(live);
        Ok(index)
    }
}
