//! Names of conflict copies.

use crate::TreePath;

const MARK: &[u8] = b".conflict-";
/// Number of hexadecimal digits after the mark.
const TAG_LEN: usize = 8;
/// The longest name that common file systems take, in bytes.
pub const MAX_NAME: usize = 255;
/// How many names are tried for a copy before the sync gives up on it.
pub const MAX_COPIES: u32 = 1000;
/// The longest extension that a copy keeps at its end. A longer one counts as part of the stem.
const MAX_EXTENSION: usize = 64;

/// Returns the path at which the remote version of `path` is kept: `dir/name.conflict-<tag>.ext`, or with
/// `-<number>` after the tag if `number` is above 1. A name that would be too long loses its middle. A copy
/// of a copy is named as a copy of the original.
///
/// Each number gives another path, and no number gives `path` itself.
pub fn copy_path(path: &TreePath, tag: &str, number: u32) -> TreePath {
    let original = original_name(path.name());
    let name = original.as_deref().unwrap_or(path.name());
    let number = number.max(1);
    // `path` may be a copy itself and already have one of the names that its copy could get. That name is
    // skipped.
    let own = find_mark(path.name()).map(|mark| mark.number);
    let own = own.filter(|own| *own <= number && copy_name(name, tag.as_bytes(), *own) == path.name());
    let copy = copy_name(name, tag.as_bytes(), number.saturating_add(u32::from(own.is_some())));
    let parent = path.parent().unwrap_or_default();
    // The name contains a mark, so it is neither empty nor a dot component. Its bytes come from a valid path.
    parent.join(&copy).unwrap_or_else(|_| path.clone())
}

/// Returns the path of the original if the name of `path`, or of a directory above it, is that of a conflict
/// copy. If the original's name was too long for a copy, the returned path has the shortened name.
///
/// A copy is in scope if its original is: see [`Scope::contains`](crate::Scope::contains).
pub fn original_path(path: &TreePath) -> Option<TreePath> {
    if !holds_mark(path.as_bytes()) {
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

/// Returns the copy's path with another number after its tag, for the case that the name is taken.
///
/// `copy` is either what [`copy_path`] returned for `original` with number 1, or lies as far below such a
/// copy as `original` lies below what was copied. From number 2 on, each number gives another path, and none
/// gives `original` or `copy`.
pub fn numbered_copy_path(original: &TreePath, copy: &TreePath, number: u32) -> TreePath {
    let mut top = TreePath::root();
    for (name, copied) in original.components().zip(copy.components()) {
        match top.join(name) {
            Ok(next) => top = next,
            Err(_) => break,
        }
        let Some(mark) = find_mark(copied).filter(|_| name != copied) else { continue };
        let to = copy_path(&top, &String::from_utf8_lossy(mark.tag), number);
        return original.rebase(&top, &to).unwrap_or_else(|| copy.clone());
    }
    copy.clone()
}

/// Whether `copy` may be the name of a copy of `name`, shortened because `name` was too long.
pub(crate) fn is_cut_copy(copy: &[u8], name: &[u8]) -> bool {
    let Some(mark) = find_mark(copy) else { return false };
    // A shortened name has the maximum length, or up to 3 bytes less, so that no UTF-8 character is split.
    let was_cut = copy.len() + 3 >= MAX_NAME;
    let (stem, kept) = (&copy[..mark.at], mark.at + mark.rest.len());
    was_cut && name.len() > kept && name.starts_with(stem) && name.ends_with(mark.rest)
}

/// Whether these bytes may contain the name of a copy.
pub(crate) fn holds_mark(bytes: &[u8]) -> bool {
    // Every path is asked, and few have a hyphen. A comparison at each byte took five times as long.
    bytes.iter().enumerate().any(|(at, byte)| *byte == b'-' && bytes[..=at].ends_with(MARK))
}

/// Makes the name of a copy of `name`, which has no mark.
fn copy_name(name: &[u8], tag: &[u8], number: u32) -> Vec<u8> {
    let (stem, extension) = split_extension(name);
    let number = if number > 1 { format!("-{number}") } else { String::new() };
    let room = MAX_NAME - MARK.len() - TAG_LEN - number.len() - extension.len();
    [cut_at_char(stem, room), MARK, tag, number.as_bytes(), extension].concat()
}

/// Returns the name of the original, free of all marks, if `name` is that of a copy.
fn original_name(name: &[u8]) -> Option<Vec<u8>> {
    let mut original: Option<Vec<u8>> = None;
    while let Some(mark) = find_mark(original.as_deref().unwrap_or(name)) {
        let stem = original.as_deref().unwrap_or(name)[..mark.at].to_vec();
        original = Some([&stem, mark.rest].concat());
    }
    original
}

/// The part of a name that marks it as a conflict copy's.
struct Mark<'a> {
    /// Where the mark begins.
    at: usize,
    tag: &'a [u8],
    /// 1 if the name has no number.
    number: u32,
    /// What follows tag and number: nothing, or an extension.
    rest: &'a [u8],
}

/// Finds the last valid mark.
fn find_mark(name: &[u8]) -> Option<Mark<'_>> {
    let starts = (1..name.len().saturating_sub(MARK.len())).rev();
    starts.filter(|&at| name[at..].starts_with(MARK)).find_map(|at| {
        let after = &name[at + MARK.len()..];
        let hex = after.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if hex != TAG_LEN {
            return None;
        }
        let (tag, mut rest) = after.split_at(TAG_LEN);
        let mut number = 1;
        if let Some(numbered) = rest.strip_prefix(b"-") {
            let digits = numbered.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            let (digits, after) = numbered.split_at(digits);
            number =
                digits.iter().fold(0u32, |n, d| n.saturating_mul(10).saturating_add(u32::from(d - b'0')));
            rest = after;
        }
        // If removing the mark would leave `.` or `..`, this is an ordinary name and not a mark.
        let left = [&name[..at], rest].concat();
        let is_name = !matches!(left.as_slice(), b"." | b"..");
        (is_name && (rest.is_empty() || rest.starts_with(b"."))).then_some(Mark { at, tag, number, rest })
    })
}

/// Leading dots do not begin an extension.
fn split_extension(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&b| b == b'.') {
        Some(at) if name[..at].iter().any(|&b| b != b'.') && name.len() - at <= MAX_EXTENSION => {
            name.split_at(at)
        }
        _ => (name, &[]),
    }
}

/// Cuts `name` to at most `room` bytes, not inside a UTF-8 character.
pub fn cut_at_char(name: &[u8], room: usize) -> &[u8] {
    if name.len() <= room {
        return name;
    }
    let mut end = room;
    // A UTF-8 character has at most three continuation bytes.
    while end > 0 && room - end < 3 && name[end] & 0xC0 == 0x80 {
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
            (".env.local", ".env.conflict-0123abcd.local"),
            ("x.tar.gz", "x.tar.conflict-0123abcd.gz"),
            ("a.b.c.d", "a.b.c.conflict-0123abcd.d"),
            ("trailing.", "trailing.conflict-0123abcd."),
            ("...", "....conflict-0123abcd"),
            ("..a", "..a.conflict-0123abcd"),
            ("..conflict-89abcdef", "..conflict-89abcdef.conflict-0123abcd"),
            ("...conflict-89abcdef", "...conflict-89abcdef.conflict-0123abcd"),
        ] {
            assert_eq!(copy_path(&path(original), "0123abcd", 1), path(copy));
            assert_eq!(original_path(&path(copy)), Some(path(original)));
        }
        assert_eq!(copy_path(&path("b.txt"), "0123abcd", 2), path("b.conflict-0123abcd-2.txt"));
        let wordy = format!("a.{}", "x".repeat(70));
        let copy = copy_path(&path(&wordy), "0123abcd", 1);
        assert_eq!(copy, path(&format!("{wordy}.conflict-0123abcd")));
    }

    #[test]
    fn what_is_below_a_copied_directory_belongs_to_the_original() {
        assert_eq!(original_path(&path("d.conflict-0123abcd/x/y.txt")), Some(path("d/x/y.txt")));
        for plain in
            ["d.conflict-/x", "d.conflict-0123abc/x", "x.conflict-0123abcd-/y", "plain", ".conflict-0123abcd"]
        {
            assert_eq!(original_path(&path(plain)), None, "{plain}");
        }
        // Without the mark no valid name would be left, so these are ordinary names. Their directory may
        // still be a copy.
        for own in ["..conflict-0123abcd", "...conflict-0123abcd", "..conflict-0123abcd."] {
            assert_eq!(original_path(&path(own)), None, "{own}");
            let inside = path("d.conflict-0123abcd").join(own.as_bytes()).unwrap();
            assert_eq!(original_path(&inside), Some(path("d").join(own.as_bytes()).unwrap()), "{own}");
        }
    }

    #[test]
    fn a_taken_name_is_numbered() {
        let (file, dir) = (path("d/b.txt"), path("d/x"));
        let copy = copy_path(&file, "0123abcd", 1);
        assert_eq!(numbered_copy_path(&file, &copy, 3), path("d/b.conflict-0123abcd-3.txt"));
        let below = path("d.conflict-0123abcd/x");
        assert_eq!(numbered_copy_path(&dir, &below, 2), path("d.conflict-0123abcd-2/x"));
        // The copy of a file in a copied directory stays in that directory.
        let inside = path("d.conflict-0123abcd/b.txt");
        let copy = copy_path(&inside, "89abcdef", 1);
        assert_eq!(copy, path("d.conflict-0123abcd/b.conflict-89abcdef.txt"));
        let second = path("d.conflict-0123abcd/b.conflict-89abcdef-2.txt");
        assert_eq!(numbered_copy_path(&inside, &copy, 2), second);
    }

    #[test]
    fn the_copy_of_a_copy_is_one_of_the_original() {
        for (copy, tag, next) in [
            ("b.conflict-0123abcd.txt", "89abcdef", "b.conflict-89abcdef.txt"),
            ("b.conflict-0123abcd-2.txt", "89abcdef", "b.conflict-89abcdef.txt"),
            ("b.conflict-0123abcd.txt", "0123abcd", "b.conflict-0123abcd-2.txt"),
            ("b.conflict-0123abcd.conflict-4567cdef.txt", "89abcdef", "b.conflict-89abcdef.txt"),
        ] {
            assert_eq!(copy_path(&path(copy), tag, 1), path(next));
            assert_eq!(original_path(&path(copy)), Some(path("b.txt")), "{copy}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        for character in ["é", "日", "𝄞"] {
            let long = character.repeat(255 / character.len());
            let copy = copy_path(&path(&long), "0123abcd", 7);
            assert!(copy.name().len() <= MAX_NAME && copy.name().len() > MAX_NAME - 4);
            assert!(std::str::from_utf8(copy.name()).is_ok());
        }
        // Bytes that are not UTF-8 may be cut anywhere.
        let copy = copy_path(&TreePath::new(vec![0x80; 255]).unwrap(), "0123abcd", 1);
        assert!(copy.name().len() <= MAX_NAME && copy.name().len() > MAX_NAME - 4);
        assert!(is_cut_copy(copy.name(), &[0x80; 255]));
    }

    /// Names as programs and people choose them, and names that look like conflict copies.
    fn a_name() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => "[a-z0-9.-]{1,8}".prop_map(String::into_bytes),
            2 => Just(MARK.to_vec()),
            1 => Just(b"0123abcd".to_vec()),
            1 => "(é|日|𝄞){1,90}".prop_map(String::into_bytes),
            1 => prop::collection::vec(1u8.., 1..100),
        ];
        prop::collection::vec(piece, 1..7).prop_filter_map("no name", |pieces| {
            let name: Vec<u8> = pieces.concat().into_iter().filter(|&b| b != b'/').take(MAX_NAME).collect();
            TreePath::root().join(&name).is_ok().then_some(name)
        })
    }

    proptest! {
        #[test]
        fn a_copy_fits_and_leads_back(
            dir in prop::option::of(a_name()), name in a_name(), number in 1u32..1000
        ) {
            let dir = dir.map_or(TreePath::root(), |d| TreePath::root().join(&d).unwrap());
            let original = dir.join(&name).unwrap();
            let copy = copy_path(&original, "00ff00ff", number);
            prop_assert_eq!(copy.parent(), original.parent());
            prop_assert_ne!(&copy, &original);
            prop_assert!(copy.name().len() <= MAX_NAME);
            let plain = original_name(&name).unwrap_or(name.clone());
            let back = original_name(copy.name()).unwrap();
            if std::str::from_utf8(&name).is_ok() {
                prop_assert!(std::str::from_utf8(copy.name()).is_ok());
            }
            if plain.len() <= MAX_NAME - 24 {
                prop_assert_eq!(back, plain);
            } else {
                prop_assert!(back.len() <= plain.len());
                prop_assert!(back == plain || is_cut_copy(copy.name(), &plain), "{:?}", copy);
            }
        }

        #[test]
        fn every_number_makes_another_name(
            name in a_name(),
            below in prop::option::of(a_name()),
            taken in prop::option::of(1u32..40),
            start in prop_oneof![Just(1u32), 1u32..2000, Just(u32::MAX - 200)],
        ) {
            let plain = TreePath::root().join(&name).unwrap();
            // The path in conflict may itself be one of the copies.
            let top = taken.map_or(plain.clone(), |number| copy_path(&plain, "00ff00ff", number));
            let path = below.map_or(top.clone(), |below| top.join(&below).unwrap());
            let copy = path.rebase(&top, &copy_path(&top, "00ff00ff", 1)).unwrap();
            let mut seen = std::collections::BTreeSet::from([path.clone(), copy.clone()]);
            let numbers = if start == 1 { 2..130 } else { start..start + 130 };
            for number in numbers.filter(|n| *n > 1) {
                let next = numbered_copy_path(&path, &copy, number);
                prop_assert!(next.components().all(|c| c.len() <= MAX_NAME));
                prop_assert_eq!(next.components().count(), path.components().count());
                prop_assert_eq!(original_path(&next).is_some(), true);
                prop_assert!(seen.insert(next.clone()), "{:?} twice", next);
            }
        }

        /// However many names are taken, a free one is found, or the search ends.
        #[test]
        fn a_free_name_is_found_among_any_that_are_taken(
            name in a_name(),
            taken in prop::collection::btree_set(0u32..60, 0..60),
        ) {
            let plain = TreePath::root().join(&name).unwrap();
            let taken: std::collections::BTreeSet<TreePath> = taken
                .into_iter()
                .map(|n| if n == 0 { plain.clone() } else { copy_path(&plain, "00ff00ff", n) })
                .collect();
            for path in taken.iter().chain([&plain]) {
                let copy = copy_path(path, "00ff00ff", 1);
                let numbered = (2..=MAX_COPIES).map(|n| numbered_copy_path(path, &copy, n));
                let free = std::iter::once(copy.clone()).chain(numbered).find(|c| !taken.contains(c));
                prop_assert!(free.is_some_and(|free| free != *path));
            }
        }
    }
}
