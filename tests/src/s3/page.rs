//! One page of a listing: the walk of a directory in the order of keys.

use std::io;
use std::path::Path;

/// Keys and common prefixes; together they are in byte order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) keys: Vec<String>,
    pub(super) prefixes: Vec<String>,
    /// Whether more keys follow.
    pub(super) more: bool,
}

struct Ask<'a> {
    prefix: &'a str,
    after: &'a str,
    delimited: bool,
    most: usize,
}

impl Page {
    /// Lists at most `most` keys below a bucket's directory that begin with `prefix` and come after `after`.
    /// With `delimited`, all keys with the same component after the prefix count as one common prefix.
    pub(super) fn list(
        bucket: &Path,
        prefix: &str,
        after: &str,
        delimited: bool,
        most: usize,
    ) -> io::Result<Self> {
        let mut page = Self::default();
        let start = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        page.walk(&bucket.join(start), start, &Ask { prefix, after, delimited, most })?;
        Ok(page)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.prefixes.len()
    }

    /// Returns the last key or prefix, after which the next page begins.
    pub(super) fn last(&self) -> Option<String> {
        self.keys.last().max(self.prefixes.last()).cloned()
    }

    fn walk(&mut self, dir: &Path, at: &str, ask: &Ask<'_>) -> io::Result<()> {
        for name in sorted(dir)? {
            let key = format!("{at}{name}");
            if !key.starts_with(ask.prefix) {
                continue;
            }
            let Some(inner) = name.strip_suffix('/') else {
                if key.as_str() > ask.after && self.has_room(ask) {
                    self.keys.push(key);
                }
                continue;
            };
            let over = key.as_str() <= ask.after && !ask.after.starts_with(&key);
            if ask.delimited {
                if key.as_str() > ask.after && holds_a_file(&dir.join(inner))? && self.has_room(ask) {
                    self.prefixes.push(key);
                }
            } else if !over {
                self.walk(&dir.join(inner), &key, ask)?;
            }
            if self.more {
                break;
            }
        }
        Ok(())
    }

    fn has_room(&mut self, ask: &Ask<'_>) -> bool {
        self.more |= self.len() >= ask.most;
        !self.more
    }
}

/// Returns the names in a directory in the order of their keys: names of directories end in a slash. Without
/// a directory there are none. Names that are not UTF-8 are left out, as no key can have them.
fn sorted(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(if entry.file_type()?.is_dir() { name + "/" } else { name });
            }
        }
    }
    names.sort();
    Ok(names)
}

fn holds_a_file(dir: &Path) -> io::Result<bool> {
    for name in sorted(dir)? {
        match name.strip_suffix('/') {
            Some(inner) if !holds_a_file(&dir.join(inner))? => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Encodes a key for `encoding-type=url`.
pub(super) fn url_encoded(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(byte.into())
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 7] = ["a", "a-b", "a/b", "a/c/d", "ab/e", "b/f", "b/g"];

    fn bucket() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for key in KEYS.iter().filter(|key| **key != "a") {
            let path = dir.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, key).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("empty/one")).unwrap();
        dir
    }

    #[test]
    fn pages_of_any_size_hold_every_key_of_a_prefix_once_and_in_order() {
        let dir = bucket();
        for prefix in ["", "a", "a/", "a/c", "b/", "b/g", "c", "a/c/d/e"] {
            let wanted: Vec<&str> = KEYS.into_iter().skip(1).filter(|key| key.starts_with(prefix)).collect();
            for most in 1..8 {
                let (mut keys, mut after) = (Vec::new(), String::new());
                loop {
                    let page = Page::list(dir.path(), prefix, &after, false, most).unwrap();
                    assert!(page.len() <= most);
                    after = page.last().unwrap_or_default();
                    keys.extend(page.keys);
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(keys, wanted, "{prefix:?}, {most} a page");
            }
        }
    }

    #[test]
    fn a_delimiter_takes_a_directory_for_one() {
        let dir = bucket();
        let page = Page::list(dir.path(), "", "", true, 10).unwrap();
        assert_eq!(
            (page.keys, page.prefixes),
            (vec!["a-b".to_owned()], ["a/", "ab/", "b/"].map(str::to_owned).to_vec())
        );
        let page = Page::list(dir.path(), "a/", "", true, 10).unwrap();
        assert_eq!((page.keys, page.prefixes), (vec!["a/b".to_owned()], vec!["a/c/".to_owned()]));
    }

    #[test]
    fn keys_are_encoded_where_a_client_asks_for_it() {
        assert_eq!(url_encoded("a/b+c %ä"), "a/b%2Bc%20%25%C3%A4");
    }
}
