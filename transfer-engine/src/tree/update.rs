//! Makes the next tree: it keeps the parent's segments where nothing changed, and writes new ones elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use policy_core::{Entry, Node, TreePath};

use super::{SegmentSink, Tree};
use crate::error::Error;
use crate::format::{
    Changes, EncodedSegment, LetGo, PackId, PackUse, Place, SegmentCutter, SegmentRef, Totals, TreeEntry,
    encode_segment,
};
use crate::store::unusable;

/// Segments of up to this many bytes in all are embedded in the snapshot, which saves the reader a request.
const INLINE: usize = 128 << 10;

/// The new state of a changed path.
pub(crate) enum Resolved {
    Put(TreeEntry),
    Delete(TreePath),
    /// The archive that is there was extracted.
    Mark(TreePath),
    /// A directory with mode 0755 is put there, unless the tree has something at or below the path.
    Directory(TreePath),
}

impl Resolved {
    pub(crate) fn path(&self) -> &TreePath {
        match self {
            Self::Put(entry) => &entry.path,
            Self::Delete(path) | Self::Mark(path) | Self::Directory(path) => path,
        }
    }
}

/// Applies changes, given in tree order, to a parent's tree.
pub(crate) struct TreeUpdate<'a> {
    parent: Tree<'a>,
    /// The parent's segment that is being rewritten.
    open: Option<usize>,
    /// The remaining entries of that segment.
    rest: VecDeque<TreeEntry>,
    /// The parent's first segment that has not been processed.
    next: usize,
    held: Option<Held>,
    cutter: SegmentCutter,
    building: Vec<TreeEntry>,
    done: Vec<Segment>,
    inline_len: usize,
    totals: Totals,
    changes: Changes,
    blocked: Vec<TreePath>,
    /// The parent's packs that the new tree must not refer to. Chunks in them are copied.
    absent: BTreeSet<PackId>,
    /// Packs of the parent in which something is damaged: what can still be read there is copied.
    damaged: BTreeSet<PackId>,
    renewed: bool,
    let_go: LetGo,
}

/// An entry that waits until it is known what follows.
struct Held {
    entry: TreeEntry,
    /// For an entry that a change put: the entry that it replaces.
    new: Option<Option<TreeEntry>>,
}

enum Segment {
    Reused(usize),
    Inline(EncodedSegment),
    Packed(EncodedSegment, PackId, u32),
}

/// The result of a [`TreeUpdate`].
pub(crate) struct UpdatedTree {
    segments: Vec<Segment>,
    pub(crate) totals: Totals,
    pub(crate) changes: Changes,
    /// Files that were not written, because something that stays is below or above them.
    pub(crate) blocked: Vec<TreePath>,
    absent: BTreeSet<PackId>,
    /// Whether something was copied from packs that do not count.
    renewed: bool,
    /// The files that the context has let go of.
    pub(crate) let_go: LetGo,
}

impl<'a> TreeUpdate<'a> {
    pub(crate) fn new(parent: Tree<'a>) -> Self {
        Self {
            totals: parent.snapshot.totals,
            let_go: parent.snapshot.let_go(),
            parent,
            open: None,
            rest: VecDeque::new(),
            next: 0,
            held: None,
            cutter: SegmentCutter::new(),
            building: Vec::new(),
            done: Vec::new(),
            inline_len: 0,
            changes: Changes::default(),
            blocked: Vec::new(),
            absent: BTreeSet::new(),
            damaged: BTreeSet::new(),
            renewed: false,
        }
    }

    /// Treats these packs of the parent as absent: the new tree does not refer to them.
    #[must_use]
    pub(crate) fn without(mut self, absent: impl IntoIterator<Item = PackId>) -> Self {
        self.absent.extend(absent);
        self
    }

    /// Copies what can be read out of these packs of the parent, in which something is damaged. The new tree refers to
    /// them only for what can't be read.
    #[must_use]
    pub(crate) fn out_of(mut self, damaged: impl IntoIterator<Item = PackId>) -> Self {
        self.damaged.extend(damaged);
        self
    }

    /// Applies one change. `sink` receives segments that are too large in all to be embedded in the snapshot.
    pub(crate) async fn apply(&mut self, change: Resolved, sink: &mut impl SegmentSink) -> Result<(), Error> {
        let segments = &self.parent.snapshot.segments;
        if !segments.is_empty() {
            let index = segments.partition_point(|s| s.first <= *change.path()).saturating_sub(1);
            if self.open != Some(index) {
                self.advance(index, sink).await?;
            }
        }
        while self.rest.front().is_some_and(|e| e.path < *change.path()) {
            if let Some(entry) = self.rest.pop_front() {
                self.emit(entry, None, sink).await?;
            }
        }
        let old = self.rest.pop_front_if(|e| e.path == *change.path());
        match (&change, &old) {
            // What a machine sends again is there again.
            (Resolved::Put(new), Some(old))
                if old.recycled && (new.recycled || new.entry.node == old.entry.node) => {}
            (_, Some(old)) if old.recycled => self.let_go.note(&old.path, &old.entry.node),
            _ => {}
        }
        if let Resolved::Put(new) = &change
            && !new.recycled
        {
            self.let_go.note_return(&new.path, &new.entry.node);
        }
        match change {
            Resolved::Put(mut entry) => {
                let is_same_file = |old: &TreeEntry| old.entry.node == entry.entry.node;
                let is_marked =
                    old.as_ref().is_some_and(|old| old.extracted && !old.recycled && is_same_file(old));
                // Another mode makes it no other archive. A plan by a base that agrees with the head does not see the mark.
                entry.extracted |= is_marked && !entry.recycled;
                // An equal entry is not replaced: a different time alone does not make a new snapshot.
                if let Some(old) = old.as_ref().filter(|o| is_same(o, &entry)) {
                    let old = old.clone();
                    return self.emit(old, None, sink).await;
                }
                self.emit(entry, Some(old), sink).await
            }
            Resolved::Directory(path) => match old {
                Some(old) if !old.recycled => self.emit(old, None, sink).await,
                old => {
                    let dir = Entry { mtime: self.parent.store.env().now(), ..Entry::IMPLIED_DIR };
                    self.emit(TreeEntry::bare(path, dir), Some(old), sink).await
                }
            },
            Resolved::Mark(_) => {
                let Some(old) = old else { return Ok(()) };
                // The two marks of an entry together would say that its content is lost.
                let marked = TreeEntry { extracted: true, ..old.clone() };
                match old.extracted || old.recycled {
                    true => self.emit(old, None, sink).await,
                    false => self.emit(marked, Some(Some(old)), sink).await,
                }
            }
            Resolved::Delete(_) => {
                if let Some(old) = old {
                    self.changes.deleted += 1;
                    count(&mut self.totals, &old, false);
                }
                Ok(())
            }
        }
    }

    /// Moves on to the parent's segment `index`. The segments before it stay as they are.
    async fn advance(&mut self, index: usize, sink: &mut impl SegmentSink) -> Result<(), Error> {
        self.close_open(sink).await?;
        if index > self.next {
            self.end_segment(sink).await?;
            self.reuse(self.next..index, sink).await?;
        }
        self.rest = self.parent.segment(index).await?.into();
        self.open = Some(index);
        self.next = index + 1;
        Ok(())
    }

    async fn close_open(&mut self, sink: &mut impl SegmentSink) -> Result<(), Error> {
        while let Some(entry) = self.rest.pop_front() {
            self.emit(entry, None, sink).await?;
        }
        self.open = None;
        Ok(())
    }

    async fn reuse(
        &mut self,
        range: std::ops::Range<usize>,
        sink: &mut impl SegmentSink,
    ) -> Result<(), Error> {
        for index in range {
            let segment = &self.parent.snapshot.segments[index];
            if self.is_lost_with(segment) {
                for entry in self.parent.segment(index).await? {
                    self.place(Held { entry, new: None }, sink).await?;
                }
                self.end_segment(sink).await?;
                // A chunk that is copied renews the tree by itself.
                self.renewed |= self.place_of(segment).is_some_and(|id| self.is_left(&id));
                continue;
            }
            match self.parent.snapshot.inline_segment(segment) {
                // A segment that was embedded in the parent is embedded again.
                Some(bytes) => {
                    let packs = segment.packs.iter().filter_map(|(pack, live)| {
                        Some((self.parent.snapshot.packs.get(*pack as usize)?.id, *live))
                    });
                    let carried = EncodedSegment {
                        first: segment.first.clone(),
                        entries: segment.entries,
                        digest: segment.digest,
                        packs: packs.collect(),
                        bytes,
                    };
                    self.add(carried, sink).await?;
                }
                None => self.done.push(Segment::Reused(index)),
            }
        }
        Ok(())
    }

    /// Whether a segment of the parent, or a chunk that it refers to, is in a pack that does not count.
    fn is_lost_with(&self, segment: &SegmentRef) -> bool {
        if self.absent.is_empty() && self.damaged.is_empty() {
            return false;
        }
        self.parent.snapshot.needs_any(segment, |id| self.is_left(id))
    }

    /// Returns the pack in which a segment of the parent is.
    fn place_of(&self, segment: &SegmentRef) -> Option<PackId> {
        match segment.place {
            Place::Pack { pack, .. } => self.parent.snapshot.packs.get(pack as usize).map(|pack| pack.id),
            Place::Inline { .. } => None,
        }
    }

    /// Whether the new tree copies what it needs of a pack, instead of referring to it.
    fn is_left(&self, pack: &PackId) -> bool {
        self.absent.contains(pack) || self.damaged.contains(pack)
    }

    /// Adds the next entry to the new tree. Drops a directory that the next entry implies, and a new entry
    /// that conflicts with one that stays.
    async fn emit(
        &mut self,
        entry: TreeEntry,
        new: Option<Option<TreeEntry>>,
        sink: &mut impl SegmentSink,
    ) -> Result<(), Error> {
        let mut incoming = Held { entry, new };
        if let Some(held) = self.held.take() {
            let below = incoming.entry.path.is_below(&held.entry.path);
            if below && !held.entry.entry.is_dir() && (held.entry.recycled || incoming.entry.recycled) {
                // A recycled file is not in the way.
                let dropped = match incoming.entry.recycled {
                    true => std::mem::replace(&mut incoming, held),
                    false => held,
                };
                self.let_go.note(&dropped.entry.path, &dropped.entry.entry.node);
            } else if below && !held.entry.entry.is_dir() {
                if incoming.new.is_some() {
                    self.blocked.push(incoming.entry.path.clone());
                    match incoming.new.take().flatten() {
                        Some(old) => incoming = Held { entry: old, new: None },
                        None => {
                            self.held = Some(held);
                            return Ok(());
                        }
                    }
                } else {
                    // The entry that stays was there first, so the new file above it has to wait.
                    self.blocked.push(held.entry.path.clone());
                    if let Some(Some(old)) = held.new {
                        self.place(Held { entry: old, new: None }, sink).await?;
                    }
                }
            } else if below && is_implied(&held.entry) {
                if let Some(Some(old)) = held.new {
                    self.changes.changed += 1;
                    count(&mut self.totals, &old, false);
                } else if held.new.is_none() {
                    count(&mut self.totals, &held.entry, false);
                }
            } else {
                self.place(held, sink).await?;
            }
        }
        self.held = Some(incoming);
        Ok(())
    }

    async fn place(&mut self, mut held: Held, sink: &mut impl SegmentSink) -> Result<(), Error> {
        for chunk in &mut held.entry.chunks {
            if self.absent.contains(&chunk.block.pack) {
                *chunk = sink.copy(chunk).await?;
                self.renewed = true;
            } else if self.damaged.contains(&chunk.block.pack) {
                match sink.copy(chunk).await {
                    Ok(copy) => *chunk = copy,
                    Err(error) if error.is_of_object() => continue,
                    Err(error) => return Err(error),
                }
                self.renewed = true;
            }
        }
        if let Some(old) = &held.new {
            // A placeholder does not count as an entry.
            match old.as_ref().map(|old| (old.recycled, held.entry.recycled)) {
                Some((false, true)) => self.changes.deleted += 1,
                // What the store has lost is recycled.
                Some(_)
                    if held.entry.recycled && old.as_ref().is_some_and(|old| !is_same(old, &held.entry)) =>
                {
                    self.changes.changed += 1;
                }
                Some(_) if held.entry.recycled => {}
                Some((false, false)) => self.changes.changed += 1,
                Some((true, _)) | None => self.changes.added += 1,
            }
            if let Some(old) = old {
                count(&mut self.totals, old, false);
            }
            count(&mut self.totals, &held.entry, true);
        }
        if self.cutter.begins_segment(&held.entry) {
            self.encode(sink).await?;
        }
        self.building.push(held.entry);
        Ok(())
    }

    async fn end_segment(&mut self, sink: &mut impl SegmentSink) -> Result<(), Error> {
        if let Some(held) = self.held.take() {
            self.place(held, sink).await?;
        }
        self.encode(sink).await?;
        self.cutter = SegmentCutter::new();
        Ok(())
    }

    async fn encode(&mut self, sink: &mut impl SegmentSink) -> Result<(), Error> {
        if self.building.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.building);
        let encoded = encode_segment(&entries).map_err(|e| unusable("a new segment", e))?;
        self.add(encoded, sink).await
    }

    async fn add(&mut self, segment: EncodedSegment, sink: &mut impl SegmentSink) -> Result<(), Error> {
        if let Some(index) = self.is_as_before(&segment) {
            self.done.push(Segment::Reused(index));
            return Ok(());
        }
        if let Some(cache) = self.parent.cache {
            cache.put(&segment.digest, &segment.bytes);
        }
        self.inline_len += segment.bytes.len();
        self.done.push(Segment::Inline(segment));
        if self.inline_len > INLINE {
            self.inline_len = 0;
            for segment in &mut self.done {
                if let Segment::Inline(encoded) = segment {
                    let (pack, offset) = sink.add_segment(encoded.bytes.clone(), encoded.digest).await?;
                    // The pack and the cache have the bytes now, so they need not stay in memory.
                    let packed = EncodedSegment { bytes: Bytes::new(), ..encoded.clone() };
                    *segment = Segment::Packed(packed, pack, offset);
                }
            }
        }
        Ok(())
    }

    /// Returns the parent's segment that a new one equals, if the new tree can refer to it.
    fn is_as_before(&self, new: &EncodedSegment) -> Option<usize> {
        let segments = &self.parent.snapshot.segments;
        let index = segments.partition_point(|s| s.first < new.first);
        let old = segments.get(index).filter(|old| old.digest == new.digest)?;
        (self.place_of(old).is_some() && !self.is_lost_with(old)).then_some(index)
    }

    /// Ends the tree. Everything after the last change stays as it was.
    pub(crate) async fn finish(mut self, sink: &mut impl SegmentSink) -> Result<UpdatedTree, Error> {
        self.close_open(sink).await?;
        self.end_segment(sink).await?;
        self.reuse(self.next..self.parent.snapshot.segments.len(), sink).await?;
        Ok(UpdatedTree {
            segments: self.done,
            totals: self.totals,
            changes: self.changes,
            blocked: self.blocked,
            absent: self.absent,
            renewed: self.renewed,
            let_go: self.let_go,
        })
    }
}

/// The parts of a snapshot that describe its tree.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) packs: Vec<PackUse>,
    pub(crate) segments: Vec<SegmentRef>,
    pub(crate) inline: Bytes,
}

impl UpdatedTree {
    /// Whether the tree equals the parent's, with the same packs.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.changes == Changes::default() && !self.renewed
    }

    /// Lists segments and packs for the new snapshot. All packs of `sink` must have been put.
    pub(crate) fn list(&self, parent: &Tree<'_>, sink: &impl SegmentSink) -> Result<Listed, Error> {
        let mut packs = PackTable::default();
        let mut inline = BytesMut::new();
        let mut segments = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            segments.push(match segment {
                Segment::Reused(index) => {
                    let old = &parent.snapshot.segments[*index];
                    let id = |pack: u32| parent.snapshot.packs[pack as usize].id;
                    let place = match old.place {
                        Place::Pack { pack, offset } => {
                            Place::Pack { pack: packs.add(id(pack), u64::from(old.len)), offset }
                        }
                        inline @ Place::Inline { .. } => inline,
                    };
                    let used =
                        old.packs.iter().map(|(pack, live)| (packs.add(id(*pack), *live), *live)).collect();
                    SegmentRef { place, packs: used, ..old.clone() }
                }
                Segment::Inline(encoded) => {
                    let offset = inline.len() as u32;
                    inline.extend_from_slice(&encoded.bytes);
                    packs.refer(encoded, encoded.bytes.len() as u32, Place::Inline { offset })
                }
                Segment::Packed(encoded, pack, offset) => {
                    let len = sink.segment_len(&encoded.digest);
                    let place = Place::Pack { pack: packs.add(*pack, u64::from(len)), offset: *offset };
                    packs.refer(encoded, len, place)
                }
            });
        }
        let packs = packs.into_uses(parent, &self.absent, sink)?;
        Ok(Listed { packs, segments, inline: inline.freeze() })
    }
}

#[derive(Default)]
struct PackTable {
    order: Vec<(PackId, u64)>,
    index: BTreeMap<PackId, u32>,
}

impl PackTable {
    fn add(&mut self, id: PackId, live: u64) -> u32 {
        let index = *self.index.entry(id).or_insert_with(|| {
            self.order.push((id, 0));
            (self.order.len() - 1) as u32
        });
        self.order[index as usize].1 += live;
        index
    }

    fn refer(&mut self, encoded: &EncodedSegment, len: u32, place: Place) -> SegmentRef {
        SegmentRef {
            first: encoded.first.clone(),
            entries: encoded.entries,
            digest: encoded.digest,
            len,
            place,
            packs: encoded.packs.iter().map(|(id, live)| (self.add(*id, *live), *live)).collect(),
        }
    }

    fn into_uses(
        self,
        parent: &Tree<'_>,
        absent: &BTreeSet<PackId>,
        sink: &impl SegmentSink,
    ) -> Result<Vec<PackUse>, Error> {
        let counts = parent.snapshot.packs.iter().filter(|p| !absent.contains(&p.id));
        let known: BTreeMap<PackId, &PackUse> = counts.map(|p| (p.id, p)).collect();
        let uses = self.order.into_iter().map(|(id, live)| {
            let (size, footer_len, land_by) = match (known.get(&id), sink.put(&id)) {
                (Some(old), _) => (old.size, old.footer_len, None),
                (None, Some(put)) => (put.size, put.footer_len, Some(put.land_by)),
                (None, None) => {
                    let what = "a pack is referred to that was not put".to_owned();
                    return Err(Error::Corrupt { key: id.to_string(), what });
                }
            };
            // A chunk that several entries share was counted for each of them.
            let live = live.min(size - u64::from(footer_len));
            Ok(PackUse { id, size, footer_len, live, land_by })
        });
        uses.collect()
    }
}

fn is_implied(entry: &TreeEntry) -> bool {
    entry.entry.is_dir() && entry.entry.mode == Entry::IMPLIED_DIR.mode
}

fn is_same(old: &TreeEntry, new: &TreeEntry) -> bool {
    old.entry.agrees_with(&new.entry)
        && old.extracted == new.extracted
        && old.recycled == new.recycled
        && old.chunks == new.chunks
}

fn count(totals: &mut Totals, entry: &TreeEntry, more: bool) {
    let add = |total: &mut u64, n: u64| {
        *total = if more { total.saturating_add(n) } else { total.saturating_sub(n) };
    };
    match &entry.entry.node {
        Node::File { size, .. } if !entry.recycled => {
            add(&mut totals.files, 1);
            add(&mut totals.bytes, *size);
        }
        Node::File { .. } => {}
        Node::Dir => add(&mut totals.dirs, 1),
        Node::Symlink { .. } => add(&mut totals.symlinks, 1),
    }
}
