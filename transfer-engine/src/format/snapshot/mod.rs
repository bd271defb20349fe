//! One state of a context: the commit.

mod decode;
mod encode;

use std::collections::HashSet;

use bytes::Bytes;
use policy_core::{Digest, Timestamp, TreePath};

use super::error::{FormatError, Part, at_most};
use super::segment::{MAX_PATH_LEN, MAX_SEGMENT_ENTRIES, MAX_SEGMENT_LEN};
use super::{ContextName, LineageId, MAX_FOOTER_LEN, MAX_PACK_LEN, PackId, StoreId, TRAILER_LEN, sha256};

/// The longest snapshot, in bytes: 128 MiB, which is some 1.5 million segments.
pub const MAX_SNAPSHOT_LEN: usize = 128 << 20;
/// The most bytes of embedded segments that a snapshot may have: 4 MiB. Far more than is embedded today, so
/// that a later program may embed more and this one still reads it.
pub const MAX_INLINE: usize = 4 << 20;
/// The longest session name, in bytes.
pub const MAX_SESSION_LEN: usize = 256;
/// The most bytes that the first paths of all segments, written out, may have: 64 MiB. Front-coding would
/// let a few bytes stand for a long path many times over.
const MAX_FIRST_PATHS: u64 = 64 << 20;
/// The most paths in the recycle rules.
const MAX_RULES: usize = 4096;
/// The most extensions of a snapshot.
const MAX_EXTENSIONS: usize = 64;
/// The most bytes that the extensions of a snapshot have together: 64 KiB.
const MAX_EXTENSIONS_LEN: usize = 64 << 10;
/// The extension that names the program that made the snapshot.
const WRITER: u64 = 2;
/// The extension that a snapshot has whose mount was changing while it was read.
const UNSETTLED: u64 = 4;

const VERSION: u8 = 1;
const MAGIC: [u8; 4] = *b"CSsn";

/// One immutable state of a context.
///
/// What [`decode`](Self::decode) returns and [`encode`](Self::encode) takes:
/// - packs are listed once; a pack's footer is within its size;
/// - segments have entries, and their first paths are strictly ascending in tree order;
/// - the tags of extensions are strictly ascending, and even;
/// - every index into `packs` is one, and every place lies within its pack's blocks or within `inline`;
/// - the limits of this module hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number in the context.
    pub number: u64,
    /// The store that it was written to.
    pub store_id: StoreId,
    /// The context that it belongs to.
    pub context: ContextName,
    /// The life of the context that it belongs to.
    pub lineage: LineageId,
    /// The digest of the snapshot before it; none at the begin of a lineage.
    pub parent: Option<Digest>,
    /// Whether the context goes on after it.
    pub kind: Kind,
    /// When it was made, by the writer's clock.
    pub created: Timestamp,
    /// The session that made it, for people to read.
    pub session: String,
    /// Random bytes, so that no two snapshots have the same digest.
    pub nonce: [u8; 16],
    /// The digest of the policy by which it was made.
    pub policy: Digest,
    /// When files leave the context by age.
    pub recycle: RecycleRules,
    /// What the tree holds.
    pub totals: Totals,
    /// What differs from its parent.
    pub changes: Changes,
    /// It was made when the time ran out, and not all that should be in it is.
    pub partial: bool,
    /// What else is said of this snapshot, by tag: a reader passes over a tag that it does not know, and keeps it
    /// where a move copies the snapshot. A successor or fork has its own. See [`Snapshot::written_by`].
    pub extensions: Vec<(u64, Bytes)>,
    /// Every pack that it refers to.
    pub packs: Vec<PackUse>,
    /// The tree, first to last.
    pub segments: Vec<SegmentRef>,
    /// The bytes of the embedded segments.
    pub inline: Bytes,
}

/// Whether a context goes on after a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It does.
    Normal,
    /// It was deleted, or moved to another name.
    Terminal {
        /// The new name of the context.
        moved_to: Option<ContextName>,
    },
}

/// When files leave the context by age.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecycleRules {
    /// Days after their last upload; none keeps them for ever.
    pub lifecycle_days: Option<u16>,
    /// What the rule holds for: these paths and all below; the root is everything.
    pub paths: Vec<TreePath>,
}

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files, without placeholders of recycled ones.
    pub files: u64,
    /// Directories, implied ones too.
    pub dirs: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// The sizes of the files, in bytes.
    pub bytes: u64,
}

/// What differs from the parent, in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Paths that are new.
    pub added: u64,
    /// Paths with another content, kind or mode.
    pub changed: u64,
    /// Paths that are no more.
    pub deleted: u64,
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
    /// How many of its bytes the snapshot refers to.
    pub live: u64,
    /// The store time, in seconds since 1970, before which the snapshot must have landed for this pack to
    /// count; none where the parent has the pack already.
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
    /// Where it lies.
    pub place: Place,
    /// The packs that its chunks lie in, as indexes into [`Snapshot::packs`], each with how many stored bytes
    /// they take there.
    pub packs: Vec<(u32, u64)>,
}

/// Where a segment lies.
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

/// A snapshot that is ready to be put.
#[derive(Debug, Clone)]
#[must_use]
pub struct EncodedSnapshot {
    /// What is stored.
    pub bytes: Bytes,
    /// The snapshot's identity: the SHA-256 of all bytes but the last 32, which are this digest.
    pub digest: Digest,
}

impl Snapshot {
    /// Encodes the snapshot; the same value always gives the same bytes.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] or [`FormatError::TooLarge`] where the value is not what the type promises:
    /// nothing is ever written that [`decode`](Self::decode) would refuse.
    pub fn encode(&self) -> Result<EncodedSnapshot, FormatError> {
        self.check()?;
        encode::encode(self)
    }

    /// Decodes a snapshot, and returns it with its identity. A tombstone, which has no bytes, is
    /// [`FormatError::Truncated`].
    ///
    /// # Errors
    /// [`FormatError::Corrupt`] where the digest does not match; [`FormatError::UnsupportedVersion`] for a
    /// later format, whose digest does match, and [`FormatError::UnknownField`] for what can't be passed over;
    /// any other where the snapshot breaks a rule.
    pub fn decode(bytes: &Bytes) -> Result<(Self, Digest), FormatError> {
        let (snapshot, digest) = decode::decode(bytes)?;
        snapshot.check()?;
        Ok((snapshot, digest))
    }

    /// Returns the extensions of a snapshot that is made by `program`, for people to read.
    pub fn written_by(program: &'static str) -> Vec<(u64, Bytes)> {
        vec![(WRITER, Bytes::from_static(program.as_bytes()))]
    }

    /// Returns the program that made the snapshot, if it says so.
    pub fn writer(&self) -> Option<&str> {
        let (_, program) = self.extensions.iter().find(|(tag, _)| *tag == WRITER)?;
        str::from_utf8(program).ok()
    }

    /// Notes that what the snapshot holds may not have stood in the mount at one moment.
    #[must_use]
    pub(crate) fn marked_unsettled(mut self) -> Self {
        let at = self.extensions.partition_point(|(tag, _)| *tag < UNSETTLED);
        self.extensions.insert(at, (UNSETTLED, Bytes::new()));
        self
    }

    /// Whether the mount was changing all the while that it was read: what the snapshot holds may not have stood
    /// there at one moment.
    pub fn is_unsettled(&self) -> bool {
        self.extensions.iter().any(|(tag, _)| *tag == UNSETTLED)
    }

    /// Returns the bytes of an embedded segment; `None` where it lies in a pack.
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

    /// Checks what the type promises, for values to be written and values read alike.
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

/// Checks what the type promises of the extensions.
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

/// Returns the digest that ends a snapshot whose other bytes are `body`.
fn identity(body: &[u8]) -> Digest {
    sha256(body)
}

/// Returns the end of a segment, which is where the next in the same place is expected.
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
