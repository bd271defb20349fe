//! The streaming merge-join of base, local and remote, and the decisions that concern more than one path.
//!
//! ```text
//! base   ──┐
//! local  ──┼─► Reconciler ─► Step { path, the three rows, decision }
//! remote ──┘
//! ```
//!
//! The caller pushes rows, each source in tree order, whenever [`Next::Need`] asks for them; memory is two
//! rows a source, plus one subtree where a file stands against a directory.

use std::collections::VecDeque;

use crate::conflict::copy_path;
use crate::decide::{Decision, Local, Reason, Rules, Towards, Verdict, conflict, decide};
use crate::{Entry, Node, TreePath};

/// A row of the base or the remote: a tree entry, with whatever the caller wants to have at hand.
pub trait TreeRow {
    /// The path; rows come in tree order, each path once.
    fn path(&self) -> &TreePath;
    /// What stands there.
    fn entry(&self) -> &Entry;
}

/// A row of the local side. It has rows only where the mount differs from the base.
pub trait LocalRow {
    /// The path; rows come in tree order, each path once.
    fn path(&self) -> &TreePath;
    /// What is there.
    fn local(&self) -> Local<'_>;
    /// Whether this is a directory in which nothing in scope is left.
    fn is_empty_dir(&self) -> bool;
}

/// The three sources of a [`Reconciler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// What the mount last agreed on.
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
    /// The local row; `None`: as in the base.
    pub local: Option<L>,
    /// The remote's row.
    pub remote: Option<R>,
    /// Whether the remote has a directory here that is implied by what is below it.
    pub remote_implied: bool,
    /// What is done, and why.
    pub decision: Decision,
    /// With [`Verdict::KeepBoth`]: where the remote version is kept.
    pub copy: Option<TreePath>,
}

/// What a [`Reconciler`] comes back with.
#[derive(Debug)]
pub enum Next<B, L, R> {
    /// A decided path.
    Step(Step<B, L, R>),
    /// The source must be given another row, or finished.
    Need(Source),
    /// All sources are finished and everything is decided.
    End,
}

/// Merges three sorted sequences and decides each path. See the module's description.
#[derive(Debug)]
pub struct Reconciler<B, L, R> {
    rules: Rules,
    towards: Towards,
    base: Queue<B>,
    local: Queue<L>,
    remote: Queue<R>,
    group: Option<Vec<Joined<B, L, R>>>,
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

/// The rows of one path, and what each side holds there once implied directories are counted in.
#[derive(Debug)]
struct Joined<B, L, R> {
    path: TreePath,
    base: Option<B>,
    local: Option<L>,
    remote: Option<R>,
    base_implied: bool,
    remote_implied: bool,
}

impl<B: TreeRow, L: LocalRow, R: TreeRow> Joined<B, L, R> {
    fn base_entry(&self) -> Option<&Entry> {
        entry_or_implied(self.base.as_ref().map(B::entry), self.base_implied)
    }

    fn remote_entry(&self) -> Option<&Entry> {
        entry_or_implied(self.remote.as_ref().map(R::entry), self.remote_implied)
    }

    fn local(&self) -> Local<'_> {
        match &self.local {
            Some(row) => row.local(),
            None => self.base_entry().map_or(Local::Absent, Local::Present),
        }
    }

    fn local_is_leaf(&self) -> bool {
        matches!(self.local(), Local::Present(e) if !e.is_dir())
    }

    fn remote_is_leaf(&self) -> bool {
        self.remote.as_ref().is_some_and(|r| !r.entry().is_dir())
    }

    /// Whether the remote side holds something here that the base does not.
    fn remote_is_own(&self) -> bool {
        match (self.base_entry(), self.remote_entry()) {
            (Some(b), Some(r)) => !b.agrees_with(r),
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }

    fn decide(&self, rules: &Rules, towards: Towards) -> Decision {
        decide(self.base_entry(), self.local(), self.remote_entry(), rules, towards)
    }

    fn into_step(self, decision: Decision) -> Step<B, L, R> {
        Step {
            path: self.path,
            base: self.base,
            local: self.local,
            remote: self.remote,
            remote_implied: self.remote_implied,
            decision,
            copy: None,
        }
    }

    /// Whether something stands here on the written side once `verdict` is carried out.
    fn stands_after(&self, verdict: Verdict, towards: Towards) -> bool {
        let local = matches!(self.local(), Local::Present(_) | Local::Unreadable);
        let remote = self.remote_entry().is_some();
        match (verdict, towards) {
            (Verdict::Delete, _) => false,
            (Verdict::KeepBoth | Verdict::Stop, _) => local,
            (Verdict::Write, Towards::Store) => local,
            (Verdict::Write, Towards::Mount) => remote,
            (_, Towards::Store) => remote,
            (_, Towards::Mount) => local,
        }
    }
}

fn entry_or_implied(entry: Option<&Entry>, implied: bool) -> Option<&Entry> {
    entry.or(if implied { Some(const { &Entry::IMPLIED_DIR }) } else { None })
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
            // Two rows are needed of each: the one to take, and the one that tells what lies below it.
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
            if let Some(mut group) = self.group.take() {
                match joined {
                    Some(joined) if joined.path.is_below(&group[0].path) => {
                        // Below a directory one thing that stays settles the question; a group must not grow
                        // to the size of everything that has not been brought yet.
                        let settled = !group[0].local_is_leaf() && !group[0].remote_is_leaf() && {
                            let verdict = joined.decide(&self.rules, self.towards).verdict;
                            joined.stands_after(verdict, self.towards)
                        };
                        group.push(joined);
                        if settled {
                            self.out.extend(resolve(group, &self.rules, self.towards));
                        } else {
                            self.group = Some(group);
                        }
                        continue;
                    }
                    joined => {
                        self.out.extend(resolve(group, &self.rules, self.towards));
                        // What follows the group may itself begin one.
                        if let Some(joined) = joined {
                            self.settle(joined);
                        }
                        continue;
                    }
                }
            }
            match joined {
                Some(joined) => self.settle(joined),
                None => return Next::End,
            }
        }
    }

    fn settle(&mut self, joined: Joined<B, L, R>) {
        if self.starts_group(&joined) {
            self.group = Some(vec![joined]);
        } else {
            let decision = joined.decide(&self.rules, self.towards);
            let copy = (decision.verdict == Verdict::KeepBoth).then(|| copy_of(&joined));
            self.out.push_back(Step { copy, ..joined.into_step(decision) });
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
        let base_implied = base.is_none() && self.base.rows.front().is_some_and(|r| r.path().is_below(&path));
        let remote_implied =
            remote.is_none() && self.remote.rows.front().is_some_and(|r| r.path().is_below(&path));
        Some(Joined { path, base, local, remote, base_implied, remote_implied })
    }

    /// Whether what lies below must be known before this path can be decided: a file on one side against
    /// something below it on the other, or a directory that may have been emptied.
    fn starts_group(&self, joined: &Joined<B, L, R>) -> bool {
        let below = |row: Option<&TreePath>| row.is_some_and(|p| p.is_below(&joined.path));
        let base_below = below(self.base.rows.front().map(B::path));
        let local_below = below(self.local.rows.front().map(L::path));
        let remote_below = below(self.remote.rows.front().map(R::path));
        (joined.local_is_leaf() && remote_below)
            || (joined.remote_is_leaf() && (base_below || local_below))
            || (joined.local.as_ref().is_some_and(L::is_empty_dir)
                && (base_below || local_below || remote_below))
    }
}

fn push<T>(queue: &mut Queue<T>, row: Option<T>) {
    match row {
        Some(row) => queue.rows.push_back(row),
        None => queue.finished = true,
    }
}

/// Decides a subtree whose top may clash with what is below it.
fn resolve<B: TreeRow, L: LocalRow, R: TreeRow>(
    group: Vec<Joined<B, L, R>>,
    rules: &Rules,
    towards: Towards,
) -> Vec<Step<B, L, R>> {
    let mut decisions: Vec<Decision> = group.iter().map(|j| j.decide(rules, towards)).collect();
    let mut copies: Vec<Option<TreePath>> = group
        .iter()
        .zip(&decisions)
        .map(|(j, d)| (d.verdict == Verdict::KeepBoth).then(|| copy_of(j)))
        .collect();
    let top = &group[0];
    let standing: Vec<usize> =
        (1..group.len()).filter(|&i| group[i].stands_after(decisions[i].verdict, towards)).collect();

    let top_stands = top.stands_after(decisions[0].verdict, towards);
    let top_written = matches!(decisions[0].verdict, Verdict::Write | Verdict::KeepBoth);
    let top_is_local =
        (towards == Towards::Store) == top_written || decisions[0].verdict == Verdict::KeepBoth;
    let top_is_leaf = if top_is_local { top.local_is_leaf() } else { top.remote_is_leaf() };

    if top_stands && top_is_leaf && !standing.is_empty() {
        // The side of the top against the other's survivors below it.
        let foreign_below: Vec<usize> = standing
            .into_iter()
            .filter(|&i| {
                let written = decisions[i].verdict == Verdict::Write;
                let is_local = (towards == Towards::Store) == written;
                is_local != top_is_local
            })
            .collect();
        if top_is_local {
            // What is below comes from the context; what it holds of its own is a conflict, and what only
            // a deletion not carried out has left blocks the top.
            let blocked = match towards {
                Towards::Store => foreign_below.iter().any(|&i| !group[i].remote_is_own()),
                Towards::Mount => matches!(decisions[0].verdict, Verdict::HoldBack | Verdict::Withhold),
            };
            match (blocked, towards) {
                (true, Towards::Store) => decisions[0] = NEEDS_DELETION,
                (true, Towards::Mount) => foreign_below.iter().for_each(|&i| decisions[i] = NEEDS_DELETION),
                (false, _) => {
                    clash_local_top(&group, &foreign_below, rules, towards, &mut decisions, &mut copies)
                }
            }
        } else {
            let blocked = match towards {
                Towards::Store => !top.remote_is_own(),
                Towards::Mount => foreign_below
                    .iter()
                    .any(|&i| matches!(decisions[i].verdict, Verdict::HoldBack | Verdict::Withhold)),
            };
            match (blocked, towards) {
                (true, Towards::Store) => foreign_below.iter().for_each(|&i| decisions[i] = NEEDS_DELETION),
                (true, Towards::Mount) => decisions[0] = NEEDS_DELETION,
                (false, _) => {
                    clash_remote_top(&group, &foreign_below, rules, towards, &mut decisions, &mut copies)
                }
            }
        }
    } else if towards == Towards::Store
        && decisions[0].verdict == Verdict::Nothing
        && top.remote.is_none()
        && top.local.as_ref().is_some_and(L::is_empty_dir)
        && standing.is_empty()
    {
        // The directory was implied by what was in it. That is gone, and the directory is still there.
        decisions[0] = Decision::new(Verdict::Write, Reason::NewHere);
    }

    group
        .into_iter()
        .zip(decisions)
        .zip(copies)
        .map(|((joined, decision), copy)| Step { copy, ..joined.into_step(decision) })
        .collect()
}

const NEEDS_DELETION: Decision = Decision::new(Verdict::Withhold, Reason::NeedsDeletion);

/// A local file or link at the top, things of the context's own below it.
fn clash_local_top<B: TreeRow, L: LocalRow, R: TreeRow>(
    group: &[Joined<B, L, R>],
    below: &[usize],
    rules: &Rules,
    towards: Towards,
    decisions: &mut [Decision],
    copies: &mut [Option<TreePath>],
) {
    let decision = conflict(rules, towards);
    match decision.verdict {
        Verdict::KeepBoth => {
            let to = copy_path(&group[0].path, &subtree_tag(group), 1);
            for &i in below {
                decisions[i] = decision;
                copies[i] = group[i].path.rebase(&group[0].path, &to);
            }
        }
        Verdict::Stop => decisions[0] = decision,
        // Preferring a side: in an upload `Write` is the local one's, in a download the context's.
        verdict => {
            let local_wins = (verdict == Verdict::Write) == (towards == Towards::Store);
            match (local_wins, towards) {
                (true, Towards::Store) => set(decisions, below, Verdict::Delete, decision.reason),
                (true, Towards::Mount) => set(decisions, below, Verdict::Keep, decision.reason),
                (false, Towards::Store) => decisions[0] = decision,
                (false, Towards::Mount) => decisions[0] = Decision::new(Verdict::Delete, decision.reason),
            }
        }
    }
}

/// A file or link of the context at the top, things of the mount's own below it.
fn clash_remote_top<B: TreeRow, L: LocalRow, R: TreeRow>(
    group: &[Joined<B, L, R>],
    below: &[usize],
    rules: &Rules,
    towards: Towards,
    decisions: &mut [Decision],
    copies: &mut [Option<TreePath>],
) {
    let decision = conflict(rules, towards);
    match decision.verdict {
        Verdict::KeepBoth => {
            decisions[0] = decision;
            copies[0] = Some(copy_of(&group[0]));
        }
        Verdict::Stop => decisions[0] = decision,
        verdict => {
            let local_wins = (verdict == Verdict::Write) == (towards == Towards::Store);
            match (local_wins, towards) {
                (true, Towards::Store) => decisions[0] = Decision::new(Verdict::Delete, decision.reason),
                (true, Towards::Mount) => decisions[0] = decision,
                (false, Towards::Store) => set(decisions, below, Verdict::Keep, decision.reason),
                (false, Towards::Mount) => set(decisions, below, Verdict::Delete, decision.reason),
            }
        }
    }
}

fn set(decisions: &mut [Decision], at: &[usize], verdict: Verdict, reason: Reason) {
    for &i in at {
        decisions[i] = Decision::new(verdict, reason);
    }
}

fn copy_of<B: TreeRow, L: LocalRow, R: TreeRow>(joined: &Joined<B, L, R>) -> TreePath {
    let tag = match joined.remote.as_ref().map(|r| &r.entry().node) {
        Some(Node::File { digest, .. }) => digest.short(),
        Some(Node::Symlink { target }) => short(fnv(FNV_START, target)),
        Some(Node::Dir) | None => short(FNV_START),
    };
    copy_path(&joined.path, &tag, 1)
}

/// A tag for everything that the context holds below a group's top: the same on every machine.
fn subtree_tag<B: TreeRow, L: LocalRow, R: TreeRow>(group: &[Joined<B, L, R>]) -> String {
    let mut hash = FNV_START;
    for row in group[1..].iter().filter_map(|j| j.remote.as_ref()) {
        hash = fnv(hash, row.path().as_bytes());
        hash = match &row.entry().node {
            Node::File { digest, .. } => fnv(hash, &digest.0),
            Node::Symlink { target } => fnv(hash, target),
            Node::Dir => hash,
        };
    }
    short(hash)
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: names a copy, proves nothing.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn short(hash: u64) -> String {
    format!("{:08x}", (hash >> 32) as u32)
}
