//! Paths as options take them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::config::Origin;
use crate::errors::Failure;

/// Returns the paths that an option was given. In a variable, several are separated by commas, and an empty one says
/// nothing.
///
/// # Errors
/// An empty argument is refused: it comes from a script's variable that was not set, and would stand for everything.
pub(super) fn typed_paths<'a>(
    option: &str,
    typed: &'a [OsString],
    origin: &Origin,
) -> Result<Vec<&'a OsStr>, Failure> {
    let from_variable = matches!(origin, Origin::Variable(_));
    let separator = |byte: &u8| *byte == b',' && from_variable;
    let paths = typed.iter().flat_map(|typed| typed.as_bytes().split(separator)).map(OsStr::from_bytes);
    let paths: Vec<_> = paths.filter(|path| !(from_variable && path.is_empty())).collect();
    if paths.iter().any(|path| path.is_empty()) {
        return Err(Failure::usage(format!("{option}: the path is empty")).hint("`.` stands for everything"));
    }
    Ok(paths)
}
