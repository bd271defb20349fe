//! Decides what a sync does: which paths take part, when, and what becomes of each.

mod entry;
mod path;

pub use entry::{Digest, Entry, Node, Timestamp};
pub use path::{PathError, TreePath, escape, tree_order};
