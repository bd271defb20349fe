//! The rows of a plan's three sources.

use policy_core::{Digest, Entry, Local, LocalRow, Node, Timestamp, TreePath, TreeRow};

use crate::Random;

/// A file at a path.
#[derive(Debug, Clone)]
pub struct Row {
    path: TreePath,
    entry: Entry,
}

/// A borrowed row, so that only the planner's own copies are measured.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a>(pub &'a Row);

impl Row {
    /// The path.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// The entry at the path.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }
}

impl TreeRow for RowRef<'_> {
    fn path(&self) -> &TreePath {
        &self.0.path
    }

    fn entry(&self) -> &Entry {
        &self.0.entry
    }
}

impl LocalRow for RowRef<'_> {
    fn path(&self) -> &TreePath {
        &self.0.path
    }

    fn local(&self) -> Local<'_> {
        Local::Present(&self.0.entry)
    }
}

/// Returns a row for each of `paths`.
pub fn rows(paths: &[TreePath]) -> Vec<Row> {
    let mut random = Random::new(2);
    let file = |random: &mut Random| Entry {
        node: Node::File { size: random.file_size() as u64, digest: Digest(random.array()) },
        mode: 0o644,
        mtime: Timestamp { secs: 1_700_000_000 + random.below(1_000_000) as i64, nanos: 0 },
        uploaded: 1_710_000_000,
    };
    paths.iter().map(|path| Row { path: path.clone(), entry: file(&mut random) }).collect()
}

/// Returns `rows` with other content in every hundredth row, beginning at the index `first`.
pub fn with_changes(rows: &[Row], first: usize) -> Vec<Row> {
    let mut changed = rows.to_vec();
    let mut random = Random::new(3);
    for row in changed.iter_mut().skip(first).step_by(100) {
        row.entry.node = Node::File { size: random.file_size() as u64, digest: Digest(random.array()) };
    }
    changed
}
