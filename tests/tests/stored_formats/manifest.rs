//! What a stored fixture must hold, told by who made it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// A store, object by object and snapshot by snapshot.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// By key.
    pub(crate) objects: BTreeMap<String, Object>,
    /// By name.
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// An object of the store.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    /// When it was put, in seconds since 1970. A snapshot counts only if it landed in time.
    pub(crate) landed: i64,
    pub(crate) sha256: String,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Context {
    /// How it ended: `deleted`, or the name that it was moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<String>,
    /// What each snapshot holds that is not forgotten, by number.
    pub(crate) snapshots: BTreeMap<u64, Listing>,
}

/// What a tree holds, by path; bytes that are not printable ASCII are escaped, as in Rust.
pub(crate) type Listing = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Node {
    File {
        mode: String,
        mtime: (i64, i64),
        size: u64,
        sha256: String,
        /// An archive that was extracted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        extracted: bool,
    },
    Dir {
        mode: String,
    },
    Symlink {
        mtime: (i64, i64),
        /// Of a long one, the SHA-256.
        target: String,
    },
    /// A file that left the context by age: it comes back to nobody.
    Recycled {
        size: u64,
    },
}

/// Lists a directory, by nothing of ours.
pub(crate) fn list(root: &Path) -> Listing {
    let mut listing = Listing::new();
    for entry in WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let stat = entry.path().symlink_metadata().unwrap();
        let mode = format!("{:04o}", stat.permissions().mode() & 0o7777);
        let mtime = (stat.mtime(), stat.mtime_nsec());
        let node = if stat.is_dir() {
            Node::Dir { mode }
        } else if stat.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            let target = target.as_os_str().as_bytes();
            Node::Symlink { mtime, target: if target.len() < 80 { escaped(target) } else { sha256(target) } }
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            let (size, sha256) = (bytes.len() as u64, sha256(&bytes));
            Node::File { mode, mtime, size, sha256, extracted: false }
        };
        let path = entry.path().strip_prefix(root).unwrap();
        listing.insert(escaped(path.as_os_str().as_bytes()), node);
    }
    listing
}

pub(crate) fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
