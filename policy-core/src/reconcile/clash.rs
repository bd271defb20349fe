//! Clashes: one side has a file or link where the other has things below it.

use super::joined::{Joined, Side};
use super::{LocalRow, Step, TreeRow};
use crate::conflict::copy_path;
use crate::decide::{Decision, Local, Reason, Rules, Towards, Verdict, conflict};
use crate::{Node, TreePath};

const NEEDS_DELETION: Decision = Decision::new(Verdict::Withhold, Reason::NeedsDeletion);

/// A path, and everything that any side has below it, in tree order.
#[derive(Debug)]
pub(super) struct Group<B, L, R> {
    rows: Vec<Joined<B, L, R>>,
    decisions: Vec<Decision>,
    rules: Rules,
    towards: Towards,
}

impl<B: TreeRow, L: LocalRow, R: TreeRow> Group<B, L, R> {
    pub(super) fn new(top: Joined<B, L, R>, decision: Decision, rules: Rules, towards: Towards) -> Self {
        Self { rows: vec![top], decisions: vec![decision], rules, towards }
    }

    pub(super) fn top(&self) -> &TreePath {
        &self.rows[0].path
    }

    pub(super) fn push(&mut self, joined: Joined<B, L, R>) {
        self.decisions.push(joined.decide(&self.rules, self.towards));
        self.rows.push(joined);
    }

    /// Decides the clash, if there is one.
    pub(super) fn resolve(mut self) -> impl Iterator<Item = Step<B, L, R>> {
        // Recycled paths are not in the way, nor is a directory that only they imply.
        if self.rows[0].remote_implied && self.rows[1..].iter().all(|j| j.remote_entry().is_none()) {
            self.rows[0].remote_implied = false;
            self.decisions[0] = self.rows[0].decide(&self.rules, self.towards);
        }
        let from = |side: Side| -> Vec<usize> {
            let stands = |&i: &usize| self.rows[i].stands_from(side, self.decisions[i].verdict, self.towards);
            (1..self.rows.len()).filter(stands).collect()
        };
        // The side whose file or link is at the top if nothing is in its way.
        match self.rows[0].leaf_after(self.decisions[0].verdict, self.towards) {
            Some(Side::Local) => match from(Side::Remote) {
                below if below.is_empty() => {}
                below => self.local_leaf(&below),
            },
            Some(Side::Remote) => match from(Side::Local) {
                below if below.is_empty() => {}
                below => self.remote_leaf(&below),
            },
            None => {}
        }
        let to = self.copy_of_top();
        let top = self.top().clone();
        self.rows.into_iter().zip(self.decisions).map(move |(joined, decision)| {
            let copy =
                (decision.verdict == Verdict::KeepBoth).then(|| joined.path.rebase(&top, &to)).flatten();
            joined.into_step(decision, copy)
        })
    }

    /// The mount's file or link is at the top; `below` is what the context would still have under it.
    fn local_leaf(&mut self, below: &[usize]) {
        let held = matches!(self.decisions[0].verdict, Verdict::HoldBack | Verdict::Withhold);
        // If the context's paths below are its own, this is a conflict. If one is there only because a
        // deletion is not carried out, it is in the way.
        if held || below.iter().any(|&i| !self.rows[i].remote_is_own()) {
            return self.withhold(Side::Local, below);
        }
        let decision = conflict(&self.rules, self.towards);
        match (decision.verdict, self.local_wins(decision), self.towards) {
            (Verdict::KeepBoth, ..) => self.set(below, decision),
            (Verdict::Stop, ..) => self.decisions[0] = decision,
            (_, true, Towards::Store) => {
                let absent = below.iter().all(|&i| self.rows[i].local() == Local::Absent);
                match absent && self.rules.deletes(self.towards) {
                    true => self.set(below, Decision::new(Verdict::Delete, decision.reason)),
                    false => self.withhold(Side::Local, below),
                }
            }
            (_, true, Towards::Mount) => self.set(below, decision),
            (_, false, Towards::Store) => self.decisions[0] = decision,
            // Writing a directory in the file's place makes room for what comes below it.
            (_, false, Towards::Mount) => match self.rules.deletes(self.towards) {
                true => self.decisions[0] = decision,
                false => self.withhold(Side::Local, below),
            },
        }
    }

    /// The context's file or link is at the top; `below` is what the mount would still have under it.
    fn remote_leaf(&mut self, below: &[usize]) {
        let held = match self.towards {
            Towards::Store => !self.rows[0].remote_is_own() || self.decisions[0].verdict == Verdict::Withhold,
            // What the context recycled is the mount's own, like a change.
            Towards::Mount => below.iter().map(|&i| self.decisions[i]).any(|decision| {
                matches!(decision.verdict, Verdict::HoldBack | Verdict::Withhold)
                    && decision.reason != Reason::Recycled
            }),
        };
        if held {
            return self.withhold(Side::Remote, below);
        }
        let decision = conflict(&self.rules, self.towards);
        match (decision.verdict, self.local_wins(decision), self.towards) {
            (Verdict::KeepBoth | Verdict::Stop, ..) => self.decisions[0] = decision,
            (_, true, Towards::Store) => match self.rules.deletes(self.towards) {
                true => self.decisions[0] = Decision::new(Verdict::Delete, decision.reason),
                false => self.withhold(Side::Remote, below),
            },
            (_, true, Towards::Mount) => self.decisions[0] = decision,
            (_, false, Towards::Store) => self.set(below, decision),
            (_, false, Towards::Mount) => match self.rules.deletes(self.towards) {
                true => self.set(below, Decision::new(Verdict::Delete, decision.reason)),
                false => self.withhold(Side::Remote, below),
            },
        }
    }

    /// Whether the preferred side is the local one. In a push, that is the side that writes.
    fn local_wins(&self, decision: Decision) -> bool {
        (decision.verdict == Verdict::Write) == (self.towards == Towards::Store)
    }

    /// Leaves the written side as it is: the leaf, or what is below it, is not written yet.
    fn withhold(&mut self, leaf: Side, below: &[usize]) {
        match (leaf, self.towards) {
            (Side::Local, Towards::Store) | (Side::Remote, Towards::Mount) => {
                self.decisions[0] = NEEDS_DELETION
            }
            (Side::Local, Towards::Mount) | (Side::Remote, Towards::Store) => self.set(below, NEEDS_DELETION),
        }
        // A copy must not have only half of a directory.
        if self.decisions[0].verdict == Verdict::KeepBoth {
            self.decisions[0] = NEEDS_DELETION;
        }
    }

    fn set(&mut self, at: &[usize], decision: Decision) {
        for &i in at {
            self.decisions[i] = decision;
        }
    }

    /// The path to which the context's version of the top, and of what is below it, is moved. The name
    /// depends only on what the context has, so every machine finds the same one in both directions.
    fn copy_of_top(&self) -> TreePath {
        let top = &self.rows[0];
        if top.remote_entry().is_some_and(|e| !e.is_dir()) {
            return copy_of(top);
        }
        let rows = self.rows[1..].iter().filter_map(|j| j.remote.as_ref()).filter(|r| !r.is_recycled());
        let hash = rows.fold(FNV_START, |hash, row| {
            let hash = fnv(hash, row.path().as_bytes());
            match &row.entry().node {
                Node::File { digest, .. } => fnv(hash, &digest.0),
                Node::Symlink { target } => fnv(hash, target),
                Node::Dir => hash,
            }
        });
        copy_path(&top.path, &short(hash), 1)
    }
}

/// The path at which the context's version is kept, for a path that has nothing below it.
pub(super) fn copy_of<B: TreeRow, L: LocalRow, R: TreeRow>(joined: &Joined<B, L, R>) -> TreePath {
    let tag = match joined.remote.as_ref().map(|r| &r.entry().node) {
        Some(Node::File { digest, .. }) => digest.short(),
        Some(Node::Symlink { target }) => short(fnv(FNV_START, target)),
        Some(Node::Dir) | None => short(FNV_START),
    };
    copy_path(&joined.path, &tag, 1)
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a. The hash names a copy and has no other use.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn short(hash: u64) -> String {
    format!("{:08x}", (hash >> 32) as u32)
}
