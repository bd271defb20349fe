//! Why bytes of the store can't be used, or why a value can't be written.

use std::fmt;

/// The kind of object, or part of one, that an error concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A block of a pack.
    Block,
    /// The footer of a pack, with its trailer.
    Footer,
    /// A segment of a tree.
    Segment,
    /// A snapshot.
    Snapshot,
    /// A tag.
    Tag,
    /// The index of heads.
    HeadIndex,
    /// The store's own description, `ctxsync.json`.
    StoreMeta,
    /// The local state of a mount.
    State,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Block => "block",
            Part::Footer => "pack footer",
            Part::Segment => "segment",
            Part::Snapshot => "snapshot",
            Part::Tag => "tag",
            Part::HeadIndex => "index of heads",
            Part::StoreMeta => "store description",
            Part::State => "local state",
        })
    }
}

/// Why bytes can't be read as a part of the format, or a value can't be written as one.
///
/// Offsets count from the start of the part, or inside compressed data from the start of the unpacked bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A newer program wrote this.
    #[error("{part} has format {found}, and this program reads up to {supported}: upgrade it")]
    UnsupportedVersion {
        /// What was read.
        part: Part,
        /// Its version.
        found: u32,
        /// The newest version that this program reads.
        supported: u32,
    },
    /// A newer program wrote this, and marked a field that readers must know.
    #[error("{part} has a field with the tag {tag}, which this program does not know: upgrade it")]
    UnknownField {
        /// What was read.
        part: Part,
        /// The field's tag.
        tag: u64,
    },
    /// The bytes end before the part does.
    #[error("{part} ends too early, at byte {offset}")]
    Truncated {
        /// What was read.
        part: Part,
        /// Where more bytes were expected.
        offset: u64,
    },
    /// The bytes are not those that were written: their digest does not match.
    #[error("{part} is corrupt: its bytes do not match its digest")]
    Corrupt {
        /// What was read.
        part: Part,
    },
    /// The bytes, or the value to write, break a rule of the format.
    #[error("{part} is not valid at byte {offset}: {what}")]
    Invalid {
        /// What was read or to be written.
        part: Part,
        /// Where; 0 for a value to be written.
        offset: u64,
        /// The rule that is broken.
        what: String,
    },
    /// A length or count is larger than the format allows.
    #[error("{part} has {what} of {found}, and {limit} is the limit")]
    TooLarge {
        /// What was read or to be written.
        part: Part,
        /// The length or count.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The largest value allowed.
        limit: u64,
    },
}

impl FormatError {
    /// Whether reading the bytes again may help, because they were truncated or changed on the way.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Truncated { .. } | Self::Corrupt { .. })
    }

    /// Whether a newer program wrote it.
    pub(crate) fn is_of_later_program(&self) -> bool {
        matches!(self, Self::UnsupportedVersion { .. } | Self::UnknownField { .. })
    }

    /// Whether the local state is damaged, and not something in the store.
    pub(crate) fn is_damaged_state(&self) -> bool {
        match self {
            Self::UnsupportedVersion { .. } | Self::UnknownField { .. } => false,
            Self::Truncated { part, .. }
            | Self::Corrupt { part }
            | Self::Invalid { part, .. }
            | Self::TooLarge { part, .. } => *part == Part::State,
        }
    }

    /// Returns an [`Invalid`](Self::Invalid) error for a value that was to be written.
    pub(crate) fn unwritable(part: Part, what: impl Into<String>) -> Self {
        Self::Invalid { part, offset: 0, what: what.into() }
    }
}

/// Fails if `found` is newer than `supported`, or is no version.
pub(crate) fn check_version(part: Part, found: u32, supported: u32) -> Result<(), FormatError> {
    match found {
        0 => Err(FormatError::unwritable(part, "no format has the version 0")),
        _ if found > supported => Err(FormatError::UnsupportedVersion { part, found, supported }),
        _ => Ok(()),
    }
}

/// Fails if `found` is more than `limit`.
pub(crate) fn at_most(part: Part, what: &'static str, found: u64, limit: u64) -> Result<(), FormatError> {
    if found > limit { Err(FormatError::TooLarge { part, what, found, limit }) } else { Ok(()) }
}
