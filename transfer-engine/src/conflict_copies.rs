//! The conflict copies of a push or a merge: where the versions are kept that lose their path.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::{Entry, MAX_COPIES, TreePath, numbered_copy_path};

use crate::error::Error;
use crate::format::{MAX_PATH_LEN, TreeEntry};
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Side};
use crate::tree::PartTree;

/// A version of a path that is kept at another path.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    /// The path in conflict.
    pub(crate) of: TreePath,
    /// The version, with the path of the copy.
    pub(crate) entry: TreeEntry,
}

/// Copies without a name yet, by the name that is tried next.
pub(crate) type Open = BTreeMap<TreePath, Vec<Copied>>;

/// The conflict copies of one plan.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// The new copies, in tree order.
    pub(crate) made: Vec<Copied>,
    /// Paths in conflict for which no name is free; they are not written.
    pub(crate) unplaced: BTreeSet<TreePath>,
}

impl Copies {
    /// Gives up the copies at these paths; the paths in conflict are then not written.
    pub(crate) fn give_up(&mut self, paths: &[TreePath]) {
        for copied in self.made.extract_if(.., |copied| paths.contains(&copied.entry.path)) {
            self.unplaced.insert(copied.of);
        }
    }

    /// Notes when the copies are uploaded, in seconds since 1970. Their names are new, so that counts, and not the time of
    /// the versions that they have: they must not be recycled before anybody has seen them.
    pub(crate) fn note_upload(&mut self, time: i64) {
        self.made.iter_mut().for_each(|copied| copied.entry.entry.uploaded = time);
    }

    /// Leaves a path in conflict unwritten, because its copy has no free name.
    fn leave_out(&mut self, copied: Copied, why: &str, monitor: &dyn Monitor) {
        monitor.problem(&PathProblem {
            path: copied.of.clone(),
            message: format!("changed on both sides, and {why}"),
            hint: "rename it, or choose a side with --conflict".to_owned(),
        });
        self.unplaced.insert(copied.of);
    }

    /// Reports each copy that is, or would be, made, with the reason for a copy of a path.
    pub(crate) fn tell(&self, reason: impl Fn(&TreePath) -> String, monitor: &dyn Monitor) {
        for Copied { of, entry } in &self.made {
            let (path, size, reason) = (&entry.path, entry.entry.size(), reason(of));
            monitor.path(&PathEvent { path, action: Action::Add, side: Side::Store, reason: &reason, size });
        }
    }

    /// Gives each conflict copy a name that is free in the tree, and in what `beside` finds for the names that are
    /// tried. If a copy of the same conflict exists already, no other is made, unless it is one of those that are
    /// `going`: deleted by the same plan. Then the new one takes its place.
    pub(crate) async fn name(
        copies: Vec<Copied>,
        tree: &PartTree<'_>,
        going: &BTreeSet<TreePath>,
        mut beside: impl FnMut(&Open) -> Result<BTreeMap<TreePath, Standing>, Error>,
        monitor: &dyn Monitor,
    ) -> Result<Self, Error> {
        let mut named = Self::default();
        if copies.is_empty() {
            return Ok(named);
        }
        let mut made: BTreeMap<TreePath, Copied> = BTreeMap::new();
        let mut open = Open::new();
        for copied in copies {
            open.entry(copied.entry.path.clone()).or_default().push(copied);
        }
        let mut looked = Looked { tree, last: None, leaves: BTreeMap::new() };
        for number in 2..=MAX_COPIES {
            let here = beside(&open)?;
            for (path, all) in std::mem::take(&mut open) {
                if tree.part().outer(&path).as_bytes().len() > MAX_PATH_LEN {
                    for copied in all {
                        named.leave_out(copied, "the path of a conflict copy would be too long", monitor);
                    }
                    continue;
                }
                let mut there = looked.look(&path).await?;
                there.entry = there.entry.filter(|_| !going.contains(&path));
                for copied in all {
                    let entry = &copied.entry.entry;
                    let before = made.get(&path).map(|m| m.entry.entry.clone());
                    let before = Standing { entry: before, ..Standing::default() };
                    let standings = [here.get(&path), Some(&there), Some(&before)];
                    match fit(standings.into_iter().flatten(), entry) {
                        Fit::Free => {
                            let entry = TreeEntry { path: path.clone(), ..copied.entry };
                            made.insert(path.clone(), Copied { entry, ..copied });
                        }
                        Fit::Same => {}
                        Fit::Taken => {
                            // The path of a copy without a name is the first of its names.
                            let next = numbered_copy_path(&copied.of, &copied.entry.path, number);
                            open.entry(next).or_default().push(copied);
                        }
                    }
                }
            }
            if open.is_empty() {
                break;
            }
        }
        for copied in open.into_values().flatten() {
            named.leave_out(copied, "every name of a conflict copy is taken", monitor);
        }
        named.made = made.into_values().collect();
        Ok(named)
    }
}

/// Finds what is in the way of copies, row by row.
pub(crate) struct InTheWay<'o> {
    open: &'o Open,
    found: BTreeMap<TreePath, Standing>,
}

impl<'o> InTheWay<'o> {
    pub(crate) fn of(open: &'o Open) -> Self {
        Self { open, found: BTreeMap::new() }
    }

    /// Notes that there is, or will be, an entry at this path.
    pub(crate) fn note(&mut self, path: &TreePath, entry: &Entry) {
        if !entry.is_dir() {
            let below = self.open.range(path.clone()..).map(|(path, _)| path);
            for below in below.take_while(|p| p.is_within(path)).filter(|p| *p != path) {
                self.found.entry(below.clone()).or_default().leaf_above = true;
            }
        }
        if self.open.contains_key(path) {
            self.found.entry(path.clone()).or_default().entry = Some(entry.clone());
        }
        let mut above = path.parent();
        while let Some(path) = above {
            if self.open.contains_key(&path) {
                self.found.entry(path.clone()).or_default().holds = true;
            }
            above = path.parent();
        }
    }

    pub(crate) fn found(self) -> BTreeMap<TreePath, Standing> {
        self.found
    }
}

/// What is at a path, and what would be in the way of an entry there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    entry: Option<Entry>,
    /// Whether something is below it.
    holds: bool,
    /// Whether it would be below a file or link.
    leaf_above: bool,
}

enum Fit {
    Free,
    Same,
    Taken,
}

/// Whether an entry may be put at a path, given what both sides have there.
fn fit<'s>(standings: impl Iterator<Item = &'s Standing>, entry: &Entry) -> Fit {
    let mut fit = Fit::Free;
    for standing in standings {
        let in_the_way = standing.leaf_above || standing.holds && !entry.is_dir();
        match &standing.entry {
            _ if in_the_way => return Fit::Taken,
            // A different mode alone does not make another version.
            Some(there) if there.node == entry.node => fit = Fit::Same,
            Some(_) => return Fit::Taken,
            None => {}
        }
    }
    fit
}

/// Looks up paths of a tree; fast if they are near each other.
struct Looked<'t, 's> {
    tree: &'t PartTree<'s>,
    last: Option<(usize, Vec<TreeEntry>)>,
    /// Whether there is a file or link at these paths.
    leaves: BTreeMap<TreePath, bool>,
}

impl Looked<'_, '_> {
    async fn look(&mut self, path: &TreePath) -> Result<Standing, Error> {
        let (entry, holds) = self.at(path).await?;
        let mut leaf_above = false;
        let mut above = path.parent().filter(|_| entry.is_none() && !holds);
        while let Some(dir) = above.filter(|dir| !dir.is_root() && !leaf_above) {
            let known = self.leaves.get(&dir).copied();
            leaf_above = match known {
                Some(is_leaf) => is_leaf,
                None => {
                    let (found, holds) = self.at(&dir).await?;
                    let is_leaf = found.as_ref().is_some_and(|e| !e.is_dir());
                    self.leaves.insert(dir.clone(), is_leaf);
                    if found.is_some() || holds {
                        // Whatever is above an existing path is a directory.
                        leaf_above = is_leaf;
                        break;
                    }
                    false
                }
            };
            above = dir.parent();
        }
        Ok(Standing { entry, holds, leaf_above })
    }

    /// Returns the entry at a path, and whether there are any below it.
    async fn at(&mut self, path: &TreePath) -> Result<(Option<Entry>, bool), Error> {
        let Some(index) = self.tree.segment_with(path) else {
            return Ok((None, self.tree.first(0).is_some_and(|first| first.is_below(path))));
        };
        if self.last.as_ref().is_none_or(|(last, _)| *last != index) {
            self.last = Some((index, self.tree.segment(index).await?));
        }
        let entries = self.last.as_ref().map_or(&[][..], |(_, entries)| entries);
        let place = entries.partition_point(|e| e.path < *path);
        let found = entries.get(place).filter(|e| e.path == *path);
        let next = entries.get(place + usize::from(found.is_some())).map(|e| e.path.clone());
        let next = next.or_else(|| self.tree.first(index + 1));
        // A placeholder is not an entry, but nothing else may silently take its path.
        Ok((found.map(|e| e.entry.clone()), next.is_some_and(|next| next.is_below(path))))
    }
}
