//! The order in which files are brought.
//!
//! Small files come first, in the order of the tree, many in a window: what a program starts with is there soon,
//! wherever in the tree a large file is. The others wait and come by size. Copies of a file that is on its way come
//! last, as they are made from it.

use policy_core::TreePath;

use super::item::{Item, LONG};
use crate::format::ChunkRef;

/// A file up to this many bytes comes with the first.
const SMALL: u64 = 256 << 10;
/// Paths in a window at most.
const WINDOW_PATHS: usize = 4096;
/// The first window's bytes: the first files are there soon, and later windows share more of the cost.
const FIRST_WINDOW: u64 = 1 << 20;
/// How much larger each window is than the one before.
const WINDOW_GROWTH: u64 = 4;
/// What a path costs beside its bytes.
const PATH_COST: u64 = 4096;
/// This part of the memory may be the files that wait.
const WAITING: u64 = 16;

/// Files that are to be brought, until they are begun.
pub(super) struct Windows {
    small: Vec<Item>,
    weight: u64,
    /// The bytes of the next window.
    room: u64,
    largest: u64,
    waiting: Vec<Item>,
    copies: Vec<Item>,
    /// What the two take in memory.
    held: u64,
    most: u64,
    /// Files where a directory must go first.
    pub(super) blocked: Vec<Item>,
}

impl Windows {
    pub(super) fn new(memory: u64) -> Self {
        let largest = (memory / 4).max(FIRST_WINDOW);
        Self {
            small: Vec::new(),
            weight: 0,
            room: FIRST_WINDOW,
            largest,
            waiting: Vec::new(),
            copies: Vec::new(),
            held: 0,
            most: memory / WAITING,
            blocked: Vec::new(),
        }
    }

    /// Takes in a file, in the order of the tree, and returns what is to be begun now, in this order.
    pub(super) fn add(&mut self, item: Item) -> Vec<Vec<Item>> {
        let size = item.entry.entry.size();
        if size > SMALL {
            self.held += weight(&item);
            self.waiting.push(item);
            return if self.held > self.most { self.begin_waiting() } else { Vec::new() };
        }
        self.weight += size + PATH_COST;
        self.small.push(item);
        if self.weight < self.room && self.small.len() < WINDOW_PATHS {
            return Vec::new();
        }
        self.room = (self.room * WINDOW_GROWTH).min(self.largest);
        self.weight = 0;
        // The last one stays: what follows may show that a directory is in its way.
        let last = self.small.pop();
        let window = std::mem::replace(&mut self.small, last.into_iter().collect());
        vec![window]
    }

    /// Takes in a file whose content comes with another one. Where too many wait, it is brought like any other.
    pub(super) fn add_copy(&mut self, item: Item) -> Vec<Vec<Item>> {
        let weight = weight(&item);
        if self.held + weight > self.most / 2 {
            return self.add(item);
        }
        self.held += weight;
        self.copies.push(item);
        Vec::new()
    }

    /// Sets aside the file that is directly above `path`, which comes next in the order of the tree.
    pub(super) fn park(&mut self, path: &TreePath) {
        for list in [&mut self.small, &mut self.waiting, &mut self.copies] {
            self.blocked.extend(list.pop_if(|item| path.is_below(&item.path)));
        }
    }

    /// Returns the small files that are left.
    pub(super) fn small(&mut self) -> Vec<Vec<Item>> {
        let small = std::mem::take(&mut self.small);
        (!small.is_empty()).then_some(small).into_iter().collect()
    }

    /// Returns the files that wait, by size.
    pub(super) fn waiting(&mut self) -> Vec<Vec<Item>> {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|item| item.entry.entry.size());
        in_windows(waiting, self.largest)
    }

    /// Returns the copies of files that are in place by now.
    pub(super) fn copies(&mut self) -> Vec<Vec<Item>> {
        in_windows(std::mem::take(&mut self.copies), self.largest)
    }

    /// Begins with what takes too much memory while it waits.
    fn begin_waiting(&mut self) -> Vec<Vec<Item>> {
        let last = self.waiting.pop();
        let windows = self.waiting();
        self.waiting.extend(last);
        self.held = self.waiting.iter().chain(&self.copies).map(weight).sum();
        windows
    }
}

/// Puts files together, up to so many bytes; each long one comes on its own.
fn in_windows(items: Vec<Item>, largest: u64) -> Vec<Vec<Item>> {
    let mut windows: Vec<Vec<Item>> = Vec::new();
    let mut room = 0;
    for item in items {
        let size = item.entry.entry.size();
        let cost = size + PATH_COST;
        match windows.last_mut().filter(|_| size <= LONG && cost <= room) {
            Some(window) if window.len() < WINDOW_PATHS => {
                window.push(item);
                room -= cost;
            }
            _ => {
                room = if size > LONG { 0 } else { largest.saturating_sub(cost) };
                windows.push(vec![item]);
            }
        }
    }
    windows
}

/// Returns the bytes of memory that a file takes while it waits, about.
fn weight(item: &Item) -> u64 {
    let paths = 3 * item.path.as_bytes().len();
    (size_of::<Item>() + paths + item.entry.chunks.len() * size_of::<ChunkRef>()) as u64
}

#[cfg(test)]
mod tests {
    use policy_core::{Digest, Entry, Node, Reason, Timestamp};

    use super::super::item::Told;
    use super::*;
    use crate::format::TreeEntry;
    use crate::local::Expected;
    use crate::monitor::Action;

    fn at(path: &str) -> TreePath {
        TreePath::new(path.as_bytes()).unwrap()
    }

    fn item(path: &str, size: u64) -> Item {
        let path = at(path);
        let node = Node::File { size, digest: Digest([1; 32]) };
        let entry = Entry { node, mode: 0o644, mtime: Timestamp::default(), uploaded: 0 };
        let (action, reason) = (Action::Add, Reason::NewThere);
        let told = Told { path: path.clone(), action, reason, size, row: None, copy: None };
        let entry = TreeEntry::bare(path.clone(), entry);
        Item { path, entry, expected: Expected::Absent, source: None, told }
    }

    fn names(windows: Vec<Vec<Item>>) -> Vec<Vec<String>> {
        let name = |item: &Item| item.path.to_string();
        windows.iter().map(|window| window.iter().map(name).collect()).collect()
    }

    #[test]
    fn small_files_come_first_whatever_directory_they_are_in() {
        let mut windows = Windows::new(256 << 20);
        for (path, size) in
            [("a/weights", 9 << 20), ("a/x", 1), ("b/cache", 5 << 20), ("b/y", 1), ("c/z", SMALL + 1)]
        {
            assert!(windows.add(item(path, size)).is_empty());
        }
        assert!(windows.add_copy(item("d/copy", 1)).is_empty());
        assert_eq!(names(windows.small()), [["a/x", "b/y"]]);
        assert_eq!(names(windows.waiting()), [["c/z"], ["b/cache"], ["a/weights"]]);
        assert_eq!(names(windows.copies()), [["d/copy"]]);
        assert!(windows.small().is_empty() && windows.waiting().is_empty());
    }

    #[test]
    fn windows_grow_and_what_waits_is_bounded() {
        let memory = 64 * WAITING * 1024;
        let mut windows = Windows::new(memory);
        let mut begun = Vec::new();
        for number in 0..9000 {
            begun.extend(windows.add(item(&format!("s{number:04}"), 1)));
            begun.extend(windows.add(item(&format!("t{number:04}"), SMALL + 1)));
            begun.extend(windows.add_copy(item(&format!("u{number:04}"), 1)));
            assert!(windows.held <= windows.most);
        }
        for rest in [windows.small(), windows.waiting(), windows.copies()] {
            begun.extend(rest);
        }
        assert_eq!(begun.iter().map(Vec::len).sum::<usize>(), 3 * 9000);
        assert!(begun.iter().all(|window| !window.is_empty() && window.len() <= WINDOW_PATHS));
    }

    #[test]
    fn what_a_directory_is_in_the_way_of_is_set_aside() {
        for size in [1, SMALL + 1] {
            let mut windows = Windows::new(256 << 20);
            assert!(windows.add(item("a", size)).is_empty());
            windows.park(&at("ab"));
            windows.park(&at("a/b"));
            windows.park(&at("a/c"));
            assert_eq!(names(vec![std::mem::take(&mut windows.blocked)]), [["a"]]);
            assert!(windows.small().is_empty() && windows.waiting().is_empty());
        }
    }
}
