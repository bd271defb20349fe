//! The streaming merge-join of base, local and remote, and the decisions that concern more than one path.
//!
//! ```text
//! base   ──┐
//! local  ──┼─► Reconciler ─► Step { path, the three rows, decision }
//! remote ──┘
//! ```
//!
//! The caller pushes rows, each source in tree order, whenever [`Next::Need`] asks for them. Memory is two
//! rows per source, plus one subtree where one side has a file and another has a directory.
//!
//! Directories are implied by what is in them, on every side, and have rows only where a tree lists them.
//! Whoever carries a plan out relies on these rules:
//! - If a step has no local row, the local entry is the base's, also when it is written to the context.
//! - If a directory is written to a tree and is not empty there, its entry is dropped again if the mode is
//!   the default one.
//! - A write to the mount without a remote row is a directory of the default mode; it may replace a file.
//! - A file that replaces a directory is written after what is in the directory has been deleted. A deletion
//!   also removes the directories that it leaves empty, unless such a directory has another mode or the new
//!   base lists it.

mod clash;
mod joined;

use std::collections::VecDeque;
use std::fmt;

use self::clash::{Group, copy_of};
use self::joined::{Joined, Side, Unlisted};
use crate::decide::{Decision, Local, Rules, Towards, Verdict};
use crate::{Entry, TreePath};

/// A row of the base or the remote: a tree entry, with whatever the caller keeps beside it.
pub trait TreeRow {
    /// The path; rows come in tree order, each path once.
    fn path(&self) -> &TreePath;
    /// The entry at the path.
    fn entry(&self) -> &Entry;
    /// Whether this is a placeholder of the remote side: the path was recycled, and the entry says what it
    /// was.
    fn is_recycled(&self) -> bool {
        false
    }
    /// Whether it is a placeholder because the store has lost the content.
    fn is_lost(&self) -> bool {
        false
    }
    /// Whether this is a row of the base of a file that the mount kept when the context recycled or lost it.
    fn is_withheld(&self) -> bool {
        false
    }
}

/// A row of the local side. It has rows only where the mount differs from the base.
pub trait LocalRow {
    /// The path; rows come in tree order, each path once.
    fn path(&self) -> &TreePath;
    /// What is there.
    fn local(&self) -> Local<'_>;
    /// Whether the scan did not find the path, but can't be sure that it is gone. Its deletion is held back.
    fn is_in_doubt(&self) -> bool {
        false
    }
}

/// The three sources of a [`Reconciler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The state on which mount and context last agreed.
    Base,
    /// Where the mount differs from the base.
    Local,
    /// What the head holds.
    Remote,
}

/// One path of a plan, with the rows that its decision was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<B, L, R> {
    /// The path.
    pub path: TreePath,
    /// The base's row.
    pub base: Option<B>,
    /// The local row; `None` if the mount is as the base says.
    pub local: Option<L>,
    /// The remote's row; `None` if the context has recycled the path.
    pub remote: Option<R>,
    /// Whether the context has recycled the path.
    pub recycled: bool,
    /// Whether the mount has the very content that the store has lost.
    pub heals: bool,
    /// Whether the remote has a directory here that is implied by what is below it.
    pub remote_implied: bool,
    /// What is done, and why.
    pub decision: Decision,
    /// With [`Verdict::KeepBoth`]: where the remote version is kept.
    pub copy: Option<TreePath>,
}

/// One line: the path, what is done, why, and where a copy is kept.
impl<B, L, R> fmt::Display for Step<B, L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.path, self.decision.verdict, self.decision.reason)?;
        self.copy.as_ref().map_or(Ok(()), |copy| write!(f, ", the context's version as {copy}"))
    }
}

/// What [`Reconciler::next`] returns.
#[derive(Debug)]
pub enum Next<B, L, R> {
    /// A decided path.
    Step(Step<B, L, R>),
    /// The source must be given its next row, or finished.
    Need(Source),
    /// All sources are finished, and everything is decided.
    End,
}

/// Merges three sorted sequences and decides each path. See the module's documentation.
#[derive(Debug)]
pub struct Reconciler<B, L, R> {
    rules: Rules,
    towards: Towards,
    base: Queue<B>,
    local: Queue<L>,
    remote: Queue<R>,
    group: Option<Group<B, L, R>>,
    /// What the local row above means for paths below it that have no row of their own.
    cover: Option<(TreePath, Unlisted)>,
    out: VecDeque<Step<B, L, R>>,
}

#[derive(Debug)]
struct Queue<T> {
    rows: VecDeque<T>,
    finished: bool,
}

impl<T> Queue<T> {
    const fn new() -> Self {
        Self { rows: VecDeque::new(), finished: false }
    }

    fn is_short(&self) -> bool {
        !self.finished && self.rows.len() < 2
    }
}

impl<B: TreeRow, L: LocalRow, R: TreeRow> Reconciler<B, L, R> {
    /// Starts a reconciliation that will write the side `towards`.
    pub fn new(rules: Rules, towards: Towards) -> Self {
        Self {
            rules,
            towards,
            base: Queue::new(),
            local: Queue::new(),
            remote: Queue::new(),
            group: None,
            cover: None,
            out: VecDeque::new(),
        }
    }

    /// Gives the base's next row, or `None` for its end.
    pub fn push_base(&mut self, row: Option<B>) {
        push(&mut self.base, row);
    }

    /// Gives the next local difference, or `None` for the end.
    pub fn push_local(&mut self, row: Option<L>) {
        push(&mut self.local, row);
    }

    /// Gives the head's next row, or `None` for its end.
    pub fn push_remote(&mut self, row: Option<R>) {
        push(&mut self.remote, row);
    }

    /// Returns the next decided path, or what is needed to decide it.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not ask for rows")]
    pub fn next(&mut self) -> Next<B, L, R> {
        loop {
            if let Some(step) = self.out.pop_front() {
                return Next::Step(step);
            }
            // Two rows of each source are needed: the one to take, and the next, which says whether anything
            // lies below it.
            if self.base.is_short() {
                return Next::Need(Source::Base);
            }
            if self.local.is_short() {
                return Next::Need(Source::Local);
            }
            if self.remote.is_short() {
                return Next::Need(Source::Remote);
            }
            let joined = self.take();
            let at_end = joined.is_none();
            match (self.group.take(), joined) {
                (Some(mut group), Some(joined)) if joined.path.is_below(group.top()) => {
                    group.push(joined);
                    self.group = Some(group);
                }
                (group, joined) => {
                    self.out.extend(group.into_iter().flat_map(Group::resolve));
                    // The row that follows the group may itself begin a group.
                    joined.into_iter().for_each(|joined| self.decide(joined));
                    if at_end && self.out.is_empty() {
                        return Next::End;
                    }
                }
            }
        }
    }

    /// Decides a path, or starts a group and waits for what lies below: if the path becomes a file or link,
    /// nothing that the other side has below it can stay.
    fn decide(&mut self, joined: Joined<B, L, R>) {
        let decision = joined.decide(&self.rules, self.towards);
        let below = |row: Option<&TreePath>| row.is_some_and(|p| p.is_below(&joined.path));
        let clashes = |leaf: &Side| match leaf {
            Side::Local => below(self.remote.rows.front().map(R::path)),
            Side::Remote => {
                below(self.local.rows.front().map(L::path)) || below(self.base.rows.front().map(B::path))
            }
        };
        // Whether the context has a directory in the place of a file is not known before a path below it that it has
        // not recycled.
        let in_doubt = joined.remote_implied
            && self.remote.rows.front().is_some_and(R::is_recycled)
            && joined.has_or_had_leaf();
        match joined.leaf_after(decision.verdict, self.towards).filter(clashes) {
            leaf if leaf.is_some() || in_doubt => {
                self.group = Some(Group::new(joined, decision, self.rules, self.towards));
            }
            _ => {
                let copy = (decision.verdict == Verdict::KeepBoth).then(|| copy_of(&joined));
                self.out.push_back(joined.into_step(decision, copy));
            }
        }
    }

    /// Takes the rows of the first path.
    fn take(&mut self) -> Option<Joined<B, L, R>> {
        let fronts = [
            self.base.rows.front().map(B::path),
            self.local.rows.front().map(L::path),
            self.remote.rows.front().map(R::path),
        ];
        let path = fronts.into_iter().flatten().min()?.clone();
        let base = self.base.rows.pop_front_if(|r| *r.path() == path);
        let local = self.local.rows.pop_front_if(|r| *r.path() == path);
        let remote = self.remote.rows.pop_front_if(|r| *r.path() == path);
        let below = |row: Option<&TreePath>| row.is_some_and(|p| p.is_below(&path));
        let base_implied = base.is_none() && below(self.base.rows.front().map(B::path));
        let base_keeps = base_implied && self.base.rows.front().is_some_and(B::is_withheld);
        let remote_implied = remote.is_none() && below(self.remote.rows.front().map(R::path));
        let unlisted = match &self.cover {
            Some((top, unlisted)) if path.is_below(top) => *unlisted,
            _ => {
                self.cover = match local.as_ref().map(L::local) {
                    Some(Local::Unreadable) => Some((path.clone(), Unlisted::Unreadable)),
                    Some(Local::Unmounted) => Some((path.clone(), Unlisted::Unmounted)),
                    Some(Local::Present(entry)) if !entry.is_dir() => Some((path.clone(), Unlisted::Absent)),
                    _ => None,
                };
                Unlisted::AsBase
            }
        };
        Some(Joined { path, base, local, remote, base_implied, base_keeps, remote_implied, unlisted })
    }
}

fn push<T>(queue: &mut Queue<T>, row: Option<T>) {
    match row {
        Some(row) => queue.rows.push_back(row),
        None => queue.finished = true,
    }
}
