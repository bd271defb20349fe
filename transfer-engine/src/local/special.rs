//! Kinds of files that no context can store.

use std::fmt;

use rustix::fs::FileType;

/// A kind of file that is never opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Socket,
    Fifo,
    BlockDevice,
    CharacterDevice,
    Unknown,
}

impl Special {
    const ALL: [Self; 5] =
        [Self::Socket, Self::Fifo, Self::BlockDevice, Self::CharacterDevice, Self::Unknown];

    /// Returns the kind of something that is no file, directory or link.
    pub(crate) fn of(kind: FileType) -> Self {
        match kind {
            FileType::Socket => Self::Socket,
            FileType::Fifo => Self::Fifo,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::CharacterDevice => Self::CharacterDevice,
            _ => Self::Unknown,
        }
    }

    /// Returns the number of this kind, for a spool.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// Returns the kind with this number.
    pub(crate) fn of_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "a socket",
            Self::Fifo => "a FIFO",
            Self::BlockDevice => "a block device",
            Self::CharacterDevice => "a character device",
            Self::Unknown => "of an unknown kind",
        })
    }
}
