//! Snapshots: one state of a context each. Putting one is the commit.

mod ancestry;
mod decode;
mod encode;
mod let_go;

use std::collections::HashSet;

use bytes::Bytes;
use policy_core::{Digest, Timestamp, TreePath};

pub(crate) use self::ancestry::joined;
pub use self::ancestry::{Ancestor, MAX_ANCESTORS};
pub(crate) use self::let_go::LetGo;
pub use self::let_go::MAX_LET_GO;

use super::error::{FormatError, Part, at_most};
use super::segment::{MAX_PATH_LEN, MAX_SEGMENT_ENTRIES, MAX_SEGMENT_LEN};
use super::wire::{Reader, Writer};
use super::{ContextName, LineageId, MAX_FOOTER_LEN, MAX_PACK_LEN, PackId, StoreId, TRAILER_LEN, sha256};

/// The longest snapshot, in bytes: 128 MiB, which is some 1.5 million segments.
pub const MAX_SNAPSHOT_LEN: usize = 128 << 20;
/// The most bytes of embedded segments in a snapshot: 4 MiB. Programs embed far less today; the limit lets
/// later programs embed more without becoming unreadable for this one.
pub const MAX_INLINE: usize = 4 << 20;
/// The longest session name, in bytes.
pub const MAX_SESSION_LEN: usize = 256;
/// The most bytes that the first paths of all segments may have, unpacked: 64 MiB. With front-coding, a few
/// bytes could stand for a long path many times over.
const MAX_FIRST_PATHS: u64 = 64 << 20;
/// The most paths in the recycle rules.
const MAX_RULES: usize = 4096;
/// The most extensions of a snapshot.
const MAX_EXTENSIONS: usize = 64;
/// The most bytes that the extensions of a snapshot have together: 64 KiB.
const MAX_EXTENSIONS_LEN: usize = 64 << 10;
/// The extension that names the program that wrote the snapshot.
const WRITER: u64 = 2;
/// The extension of an unsettled snapshot: its mount kept changing while it was read.
const UNSETTLED: u64 = 4;
/// The extension of a snapshot that was copied from another store.
const COPIED: u64 = 6;
/// The extension that names the snapshots of other contexts that a snapshot contains.
const ANCESTORS: u64 = 8;
/// The extension of a snapshot that takes the place of an older one.
const STANDS_FOR: u64 = 10;
/// The extension that names files that were recycled or lost, and have no placeholder any more.
const LET_GO: u64 = 12;

const VERSION: u8 = 1;
const MAGIC: [u8; 4] = *b"CSsn";

/// One immutable state of a context.
///
/// [`decode`](Self::decode) returns and [`encode`](Self::encode) accepts only values for which:
/// - packs are listed once; a pack's footer is within its size;
/// - segments have entries, and their first paths are strictly ascending in tree order;
/// - the tags of extensions are strictly ascending, and even;
/// - every index into `packs` is valid, and every position is within its pack's blocks or within `inline`;
/// - the limits of this module hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The snapshot's number in the context.
    pub number: u64,
    /// The store that it was written to.
    pub store_id: StoreId,
    /// The snapshot's context.
    pub context: ContextName,
    /// The lineage of the context.
    pub lineage: LineageId,
    /// The digest of the parent; `None` for the first snapshot of a lineage.
    pub parent: Option<Digest>,
    /// Whether the context continues after it.
    pub kind: Kind,
    /// When it was made, by the writer's clock.
    pub created: Timestamp,
    /// The name of the session that made it, for people.
    pub session: String,
    /// Random bytes, so that no two snapshots have the same digest.
    pub nonce: [u8; 16],
    /// The digest of the policy of its push.
    pub policy: Digest,
    /// When files are recycled because of their age.
    pub recycle: RecycleRules,
    /// The size of the tree.
    pub totals: Totals,
    /// The number of differences from the parent.
    pub changes: Changes,
    /// Whether the deadline came before everything was sent.
    pub partial: bool,
    /// Further fields, by tag. Readers ignore unknown tags, and a renamed context's copies keep them. A
    /// successor inherits only the [ancestors](Snapshot::ancestors). See [`Snapshot::written_by`].
    pub extensions: Vec<(u64, Bytes)>,
    /// All packs that the snapshot refers to.
    pub packs: Vec<PackUse>,
    /// The segments of the tree, in order.
    pub segments: Vec<SegmentRef>,
    /// The bytes of the embedded segments.
    pub inline: Bytes,
}

/// Whether a context continues after a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The context continues.
    Normal,
    /// The context was deleted, or renamed.
    Terminal {
        /// The new name of the context.
        moved_to: Option<ContextName>,
    },
}

/// When files are recycled because of their age.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecycleRules {
    /// Days after a file's last push; `None` keeps files for ever.
    pub lifecycle_days: Option<u16>,
    /// The paths to which the rule applies, each with everything below it; the root means everything.
    pub paths: Vec<TreePath>,
}

/// The size of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files, without the placeholders of recycled ones.
    pub files: u64,
    /// Directories, including implied ones.
    pub dirs: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// The sizes of the files, in bytes.
    pub bytes: u64,
}

/// The number of paths that differ from the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// New paths.
    pub added: u64,
    /// Paths with a new content, kind or mode.
    pub changed: u64,
    /// Deleted paths.
    pub deleted: u64,
}

/// A snapshot whose place a newer one takes: that has the same files, or only lacks what was recycled or purged.
/// Retention counts the newer one as this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StandsFor {
    /// Its number.
    pub(crate) number: u64,
    /// When it landed, in seconds since 1970.
    pub(crate) landed: i64,
    /// When it was made, by its writer's clock, in seconds since 1970.
    pub(crate) created: i64,
}

/// A pack that a snapshot refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// Its id.
    pub id: PackId,
    /// Its size, in bytes.
    pub size: u64,
    /// How many bytes at its end are footer and trailer.
    pub footer_len: u32,
    /// How many of its bytes the snapshot uses.
    pub live: u64,
    /// The time by the store's clock, in seconds since 1970, before which the snapshot must land for this
    /// pack to count. `None` if the parent has the pack already.
    pub land_by: Option<i64>,
}

/// A segment of a snapshot's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRef {
    /// The path of its first entry.
    pub first: TreePath,
    /// How many entries it has.
    pub entries: u32,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length, in bytes.
    pub len: u32,
    /// The segment's position.
    pub place: Place,
    /// The packs of its chunks, as indexes into [`Snapshot::packs`], each with the number of stored bytes
    /// that the chunks take.
    pub packs: Vec<(u32, u64)>,
}

/// The position of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the snapshot itself.
    Inline {
        /// Its first byte in [`Snapshot::inline`].
        offset: u32,
    },
    /// In a pack.
    Pack {
        /// The pack, as an index into [`Snapshot::packs`].
        pack: u32,
        /// Its first byte there.
        offset: u32,
    },
}

impl SegmentRef {
    /// Returns the indexes of the packs that it is in or that its chunks are in.
    pub(crate) fn refers_to(&self) -> impl Iterator<Item = u32> {
        let place = match self.place {
            Place::Pack { pack, .. } => Some(pack),
            Place::Inline { .. } => None,
        };
        place.into_iter().chain(self.packs.iter().map(|(pack, _)| *pack))
    }
}

impl Snapshot {
    /// Whether a segment of its tree, or a chunk that the segment refers to, is in one of these packs.
    pub(crate) fn needs_any(&self, segment: &SegmentRef, packs: impl Fn(&PackId) -> bool) -> bool {
        let mut used = segment.refers_to().filter_map(|pack| self.packs.get(pack as usize));
        used.any(|pack| packs(&pack.id))
    }
}

/// A snapshot that is ready to be put.
#[derive(Debug, Clone)]
#[must_use]
pub struct EncodedSnapshot {
    /// The bytes to store.
    pub bytes: Bytes,
    /// The snapshot's identity: the SHA-256 of all bytes but the last 32, which are this digest.
    pub digest: Digest,
}

impl Snapshot {
    /// Returns the first snapshot of a context without files. All its other fields are empty or zero.
    pub(crate) fn empty(store_id: StoreId, context: ContextName, lineage: LineageId) -> Self {
        Self {
            number: 1,
            store_id,
            context,
            lineage,
            parent: None,
            kind: Kind::Normal,
            created: Timestamp::default(),
            session: String::new(),
            nonce: [0; 16],
            policy: Digest([0; 32]),
            recycle: RecycleRules::default(),
            totals: Totals::default(),
            changes: Changes::default(),
            partial: false,
            extensions: Vec::new(),
            packs: Vec::new(),
            segments: Vec::new(),
            inline: Bytes::new(),
        }
    }

    /// Encodes the snapshot; the same value always gives the same bytes.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] or [`FormatError::TooLarge`] if the value does not meet the type's
    /// requirements. So [`decode`](Self::decode) accepts whatever this function writes.
    pub fn encode(&self) -> Result<EncodedSnapshot, FormatError> {
        self.check()?;
        encode::encode(self)
    }

    /// Decodes a snapshot, and returns it with its identity. A tombstone, which has no bytes, gives
    /// [`FormatError::Truncated`].
    ///
    /// # Errors
    /// [`FormatError::Corrupt`] if the digest does not match; with a valid digest,
    /// [`FormatError::UnsupportedVersion`] for a newer format and [`FormatError::UnknownField`] for a field
    /// that readers must know; any other error if the snapshot breaks a rule.
    pub fn decode(bytes: &Bytes) -> Result<(Self, Digest), FormatError> {
        let (snapshot, digest) = decode::decode(bytes)?;
        snapshot.check()?;
        Ok((snapshot, digest))
    }

    /// Returns the extensions of a snapshot written by `program`, which are for people.
    pub fn written_by(program: &'static str) -> Vec<(u64, Bytes)> {
        vec![(WRITER, Bytes::from_static(program.as_bytes()))]
    }

    /// Returns the program that wrote the snapshot, if the snapshot says so.
    pub fn writer(&self) -> Option<&str> {
        str::from_utf8(self.extension(WRITER)?).ok()
    }

    /// Marks the snapshot as unsettled: the mount may never have been in the state that it has.
    #[must_use]
    pub(crate) fn marked_unsettled(mut self) -> Self {
        self.extend(UNSETTLED, Bytes::new());
        self
    }

    /// Sets an extension.
    fn extend(&mut self, tag: u64, value: Bytes) {
        self.extensions.retain(|(known, _)| *known != tag);
        let at = self.extensions.partition_point(|(known, _)| *known < tag);
        self.extensions.insert(at, (tag, value));
    }

    fn extension(&self, tag: u64) -> Option<&Bytes> {
        self.extensions.iter().find(|(known, _)| *known == tag).map(|(_, value)| value)
    }

    /// Returns the snapshots of other lineages that this one contains: what its context was forked from, and
    /// what it has merged.
    pub fn ancestors(&self) -> Vec<Ancestor> {
        self.extension(ANCESTORS).map(|value| ancestry::decode(value)).unwrap_or_default()
    }

    /// Returns the newest snapshot of each lineage that this one contains, itself included.
    pub(crate) fn contained(&self) -> Vec<Ancestor> {
        let mut all = self.ancestors();
        all.retain(|ancestor| ancestor.lineage != self.lineage);
        all.push(Ancestor::of(self));
        all
    }

    /// Whether this snapshot is that one, or contains it.
    pub(crate) fn contains(&self, other: &Ancestor) -> bool {
        self.contained().iter().any(|one| one.lineage == other.lineage && one.number >= other.number)
    }

    /// Returns the snapshot that the context was forked from.
    pub fn forked_from(&self) -> Option<Ancestor> {
        self.ancestors().into_iter().find(|ancestor| ancestor.is_origin)
    }

    /// Sets the snapshots of other lineages that this one contains.
    #[must_use]
    pub(crate) fn with_ancestors(mut self, ancestors: Vec<Ancestor>) -> Self {
        self.extensions.retain(|(tag, _)| *tag != ANCESTORS);
        if !ancestors.is_empty() {
            self.extend(ANCESTORS, ancestry::encode(&ancestors).into());
        }
        self
    }

    /// Returns the files that the context has let go of.
    pub(crate) fn let_go(&self) -> LetGo {
        self.extension(LET_GO).map(|value| LetGo::decode(value)).unwrap_or_default()
    }

    /// Sets the files that the context has let go of.
    #[must_use]
    pub(crate) fn with_let_go(mut self, files: &LetGo) -> Self {
        self.extensions.retain(|(tag, _)| *tag != LET_GO);
        if !files.is_empty() {
            self.extend(LET_GO, files.encode());
        }
        self
    }

    /// Returns the extensions that a successor inherits.
    pub(crate) fn inherited(&self) -> impl Iterator<Item = (u64, Bytes)> {
        let inherits = |(tag, _): &&(u64, Bytes)| [ANCESTORS, LET_GO].contains(tag);
        self.extensions.iter().filter(inherits).cloned()
    }

    /// Whether the mount kept changing while it was read. If so, the mount may never have been in the state
    /// that the snapshot has.
    pub fn is_unsettled(&self) -> bool {
        self.extension(UNSETTLED).is_some()
    }

    /// Notes that the snapshot is a copy of the one that has this number in another store.
    #[must_use]
    pub(crate) fn marked_copied(mut self, store: StoreId, number: u64) -> Self {
        let mut value = Writer::new();
        value.bytes(&store.0);
        value.varint(number);
        self.extend(COPIED, value.into_vec().into());
        self
    }

    /// Notes that the snapshot takes the place of that one, or of the one that that one takes the place of.
    #[must_use]
    pub(crate) fn marked_as_standing_for(mut self, original: &Self, landed: i64) -> Self {
        let before = original.stands_for();
        let it =
            before.unwrap_or(StandsFor { number: original.number, landed, created: original.created.secs });
        let mut value = Writer::new();
        value.varint(self.number.saturating_sub(it.number));
        value.zigzag(it.landed);
        value.zigzag(it.created);
        self.extend(STANDS_FOR, value.into_vec().into());
        self
    }

    /// Returns the snapshot whose place this one takes; `None` if it has a place of its own, or if that can't be read.
    pub(crate) fn stands_for(&self) -> Option<StandsFor> {
        let mut value = Reader::new(Part::Snapshot, self.extension(STANDS_FOR)?);
        let number = self.number.checked_sub(value.varint().ok()?)?;
        Some(StandsFor { number, landed: value.zigzag().ok()?, created: value.zigzag().ok()? })
    }

    /// Returns the store that the snapshot was copied from, and its number there; `None` if it is no copy.
    pub fn copied_from(&self) -> Option<(StoreId, u64)> {
        let mut value = Reader::new(Part::Snapshot, self.extension(COPIED)?);
        Some((StoreId(value.array().ok()?), value.varint().ok()?))
    }

    /// Returns the bytes of an embedded segment; `None` if it is in a pack.
    pub fn inline_segment(&self, segment: &SegmentRef) -> Option<Bytes> {
        match segment.place {
            Place::Inline { offset } => {
                let start = offset as usize;
                let end = start.checked_add(segment.len as usize).filter(|end| *end <= self.inline.len())?;
                Some(self.inline.slice(start..end))
            }
            Place::Pack { .. } => None,
        }
    }

    /// Checks the type's requirements, both for values to be written and for values that were read.
    fn check(&self) -> Result<(), FormatError> {
        let part = Part::Snapshot;
        let invalid = |what: String| Err(FormatError::unwritable(part, what));
        at_most(part, "a session length", self.session.len() as u64, MAX_SESSION_LEN as u64)?;
        at_most(part, "a number of recycle rules", self.recycle.paths.len() as u64, MAX_RULES as u64)?;
        at_most(part, "a length of embedded segments", self.inline.len() as u64, MAX_INLINE as u64)?;
        check_extensions(&self.extensions)?;
        if self.created.nanos >= 1_000_000_000 {
            return invalid(format!("{} nanoseconds", self.created.nanos));
        }
        let first_paths = self.segments.iter().map(|s| s.first.as_bytes().len() as u64).sum();
        at_most(part, "a length of all first paths", first_paths, MAX_FIRST_PATHS)?;
        let paths = self.recycle.paths.iter().chain(self.segments.iter().map(|s| &s.first));
        for path in paths {
            at_most(part, "a path length", path.as_bytes().len() as u64, MAX_PATH_LEN as u64)?;
        }
        let mut seen = HashSet::with_capacity(self.packs.len());
        for pack in &self.packs {
            at_most(part, "a pack length", pack.size, MAX_PACK_LEN)?;
            let limit = pack.size.min(u64::from(MAX_FOOTER_LEN));
            at_most(part, "a footer length", u64::from(pack.footer_len), limit)?;
            if (pack.footer_len as usize) < TRAILER_LEN {
                return invalid(format!("pack {} has a footer of {} bytes", pack.id, pack.footer_len));
            }
            if !seen.insert(pack.id) {
                return invalid(format!("pack {} is listed twice", pack.id));
            }
        }
        let mut prev: Option<&SegmentRef> = None;
        for segment in &self.segments {
            self.check_segment(segment).or_else(invalid)?;
            if let Some(prev) = prev.filter(|prev| prev.first >= segment.first) {
                return invalid(format!("segment `{}` after `{}`, out of order", segment.first, prev.first));
            }
            prev = Some(segment);
        }
        Ok(())
    }

    fn check_segment(&self, segment: &SegmentRef) -> Result<(), String> {
        let SegmentRef { first, entries, len, place, packs, .. } = segment;
        if first.is_root() {
            return Err("a segment that begins with the root".into());
        }
        if !(1..=MAX_SEGMENT_ENTRIES as u32).contains(entries) {
            return Err(format!("segment `{first}` has {entries} entries"));
        }
        if !(1..=MAX_SEGMENT_LEN as u32).contains(len) {
            return Err(format!("segment `{first}` has {len} bytes"));
        }
        let (offset, room) = match place {
            Place::Inline { offset } => (*offset, self.inline.len() as u64),
            Place::Pack { pack, offset } => {
                let pack = self.packs.get(*pack as usize).ok_or_else(|| {
                    format!("segment `{first}` lies in pack {pack} of {}", self.packs.len())
                })?;
                (*offset, pack.size.saturating_sub(u64::from(pack.footer_len)))
            }
        };
        if u64::from(offset) + u64::from(*len) > room {
            return Err(format!("segment `{first}` of {len} bytes at {offset} does not fit in {room}"));
        }
        match packs.iter().find(|(pack, _)| *pack as usize >= self.packs.len()) {
            Some((pack, _)) => Err(format!("segment `{first}` uses pack {pack} of {}", self.packs.len())),
            None => Ok(()),
        }
    }
}

/// Checks the type's requirements for extensions.
fn check_extensions(extensions: &[(u64, Bytes)]) -> Result<(), FormatError> {
    let part = Part::Snapshot;
    at_most(part, "a number of extensions", extensions.len() as u64, MAX_EXTENSIONS as u64)?;
    let len = extensions.iter().map(|(_, value)| value.len() as u64).sum();
    at_most(part, "a length of all extensions", len, MAX_EXTENSIONS_LEN as u64)?;
    if let Some(pair) = extensions.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        let what = format!("extension {} after {}, out of order", pair[1].0, pair[0].0);
        return Err(FormatError::unwritable(part, what));
    }
    match extensions.iter().find(|(tag, _)| tag % 2 == 1) {
        Some((tag, _)) => Err(FormatError::UnknownField { part, tag: *tag }),
        None => Ok(()),
    }
}

/// Returns the digest at the end of a snapshot whose other bytes are `body`.
fn identity(body: &[u8]) -> Digest {
    sha256(body)
}

/// Returns the pack, or none, and the end of a segment: there the next segment is expected.
fn end_of(segment: &SegmentRef) -> (Option<u32>, u32) {
    match segment.place {
        Place::Inline { offset } => (None, offset.wrapping_add(segment.len)),
        Place::Pack { pack, offset } => (Some(pack), offset.wrapping_add(segment.len)),
    }
}

/// The bits of a snapshot's first byte after its version.
mod flag {
    pub(super) const PARENT: u8 = 1;
    pub(super) const TERMINAL: u8 = 2;
    pub(super) const MOVED: u8 = 4;
    pub(super) const PARTIAL: u8 = 8;
    pub(super) const ALL: u8 = 15;
}

#[cfg(test)]
mod tests;
