//! Paths on file systems below the mount that are not mounted now.
//!
//! Each row of the base notes on which file system the path was, by the path at which that file system began.
//! If no file system begins there any more, it was unmounted. If one does, but has nothing of the base in it,
//! it is a new, empty one. In both cases the paths are out of reach, and not deleted. So are paths over which
//! another file system was mounted.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_core::{TreePath, looks_lost};

use crate::local::{FileSystems, Looked, MountDir, is_staging, names, prefix};
use crate::state::{BaseRow, DeltaRow, DeltaState};

/// How many paths a warning lists.
const NAMED: usize = 5;

/// Why paths are out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// No file system begins here any more.
    Unmounted,
    /// The file system vanished after it was scanned.
    Vanished,
    /// A file system begins here, but has nothing of the base in it.
    Empty,
    /// A file system begins here that did not before.
    Covered,
}

/// A path below the mount at which paths of the base are out of reach.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    pub(crate) place: TreePath,
    pub(crate) why: Why,
    /// The number of paths of the base.
    pub(crate) rows: u64,
}

/// Counts rows of the base on one file system.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    base: u64,
    present: u64,
}

/// Whether a row of the base is within reach, given the current file systems.
pub(crate) enum Reach {
    /// On the same file system as before.
    There,
    /// On a file system that is not mounted now.
    Unmounted,
    /// Below this path, where another file system begins now.
    Covered(TreePath),
}

/// Finds the paths that are out of reach, while a scan is merged with the base.
pub(crate) struct Reaching {
    file_systems: Arc<FileSystems>,
    /// Whether the user allows the deletion of what is gone.
    meant: bool,
    away: BTreeMap<TreePath, Away>,
    counts: BTreeMap<TreePath, Count>,
}

impl Reaching {
    pub(crate) fn new(file_systems: Arc<FileSystems>, meant: bool) -> Self {
        Self { file_systems, meant, away: BTreeMap::new(), counts: BTreeMap::new() }
    }

    /// Returns how many components of the path lead to its current file system.
    pub(crate) fn depth_of(&self, path: &TreePath) -> u32 {
        self.file_systems.depth_of(path)
    }

    /// Returns whether the row is within reach.
    pub(crate) fn of(&self, row: &BaseRow) -> Reach {
        let Some(depth) =
            row.depth.filter(|depth| !self.meant && (*depth > 0 || !self.file_systems.is_empty()))
        else {
            return Reach::There;
        };
        let begin = self.file_systems.begin_of(&row.path);
        let was = prefix(&row.path, depth);
        if begin == was {
            Reach::There
        } else if begin.is_below(&was) {
            Reach::Covered(begin)
        } else {
            Reach::Unmounted
        }
    }

    /// Counts a row on an unmounted file system.
    pub(crate) fn note_unmounted(&mut self, row: &BaseRow) {
        self.note(prefix(&row.path, row.depth.unwrap_or(0)), Why::Unmounted);
    }

    /// Counts a row that was not found, and that may be hidden by the file system mounted at `place`.
    pub(crate) fn note_covered(&mut self, place: TreePath) {
        self.note(place, Why::Covered);
    }

    fn note(&mut self, place: TreePath, why: Why) {
        self.away.entry(place.clone()).or_insert(Away { place, why, rows: 0 }).rows += 1;
    }

    /// Counts a row whose file system is mounted.
    pub(crate) fn count(&mut self, row: &BaseRow, present: bool) {
        if let Some(depth) = row.depth.filter(|depth| *depth > 0) {
            let place = prefix(&row.path, depth);
            // The directory at which a file system begins exists together with it.
            if row.path != place {
                let count = self.counts.entry(place).or_default();
                count.base += 1;
                count.present += u64::from(present);
            }
        }
    }

    /// Returns the result. `whole` says whether the whole mount was scanned.
    pub(crate) fn finish(mut self, mount: &MountDir, whole: bool) -> AwayOnes {
        for (place, count) in self.counts.iter().filter(|_| !self.meant) {
            if looks_lost(count.base, count.present) && (whole || is_empty(mount, place)) {
                let away = Away { place: place.clone(), why: Why::Empty, rows: count.base };
                self.away.insert(place.clone(), away);
            }
        }
        let counts = self.counts.into_iter().map(|(place, count)| (place, count.base)).collect();
        AwayOnes { away: self.away, counts: if self.meant { BTreeMap::new() } else { counts } }
    }
}

/// Whether a directory of the mount has nothing in it, but for what a pull left.
pub(crate) fn is_empty(mount: &MountDir, place: &TreePath) -> bool {
    let dir = mount.dir(place).and_then(|dir| Ok((names(&dir)?, dir)));
    dir.is_ok_and(|(names, dir)| names.iter().all(|name| is_staging(&dir, name)))
}

/// Whether a file system begins at this path.
fn begins(mount: &MountDir, place: &TreePath) -> bool {
    let looked = mount.parent(place).and_then(|above| {
        let at = Looked::at(&above, place.name())?;
        Ok(at.is_some_and(|at| Looked::of_dir(&above).is_ok_and(|above| at.begins(&above.file_system))))
    });
    looked.unwrap_or(false)
}

/// All paths that are out of reach.
#[derive(Debug, Default)]
pub(crate) struct AwayOnes {
    away: BTreeMap<TreePath, Away>,
    /// The number of the base's paths on each mounted file system.
    counts: BTreeMap<TreePath, u64>,
}

impl AwayOnes {
    /// Whether the base has paths on a mounted file system below the mount.
    pub(crate) fn has_file_systems(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Checks again, after files were read, whether the file systems are still mounted.
    pub(crate) fn look_again(&mut self, mount: &MountDir) {
        for (place, rows) in std::mem::take(&mut self.counts) {
            if !self.away.contains_key(&place) && !begins(mount, &place) {
                self.away.insert(place.clone(), Away { place, why: Why::Vanished, rows });
            }
        }
    }

    /// Adds the paths that are out of reach in a part of the mount that was read separately.
    pub(crate) fn absorb(&mut self, more: Self) {
        for (place, away) in more.away {
            let rows = away.rows;
            self.away.entry(place).and_modify(|known| known.rows += rows).or_insert(away);
        }
    }

    /// Returns how many paths of the base are out of reach.
    pub(crate) fn rows(&self) -> u64 {
        self.away.values().map(|away| away.rows).sum()
    }

    /// Returns how many of those were counted as deleted before that was known.
    pub(crate) fn rows_of_empty(&self) -> u64 {
        self.away.values().filter(|away| away.why == Why::Empty).map(|away| away.rows).sum()
    }

    /// Returns which rows of the mount remain: those of a whole file system are replaced by one row. Files
    /// that now exist at a covered path keep their rows.
    pub(crate) fn without(&self) -> impl Fn(&DeltaRow) -> bool + use<> {
        let tops: Vec<(TreePath, Why)> =
            self.away.values().map(|away| (away.place.clone(), away.why)).collect();
        move |row| {
            let was_there = row.base.is_some() && !matches!(row.state, DeltaState::Present { .. });
            !tops.iter().any(|(place, why)| match why {
                Why::Covered => false,
                Why::Unmounted => row.path == *place,
                Why::Vanished | Why::Empty => row.path == *place || was_there && row.path.is_below(place),
            })
        }
    }

    /// Returns the rows that stand for whole file systems, in tree order.
    pub(crate) fn tops(&self) -> Vec<DeltaRow> {
        let tops = self.away.values().filter(|away| away.why != Why::Covered);
        tops.map(|away| DeltaRow { path: away.place.clone(), base: None, state: DeltaState::Unmounted })
            .collect()
    }

    /// Returns a warning in one line; `None` if nothing is out of reach.
    pub(crate) fn warning(&self) -> Option<String> {
        let mut parts: Vec<String> = self.away.values().take(NAMED).map(Away::describe).collect();
        let more = self.away.len() - parts.len();
        if more > 0 {
            parts.push(format!("{more} more places are like that"));
        }
        let what = "its files are neither deleted nor pulled";
        (!parts.is_empty()).then(|| format!("{}; {what}", parts.join("; ")))
    }
}

impl Away {
    fn describe(&self) -> String {
        let Self { place, why, rows } = self;
        let paths = if *rows == 1 { "path" } else { "paths" };
        match why {
            Why::Unmounted | Why::Vanished => {
                format!("the file system at `{place}` is not mounted any more ({rows} {paths})")
            }
            Why::Empty => {
                format!("every synced file is missing from the file system at `{place}` ({rows} {paths})")
            }
            Why::Covered => {
                format!("a file system is mounted now over what was at `{place}` ({rows} {paths})")
            }
        }
    }
}
