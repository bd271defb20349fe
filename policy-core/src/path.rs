//! Paths inside a context's tree.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::path::{Component, Path};

/// A path relative to the root of a tree: bytes, because Unix names need not be UTF-8.
///
/// A value that exists is valid:
/// - components are separated by one `/`, none leads or trails;
/// - no component is empty, `.` or `..`, and none holds a NUL;
/// - the empty path is the root, and the only one without components.
///
/// Order is by component, with `/` below every other byte, which is the order of a recursive walk:
/// `a`, `a/b`, `a-b`. A path is therefore followed directly by everything below it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Box<[u8]>);

/// Why some bytes are not a [`TreePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A component is empty: a leading, trailing or doubled `/`.
    #[error("`{0}` has an empty component (a leading, trailing or doubled `/`)")]
    EmptyComponent(String),
    /// A component is `.` or `..`.
    #[error("`{0}` has a component `.` or `..`")]
    DotComponent(String),
    /// A NUL byte, which no file system takes.
    #[error("`{0}` has a NUL byte")]
    Nul(String),
}

impl TreePath {
    /// Returns the root: the path without components.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses `bytes`, which must meet the conditions above; nothing is normalized.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Ok(Self(bytes));
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul(escape(&bytes)));
        }
        for component in bytes.split(|&b| b == b'/') {
            match component {
                b"" => return Err(PathError::EmptyComponent(escape(&bytes))),
                b"." | b".." => return Err(PathError::DotComponent(escape(&bytes))),
                _ => {}
            }
        }
        Ok(Self(bytes))
    }

    /// Returns this path with one more component.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&b'/') || name.is_empty() {
            return Err(PathError::EmptyComponent(escape(name)));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if name == b"." || name == b".." {
            return Err(PathError::DotComponent(escape(&bytes)));
        }
        if name.contains(&0) {
            return Err(PathError::Nul(escape(&bytes)));
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the bytes, without a leading or trailing `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the path one component shorter; `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Returns the last component; empty at the root.
    pub fn name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
        &self.0[start..]
    }

    /// Returns the components, first to last.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|c| !c.is_empty())
    }

    /// Whether this path is `dir` or lies below it.
    pub fn is_within(&self, dir: &Self) -> bool {
        within(&self.0, &dir.0)
    }

    /// Whether this path lies below `dir` and is not `dir` itself.
    pub fn is_below(&self, dir: &Self) -> bool {
        self.0.len() > dir.0.len() && self.is_within(dir)
    }

    /// Returns where this path is after `from` is renamed to `to`; `None` if the path is not within `from`.
    pub fn rebase(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.is_within(from) {
            return None;
        }
        let rest = &self.0[from.0.len()..];
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let mut bytes = to.0.to_vec();
        if !bytes.is_empty() && !rest.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(rest);
        Some(Self(bytes.into()))
    }
}

/// Whether `path` is `dir` or lies below it, both as the bytes of [`TreePath`]s.
pub(crate) fn within(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || (path.starts_with(dir) && (path.len() == dir.len() || path[dir.len()] == b'/'))
}

/// Compares two paths in tree order, given as the bytes of [`TreePath`]s.
pub fn tree_order(a: &[u8], b: &[u8]) -> Ordering {
    let shared = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    match (a.get(shared), b.get(shared)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), Some(b'/')) => Ordering::Greater,
        (Some(x), Some(y)) => x.cmp(y),
    }
}

/// A relative path of the file system: what names no component (`.`, a `/` at the end) is left out.
///
/// # Errors
/// [`PathError`] for a path that is absolute, or has a component `..` or a NUL.
impl TryFrom<&Path> for TreePath {
    type Error = PathError;

    fn try_from(path: &Path) -> Result<Self, PathError> {
        let shown = || escape(path.as_os_str().as_encoded_bytes());
        let mut found = Self::root();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => found = found.join(name.as_encoded_bytes())?,
                Component::ParentDir => return Err(PathError::DotComponent(shown())),
                Component::RootDir | Component::Prefix(_) => return Err(PathError::EmptyComponent(shown())),
            }
        }
        Ok(found)
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        tree_order(&self.0, &other.0)
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl std::str::FromStr for TreePath {
    type Err = PathError;

    fn from_str(s: &str) -> Result<Self, PathError> {
        Self::new(s.as_bytes())
    }
}

/// Escapes bytes that are not printable UTF-8, so that a name can't forge output.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({})", escape(&self.0))
    }
}

/// Returns `bytes` as text. Bytes that are not UTF-8 are escaped, and so is everything that [`escape_text`]
/// escapes.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escape_text(chunk.valid()));
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// Returns text in which everything is escaped that could forge what a person sees: control characters, line
/// and paragraph separators, and invisible characters that reorder or hide their neighbours. Letters of any
/// script and emoji stay.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_format) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = None;
    for c in text.chars() {
        let joins = c == ZERO_WIDTH_JOINER && before.is_some_and(is_pictograph);
        if is_format(c) && !joins {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        before = Some(c);
    }
    Cow::Owned(out)
}

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Whether a character may be followed by a joiner, because several such characters make one emoji.
fn is_pictograph(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{fe0f}' | '\u{1f000}'..='\u{1faff}')
}

/// Whether a character is a control character, or belongs to the general categories Cf, Zl or Zp of Unicode
/// 16.
fn is_format(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(s: &str) -> TreePath {
        s.parse().unwrap()
    }

    #[test]
    fn refuses_what_a_tree_may_not_hold() {
        for bad in ["/a", "a/", "a//b", "/", ".", "a/./b", "..", "a/../b", "a\0b"] {
            assert!(bad.parse::<TreePath>().is_err(), "{bad:?}");
        }
        assert!(TreePath::root().join(b"..").is_err());
        assert!(TreePath::root().join(b"a/b").is_err());
    }

    #[test]
    fn comes_from_a_relative_path_of_the_file_system() {
        let of = |path: &str| TreePath::try_from(Path::new(path));
        for (given, is) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("", ""), (".", "")] {
            assert_eq!(of(given), Ok(path(is)), "{given:?}");
        }
        assert!(matches!(of("/a"), Err(PathError::EmptyComponent(shown)) if shown == "/a"));
        assert!(matches!(of("a/../b"), Err(PathError::DotComponent(shown)) if shown == "a/../b"));
        assert!(matches!(of("a\0"), Err(PathError::Nul(_))));
    }

    #[test]
    fn orders_as_a_recursive_walk() {
        let mut paths: Vec<_> = ["b", "a-b", "a/b", "a", "a/b/c", "a/b-c", "a.b"].map(path).into();
        paths.sort();
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/b-c", "a-b", "a.b", "b"].map(path));
    }

    #[test]
    fn rebases_below_and_at_the_root() {
        assert_eq!(path("a/b").rebase(&path("a"), &path("c/d")), Some(path("c/d/b")));
        assert_eq!(path("a").rebase(&path("a"), &path("c")), Some(path("c")));
        assert_eq!(path("ab").rebase(&path("a"), &path("c")), None);
        assert_eq!(path("a").rebase(&TreePath::root(), &path("c")), Some(path("c/a")));
    }

    #[test]
    fn escapes_what_could_forge_output() {
        assert_eq!(escape(b"a\nb\x1b[1m\xff"), "a\\nb\\u{1b}[1m\\xff");
        assert_eq!(escape("x\u{202e}y".as_bytes()), "x\\u{202e}y");
        assert_eq!(escape("naïve".as_bytes()), "naïve");
        assert_eq!(
            escape_text("a\u{2028}b\u{feff}\u{e0041}\u{200b}c"),
            "a\\u{2028}b\\u{feff}\\u{e0041}\\u{200b}c"
        );
        assert_eq!(escape_text("a\u{200d}b"), "a\\u{200d}b");
        for stays in
            ["", "файл", "文件 名", "é e\u{301}", "👩\u{200d}💻", "❤\u{fe0f}\u{200d}🔥", "שלום", "\u{a0}"]
        {
            assert_eq!(escape_text(stays), stays);
        }
    }

    fn any_path() -> impl Strategy<Value = TreePath> {
        proptest::collection::vec("[a-c.!-]{1,3}", 0..5)
            .prop_filter_map("components", |v| TreePath::new(v.join("/").into_bytes()).ok())
    }

    proptest! {
        #[test]
        fn order_is_by_component(a in any_path(), b in any_path()) {
            let by_component = a.components().cmp(b.components());
            prop_assert_eq!(a.cmp(&b), by_component);
        }

        #[test]
        fn what_is_below_follows_directly(mut v in proptest::collection::vec(any_path(), 3), dir in any_path()) {
            v.push(dir.clone());
            v.sort();
            v.dedup();
            let at = v.iter().position(|p| *p == dir).unwrap();
            let below = v.iter().filter(|p| p.is_below(&dir)).count();
            prop_assert!(v[at + 1..at + 1 + below].iter().all(|p| p.is_below(&dir)));
        }
    }
}
