//! Absolute paths, for places outside any mount.

use std::io;
use std::path::{Path, PathBuf};

/// Makes a path absolute, and resolves links as far as the path exists.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(absolute(parent)?.join(name)),
            _ => Ok(path),
        },
        other => other,
    }
}
