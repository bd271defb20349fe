//! The reader of archives, for fuzzing.

use std::fs::File;
use std::path::Path;

use super::{ArchiveKind, ExtractLimits, Extraction};
use crate::Env;
use crate::local::MountDir;

/// Extracts bytes that are called `name` into an empty directory.
///
/// # Panics
/// If something is written outside that directory.
pub(crate) fn extract(name: &str, bytes: &[u8]) {
    let Some(kind) = ArchiveKind::of(name.as_bytes(), bytes) else { return };
    if let Err(e) = try_extract(kind, name, bytes) {
        panic!("{e}");
    }
}

fn try_extract(kind: ArchiveKind, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let place = tempfile::tempdir()?;
    let (from, into) = (place.path().join("from"), place.path().join("into"));
    std::fs::write(&from, bytes)?;
    std::fs::create_dir(&into)?;
    let limits = ExtractLimits { total_bytes: 16 << 20, members: 1000, ..ExtractLimits::default() };
    let extraction = Extraction {
        archive: &File::open(&from)?,
        kind,
        name: name.as_bytes(),
        into: &MountDir::open(&into, &Env::real())?,
        limits: &limits,
        keep: &|_, _| true,
        stop: &|| false,
    };
    let _ = extraction.run();
    assert_eq!(names(place.path())?, ["from", "into"], "something was written outside");
    Ok(())
}

fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
