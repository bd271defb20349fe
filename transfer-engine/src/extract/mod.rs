//! Extracts an archive into an empty directory in staging.
//!
//! [`unpack`] does it, and is left out without the feature `archives`. What is here says which files are archives,
//! what an extraction is asked for, and what comes of it.

mod error;
mod kind;
#[cfg(feature = "archives")]
mod unpack;

#[cfg(all(feature = "archives", any(test, fuzzing)))]
pub(crate) use unpack::hostile;

use std::fs::File;

use policy_core::TreePath;

use crate::local::MountDir;

pub use error::ExtractError;
pub(crate) use kind::ArchiveKind;

/// Limits for extraction. An archive that exceeds one is not extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractLimits {
    /// The total size of all members, in bytes: 64 GiB.
    pub total_bytes: u64,
    /// The number of members: a million.
    pub members: u64,
    /// The depth of nested directories: 64.
    pub levels: u32,
    /// The unpacked bytes per byte of the archive: 200.
    pub ratio: u64,
    /// The number of unpacked bytes from which the ratio is checked: 64 MiB.
    pub ratio_from: u64,
    /// The memory for a decoder's window, in bytes: 128 MiB.
    pub window: u64,
}

impl Default for ExtractLimits {
    fn default() -> Self {
        Self {
            total_bytes: 64 << 30,
            members: 1_000_000,
            levels: 64,
            ratio: 200,
            ratio_from: 64 << 20,
            window: 128 << 20,
        }
    }
}

/// An archive to extract, and where and how.
#[cfg_attr(not(feature = "archives"), expect(dead_code, reason = "nothing extracts it"))]
pub(crate) struct Extraction<'a> {
    pub(crate) archive: &'a File,
    pub(crate) kind: ArchiveKind,
    /// The last component of the archive's path. A single compressed file gets its name from it.
    pub(crate) name: &'a [u8],
    /// An empty directory for exclusive use. After an error, its content is useless.
    pub(crate) into: &'a MountDir,
    pub(crate) limits: &'a ExtractLimits,
    /// Whether a member takes part. The arguments are its path below the directory, and whether it is a
    /// directory.
    pub(crate) keep: &'a dyn Fn(&TreePath, bool) -> bool,
    /// Is called often; once it returns true, the extraction ends with [`ExtractError::Stopped`].
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// The result of an extraction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    /// Members of the archive that are in the directory now: files, links and directories.
    pub(crate) members: u64,
    /// How many of them are files and links.
    pub(crate) leaves: u64,
    /// The total size of the files, in bytes.
    pub(crate) bytes: u64,
    /// How many members were left out because [`Extraction::keep`] returned false.
    pub(crate) left_out_total: u64,
    /// The first thousand of those.
    pub(crate) left_out: Vec<TreePath>,
    /// Messages for the user, although the archive was extracted.
    pub(crate) warnings: Vec<String>,
}

#[cfg(not(feature = "archives"))]
impl Extraction<'_> {
    /// Extracts nothing. A mount whose policy extracts archives is refused before it comes to this.
    pub(crate) fn run(self) -> Result<Extracted, ExtractError> {
        Err(ExtractError::Unsupported {
            what: "this program was built without the feature `archives`".into(),
        })
    }
}
