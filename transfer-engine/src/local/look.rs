//! Records what changes in a mount while it is scanned.
//!
//! If a path did not change between the start of a scan and the stat of the path, it is still as it was at
//! the start. So a scan that finds no newer change has seen the tree at one moment, and needs no second scan
//! to prove that.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy_core::{Timestamp, TreePath};

use super::fingerprint::Fingerprint;
use crate::env::Env;
use crate::local::os;

/// How much later than due a tick of the file system's clock may come, in nanoseconds.
const SLACK: i128 = 1_000_000;
/// No tick is later than this. A clock that is further behind is another one, such as a test's.
const MOST_BEHIND: i128 = 1_000_000_000;
/// The tick of file systems that store only whole seconds, possibly only even ones.
const COARSE_TICK: i128 = 2_100_000_000;
/// The most changing directories that are tracked one by one. With more, every directory counts as changing.
const MAX_DIRS: usize = 10_000;

/// One scan's record. The walk and the readers of files share it.
#[derive(Debug)]
pub(crate) struct Look {
    env: Env,
    began: i128,
    /// The tick of the file system's clock: a change happened within this time of its timestamp.
    tick: i128,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Directories that changed during this scan, or may have.
    dirs: BTreeSet<TreePath>,
    /// Directories that certainly changed during this scan or an earlier one.
    moving: BTreeSet<TreePath>,
    /// Whether there are too many changing directories to track.
    everywhere: bool,
    /// The git directories that were found; none is inside another.
    git: BTreeSet<TreePath>,
    /// The git directories in which something changed during this scan.
    units: BTreeSet<TreePath>,
    /// Git's directories of packs.
    packs: Vec<TreePath>,
    /// Whether something was listed that is gone now.
    gone: bool,
    /// Whether a directory outside git directories changed during this scan.
    stirred: bool,
    /// Whether a file or link outside git directories changed during this scan.
    changed: bool,
    /// The time from which a change newer than all that were seen gets a later timestamp.
    settles: i128,
}

fn nanos(time: &rustix::time::Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Returns the tick of a clock with this resolution that is behind the exact time by `behind`. On a machine with too much
/// to do, a tick comes later than it is due.
fn tick(resolution: i128, behind: i128) -> i128 {
    let behind = if behind <= MOST_BEHIND { behind } else { 0 };
    resolution.max(behind) + SLACK
}

impl Look {
    /// Starts the record of a scan.
    pub(crate) fn begin(env: &Env) -> Self {
        use rustix::time::{clock_getres, clock_gettime};
        // The clock that file systems take their times from is read first: what changes from now on is no older.
        let (coarse, resolution) = (clock_gettime(os::COARSE_CLOCK), clock_getres(os::COARSE_CLOCK));
        let began = env.now().as_nanos();
        let tick = tick(nanos(&resolution), began - nanos(&coarse));
        Self { env: env.clone(), began, tick, seen: Mutex::default() }
    }

    /// Starts the record of the next scan. What changed in this one stays in doubt.
    #[must_use]
    pub(crate) fn again(&self) -> Self {
        let seen = self.seen();
        let (moving, everywhere, git) = (seen.moving.clone(), seen.everywhere, seen.git.clone());
        let seen = Seen { moving, everywhere, git, ..Seen::default() };
        Self { seen: Mutex::new(seen), ..Self::begin(&self.env) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file with this fingerprint may have changed since the scan started.
    ///
    /// A time in the future does not count: it was set before the clock was set back.
    pub(crate) fn is_fresh(&self, print: &Fingerprint) -> bool {
        self.is_from_now(print) && self.is_of_past(print)
    }

    fn tick_of(&self, print: &Fingerprint) -> i128 {
        if print.ctime.nanos == 0 && print.mtime.nanos == 0 { COARSE_TICK } else { self.tick }
    }

    /// Returns when the file with this fingerprint was changed.
    fn changed(&self, print: &Fingerprint) -> i128 {
        print.by_clock(&self.env).ctime.as_nanos()
    }

    fn is_from_now(&self, print: &Fingerprint) -> bool {
        self.changed(print) > self.began - self.tick_of(print)
    }

    fn is_of_past(&self, print: &Fingerprint) -> bool {
        self.changed(print) <= self.env.now().as_nanos() + self.tick_of(print)
    }

    /// Notes the stat of a directory, taken after it was listed.
    pub(crate) fn note_dir(&self, path: &TreePath, print: &Fingerprint) {
        if path.name() == b"pack" {
            let mut seen = self.seen();
            if seen.unit_of(path).is_some() {
                seen.packs.push(path.clone());
            }
        }
        // `is_of_past` comes first, so that a test's clock is called for each directory.
        if self.is_of_past(print) && self.is_from_now(print) {
            let stamp = self.changed(print);
            self.stir(path, stamp > self.began, stamp + self.tick_of(print));
        }
    }

    /// Notes that something was listed in a directory and is gone now, or has become something else.
    pub(crate) fn note_gone(&self, dir: &TreePath) {
        self.seen().gone = true;
        self.stir(dir, true, self.env.now().as_nanos() + self.tick);
    }

    /// Notes a git directory, or a directory inside one.
    pub(crate) fn note_git(&self, path: &TreePath) {
        let mut seen = self.seen();
        if seen.git.len() < MAX_DIRS && seen.unit_of(path).is_none() {
            seen.git.insert(path.clone());
        }
    }

    fn stir(&self, dir: &TreePath, certain: bool, settles: i128) {
        let mut seen = self.seen();
        match seen.unit_of(dir) {
            Some(unit) => drop(seen.units.insert(unit)),
            None => seen.stirred = true,
        }
        seen.settles = seen.settles.max(settles);
        if seen.dirs.len().max(seen.moving.len()) >= MAX_DIRS {
            seen.everywhere = true;
            return;
        }
        seen.dirs.insert(dir.clone());
        if certain {
            seen.moving.insert(dir.clone());
        }
    }

    /// Notes a file or link if it may have changed since the scan started.
    pub(crate) fn note_leaf(&self, path: &TreePath, print: &Fingerprint) {
        if self.is_fresh(print) {
            let mut seen = self.seen();
            match seen.unit_of(path) {
                Some(unit) => drop(seen.units.insert(unit)),
                None => seen.changed = true,
            }
            seen.settles = seen.settles.max(self.changed(print) + self.tick_of(print));
        }
    }

    /// Returns the git directories in which something changed during this scan.
    pub(crate) fn units(&self) -> Vec<TreePath> {
        self.seen().units.iter().cloned().collect()
    }

    /// Returns git's directories of packs that were listed.
    pub(crate) fn packs(&self) -> Vec<TreePath> {
        self.seen().packs.clone()
    }

    /// Whether something was listed in this scan that is gone now.
    pub(crate) fn has_lost(&self) -> bool {
        self.seen().gone
    }

    /// Whether the directory changed during this scan or an earlier one. A directory that changed just before
    /// a scan does not change in the next one; then the change came before both.
    pub(crate) fn is_moving(&self, dir: &TreePath) -> bool {
        let seen = self.seen();
        seen.everywhere || seen.dirs.contains(dir) || seen.moving.contains(dir)
    }

    /// Whether a directory outside git directories changed during this scan.
    pub(crate) fn has_stirred(&self) -> bool {
        self.seen().stirred
    }

    /// Whether a file or link outside git directories changed during this scan.
    pub(crate) fn has_changed(&self) -> bool {
        self.seen().changed
    }

    /// How long to wait until a new change would get a later timestamp than all changes that were seen.
    pub(crate) fn pause(&self) -> Duration {
        let left = self.seen().settles - self.env.now().as_nanos();
        Duration::from_nanos(left.clamp(0, COARSE_TICK) as u64)
    }
}

impl Seen {
    /// Returns the git directory that contains the path.
    fn unit_of(&self, path: &TreePath) -> Option<TreePath> {
        if self.git.is_empty() {
            return None;
        }
        std::iter::successors(Some(path.clone()), TreePath::parent).find(|above| self.git.contains(above))
    }
}

trait Nanos {
    fn as_nanos(&self) -> i128;
}

impl Nanos for Timestamp {
    fn as_nanos(&self) -> i128 {
        i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l26_a_tick_that_comes_late_is_waited_for() {
        assert_eq!(tick(4_000_000, 3_000_000), 4_000_000 + SLACK);
        assert_eq!(tick(4_000_000, 90_000_000), 90_000_000 + SLACK);
        // The clocks of tests are days away, in either direction.
        assert_eq!(tick(4_000_000, -86_400_000_000_000), 4_000_000 + SLACK);
        assert_eq!(tick(4_000_000, 86_400_000_000_000), 4_000_000 + SLACK);
    }
}
