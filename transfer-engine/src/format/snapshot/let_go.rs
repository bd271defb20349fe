//! Files that a context has recycled or lost, and of which no placeholder is left because something else was written in
//! their place. A machine that comes later may have the last copy, and must not take this for a change of the file.

use bytes::Bytes;
use policy_core::{Node, TreePath};

use crate::format::sha256;

/// The most files that a snapshot names. One more drops the one that was named first.
pub const MAX_LET_GO: usize = 256;

/// The files that a context has let go of, each by the beginning of a hash of its name and its content: a machine may
/// have mounted another part of the context, in which the file has another path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LetGo(Vec<u64>);

fn mark(path: &TreePath, node: &Node) -> Option<u64> {
    let Node::File { size, digest } = node else { return None };
    let mut text = path.name().to_vec();
    // No name has this byte.
    text.push(0);
    text.extend_from_slice(&size.to_le_bytes());
    text.extend_from_slice(&digest.0);
    let hash = sha256(&text);
    hash.0.first_chunk().map(|first| u64::from_le_bytes(*first))
}

impl LetGo {
    /// Adds a file. An empty file has nothing that could be lost.
    pub(crate) fn note(&mut self, path: &TreePath, node: &Node) {
        if matches!(node, Node::File { size: 0, .. }) {
            return;
        }
        let Some(mark) = mark(path, node).filter(|mark| !self.0.contains(mark)) else { return };
        self.0.push(mark);
        if self.0.len() > MAX_LET_GO {
            self.0.remove(0);
        }
    }

    /// Removes a file that the context has again.
    pub(crate) fn note_return(&mut self, path: &TreePath, node: &Node) {
        if let Some(mark) = self.mark_of(path, node) {
            self.0.retain(|known| *known != mark);
        }
    }

    pub(crate) fn contains(&self, path: &TreePath, node: &Node) -> bool {
        self.mark_of(path, node).is_some_and(|mark| self.0.contains(&mark))
    }

    /// Most contexts have let go of nothing, and need no hash.
    fn mark_of(&self, path: &TreePath, node: &Node) -> Option<u64> {
        if self.0.is_empty() { None } else { mark(path, node) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn encode(&self) -> Bytes {
        self.0.iter().flat_map(|mark| mark.to_le_bytes()).collect()
    }

    /// Decodes a list, as far as it can be read.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let (marks, _) = bytes.as_chunks();
        Self(marks.iter().take(MAX_LET_GO).map(|mark| u64::from_le_bytes(*mark)).collect())
    }
}

#[cfg(test)]
mod tests {
    use policy_core::Digest;

    use super::*;

    fn file(content: u8) -> Node {
        Node::File { size: 1, digest: Digest([content; 32]) }
    }

    #[test]
    fn it_is_read_back_and_names_the_newest() {
        let path: TreePath = "d/x".parse().unwrap();
        let mut all = LetGo::default();
        for number in 0..=255 {
            all.note(&path, &file(number));
        }
        assert_eq!(LetGo::decode(&all.encode()), all);
        let other: TreePath = "e/y".parse().unwrap();
        all.note(&other, &file(0));
        assert!(!all.contains(&path, &file(0)) && all.contains(&path, &file(1)));
        assert!(all.contains(&other, &file(0)) && !all.contains(&other, &file(1)), "by name and content");
        assert!(all.contains(&"part/d/x".parse().unwrap(), &file(1)));
        all.note_return(&path, &file(1));
        assert!(!all.contains(&path, &file(1)));
        assert_eq!(all.encode().len(), 255 * 8);
    }

    #[test]
    fn neither_empty_files_nor_directories_count() {
        let path: TreePath = "x".parse().unwrap();
        let mut all = LetGo::default();
        all.note(&path, &Node::File { size: 0, digest: Digest([0; 32]) });
        all.note(&path, &Node::Dir);
        assert!(all.is_empty());
        assert!(LetGo::decode(&[1; 7]).is_empty());
    }
}
