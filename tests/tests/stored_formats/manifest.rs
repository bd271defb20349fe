//! What a fixture must contain, as recorded by its maker.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// A store, by object and snapshot.
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
    /// The time of its put, in seconds since 1970. A snapshot counts only if it landed in time.
    pub(crate) landed: i64,
    pub(crate) sha256: String,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Context {
    /// How it ended: `deleted`, or the name that it was renamed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<String>,
    /// The content of each snapshot that is not forgotten, by number.
    pub(crate) snapshots: BTreeMap<u64, Listing>,
}

/// The content of a tree, by path. Bytes that are not printable ASCII are escaped as in Rust.
pub(crate) type Listing = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Node {
    File {
        mode: String,
        mtime: (i64, i64),
        size: u64,
        sha256: String,
        /// Whether it is an archive that was extracted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        extracted: bool,
    },
    Dir {
        mode: String,
    },
    Symlink {
        mtime: (i64, i64),
        /// The target, or the SHA-256 of a long one.
        target: String,
    },
    /// A file that was recycled because of its age. No machine pulls it.
    Recycled {
        size: u64,
    },
}

/// Lists a directory, without any code of the engine.
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

/// Returns the SHA-256 of bytes, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
