//! The rows of local state, and their encoding.

use policy_core::{Digest, Entry, Local, LocalRow, Node, Timestamp, TreePath, TreeRow};

use crate::format::wire::{Reader, Writer};
use crate::format::{ChunkId, FormatError};
use crate::local::sqlite::Member;
use crate::local::{FileSystems, Fingerprint, Special};

/// A row of the base: the state of a path on which mount and context last agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseRow {
    pub(crate) path: TreePath,
    pub(crate) entry: Entry,
    /// The fingerprint of the file with this content; `None` if the file must be read to compare it.
    pub(crate) print: Option<Fingerprint>,
    pub(crate) held: Held,
    pub(crate) archive: Archive,
    /// How many components of its path lead to the file system that it was on; 0 for the mount's own. `None`
    /// if an older version wrote the state.
    pub(crate) depth: Option<u32>,
}

impl BaseRow {
    /// Returns the row of a path that is the same on both sides.
    pub(crate) fn new(path: TreePath, entry: Entry, print: Option<Fingerprint>) -> Self {
        Self { path, entry, print, held: Held::No, archive: Archive::No, depth: None }
    }

    /// Returns the row with the depth of its file system.
    pub(crate) fn among(self, file_systems: &FileSystems) -> Self {
        Self { depth: Some(file_systems.depth_of(&self.path)), ..self }
    }

    /// Returns what is known of the archive, if `entry` is still the same archive.
    pub(crate) fn archive_of(&self, entry: &Entry) -> Archive {
        if self.entry.node == entry.node { self.archive.clone() } else { Archive::No }
    }
}

/// Whether the deletion of a path is held back since a whole side was found lost, until the user allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Held {
    #[default]
    No,
    /// The mount was lost. The path counts as not pulled.
    Here,
    /// The context was emptied. The path stays in the mount until the context has it again.
    There,
    /// The context recycled or lost the file. It stays in the mount, and is not pushed until it changes.
    Recycled,
}

/// The beginning of a digest of what decides the scope of a mount.
pub(crate) type ScopeId = [u8; 8];

/// What the extract policy does with a file that was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Archive {
    /// Nothing, as far as known.
    #[default]
    No,
    /// The name is an archive's, and the archive is still to be extracted.
    Pending,
    /// The archive was extracted, here or on another machine.
    Extracted {
        /// Where it was extracted to, if all of it was extracted here.
        at: Option<TreePath>,
        /// Whether the archive itself is still to be deleted.
        drop: bool,
        /// Whether the context has been seen to say so.
        marked: bool,
        /// The scope in which it was extracted, if that is known: all that came out was in it.
        scope: Option<ScopeId>,
    },
}

impl Archive {
    pub(crate) fn is_extracted(&self) -> bool {
        matches!(self, Self::Extracted { .. })
    }

    /// Whether it was extracted, and the context has been seen to say so.
    pub(crate) fn is_marked(&self) -> bool {
        matches!(self, Self::Extracted { marked: true, .. })
    }

    /// Notes that the context says that it was extracted.
    #[must_use]
    pub(crate) fn into_marked(self) -> Self {
        match self {
            Self::Extracted { at, drop, scope, .. } => Self::Extracted { at, drop, marked: true, scope },
            other => other,
        }
    }

    /// Whether a pull has still to extract or to remove it.
    pub(crate) fn is_unfinished(&self) -> bool {
        matches!(self, Self::Pending | Self::Extracted { drop: true, .. })
    }

    /// Whether all of it was extracted here. If a member was out of scope or something was in its way, another mount may
    /// still extract it.
    pub(crate) fn came_out(&self) -> bool {
        matches!(self, Self::Extracted { at: Some(_), .. })
    }
}

impl TreeRow for BaseRow {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn is_withheld(&self) -> bool {
        self.held == Held::Recycled
    }
}

/// A path at which the mount differs from its base, or whose fingerprint has to be updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeltaRow {
    pub(crate) path: TreePath,
    /// The base's entry, or that of an implied directory.
    pub(crate) base: Option<Entry>,
    pub(crate) state: DeltaState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeltaState {
    Absent,
    /// The path was not found in a directory that was changing, or it vanished just then: it may have been
    /// moved to where the scan had already been.
    InDoubt {
        /// Whether an earlier scan of the same sync found it.
        met: bool,
    },
    Present {
        entry: Entry,
        /// The fingerprint with which it was read.
        seen: Option<Fingerprint>,
        /// Whether an equal fingerprint later proves that the content has not changed.
        trusted: bool,
        /// The chunks of a file, in order.
        chunks: Vec<(ChunkId, u32)>,
        /// Whether it is a directory in which nothing is in scope.
        empty_dir: bool,
    },
    /// The path exists but can't be read, or its existence can't be checked.
    Unreadable,
    /// The path exists, but no context can store it.
    Special(Special),
    /// The path was on a file system that is not mounted now, or that another one hides.
    Unmounted,
    /// A file of this many bytes, whose content is not in the store yet.
    Unsent {
        size: u64,
    },
}

impl LocalRow for DeltaRow {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn local(&self) -> Local<'_> {
        match &self.state {
            DeltaState::Absent | DeltaState::InDoubt { .. } => Local::Absent,
            DeltaState::Present { entry, .. } => Local::Present(entry),
            DeltaState::Unreadable | DeltaState::Special(_) | DeltaState::Unsent { .. } => Local::Unreadable,
            DeltaState::Unmounted => Local::Unmounted,
        }
    }

    fn is_in_doubt(&self) -> bool {
        matches!(self.state, DeltaState::InDoubt { .. })
    }
}

impl DeltaRow {
    /// Whether this is a directory that the base only implied. If the base listed it, the directory would be
    /// unchanged and have no row.
    pub(crate) fn is_implied_before(&self) -> bool {
        matches!((&self.state, &self.base), (DeltaState::Present { entry, empty_dir: true, .. }, Some(base))
            if entry.agrees_with(base))
    }

    /// Returns the entry, with a file's chunks, if the path was read.
    pub(crate) fn present(&self) -> Option<(&Entry, &[(ChunkId, u32)])> {
        match &self.state {
            DeltaState::Present { entry, chunks, .. } => Some((entry, chunks)),
            _ => None,
        }
    }

    /// Whether the mount differs from the base here in more than the fingerprint.
    pub(crate) fn is_change(&self) -> bool {
        match (&self.state, &self.base) {
            (
                DeltaState::Unreadable
                | DeltaState::Special(_)
                | DeltaState::Unmounted
                | DeltaState::Unsent { .. },
                _,
            ) => false,
            (DeltaState::Absent | DeltaState::InDoubt { .. }, base) => base.is_some(),
            (DeltaState::Present { entry, empty_dir, .. }, Some(base)) => {
                *empty_dir || !entry.agrees_with(base)
            }
            (DeltaState::Present { .. }, None) => true,
        }
    }
}

/// A row that can be written to a file and read back; the encoding depends on the row before it.
pub(crate) trait Row: Sized {
    fn path(&self) -> &TreePath;
    fn write(&self, w: &mut Writer);
    fn read(path: TreePath, r: &mut Reader<'_>) -> Result<Self, FormatError>;

    /// Returns roughly how many bytes of memory it takes.
    fn weight(&self) -> usize {
        2 * size_of::<Self>() + self.path().as_bytes().len()
    }
}

const HELD_HERE: u8 = 1;
const PENDING: u8 = 2;
const EXTRACTED: u8 = 4;
const DROP: u8 = 8;
/// The row is on the mount's own file system.
const ON_MOUNT: u8 = 16;
/// The row is on a file system below, whose depth follows.
const BELOW_MOUNT: u8 = 32;
const HELD_THERE: u8 = 64;

const FILE: u8 = 0;
const DIR: u8 = 1;
const SYMLINK: u8 = 2;

fn write_entry(entry: &Entry, w: &mut Writer) {
    let kind = match &entry.node {
        Node::File { .. } => FILE,
        Node::Dir => DIR,
        Node::Symlink { .. } => SYMLINK,
    };
    w.u8(kind);
    w.u16(entry.mode);
    write_time(entry.mtime, w);
    w.zigzag(entry.uploaded);
    match &entry.node {
        Node::File { size, digest } => {
            w.varint(*size);
            w.bytes(&digest.0);
        }
        Node::Dir => {}
        Node::Symlink { target } => w.blob(target),
    }
}

fn read_entry(r: &mut Reader<'_>) -> Result<Entry, FormatError> {
    let kind = r.u8()?;
    let mode = r.u16()?;
    let mtime = read_time(r)?;
    let uploaded = r.zigzag()?;
    let node = match kind {
        FILE => Node::File { size: r.varint()?, digest: Digest(r.array()?) },
        DIR => Node::Dir,
        SYMLINK => {
            let len = r.count("a link's target", 1)?;
            Node::Symlink { target: r.take(len)?.into() }
        }
        _ => return Err(r.invalid("an unknown kind")),
    };
    Ok(Entry { node, mode, mtime, uploaded })
}

fn write_time(time: Timestamp, w: &mut Writer) {
    w.zigzag(time.secs);
    w.varint(u64::from(time.nanos));
}

fn read_time(r: &mut Reader<'_>) -> Result<Timestamp, FormatError> {
    Ok(Timestamp { secs: r.zigzag()?, nanos: r.varint32("nanoseconds", 999_999_999)? })
}

pub(super) fn write_print(print: Option<&Fingerprint>, w: &mut Writer) {
    w.u8(u8::from(print.is_some()));
    if let Some(print) = print {
        w.varint(print.size);
        write_time(print.mtime, w);
        write_time(print.ctime, w);
        w.varint(print.inode);
        w.u16(print.mode);
    }
}

pub(super) fn read_print(r: &mut Reader<'_>) -> Result<Option<Fingerprint>, FormatError> {
    Ok(match r.u8()? {
        0 => None,
        _ => Some(Fingerprint {
            size: r.varint()?,
            mtime: read_time(r)?,
            ctime: read_time(r)?,
            inode: r.varint()?,
            mode: r.u16()?,
        }),
    })
}

impl Row for BaseRow {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn write(&self, w: &mut Writer) {
        write_entry(&self.entry, w);
        write_print(self.print.as_ref(), w);
        let archive = match &self.archive {
            Archive::No => 0,
            Archive::Pending => PENDING,
            Archive::Extracted { drop, marked, .. } => {
                // Older programs look for the first of these only.
                EXTRACTED | if *drop { DROP } else { 0 } | if *marked { PENDING } else { 0 }
            }
        };
        let place = match self.depth {
            None => 0,
            Some(0) => ON_MOUNT,
            Some(_) => BELOW_MOUNT,
        };
        let held = match self.held {
            Held::No => 0,
            Held::Here => HELD_HERE,
            Held::There => HELD_THERE,
            Held::Recycled => HELD_HERE | HELD_THERE,
        };
        w.u8(held | archive | place);
        if let Archive::Extracted { at, scope, .. } = &self.archive {
            // No path has this byte.
            let scope = scope.as_ref().map_or_else(Vec::new, |scope| [&[0], &scope[..]].concat());
            w.blob(&[at.as_ref().map_or(&[][..], TreePath::as_bytes), &scope].concat());
        }
        if let Some(depth) = self.depth.filter(|depth| *depth > 0) {
            w.varint(depth.into());
        }
    }

    fn read(path: TreePath, r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let (entry, print, flags) = (read_entry(r)?, read_print(r)?, r.u8()?);
        let archive = if flags & EXTRACTED != 0 {
            let len = r.count("a path", 1)?;
            let bytes = r.take(len)?;
            let (at, scope) = match bytes.split_last_chunk::<8>() {
                Some(([at @ .., 0], scope)) => (at, Some(*scope)),
                _ => (bytes, None),
            };
            let at = TreePath::new(at).map_err(|_| r.invalid("a path that is none"))?;
            let at = Some(at).filter(|at| !at.is_root());
            Archive::Extracted { at, drop: flags & DROP != 0, marked: flags & PENDING != 0, scope }
        } else if flags & PENDING != 0 {
            Archive::Pending
        } else {
            Archive::No
        };
        let depth = match flags & (ON_MOUNT | BELOW_MOUNT) {
            0 => None,
            ON_MOUNT => Some(0),
            _ => Some(r.varint32("a depth", u32::MAX)?),
        };
        let held = match flags & (HELD_HERE | HELD_THERE) {
            0 => Held::No,
            HELD_HERE => Held::Here,
            HELD_THERE => Held::There,
            _ => Held::Recycled,
        };
        Ok(Self { path, entry, print, held, archive, depth })
    }
}

impl Row for DeltaRow {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn write(&self, w: &mut Writer) {
        w.u8(u8::from(self.base.is_some()));
        if let Some(base) = &self.base {
            write_entry(base, w);
        }
        match &self.state {
            DeltaState::Absent => w.u8(0),
            DeltaState::InDoubt { met } => w.u8(6 + u8::from(*met)),
            DeltaState::Unreadable => w.u8(1),
            DeltaState::Unmounted => w.u8(5),
            DeltaState::Special(special) => {
                w.u8(4);
                w.u8(special.number());
            }
            DeltaState::Unsent { size } => {
                w.u8(3);
                w.varint(*size);
            }
            DeltaState::Present { entry, seen, trusted, chunks, empty_dir } => {
                w.u8(2);
                write_entry(entry, w);
                write_print(seen.as_ref(), w);
                w.u8(u8::from(*trusted) | u8::from(*empty_dir) << 1);
                w.varint(chunks.len() as u64);
                for (id, len) in chunks {
                    w.bytes(&id.0);
                    w.varint(u64::from(*len));
                }
            }
        }
    }

    fn read(path: TreePath, r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let base = match r.u8()? {
            0 => None,
            _ => Some(read_entry(r)?),
        };
        let state = match r.u8()? {
            0 => DeltaState::Absent,
            1 => DeltaState::Unreadable,
            3 => DeltaState::Unsent { size: r.varint()? },
            5 => DeltaState::Unmounted,
            4 => DeltaState::Special(Special::of_number(r.u8()?)),
            tag @ (6 | 7) => DeltaState::InDoubt { met: tag == 7 },
            _ => {
                let entry = read_entry(r)?;
                let seen = read_print(r)?;
                let flags = r.u8()?;
                let count = r.count("chunks", 33)?;
                let mut chunks = Vec::with_capacity(count);
                for _ in 0..count {
                    chunks.push((ChunkId(r.array()?), r.varint32("a chunk's length", u32::MAX)?));
                }
                DeltaState::Present {
                    entry,
                    seen,
                    trusted: flags & 1 != 0,
                    chunks,
                    empty_dir: flags & 2 != 0,
                }
            }
        };
        Ok(Self { path, base, state })
    }

    fn weight(&self) -> usize {
        let chunks = match &self.state {
            DeltaState::Present { chunks, .. } => chunks.len() * size_of::<(ChunkId, u32)>(),
            _ => 0,
        };
        2 * size_of::<Self>() + self.path.as_bytes().len() + chunks
    }
}

/// A file that may have changed and has to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) path: TreePath,
    pub(crate) print: Fingerprint,
    /// The base's entry, or that of an implied directory.
    pub(crate) base: Option<Entry>,
}

impl Row for Candidate {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn write(&self, w: &mut Writer) {
        write_print(Some(&self.print), w);
        w.u8(u8::from(self.base.is_some()));
        if let Some(base) = &self.base {
            write_entry(base, w);
        }
    }

    fn read(path: TreePath, r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let print = read_print(r)?.ok_or_else(|| r.invalid("a file without a stat"))?;
        let base = match r.u8()? {
            0 => None,
            _ => Some(read_entry(r)?),
        };
        Ok(Self { path, print, base })
    }
}

/// A file of a database, to be read together with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberRow {
    pub(crate) path: TreePath,
    pub(crate) member: Member,
    /// The base's entry.
    pub(crate) base: Option<Entry>,
    /// The fingerprint in the base.
    pub(crate) known: Option<Fingerprint>,
    /// The size when it was found, in bytes.
    pub(crate) size: u64,
}

impl MemberRow {
    /// Returns the path of the database to which it belongs.
    pub(crate) fn database(&self) -> &[u8] {
        let path = self.path.as_bytes();
        &path[..path.len().saturating_sub(self.member.suffix().len())]
    }
}

impl Row for MemberRow {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn write(&self, w: &mut Writer) {
        w.u8(match self.member {
            Member::Database => 0,
            Member::Journal => 1,
            Member::Wal => 2,
            Member::Shm => 3,
        });
        w.u8(u8::from(self.base.is_some()));
        if let Some(base) = &self.base {
            write_entry(base, w);
        }
        write_print(self.known.as_ref(), w);
        w.varint(self.size);
    }

    fn read(path: TreePath, r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let member = match r.u8()? {
            0 => Member::Database,
            1 => Member::Journal,
            2 => Member::Wal,
            _ => Member::Shm,
        };
        let base = match r.u8()? {
            0 => None,
            _ => Some(read_entry(r)?),
        };
        Ok(Self { path, member, base, known: read_print(r)?, size: r.varint()? })
    }
}
