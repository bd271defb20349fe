//! What was on file systems below the mount that are not there now.
//!
//! The base says of each path on which file system it was, by the place where that began. If none begins there any
//! more, it was unmounted; if one does and nothing of the base is in it, it is a fresh one. Either way it is lost for
//! now, and not deleted. So is what another file system was mounted over.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_core::{TreePath, looks_lost};

use crate::local::{FileSystems, Looked, MountDir, is_staging, names, prefix};
use crate::state::{BaseRow, DeltaRow, DeltaState};

/// How many places are named in a warning.
const NAMED: usize = 5;

/// What became of a file system, or of what was in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// None begins there any more.
    Unmounted,
    /// None does any more since it was looked at.
    Vanished,
    /// One does, and nothing of what was brought is in it.
    Empty,
    /// One does, and did not before.
    Covered,
}

/// A place below the mount of which paths of the base are out of reach.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    pub(crate) place: TreePath,
    pub(crate) why: Why,
    /// Paths of the base.
    pub(crate) rows: u64,
}

/// Rows of the base on one file system.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    base: u64,
    present: u64,
}

/// Where a row of the base is, as seen from the file systems that are there now.
pub(crate) enum Reach {
    /// Where it was.
    There,
    /// On a file system that is not there.
    Unmounted,
    /// Below this place, where another file system begins now.
    Covered(TreePath),
}

/// Takes note of what is out of reach while a scan is merged with the base.
pub(crate) struct Reaching {
    file_systems: Arc<FileSystems>,
    /// Whether somebody said that what is gone is meant to be.
    meant: bool,
    away: BTreeMap<TreePath, Away>,
    counts: BTreeMap<TreePath, Count>,
}

impl Reaching {
    pub(crate) fn new(file_systems: Arc<FileSystems>, meant: bool) -> Self {
        Self { file_systems, meant, away: BTreeMap::new(), counts: BTreeMap::new() }
    }

    /// Returns how many components of the path lead to the file system that it is on now.
    pub(crate) fn depth_of(&self, path: &TreePath) -> u32 {
        self.file_systems.depth_of(path)
    }

    /// Says where a row is that the scan has come to.
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

    /// Counts a row that is on an unmounted file system.
    pub(crate) fn note_unmounted(&mut self, row: &BaseRow) {
        self.note(prefix(&row.path, row.depth.unwrap_or(0)), Why::Unmounted);
    }

    /// Counts a row that is not there and may be below what was mounted at `place`.
    pub(crate) fn note_covered(&mut self, place: TreePath) {
        self.note(place, Why::Covered);
    }

    fn note(&mut self, place: TreePath, why: Why) {
        self.away.entry(place.clone()).or_insert(Away { place, why, rows: 0 }).rows += 1;
    }

    /// Counts a row whose file system is there.
    pub(crate) fn count(&mut self, row: &BaseRow, present: bool) {
        if let Some(depth) = row.depth.filter(|depth| *depth > 0) {
            let place = prefix(&row.path, depth);
            // A directory at which a file system begins is there with it.
            if row.path != place {
                let count = self.counts.entry(place).or_default();
                count.base += 1;
                count.present += u64::from(present);
            }
        }
    }

    /// Ends it. `whole` says whether all of the mount was looked at.
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

fn is_empty(mount: &MountDir, place: &TreePath) -> bool {
    let dir = mount.dir(place).and_then(|dir| Ok((names(&dir)?, dir)));
    dir.is_ok_and(|(names, dir)| names.iter().all(|name| is_staging(&dir, name)))
}

/// Whether a file system begins at this place.
fn begins(mount: &MountDir, place: &TreePath) -> bool {
    let looked = mount.parent(place).and_then(|above| {
        let at = Looked::at(&above, place.name())?;
        Ok(at.is_some_and(|at| Looked::of_dir(&above).is_ok_and(|above| at.begins(&above.place))))
    });
    looked.unwrap_or(false)
}

/// All that is out of reach.
#[derive(Debug, Default)]
pub(crate) struct AwayOnes {
    away: BTreeMap<TreePath, Away>,
    /// How many paths the base has on each file system that is there.
    counts: BTreeMap<TreePath, u64>,
}

impl AwayOnes {
    /// Whether the base has paths on a file system below the mount that is there.
    pub(crate) fn has_file_systems(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Looks once more, after files were read, whether the file systems are still there.
    pub(crate) fn look_again(&mut self, mount: &MountDir) {
        for (place, rows) in std::mem::take(&mut self.counts) {
            if !self.away.contains_key(&place) && !begins(mount, &place) {
                self.away.insert(place.clone(), Away { place, why: Why::Vanished, rows });
            }
        }
    }

    /// Takes on what is out of reach in a part of the mount that was read on its own.
    pub(crate) fn absorb(&mut self, more: Self) {
        for (place, away) in more.away {
            let rows = away.rows;
            self.away.entry(place).and_modify(|known| known.rows += rows).or_insert(away);
        }
    }

    /// Paths of the base that are out of reach.
    pub(crate) fn rows(&self) -> u64 {
        self.away.values().map(|away| away.rows).sum()
    }

    /// Paths of these that were counted as deleted before that was known.
    pub(crate) fn rows_of_empty(&self) -> u64 {
        self.away.values().filter(|away| away.why == Why::Empty).map(|away| away.rows).sum()
    }

    /// Returns what is left of the rows of the mount: one stands for all that was on a file system. What is there in
    /// its place keeps its own.
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

    /// Returns the places that stand for all below them, as rows in tree order.
    pub(crate) fn tops(&self) -> Vec<DeltaRow> {
        let tops = self.away.values().filter(|away| away.why != Why::Covered);
        tops.map(|away| DeltaRow { path: away.place.clone(), base: None, state: DeltaState::Unmounted })
            .collect()
    }

    /// Returns one line about all of it; `None` where there is nothing.
    pub(crate) fn warning(&self) -> Option<String> {
        let mut parts: Vec<String> = self.away.values().take(NAMED).map(Away::describe).collect();
        let more = self.away.len() - parts.len();
        if more > 0 {
            parts.push(format!("{more} more places are like that"));
        }
        let what = "what was in it is neither deleted nor brought";
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
                format!("nothing of what was brought is in the file system at `{place}` ({rows} {paths})")
            }
            Why::Covered => {
                format!("a file system is mounted now over what was at `{place}` ({rows} {paths})")
            }
        }
    }
}
