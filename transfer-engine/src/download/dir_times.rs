//! The times of directories after a pull.
//!
//! A directory that the tree lists has the time of its entry. An implied directory has the newest time of the
//! files, links and listed directories directly in it; if it has only implied directories, the newest of
//! theirs. So the same snapshot gives the same times on every machine. The time is set when everything in the
//! directory has arrived. A directory in which the pull changed nothing keeps its time.
//!
//! Memory is needed for the directories above the plan's current path, and for those in which something is
//! still to change.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::take;

use policy_core::{Entry, Timestamp, TreePath};

use crate::local::{MountDir, set_times};
use crate::state::hash_path;

/// Follows a plan, and determines when each directory gets its time.
#[derive(Debug, Default)]
pub(super) struct DirTimes {
    /// The directories above the last path, from the root down.
    open: Vec<Open>,
    due: HashMap<TreePath, Due>,
    ready: Vec<(TreePath, Timestamp)>,
    root: Option<Timestamp>,
    /// Hashes of directories in which an earlier, interrupted pull changed something.
    again: HashSet<u64>,
}

/// A directory whose paths were not all seen yet.
#[derive(Debug)]
struct Open {
    path: TreePath,
    /// The time of its own entry.
    listed: Option<Timestamp>,
    /// The newest time of what is directly in it, except for implied directories.
    newest: Option<Timestamp>,
    /// The newest time of the implied directories in it.
    newest_dir: Option<Timestamp>,
    /// Whether the mount had it before.
    stood: bool,
    /// Whether the context has it.
    stays: bool,
}

/// A directory in which something is to change.
#[derive(Debug, Default)]
struct Due {
    /// Changes that are still to come, directly in it or in one of its directories.
    coming: u64,
    /// Whether something directly in it changed.
    changed: bool,
    /// Whether something further below changed.
    changed_below: bool,
    /// Whether it already has its mode and the time of its entry.
    made: bool,
    seen: Option<Seen>,
}

/// The facts about a directory when all of its paths were seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    time: Option<Timestamp>,
    is_listed: bool,
    /// Whether its time depends only on the directories in it.
    by_dirs: bool,
    /// Whether it is created or removed, which changes its parent.
    comes_or_goes: bool,
}

impl DirTimes {
    /// Starts with the directories whose times an earlier pull may not have set.
    pub(super) fn new(again: HashSet<u64>) -> Self {
        Self { again, ..Self::default() }
    }

    /// Notes a path; paths come in tree order. `dir_stood` says whether the mount has a directory there,
    /// `leaf_stood` whether it has a file or link.
    pub(super) fn see(&mut self, path: &TreePath, dir_stood: bool, leaf_stood: bool, there: Option<&Entry>) {
        let is_dir = dir_stood || there.is_some_and(Entry::is_dir);
        let parent = path.parent().unwrap_or_default();
        self.enter(if is_dir { path } else { &parent });
        let known = |entry: &Entry| Some(entry.mtime).filter(|time| *time != Timestamp::default());
        if is_dir && let Some(dir) = self.open.last_mut() {
            dir.listed = there.filter(|entry| entry.is_dir()).and_then(known);
            dir.stood |= dir_stood;
            dir.stays |= there.is_some_and(Entry::is_dir);
        }
        let above = self.open.len().checked_sub(1 + usize::from(is_dir && !path.is_root()));
        if let Some(dir) = above.and_then(|at| self.open.get_mut(at)) {
            dir.newest = dir.newest.max(there.and_then(known));
            dir.stood |= leaf_stood;
            dir.stays |= there.is_some();
        }
    }

    /// Notes the times of paths that do not take part but are beside paths that do.
    pub(super) fn see_beside(&mut self, beside: impl IntoIterator<Item = (TreePath, Timestamp)>) {
        for (path, time) in beside {
            self.enter(&path.parent().unwrap_or_default());
            if let Some(dir) = self.open.last_mut() {
                dir.newest = dir.newest.max(Some(time));
            }
        }
    }

    /// Leaves the directories that do not contain `dir`, and enters those that lead to it.
    fn enter(&mut self, dir: &TreePath) {
        while self.open.last().is_some_and(|last| !dir.is_within(&last.path)) {
            self.leave();
        }
        if self.open.is_empty() {
            self.open.push(Open::new(TreePath::root()));
        }
        let bytes = dir.as_bytes();
        let entered = self.open.last().map_or(0, |last| last.path.as_bytes().len());
        let ends = (entered + 1..=bytes.len()).filter(|&end| bytes.get(end).is_none_or(|byte| *byte == b'/'));
        for end in ends {
            if let Ok(path) = TreePath::new(&bytes[..end]) {
                self.open.push(Open::new(path));
            }
        }
    }

    fn leave(&mut self) {
        let Some(dir) = self.open.pop() else { return };
        let time = dir.listed.or(dir.newest).or(dir.newest_dir);
        if let Some(above) = self.open.last_mut() {
            if dir.listed.is_none() {
                above.newest_dir = above.newest_dir.max(time);
            }
            above.stood |= dir.stood;
            above.stays |= dir.stays;
        }
        let changed = self.again.remove(&hash_path(&dir.path));
        if changed {
            self.due.entry(dir.path.clone()).or_default().changed = true;
        }
        let Some(due) = self.due.get_mut(&dir.path) else { return };
        due.seen = Some(Seen {
            time,
            is_listed: dir.listed.is_some(),
            by_dirs: dir.listed.or(dir.newest).is_none(),
            comes_or_goes: !dir.stood || !dir.stays,
        });
        if let Some(parent) = dir.path.parent() {
            self.due.entry(parent).or_default().coming += 1;
        }
        self.complete(dir.path);
    }

    /// Notes that something is to change at `path`: the directory itself, or something in a directory.
    pub(super) fn expect(&mut self, path: &TreePath, is_dir: bool) {
        self.due.entry(changing(path, is_dir)).or_default().coming += 1;
    }

    /// Notes that the change is done, or has failed.
    pub(super) fn ended(&mut self, path: &TreePath, is_dir: bool, is_done: bool) {
        let dir = changing(path, is_dir);
        let Some(due) = self.due.get_mut(&dir) else { return };
        due.coming = due.coming.saturating_sub(1);
        due.made |= is_done && is_dir;
        due.changed |= is_done && !is_dir;
        self.complete(dir);
    }

    /// Sets a directory's time as ready if nothing more changes in it, and then checks its parents.
    fn complete(&mut self, mut path: TreePath) {
        loop {
            let is_complete = |due: &Due| due.coming == 0 && due.seen.is_some();
            if !self.due.get(&path).is_some_and(is_complete) {
                return;
            }
            let Some((due, seen)) = self.due.remove(&path).and_then(|due| due.seen.map(|seen| (due, seen)))
            else {
                return;
            };
            self.note(&path, &due, seen);
            let Some(parent) = path.parent() else { return };
            if let Some(above) = self.due.get_mut(&parent) {
                above.coming = above.coming.saturating_sub(1);
                let touched = due.changed || due.changed_below || due.made;
                above.changed |= touched && seen.comes_or_goes;
                above.changed_below |= touched;
            }
            path = parent;
        }
    }

    fn note(&mut self, path: &TreePath, due: &Due, seen: Seen) {
        let is_set = due.made && seen.is_listed;
        let is_due = due.changed || due.changed_below && seen.by_dirs;
        if let Some(time) = seen.time.filter(|_| is_due && !is_set) {
            if path.is_root() {
                self.root = Some(time);
            } else {
                self.ready.push((path.clone(), time));
            }
        }
    }

    /// Notes that there are no more paths.
    pub(super) fn end(&mut self) {
        while !self.open.is_empty() {
            self.leave();
        }
    }

    /// Returns the directories whose times can be set now, except for the mount itself.
    pub(super) fn take_ready(&mut self) -> Vec<(TreePath, Timestamp)> {
        take(&mut self.ready)
    }

    /// Returns the remaining directories, and the time of the mount itself, at the end.
    pub(super) fn finish(&mut self) -> (Vec<(TreePath, Timestamp)>, Option<Timestamp>) {
        self.end();
        // Outstanding changes will not come any more. Deeper directories come first, because their times
        // count for those above.
        let mut left: Vec<TreePath> = self.due.keys().cloned().collect();
        left.sort_unstable();
        while let Some(path) = left.pop() {
            if let Some(due) = self.due.get_mut(&path) {
                due.coming = 0;
                self.complete(path);
            }
        }
        (self.take_ready(), self.root.take())
    }
}

impl Open {
    fn new(path: TreePath) -> Self {
        let is_root = path.is_root();
        Self { path, listed: None, newest: None, newest_dir: None, stood: is_root, stays: is_root }
    }
}

/// Returns the directory that a change at `path` modifies.
fn changing(path: &TreePath, is_dir: bool) -> TreePath {
    if is_dir { path.clone() } else { path.parent().unwrap_or_default() }
}

/// Sets the times of directories. Those that are gone or can't be changed are skipped.
pub(super) fn set_all(dir: &MountDir, times: &[(TreePath, Timestamp)]) {
    for (path, time) in times {
        let set = || -> io::Result<()> {
            let fd = dir.dir(path)?;
            dir.env().check_fault("futimens", &dir.show(path))?;
            set_times(fd, *time)
        };
        if let Err(error) = set() {
            tracing::debug!(%path, %error, "a directory keeps its time");
        }
    }
}

#[cfg(test)]
mod tests {
    use policy_core::{Digest, Node};

    use super::*;

    fn path(path: &str) -> TreePath {
        TreePath::new(path.as_bytes()).unwrap()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp { secs, nanos: 0 }
    }

    fn entry(node: Node, secs: i64) -> Entry {
        Entry { node, mode: 0o644, mtime: at(secs), uploaded: 0 }
    }

    /// A row of a plan: the path, its time in the context, whether the mount has it, and what happens.
    type Row<'a> = (&'a str, Option<i64>, bool, Act);

    #[derive(Clone, Copy, PartialEq)]
    enum Act {
        Nothing,
        /// It is pulled or removed.
        Done,
        Fails,
        /// It is done after everything else.
        Late,
    }

    /// Returns the times that are set. A path that ends in `/` is a listed directory.
    fn set(rows: &[Row<'_>]) -> Vec<(String, i64)> {
        let mut times = DirTimes::default();
        let mut late = Vec::new();
        for (name, there, stood, act) in rows {
            let (is_dir, name) = (name.ends_with('/'), path(name.trim_end_matches('/')));
            let node = if is_dir { Node::Dir } else { Node::File { size: 1, digest: Digest([0; 32]) } };
            let there = there.map(|secs| entry(node, secs));
            times.see(&name, is_dir && *stood, !is_dir && *stood, there.as_ref());
            match act {
                Act::Nothing => continue,
                Act::Late => late.push((name.clone(), is_dir)),
                _ => {}
            }
            times.expect(&name, is_dir);
            if *act != Act::Late {
                times.ended(&name, is_dir, *act == Act::Done);
            }
        }
        times.end();
        late.iter().for_each(|(path, is_dir)| times.ended(path, *is_dir, true));
        let mut set = times.take_ready();
        let root = times.root.take();
        assert!(times.due.is_empty(), "{:?}", times.due);
        set.extend(root.map(|time| (TreePath::root(), time)));
        set.sort();
        set.into_iter().map(|(path, time)| (path.to_string(), time.secs)).collect()
    }

    fn expected(of: &[(&str, i64)]) -> Vec<(String, i64)> {
        of.iter().map(|(path, secs)| ((*path).to_owned(), *secs)).collect()
    }

    #[test]
    fn an_implied_directory_has_the_newest_time_of_what_is_directly_in_it() {
        use Act::{Done, Late};
        let rows = [
            ("a/b/x", Some(7), false, Done),
            ("a/b/y", Some(5), false, Late),
            ("a/z", Some(3), false, Done),
            ("d/e/f/g", Some(9), false, Done),
        ];
        let all = [("", 9), ("a", 3), ("a/b", 7), ("d", 9), ("d/e", 9), ("d/e/f", 9)];
        assert_eq!(set(&rows), expected(&all));
    }

    #[test]
    fn what_nothing_was_changed_in_keeps_its_time() {
        use Act::{Done, Fails, Nothing};
        let rows = [
            ("a/b/new", Some(7), false, Done),
            ("a/b/old", Some(8), true, Nothing),
            ("a/z", Some(3), true, Nothing),
            ("b/fails", Some(4), false, Fails),
            ("b/old", Some(8), true, Nothing),
            ("c/mine", None, true, Nothing),
            ("d/old", Some(5), true, Nothing),
            ("x", Some(9), true, Nothing),
        ];
        assert_eq!(set(&rows), expected(&[("a/b", 8)]));
    }

    #[test]
    fn a_directory_that_comes_or_goes_changes_the_one_that_it_is_in() {
        use Act::{Done, Nothing};
        let (old, top) = (("a/z", Some(3), true, Nothing), ("top", Some(1), true, Nothing));
        assert_eq!(set(&[("a/b/new", Some(7), false, Done), old, top]), expected(&[("a", 3), ("a/b", 7)]));
        assert_eq!(set(&[("a/b/gone", None, true, Done), old, top]), expected(&[("a", 3)]));
        assert_eq!(set(&[("a/gone", None, true, Done), old, top]), expected(&[("a", 3)]));
    }

    #[test]
    fn a_listed_directory_has_the_time_of_its_entry() {
        use Act::{Done, Nothing};
        // A new directory gets its time together with its mode.
        let rows = [("a/", Some(2), false, Done), ("a/x", Some(7), false, Done)];
        assert_eq!(set(&rows), expected(&[("", 2)]));
        let rows =
            [("a/", Some(2), true, Nothing), ("a/x", Some(7), false, Done), ("y", Some(5), true, Nothing)];
        assert_eq!(set(&rows), expected(&[("a", 2)]));
        let top = ("top", Some(1), true, Nothing);
        let rows = [("a/b/", Some(6), false, Done), ("a/x", Some(4), true, Nothing), top];
        assert_eq!(set(&rows), expected(&[("a", 6)]));
    }

    #[test]
    fn what_was_cut_short_is_set_as_far_as_it_came_and_by_the_next_one() {
        let mut times = DirTimes::default();
        for name in ["a/x", "a/y", "b/z"] {
            let file = entry(Node::File { size: 1, digest: Digest([0; 32]) }, 7);
            times.see(&path(name), false, false, Some(&file));
            times.expect(&path(name), false);
        }
        times.ended(&path("a/x"), false, true);
        assert_eq!(times.take_ready(), []);
        assert_eq!(times.finish(), (vec![(path("a"), at(7))], Some(at(7))));
        assert!(times.due.is_empty() && times.open.is_empty());

        let mut times = DirTimes::new(HashSet::from([hash_path(&path("b")), hash_path(&path("gone"))]));
        for name in ["a/x", "b/z"] {
            let file = entry(Node::File { size: 1, digest: Digest([0; 32]) }, 7);
            times.see(&path(name), false, true, Some(&file));
        }
        assert_eq!(times.finish(), (vec![(path("b"), at(7))], Some(at(7))));
    }

    #[test]
    fn what_takes_no_part_counts_where_it_lies_beside_what_does() {
        let mut times = DirTimes::default();
        let file = entry(Node::File { size: 1, digest: Digest([0; 32]) }, 7);
        times.see_beside([(path("a/b"), at(9))]);
        times.see(&path("a/x"), false, false, Some(&file));
        times.expect(&path("a/x"), false);
        times.ended(&path("a/x"), false, true);
        times.see_beside([(path("a/y"), at(8))]);
        assert_eq!(times.finish().0, [(path("a"), at(9))]);
    }
}
