//! Which files are archives, and of what kind.

use std::ops::Range;

/// How a stream of bytes is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// The kind of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArchiveKind {
    Zip,
    SevenZip,
    Tar(Compression),
    /// One compressed file.
    Single(Compression),
}

/// Where the checksum is in the header of a tar.
const CHECKSUM: Range<usize> = 148..156;

/// Longer suffixes come first: `a.tar.gz` is not a single compressed file.
const SUFFIXES: [(&str, ArchiveKind); 14] = [
    (".tar.bz2", ArchiveKind::Tar(Compression::Bzip2)),
    (".tar.zst", ArchiveKind::Tar(Compression::Zstd)),
    (".tar.gz", ArchiveKind::Tar(Compression::Gzip)),
    (".tar.xz", ArchiveKind::Tar(Compression::Xz)),
    (".tbz2", ArchiveKind::Tar(Compression::Bzip2)),
    (".tgz", ArchiveKind::Tar(Compression::Gzip)),
    (".txz", ArchiveKind::Tar(Compression::Xz)),
    (".tar", ArchiveKind::Tar(Compression::None)),
    (".zip", ArchiveKind::Zip),
    (".7z", ArchiveKind::SevenZip),
    (".bz2", ArchiveKind::Single(Compression::Bzip2)),
    (".zst", ArchiveKind::Single(Compression::Zstd)),
    (".gz", ArchiveKind::Single(Compression::Gzip)),
    (".xz", ArchiveKind::Single(Compression::Xz)),
];

impl ArchiveKind {
    /// How many bytes from a file's start [`ArchiveKind::of`] needs, if the file is that long.
    pub(crate) const BEGIN: usize = 512;

    /// Returns the kind of the file `name` (its last component) that begins with `begin`; `None` unless both
    /// the suffix and the content are those of an archive.
    ///
    /// The content of a compressed tar is only known when it is unpacked. So a `.tar.gz` of something else
    /// counts as an archive here, and turns out to be a damaged one.
    pub(crate) fn of(name: &[u8], begin: &[u8]) -> Option<Self> {
        let (kind, _) = split(name)?;
        kind.begins(begin).then_some(kind)
    }

    /// Whether the suffix of `name` is that of an archive.
    pub(crate) fn has_suffix(name: &[u8]) -> bool {
        split(name).is_some()
    }

    /// Returns the name without the archive's suffix; the whole name if it has none.
    pub(crate) fn stem(name: &[u8]) -> &[u8] {
        split(name).map_or(name, |(_, stem)| stem)
    }

    fn begins(self, begin: &[u8]) -> bool {
        match self {
            Self::Zip => begin.starts_with(b"PK\x03\x04") || begin.starts_with(b"PK\x05\x06"),
            Self::SevenZip => begin.starts_with(b"7z\xbc\xaf\x27\x1c"),
            Self::Tar(Compression::None) => begins_tar(begin),
            Self::Tar(packed) | Self::Single(packed) => packed.begins(begin),
        }
    }
}

impl Compression {
    /// Whether a stream with this compression may begin with these bytes.
    pub(super) fn begins(self, begin: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => begin.starts_with(b"\x1f\x8b\x08"),
            Self::Bzip2 => {
                begin.starts_with(b"BZh") && begin.get(3).is_some_and(|b| (b'1'..=b'9').contains(b))
            }
            Self::Xz => begin.starts_with(b"\xfd7zXZ\0"),
            // A frame, or a skippable frame.
            Self::Zstd => {
                begin.starts_with(b"\x28\xb5\x2f\xfd")
                    || (begin.first().is_some_and(|b| b & 0xf0 == 0x50)
                        && begin.get(1..4) == Some(b"\x2a\x4d\x18".as_slice()))
            }
        }
    }
}

/// Whether these bytes are the header of a tar, or the zeros at the end of an empty one.
fn begins_tar(begin: &[u8]) -> bool {
    let Some(block) = begin.get(..512) else { return false };
    block.iter().all(|&b| b == 0) || checksum_in(block) == Some(checksum(block))
}

/// Returns the checksum that a tar header has: octal digits, which end with a NUL or a space.
fn checksum_in(block: &[u8]) -> Option<u32> {
    let digits = block.get(CHECKSUM)?.split(|&b| b == 0).next()?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), 8).ok()
}

/// Returns the correct checksum of a tar header: the sum of all bytes, with the checksum's own field as
/// spaces.
pub(super) fn checksum(block: &[u8]) -> u32 {
    block.iter().enumerate().map(|(i, &b)| if CHECKSUM.contains(&i) { 32 } else { u32::from(b) }).sum()
}

/// Splits a name at its suffix. The rest must be a valid name of a directory.
fn split(name: &[u8]) -> Option<(ArchiveKind, &[u8])> {
    let (suffix, kind) = SUFFIXES.iter().find(|(suffix, _)| {
        name.len() >= suffix.len()
            && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
    })?;
    let stem = &name[..name.len() - suffix.len()];
    (!matches!(stem, b"" | b"." | b"..")).then_some((*kind, stem))
}
