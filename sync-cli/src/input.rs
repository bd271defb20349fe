//! Small text files that a user names: policies, configs, credentials.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Larger than any such file.
const MOST: u64 = 64 << 20;

/// Reads a regular file. Anything else (a pipe, a terminal, a device) is refused at once, because reading it
/// might never end.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(wrong("it is not a regular file but a pipe, a terminal or another device"));
    }
    let mut text = String::new();
    if file.take(MOST + 1).read_to_string(&mut text)? as u64 > MOST {
        return Err(wrong("it is too long for what it should be"));
    }
    Ok(text)
}
