//! The rows of one path, and what each side has there, implied directories included.

use super::{LocalRow, Step, TreeRow};
use crate::decide::{Decision, Local, Reason, Rules, Towards, Verdict, decide, decide_recycled};
use crate::{Entry, TreePath};

#[derive(Debug)]
pub(super) struct Joined<B, L, R> {
    pub(super) path: TreePath,
    pub(super) base: Option<B>,
    pub(super) local: Option<L>,
    pub(super) remote: Option<R>,
    /// The base has no row for the path, but has rows below it.
    pub(super) base_implied: bool,
    /// The first of these rows is of a file that the context has recycled or lost, and that the mount keeps.
    pub(super) base_keeps: bool,
    /// The remote has no row for the path, but has rows below it.
    pub(super) remote_implied: bool,
    pub(super) unlisted: Unlisted,
}

/// The local state of a path without a local row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unlisted {
    /// As in the base.
    AsBase,
    /// Absent: the path would lie below a file or link.
    Absent,
    /// Below something that can't be read, so nothing is known of it.
    Unreadable,
    /// On a file system that is not there now.
    Unmounted,
}

/// The side that something comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Local,
    Remote,
}

impl<B: TreeRow, L: LocalRow, R: TreeRow> Joined<B, L, R> {
    pub(super) fn base_entry(&self) -> Option<&Entry> {
        entry_or_implied(self.base.as_ref().map(B::entry), self.base_implied)
    }

    pub(super) fn remote_entry(&self) -> Option<&Entry> {
        let row = self.remote.as_ref().filter(|r| !r.is_recycled());
        entry_or_implied(row.map(R::entry), self.remote_implied)
    }

    /// What the path was before the context recycled it.
    fn recycled(&self) -> Option<&Entry> {
        self.remote.as_ref().filter(|r| r.is_recycled()).map(R::entry)
    }

    pub(super) fn local(&self) -> Local<'_> {
        match &self.local {
            Some(row) => row.local(),
            None => match self.unlisted {
                Unlisted::AsBase => self.base_entry().map_or(Local::Absent, Local::Present),
                Unlisted::Absent => Local::Absent,
                Unlisted::Unreadable => Local::Unreadable,
                Unlisted::Unmounted => Local::Unmounted,
            },
        }
    }

    /// The base with which the remote is compared: what the mount knows of the path.
    fn known_base(&self) -> Option<&Entry> {
        match self.local() {
            Local::Present(entry) if entry.is_dir() => self.base_entry(),
            Local::Pending => None,
            // The context emptied a directory. What implied it leaves the base with this sync, so the
            // directory counts as new if the mount has none.
            _ if self.is_emptied_there() => None,
            // The context let go of this version, and both sides began anew.
            _ if self.is_withheld() => None,
            _ => self.base_entry(),
        }
    }

    /// Whether the mount has kept a file that the context recycled or lost, and nothing in the context tells of it any
    /// more. If the context has the file at this path, it has it again, or has let go of another one with its name and
    /// content.
    fn is_withheld(&self) -> bool {
        let Some(base) = self.base.as_ref().filter(|base| base.is_withheld()) else { return false };
        let has_it = self.remote_entry().is_some_and(|there| there.node == base.entry().node);
        self.recycled().is_none() && !has_it
    }

    /// The decision for such a file. If it has not changed, and the context has something else in its place, the next
    /// pull keeps both.
    fn decide_withheld(&self, towards: Towards) -> Option<Decision> {
        if !self.is_withheld() {
            return None;
        }
        match (self.local(), self.base_entry(), self.remote_entry()) {
            (Local::Absent, _, None) => Some(Decision::new(Verdict::Nothing, Reason::DeletedOnBoth)),
            (Local::Present(here), Some(base), there) if base.node == here.node => {
                let waits = there.is_none_or(|there| towards == Towards::Store && there.node != here.node);
                waits.then_some(Decision::new(Verdict::Withhold, Reason::Recycled))
            }
            _ => None,
        }
    }

    /// Whether the context now lists a directory that was implied by what was in it.
    fn is_emptied_there(&self) -> bool {
        self.base.is_none() && self.base_implied && self.remote.as_ref().is_some_and(|r| r.entry().is_dir())
    }

    /// Whether the remote has something here that the mount has never agreed on.
    pub(super) fn remote_is_own(&self) -> bool {
        self.remote_entry().is_some_and(|r| self.known_base().is_none_or(|b| !b.agrees_with(r)))
    }

    /// Decides the path as far as possible without looking at other paths.
    pub(super) fn decide(&self, rules: &Rules, towards: Towards) -> Decision {
        if let Some(was) = self.recycled() {
            // No other side has a row: at most, the path is a directory that paths below it imply.
            if self.base.is_none() && self.local.is_none() {
                return Decision::new(Verdict::Nothing, Reason::Unchanged);
            }
            return decide_recycled(self.known_base(), self.local(), was, rules, towards);
        }
        if let Some(decision) = self.decide_withheld(towards) {
            return decision;
        }
        if let Some(decision) = self.decide_unlisted_dir(rules, towards) {
            return decision;
        }
        let (base, local, mut remote) = (self.known_base(), self.local(), self.remote_entry());
        // An implied directory exists only because of what is in it, which is decided by steps of its own. So
        // losing its special mode is no change that could prevail over the deletion of the directory.
        if local == Local::Absent
            && self.remote.is_none()
            && remote.is_some()
            && base.is_some_and(Entry::is_dir)
        {
            remote = base;
        }
        let mut decision = decide(base, local, remote, rules, towards);
        let in_doubt = self.local.as_ref().is_some_and(L::is_in_doubt);
        if in_doubt && decision.verdict == Verdict::Delete {
            decision = Decision::new(Verdict::HoldBack, Reason::DeletedHereInDoubt);
        }
        // The emptied directory must get into the base: nothing else keeps it when its content is deleted. What was
        // recycled is not deleted.
        let (stays, is_kept) =
            (decision.verdict == Verdict::Nothing, self.local.is_none() && self.base_keeps);
        if towards == Towards::Mount && stays && self.is_emptied_there() && !is_kept {
            return Decision::new(Verdict::Write, Reason::NewThere);
        }
        decision
    }

    /// The decision for a directory of the default mode that is not in the base. Either the directory is new,
    /// or its content is gone from the mount and the directory is still there.
    fn decide_unlisted_dir(&self, rules: &Rules, towards: Towards) -> Option<Decision> {
        let Local::Present(entry) = self.local.as_ref()?.local() else { return None };
        if self.base.is_some() || !entry.agrees_with(&Entry::IMPLIED_DIR) {
            return None;
        }
        let (verdict, reason) = match (&self.remote, self.remote_implied, towards) {
            // The other side has a file or link. The default mode is no claim: it is what the directory would
            // have anyway.
            (Some(row), ..) if !row.entry().is_dir() => {
                return Some(decide(self.base_entry(), self.local(), Some(row.entry()), rules, towards));
            }
            (Some(row), _, Towards::Mount) if !row.entry().agrees_with(entry) => {
                (Verdict::Write, Reason::ChangedThere)
            }
            (Some(_), ..) => (Verdict::Nothing, Reason::SameChange),
            _ if !self.base_implied => return None,
            // Whether the context still has something in the directory is not known yet. If it has, the
            // writer of the tree drops the redundant row.
            (None, true, Towards::Store) => (Verdict::Write, Reason::NewHere),
            (None, true, Towards::Mount) => (Verdict::Nothing, Reason::Unchanged),
            // The directory itself has not changed, and the context has dropped it. It may be left over from
            // a pull that was killed, or it may contain a file that is out of scope.
            (None, false, _) => return None,
        };
        Some(Decision::new(verdict, reason))
    }

    /// The side whose entry is at the path, on the written side, after `verdict` is carried out; `None` if
    /// there is none.
    fn stands(&self, verdict: Verdict, towards: Towards) -> Option<Side> {
        let side = match (verdict, towards) {
            (Verdict::Delete, _) => return None,
            (Verdict::Write | Verdict::KeepBoth, Towards::Store) => Side::Local,
            (Verdict::Write, Towards::Mount) => Side::Remote,
            (_, Towards::Store) => Side::Remote,
            (_, Towards::Mount) => Side::Local,
        };
        let something = match side {
            Side::Local => {
                matches!(self.local(), Local::Present(_) | Local::Unreadable | Local::Unmounted)
            }
            Side::Remote => self.remote_entry().is_some(),
        };
        something.then_some(side)
    }

    pub(super) fn stands_from(&self, side: Side, verdict: Verdict, towards: Towards) -> bool {
        self.stands(verdict, towards) == Some(side)
    }

    /// The side whose file or link is at the path after `verdict` is carried out.
    pub(super) fn leaf_after(&self, verdict: Verdict, towards: Towards) -> Option<Side> {
        let side = self.stands(verdict, towards)?;
        let entry = match side {
            Side::Local => match self.local() {
                Local::Present(entry) => entry,
                _ => return None,
            },
            Side::Remote => self.remote_entry()?,
        };
        (!entry.is_dir()).then_some(side)
    }

    /// Whether a file or link is here, or was when both sides agreed last.
    pub(super) fn has_or_had_leaf(&self) -> bool {
        let here = matches!(self.local(), Local::Present(entry) if !entry.is_dir());
        here || self.base_entry().is_some_and(|base| !base.is_dir())
    }

    pub(super) fn into_step(self, decision: Decision, copy: Option<TreePath>) -> Step<B, L, R> {
        let is_here = |was: &Entry| matches!(self.local(), Local::Present(here) if here.node == was.node);
        let lost = self.remote.as_ref().filter(|r| r.is_recycled() && r.is_lost());
        let heals = lost.is_some_and(|r| is_here(r.entry()));
        Step {
            path: self.path,
            base: self.base,
            local: self.local,
            recycled: self.remote.as_ref().is_some_and(R::is_recycled),
            heals,
            remote: self.remote.filter(|r| !r.is_recycled()),
            remote_implied: self.remote_implied,
            decision,
            copy,
        }
    }
}

fn entry_or_implied(entry: Option<&Entry>, implied: bool) -> Option<&Entry> {
    entry.or(if implied { Some(const { &Entry::IMPLIED_DIR }) } else { None })
}
