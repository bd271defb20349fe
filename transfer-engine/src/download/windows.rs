//! The order in which files are pulled.
//!
//! Small files come first, in tree order, many per window: so the files that a program starts with arrive
//! soon, wherever large files are in the tree. Larger files wait, and come by size. Copies of files in the
//! same pull come last, because they are made from those.

use policy_core::TreePath;

use super::item::{Item, LONG};
use crate::format::ChunkRef;
use crate::local::{Expected, Fingerprint, sqlite};

/// Files of up to this many bytes are small.
const SMALL: u64 = 256 << 10;
/// The most paths in a window.
const WINDOW_PATHS: usize = 4096;
/// The bytes of the first window: it is small so that the first files arrive soon. Later windows spread the
/// fixed cost over more files.
const FIRST_WINDOW: u64 = 1 << 20;
/// The factor by which each window is larger than the one before.
const WINDOW_GROWTH: u64 = 4;
/// The cost of a path besides its bytes, in bytes.
const PATH_COST: u64 = 4096;
/// One part in this many of the memory may be taken by waiting files.
const WAITING: u64 = 16;

/// Files to be pulled, until they are started.
///
/// The files of a database (NAME, NAME-journal, NAME-wal) are put in place together: beside the log of
/// another version, a database is corrupt.
pub(super) struct Windows {
    /// Files whose companions may still come. The path of each begins with that of the one before it.
    open: Vec<Group>,
    small: Vec<Item>,
    weight: u64,
    /// The bytes of the next window.
    room: u64,
    largest: u64,
    waiting: Vec<Group>,
    copies: Vec<Group>,
    /// The memory of waiting files and copies, in bytes.
    held: u64,
    most: u64,
    /// Files in whose place a directory must be removed first.
    pub(super) blocked: Vec<Item>,
}

/// Files that are put in place together; usually one.
struct Group {
    items: Vec<Item>,
    /// Whether the content of one of them comes with another file.
    is_copy: bool,
}

impl Group {
    fn path(&self) -> Option<&TreePath> {
        self.items.first().map(|item| &item.path)
    }

    fn size(&self) -> u64 {
        self.items.iter().map(|item| item.entry.entry.size()).sum()
    }

    fn weight(&self) -> u64 {
        self.items.iter().map(weight).sum()
    }
}

impl Windows {
    pub(super) fn new(memory: u64) -> Self {
        let largest = (memory / 4).max(FIRST_WINDOW);
        Self {
            open: Vec::new(),
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

    /// Adds a file, in tree order, and returns the windows to start now, in order. `is_copy` says whether the
    /// file's content comes with another file.
    pub(super) fn add(&mut self, item: Item, is_copy: bool) -> Vec<Vec<Item>> {
        let begun = self.close(Some(&item.path));
        let database = sqlite::database_of(&item.path);
        if let Some(database) = database.as_ref().and_then(|path| group_of(&mut self.open, path)) {
            // The old one is removed right before the database is put in place.
            if let (Some(first), Expected::Leaf(print)) = (database.items.first_mut(), item.expected) {
                first.clears.push((item.path.clone(), print));
            }
            database.is_copy |= is_copy;
            database.items.push(item);
        } else {
            self.open.push(Group { items: vec![item], is_copy });
        }
        begun
    }

    /// Notes a file that is to be removed. If it belongs to a database that is pulled, it is removed right
    /// before that is put in place.
    pub(super) fn clear(&mut self, path: &TreePath, print: Fingerprint) {
        let database = sqlite::database_of(path).and_then(|database| group_of(&mut self.open, &database));
        if let Some(first) = database.and_then(|group| group.items.first_mut()) {
            first.clears.push((path.clone(), print));
        }
    }

    /// Sets aside the file directly above `path`, which comes next in tree order.
    pub(super) fn park(&mut self, path: &TreePath) {
        let above = |group: &mut Group| group.path().is_some_and(|above| path.is_below(above));
        self.blocked.extend(self.open.pop_if(above).into_iter().flat_map(|group| group.items));
    }

    /// Returns the remaining small files.
    pub(super) fn small(&mut self) -> Vec<Vec<Item>> {
        let mut windows = self.close(None);
        let small = std::mem::take(&mut self.small);
        windows.extend((!small.is_empty()).then_some(small));
        windows
    }

    /// Returns the waiting files, by size.
    pub(super) fn waiting(&mut self) -> Vec<Vec<Item>> {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(Group::size);
        in_windows(waiting, self.largest)
    }

    /// Returns the copies of files, which are in place by now.
    pub(super) fn copies(&mut self) -> Vec<Vec<Item>> {
        in_windows(std::mem::take(&mut self.copies), self.largest)
    }

    /// Closes the groups to which `next` can't belong, in order, and returns the windows to start.
    fn close(&mut self, next: Option<&TreePath>) -> Vec<Vec<Item>> {
        let may_follow =
            |path: &TreePath| next.is_some_and(|next| next.as_bytes().starts_with(path.as_bytes()));
        let still_open = self.open.iter().take_while(|group| group.path().is_some_and(may_follow)).count();
        self.open.split_off(still_open).into_iter().flat_map(|group| self.take(group)).collect()
    }

    /// Adds a group to the small files, the waiting files or the copies.
    fn take(&mut self, group: Group) -> Vec<Vec<Item>> {
        let (size, weight) = (group.size(), group.weight());
        // If too many copies wait, further ones are fetched like other files.
        if group.is_copy && self.held + weight <= self.most / 2 {
            self.held += weight;
            self.copies.push(group);
            return Vec::new();
        }
        if size > SMALL {
            self.held += weight;
            self.waiting.push(group);
            return if self.held > self.most { self.begin_waiting() } else { Vec::new() };
        }
        self.weight += size + PATH_COST * group.items.len() as u64;
        self.small.extend(group.items);
        if self.weight < self.room && self.small.len() < WINDOW_PATHS {
            return Vec::new();
        }
        self.room = (self.room * WINDOW_GROWTH).min(self.largest);
        self.weight = 0;
        vec![std::mem::take(&mut self.small)]
    }

    /// Starts the waiting files, because they take too much memory.
    fn begin_waiting(&mut self) -> Vec<Vec<Item>> {
        let windows = self.waiting();
        self.held = self.copies.iter().map(Group::weight).sum();
        windows
    }
}

/// Returns the open group of a database.
fn group_of<'g>(open: &'g mut [Group], database: &TreePath) -> Option<&'g mut Group> {
    open.iter_mut().rev().find(|group| group.path() == Some(database))
}

/// Puts groups into windows of up to `largest` bytes. Each long file gets its own.
fn in_windows(groups: Vec<Group>, largest: u64) -> Vec<Vec<Item>> {
    let mut windows: Vec<Vec<Item>> = Vec::new();
    let mut room = 0;
    for group in groups {
        let size = group.size();
        let cost = size + PATH_COST * group.items.len() as u64;
        match windows.last_mut().filter(|_| size <= LONG && cost <= room) {
            Some(window) if window.len() < WINDOW_PATHS => {
                window.extend(group.items);
                room -= cost;
            }
            _ => {
                room = if size > LONG { 0 } else { largest.saturating_sub(cost) };
                windows.push(group.items);
            }
        }
    }
    windows
}

/// Returns roughly how many bytes of memory a file takes while it waits.
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
        Item { path, entry, expected: Expected::Absent, source: None, clears: Vec::new(), told }
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
            assert!(windows.add(item(path, size), false).is_empty());
        }
        assert!(windows.add(item("d/copy", 1), true).is_empty());
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
            begun.extend(windows.add(item(&format!("s{number:04}"), 1), false));
            begun.extend(windows.add(item(&format!("t{number:04}"), SMALL + 1), false));
            begun.extend(windows.add(item(&format!("u{number:04}"), 1), true));
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
            assert!(windows.add(item("a", size), false).is_empty());
            windows.park(&at("ab"));
            windows.park(&at("a/b"));
            windows.park(&at("a/c"));
            assert_eq!(names(vec![std::mem::take(&mut windows.blocked)]), [["a"]]);
            assert!(windows.small().is_empty() && windows.waiting().is_empty());
        }
    }

    /// This holds whatever the sizes are, and whatever comes between them in tree order.
    #[test]
    fn l27_the_files_of_a_database_come_in_one_window_and_its_old_log_goes_before() {
        for (size, log_size) in [(1, 1), (1, 9 << 20), (9 << 20, 1), (1, SMALL + 1)] {
            let mut windows = Windows::new(256 << 20);
            let print = Fingerprint::of(&rustix::fs::stat("/").unwrap());
            let mut log = item("d/app.db-wal", log_size);
            log.expected = Expected::Leaf(print);
            let mut begun = Vec::new();
            for (item, is_copy) in [
                (item("d/app", 1), false),
                (item("d/app.db", size), false),
                (item("d/app.db-journal", 1), true),
                (item("d/app.db-old", 9 << 20), false),
                (log, false),
                (item("d/app.dc", 1), false),
                (item("d/z-wal", 1), false),
            ] {
                begun.extend(windows.add(item, is_copy));
            }
            windows.clear(&at("d/app.dc-wal"), print);
            windows.clear(&at("d/app.db-shm"), print);
            for rest in [windows.small(), windows.waiting(), windows.copies()] {
                begun.extend(rest);
            }
            let unit = ["d/app.db", "d/app.db-journal", "d/app.db-wal"];
            let window = begun.iter().find(|window| window.iter().any(|item| item.path == at(unit[0])));
            let window = window.unwrap();
            let of_unit: Vec<&Item> =
                window.iter().filter(|item| unit.iter().any(|path| item.path == at(path))).collect();
            assert_eq!(of_unit.len(), 3, "{size} {log_size}");
            assert_eq!(of_unit[0].clears, [(at("d/app.db-wal"), print)]);
            let all: Vec<&Item> = begun.iter().flatten().collect();
            assert_eq!(all.len(), 7);
            let other = all.iter().find(|item| item.path == at("d/app.dc")).unwrap();
            assert_eq!(other.clears, [], "a file that is closed by then keeps nothing open");
        }
    }

    /// Two files may want one path, such as a conflict copy and another file. The first one gets it.
    #[test]
    fn files_come_in_the_order_in_which_they_were_added() {
        let mut windows = Windows::new(256 << 20);
        for path in ["a", "a.b", "a.b", "a.b.c", "b"] {
            assert!(windows.add(item(path, 1), false).is_empty());
        }
        assert_eq!(names(windows.small()), [["a", "a.b", "a.b", "a.b.c", "b"]]);
    }
}
