//! A cache of objects of the store, so that a head is fetched only once. The content is verified when it is
//! read: a damaged or missing file costs a request, nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use policy_core::Digest;

/// A directory of objects, named by digest.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns the object with this digest. The caller verifies it.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        fs::read(self.path(digest)).ok().map(Bytes::from)
    }

    /// Whether there is an object with this digest.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Stores an object. A failure is no error, since the object can be fetched again.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) {
        if let Err(e) = self.try_put(digest, bytes) {
            tracing::debug!(error = %e, "an object is not cached");
        }
    }

    fn try_put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        let new = path.with_extension("new");
        let mut file = match fs::File::create(&new) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.dir)?;
                fs::File::create(&new)?
            }
            other => other?,
        };
        let put = file.write_all(bytes).and_then(|()| fs::rename(&new, &path));
        // A file that can't be removed only takes space.
        put.inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Removes all objects except these.
    pub(crate) fn keep_only(&self, keep: &BTreeSet<Digest>) {
        let keep: BTreeSet<String> = keep.iter().map(Digest::to_string).collect();
        let Ok(listed) = fs::read_dir(&self.dir) else { return };
        for entry in listed.flatten() {
            if entry.file_name().to_str().is_none_or(|name| !keep.contains(name)) {
                // A file that can't be removed only takes space.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        Path::join(&self.dir, digest.to_string())
    }
}
