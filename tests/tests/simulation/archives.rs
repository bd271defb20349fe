//! Archives that users write, and what is in them.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use ctxsync_tests::archive::archive;
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;

use crate::edits::{Ledger, make_room, place};

/// The kinds of archives. Each is told by its content, too.
const KINDS: [&str; 3] = ["tar", "zip", "tar.gz"];

/// The names of members. Some are also names of the mount's files and directories.
const MEMBERS: [&str; 6] = ["a", "b.txt", "c", "m", "sub/a-b", "sub/m"];

/// Of so many archives, one is cut short.
const BROKEN: usize = 6;

/// Returns the contents of a file, as the ledger has them: those of its members, if it is an archive.
pub(crate) fn parts(bytes: &[u8]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    members(bytes).unwrap_or_else(|| vec![text(bytes)])
}

/// Returns the contents of the members of an archive; `None` for other files.
pub(crate) fn members(bytes: &[u8]) -> Option<Vec<String>> {
    match bytes {
        [0x1f, 0x8b, ..] => {
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut tar).ok()?;
            of_tar(&tar)
        }
        [b'P', b'K', 3, 4, ..] => {
            let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
            (0..zip.len()).map(|at| text_of(zip.by_index(at).ok()?)).collect()
        }
        _ => of_tar(bytes),
    }
}

/// Whether bytes begin like an archive. It may be cut short.
pub(crate) fn looks_like_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK") || bytes.starts_with(&[0x1f, 0x8b]) || is_tar(bytes)
}

fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

fn of_tar(bytes: &[u8]) -> Option<Vec<String>> {
    // One that was cut short lacks the mark at its end.
    if !is_tar(bytes) || !bytes.ends_with(&[0; 1024]) {
        return None;
    }
    tar::Archive::new(bytes).entries().ok()?.map(|entry| text_of(entry.ok()?)).collect()
}

fn text_of(mut member: impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    member.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a path has the name of an archive.
pub(crate) fn is_named_so(path: &Path) -> bool {
    let name = path.to_string_lossy();
    // A conflict copy of a `.tar.gz` is a `.gz`.
    [".tar", ".zip", ".gz"].iter().any(|kind| name.ends_with(kind))
}

/// Writes an archive somewhere, notes what is in it, and describes it.
pub(crate) fn write_archive(tree: &Tree, random: &mut Random, fresh: &str, ledger: &mut Ledger) -> String {
    let kind = *random.of(&KINDS).unwrap();
    let mut names = MEMBERS.to_vec();
    let files: Vec<(&str, String)> = (0..1 + random.below(3))
        .map(|number| (names.remove(random.below(names.len())), format!("{fresh}.{number}")))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
    let mut bytes = archive(kind, &files);
    let is_broken = kind != "tar" && random.below(BROKEN) == 0;
    if is_broken {
        bytes.truncate(bytes.len() / 2);
    }
    let path = PathBuf::from(format!("{}.{kind}", place(random).display()));
    make_room(tree, &path, &mut ledger.given_up);
    tree.write(&path, &bytes);
    ledger.written.extend(parts(&bytes));
    let how = if is_broken { "a broken archive" } else { "an archive" };
    format!("write {} {how} of {files:?}", path.display())
}
