//! Changes of a person or a program in a mount.

use policy_core::{Entry, TreePath};
use proptest::prelude::*;

use super::{Tree, dir, file, is_leaf, link};

#[derive(Debug, Clone)]
pub enum Edit {
    Write(TreePath, u32, u16),
    Link(TreePath, u32),
    Mkdir(TreePath, u16),
    Remove(TreePath),
    /// Deletes what is in a directory, and keeps the directory.
    Empty(TreePath),
    Rename(TreePath, TreePath),
    Chmod(TreePath, u16),
}

/// Only a few names, so that the changes of two sides collide.
pub fn paths() -> impl Strategy<Value = TreePath> {
    prop_oneof![
        2 => "[a-c]",
        4 => "[a-c]/[x-z]",
        3 => "[a-c]/[x-z]/[x-z]",
    ]
    .prop_map(|s| s.parse().unwrap())
}

pub fn edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let mode = || prop_oneof![3 => Just(0o755u16), 1 => Just(0o700), 1 => Just(0o711)];
    let file_mode = prop_oneof![3 => Just(0o644u16), 1 => Just(0o755)];
    let edit = prop_oneof![
        8 => (paths(), 0u32..6, file_mode).prop_map(|(p, c, m)| Edit::Write(p, c, m)),
        1 => (paths(), 0u32..3).prop_map(|(p, t)| Edit::Link(p, t)),
        2 => (paths(), mode()).prop_map(|(p, m)| Edit::Mkdir(p, m)),
        4 => paths().prop_map(Edit::Remove),
        2 => paths().prop_map(Edit::Empty),
        2 => (paths(), paths()).prop_map(|(p, q)| Edit::Rename(p, q)),
        2 => (paths(), mode()).prop_map(|(p, m)| Edit::Chmod(p, m)),
    ];
    proptest::collection::vec(edit, 0..most)
}

/// Puts an entry at a path, and removes whatever is in its way.
pub fn put(mount: &mut Tree, path: &TreePath, entry: Entry) {
    if is_leaf(&entry) || mount.get(path).is_some_and(is_leaf) {
        mount.retain(|p, _| !p.is_within(path));
    }
    let mut up = path.parent();
    while let Some(parent) = up.filter(|p| !p.is_root()) {
        if mount.get(&parent).is_none_or(is_leaf) {
            mount.insert(parent.clone(), dir(0o755));
        }
        up = parent.parent();
    }
    mount.insert(path.clone(), entry);
}

pub fn apply(mount: &mut Tree, edit: &Edit) {
    match edit {
        Edit::Write(p, content, mode) => put(mount, p, file(*content, *mode)),
        Edit::Link(p, target) => put(mount, p, link(*target)),
        Edit::Mkdir(p, mode) => put(mount, p, dir(*mode)),
        Edit::Remove(p) => mount.retain(|q, _| !q.is_within(p)),
        Edit::Empty(p) => mount.retain(|q, _| !q.is_below(p)),
        Edit::Rename(from, to) => {
            if to.is_within(from) || from.is_within(to) {
                return;
            }
            let moved: Vec<_> = mount
                .iter()
                .filter(|(p, _)| p.is_within(from))
                .map(|(p, e)| (p.clone(), e.clone()))
                .collect();
            if moved.is_empty() {
                return;
            }
            mount.retain(|p, _| !p.is_within(from) && !p.is_within(to));
            for (p, entry) in moved {
                put(mount, &p.rebase(from, to).unwrap(), entry);
            }
        }
        Edit::Chmod(p, mode) => {
            if let Some(entry) = mount.get_mut(p).filter(|e| e.is_dir()) {
                entry.mode = *mode;
            }
        }
    }
}
