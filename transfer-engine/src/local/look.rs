//! What one look at a mount knows of its moment: what was changed after it began.
//!
//! What was not changed between the begin of a look and the stat of it is as it was at that begin. So a look
//! that met nothing else has seen the tree of one moment, and needs no second one to prove it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy_core::{Timestamp, TreePath};

use super::fingerprint::Fingerprint;
use crate::env::Env;

/// What a tick of the clock that stamps changes may take longer than it should.
const SLACK: i128 = 1_000_000;
/// File systems that keep no fractions of seconds may keep every second one only.
const COARSE_TICK: i128 = 2_100_000_000;
/// So many directories that change are told apart; of more, every directory counts as one.
const MAX_DIRS: usize = 10_000;

/// A look at a mount; the walk and the readers of files share it.
#[derive(Debug)]
pub(crate) struct Look {
    env: Env,
    began: i128,
    /// Within what time of its stamp a change took place.
    tick: i128,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Directories that changed in this look, or may have.
    dirs: BTreeSet<TreePath>,
    /// Those that certainly changed in this look or one before it.
    moving: BTreeSet<TreePath>,
    /// There are too many of them to name.
    everywhere: bool,
    /// The directories of git's that were met; none lies in another.
    git: BTreeSet<TreePath>,
    /// Those of them in which something changed in this look.
    units: BTreeSet<TreePath>,
    /// Directories with packs in them.
    packs: Vec<TreePath>,
    /// Whether something was listed and is not there any more.
    gone: bool,
    /// Whether a directory changed in this look, but for those of git's.
    stirred: bool,
    /// Whether a file or link changed in this look, but for those of git's.
    changed: bool,
    /// When the newest change that this look met is past for certain.
    settles: i128,
}

impl Look {
    /// Begins a look.
    pub(crate) fn begin(env: &Env) -> Self {
        let resolution = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
        let tick = i128::from(resolution.tv_sec) * 1_000_000_000 + i128::from(resolution.tv_nsec) + SLACK;
        Self { env: env.clone(), began: env.now().as_nanos(), tick, seen: Mutex::default() }
    }

    /// Begins a look that follows this one: what changed in this one stays in doubt.
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

    /// Whether what has this stat may have been changed since the look began.
    ///
    /// A time from the future is none of now: it was stamped before the clock was set back.
    pub(crate) fn is_fresh(&self, print: &Fingerprint) -> bool {
        self.is_from_now(print) && self.is_of_past(print)
    }

    fn tick_of(&self, print: &Fingerprint) -> i128 {
        if print.ctime.nanos == 0 && print.mtime.nanos == 0 { COARSE_TICK } else { self.tick }
    }

    fn is_from_now(&self, print: &Fingerprint) -> bool {
        print.ctime.as_nanos() > self.began - self.tick_of(print)
    }

    fn is_of_past(&self, print: &Fingerprint) -> bool {
        print.ctime.as_nanos() <= self.env.now().as_nanos() + self.tick_of(print)
    }

    /// Notes the stat of a directory, taken after it was listed.
    pub(crate) fn note_dir(&self, path: &TreePath, print: &Fingerprint) {
        if path.name() == b"pack" {
            let mut seen = self.seen();
            if seen.unit_of(path).is_some() {
                seen.packs.push(path.clone());
            }
        }
        // In this order a clock of a test's own hears of each directory.
        if self.is_of_past(print) && self.is_from_now(print) {
            let stamp = print.ctime.as_nanos();
            self.stir(path, stamp > self.began, stamp + self.tick_of(print));
        }
    }

    /// Notes that something was listed in a directory and is not there any more, or is something else.
    pub(crate) fn note_gone(&self, dir: &TreePath) {
        self.seen().gone = true;
        self.stir(dir, true, self.env.now().as_nanos() + self.tick);
    }

    /// Notes a directory that is one of git's, or lies in one.
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

    /// Notes a file or link if it may have been changed since the look began.
    pub(crate) fn note_leaf(&self, path: &TreePath, print: &Fingerprint) {
        if self.is_fresh(print) {
            let mut seen = self.seen();
            match seen.unit_of(path) {
                Some(unit) => drop(seen.units.insert(unit)),
                None => seen.changed = true,
            }
            seen.settles = seen.settles.max(print.ctime.as_nanos() + self.tick_of(print));
        }
    }

    /// Returns the repositories in which something changed in this look.
    pub(crate) fn units(&self) -> Vec<TreePath> {
        self.seen().units.iter().cloned().collect()
    }

    /// Returns the directories with packs that were listed.
    pub(crate) fn packs(&self) -> Vec<TreePath> {
        self.seen().packs.clone()
    }

    /// Whether something was listed in this look and is not there any more.
    pub(crate) fn has_lost(&self) -> bool {
        self.seen().gone
    }

    /// Whether the directory changed in this look or one before it. What changed a moment before a look is quiet in
    /// the next one, and was changed before all of this.
    pub(crate) fn is_moving(&self, dir: &TreePath) -> bool {
        let seen = self.seen();
        seen.everywhere || seen.dirs.contains(dir) || seen.moving.contains(dir)
    }

    /// Whether a directory changed in this look.
    pub(crate) fn has_stirred(&self) -> bool {
        self.seen().stirred
    }

    /// Whether a file or link changed in this look.
    pub(crate) fn has_changed(&self) -> bool {
        self.seen().changed
    }

    /// How long to wait until the newest change that this look met is past for certain.
    pub(crate) fn pause(&self) -> Duration {
        let left = self.seen().settles - self.env.now().as_nanos();
        Duration::from_nanos(left.clamp(0, COARSE_TICK) as u64)
    }
}

impl Seen {
    /// Returns the repository that holds the path.
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
