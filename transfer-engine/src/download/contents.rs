//! Finds contents that are in the mount already, or in the same pull. A file that was renamed or copied in
//! the context is copied from there, and not fetched again.

use std::collections::HashMap;
use std::io;

use policy_core::{Digest, Entry, Node, TreePath};

use crate::state::{BaseRow, Held};

/// One part in this many of the memory may be used for known contents.
const KNOWN: u64 = 16;
/// How many bytes are pulled before the base is read: for a small pull it is not worth it.
const BEFORE_BASE: u64 = 2 << 20;
/// Roughly how many bytes of memory an entry takes, besides its path.
const ENTRY: u64 = 128;

type Rows = Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>;

/// Where each content is, according to the base and the plan. The copy verifies what it reads.
pub(crate) struct Contents {
    known: HashMap<Digest, Known>,
    /// The base's rows, until they are read.
    base: Option<Rows>,
    /// The bytes to be pulled so far.
    pulled: u64,
    held: u64,
    most: u64,
    /// Smaller files are not kept: if there are too many, the large ones are more useful.
    least: u64,
}

struct Known {
    path: TreePath,
    size: u64,
    comes: bool,
}

/// A file to copy from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file in the mount.
    Here(TreePath),
    /// A file of the same pull.
    Coming(TreePath),
}

impl Contents {
    /// Starts with the rows of the base, and the memory that the whole pull may take, in bytes.
    pub(crate) fn new(base: Rows, memory: u64) -> Self {
        Self { known: HashMap::new(), base: Some(base), pulled: 0, held: 0, most: memory / KNOWN, least: 1 }
    }

    /// Returns where the content of a file is. If it is nowhere, the file itself counts from then on as a
    /// source that will arrive.
    pub(super) fn find(&mut self, path: &TreePath, entry: &Entry) -> io::Result<Option<Source>> {
        let Node::File { size, digest } = &entry.node else { return Ok(None) };
        if *size < self.least {
            return Ok(None);
        }
        self.pulled += size;
        if self.pulled > BEFORE_BASE {
            self.read_base()?;
        }
        match self.known.get(digest) {
            Some(known) if known.path == *path => Ok(None),
            Some(known) if known.comes => Ok(Some(Source::Coming(known.path.clone()))),
            Some(known) => Ok(Some(Source::Here(known.path.clone()))),
            None => {
                self.keep(*digest, Known { path: path.clone(), size: *size, comes: true });
                Ok(None)
            }
        }
    }

    fn read_base(&mut self) -> io::Result<()> {
        for row in self.base.take().into_iter().flatten() {
            let row = row?;
            if let Node::File { size, digest } = row.entry.node
                && size >= self.least
                && row.held != Held::Here
            {
                self.keep(digest, Known { path: row.path, size, comes: false });
            }
        }
        Ok(())
    }

    /// Notes where a content is. A file in the mount is preferred to one that will arrive.
    fn keep(&mut self, digest: Digest, known: Known) {
        self.held += known.weight();
        if let Some(before) = self.known.insert(digest, known) {
            self.held -= before.weight();
        }
        while self.held > self.most && !self.known.is_empty() {
            self.least *= 4;
            self.known.retain(|_, known| known.size >= self.least);
            self.held = self.known.values().map(Known::weight).sum();
        }
    }
}

impl Known {
    fn weight(&self) -> u64 {
        ENTRY + self.path.as_bytes().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use policy_core::Timestamp;

    use super::*;

    fn at(path: &str) -> TreePath {
        TreePath::new(path.as_bytes()).unwrap()
    }

    fn file(content: u8, size: u64) -> Entry {
        let node = Node::File { size, digest: Digest([content; 32]) };
        Entry { node, mode: 0o644, mtime: Timestamp::default(), uploaded: 0 }
    }

    fn base(rows: &[(&str, u8, u64)]) -> Rows {
        let rows: Vec<_> = rows
            .iter()
            .map(|(path, content, size)| Ok(BaseRow::new(at(path), file(*content, *size), None)))
            .collect();
        Box::new(rows.into_iter())
    }

    #[test]
    fn a_copy_is_made_from_what_comes_and_better_from_what_is_here() {
        let mut contents = Contents::new(base(&[("old", 2, BEFORE_BASE)]), 256 << 20);
        let mut find = |path: &str, content, size| contents.find(&at(path), &file(content, size)).unwrap();
        assert_eq!(find("a", 1, 10), None);
        assert_eq!(find("b", 1, 10), Some(Source::Coming(at("a"))));
        // Only now is the base read.
        assert_eq!(find("c", 2, BEFORE_BASE), Some(Source::Here(at("old"))));
        assert_eq!(find("empty", 3, 0), None);
        // A failed file is planned again by the next pull. A file is never its own source.
        assert_eq!(find("a", 1, 10), None);
    }

    #[test]
    fn where_there_are_too_many_the_large_ones_are_known() {
        let mut contents = Contents::new(base(&[]), KNOWN * 10 * (ENTRY + 2));
        for content in 0..100 {
            let (path, size) = (format!("{content:02}"), if content % 20 == 0 { 1 << 20 } else { 100 });
            assert_eq!(contents.find(&at(&path), &file(content, size)).unwrap(), None);
        }
        assert!(contents.known.len() <= 10 && contents.held <= contents.most, "{}", contents.known.len());
        for content in (0..100).step_by(20) {
            let found = contents.find(&at("copy"), &file(content, 1 << 20)).unwrap();
            assert_eq!(found, Some(Source::Coming(at(&format!("{content:02}")))));
        }
    }
}
