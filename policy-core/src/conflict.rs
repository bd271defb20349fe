//! Names of conflict copies.

use crate::TreePath;

const MARK: &[u8] = b".conflict-";
/// The longest name that common file systems take, in bytes.
const MAX_NAME: usize = 255;

/// Returns the path at which the remote version of `path` is kept: `dir/name.conflict-<tag>.ext`, or with
/// `-<number>` after the tag when `number` is above 1. A name that would be too long loses its middle.
pub fn copy_path(path: &TreePath, tag: &str, number: u32) -> TreePath {
    let name = path.name();
    let (stem, extension) = split_extension(name);
    let number = if number > 1 { format!("-{number}") } else { String::new() };
    let mut mark = MARK.to_vec();
    mark.extend_from_slice(tag.as_bytes());
    mark.extend_from_slice(number.as_bytes());
    // An extension that leaves no room for a stem is no extension worth keeping.
    let extension = if extension.len() > 64 { &[] } else { extension };
    let room = MAX_NAME - mark.len() - extension.len();
    let mut copy = cut_at_char(stem, room).to_vec();
    copy.extend_from_slice(&mark);
    copy.extend_from_slice(extension);
    let parent = path.parent().unwrap_or_default();
    // The name holds a mark, so it is neither empty nor a dot component, and its bytes were in a path.
    parent.join(&copy).unwrap_or_else(|_| path.clone())
}

/// Returns the path whose conflict copy `path` is, or lies in, where its name says that it is one.
///
/// A copy is in scope where its original is.
pub fn original_path(path: &TreePath) -> Option<TreePath> {
    let bytes = path.as_bytes();
    if !bytes.windows(MARK.len()).any(|w| w == MARK) {
        return None;
    }
    let mut found = false;
    let mut original = TreePath::root();
    for component in path.components() {
        let name = original_name(component);
        found |= name.is_some();
        original = original.join(name.as_deref().unwrap_or(component)).ok()?;
    }
    found.then_some(original)
}

/// Returns the copy's path with a number after its tag, for when the name is taken.
pub fn numbered_copy_path(copy: &TreePath, number: u32) -> TreePath {
    let mut path = TreePath::root();
    let mut done = false;
    for component in copy.components() {
        let at = component.windows(MARK.len()).rposition(|w| w == MARK);
        let name = match at.filter(|_| !done && original_name(component).is_some()) {
            Some(at) => {
                done = true;
                let (head, tail) = component.split_at(at + MARK.len() + 8);
                let digits = format!("-{number}");
                // The name was cut to fit without a number; the stem gives way.
                let over = (component.len() + digits.len()).saturating_sub(MAX_NAME);
                let stem = cut_at_char(&head[..at], at - over.min(at));
                [stem, &head[at..], digits.as_bytes(), tail].concat()
            }
            None => component.to_vec(),
        };
        match path.join(&name) {
            Ok(next) => path = next,
            Err(_) => return copy.clone(),
        }
    }
    path
}

fn original_name(name: &[u8]) -> Option<Vec<u8>> {
    let at = name.windows(MARK.len()).rposition(|w| w == MARK)?;
    let (stem, rest) = (&name[..at], &name[at + MARK.len()..]);
    let hex = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if hex != 8 || stem.is_empty() {
        return None;
    }
    let mut rest = &rest[hex..];
    if let Some(numbered) = rest.strip_prefix(b"-") {
        let digits = numbered.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        rest = &numbered[digits..];
    }
    (rest.is_empty() || rest.starts_with(b".")).then(|| [stem, rest].concat())
}

fn split_extension(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&b| b == b'.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, &[]),
    }
}

/// Cuts `name` to at most `room` bytes, not inside a UTF-8 character.
fn cut_at_char(name: &[u8], room: usize) -> &[u8] {
    if name.len() <= room {
        return name;
    }
    let mut end = room;
    while end > 0 && room - end < 4 && name[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(s: &str) -> TreePath {
        s.parse().unwrap()
    }

    #[test]
    fn names_keep_their_extension() {
        for (original, copy) in [
            ("a/b.txt", "a/b.conflict-0123abcd.txt"),
            ("b", "b.conflict-0123abcd"),
            (".env", ".env.conflict-0123abcd"),
            ("x.tar.gz", "x.tar.conflict-0123abcd.gz"),
        ] {
            assert_eq!(copy_path(&path(original), "0123abcd", 1), path(copy));
        }
        assert_eq!(copy_path(&path("b.txt"), "0123abcd", 2), path("b.conflict-0123abcd-2.txt"));
    }

    #[test]
    fn what_is_below_a_copied_directory_belongs_to_the_original() {
        assert_eq!(original_path(&path("d.conflict-0123abcd/x/y.txt")), Some(path("d/x/y.txt")));
        for plain in
            ["d.conflict-/x", "d.conflict-0123abc/x", "x.conflict-0123abcd-/y", "plain", ".conflict-0123abcd"]
        {
            assert_eq!(original_path(&path(plain)), None, "{plain}");
        }
    }

    #[test]
    fn a_taken_name_is_numbered() {
        let copy = copy_path(&path("d/b.txt"), "0123abcd", 1);
        assert_eq!(numbered_copy_path(&copy, 3), path("d/b.conflict-0123abcd-3.txt"));
        assert_eq!(numbered_copy_path(&path("d.conflict-0123abcd/x"), 2), path("d.conflict-0123abcd-2/x"));
        let long = copy_path(&path(&"x".repeat(250)), "0123abcd", 1);
        assert!(numbered_copy_path(&long, 12).name().len() <= MAX_NAME);
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = "é".repeat(127);
        let copy = copy_path(&path(&long), "0123abcd", 7);
        assert!(copy.name().len() <= MAX_NAME);
        assert!(std::str::from_utf8(copy.name()).is_ok());
    }

    proptest! {
        #[test]
        fn a_copy_leads_back_to_its_original(p in "[a-z.]{1,9}(/[a-z.-]{1,9}){0,2}", number in 1u32..4) {
            let Ok(p) = p.parse::<TreePath>() else { return Ok(()) };
            prop_assert_eq!(original_path(&copy_path(&p, "00ff00ff", number)), Some(p));
        }
    }
}
