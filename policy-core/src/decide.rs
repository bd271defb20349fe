//! The three-way decision for one path: a pure function of base, local, remote and the rules.

use std::fmt;

use crate::{ConflictPolicy, Entry};

/// What the mount holds at a path. Only [`Local::Absent`] can ever become a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local<'a> {
    /// Nothing is there, and the scan has looked.
    Absent,
    /// This is there.
    Present(&'a Entry),
    /// It was never pulled, so that it is missing is not a deletion.
    Pending,
    /// Something may be there, but it can't be read now.
    Unreadable,
    /// It was on a file system that is not mounted now, so that it is missing is not a deletion.
    Unmounted,
}

/// The side that a sync writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// A push: the next snapshot.
    Store,
    /// A pull: the mount.
    Mount,
}

/// The part of a policy that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether a local deletion is a deletion in the context (`deletePolicy.syncLocalFile`).
    pub sync_local_file: bool,
    /// What happens to a path that both sides changed.
    pub conflict: ConflictPolicy,
    /// Whether a guard holds deletions back.
    pub hold_deletions: bool,
}

impl Rules {
    /// Whether a sync towards a side carries deletions out.
    pub(crate) fn deletes(&self, towards: Towards) -> bool {
        !self.hold_deletions && (self.sync_local_file || towards == Towards::Mount)
    }
}

/// What is done with a path on the side that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the path is as it should be.
    Nothing,
    /// Nothing, although the sides differ. A plan lists the path.
    Keep,
    /// The other side's version is written.
    Write,
    /// The path is removed.
    Delete,
    /// A guard holds the deletion back.
    HoldBack,
    /// The local version keeps the path, and the remote one is kept beside it.
    KeepBoth,
    /// The conflict stops the sync before anything is written.
    Stop,
    /// The path is left as it is on both sides, and the output says why.
    Withhold,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Keep => "keep",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::HoldBack => "hold back",
            Self::KeepBoth => "keep both",
            Self::Stop => "stop",
            Self::Withhold => "withhold",
        })
    }
}

/// Why a [`Verdict`] was given. Its `Display` is a phrase in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of each are in its Display, just below")]
pub enum Reason {
    Unchanged,
    SameChange,
    DeletedOnBoth,
    NewHere,
    ChangedHere,
    DeletedHere,
    DeletedHereKept,
    DeletedHereHeld,
    DeletedHereInDoubt,
    NewThere,
    ChangedThere,
    DeletedThere,
    DeletedThereHeld,
    BroughtAgain,
    ChangeHereBeatsDeletion,
    ChangeThereBeatsDeletion,
    NotYetBrought,
    BothChanged,
    BothChangedLocalWins,
    BothChangedRemoteWins,
    Modes,
    Unreadable,
    Unmounted,
    NeedsDeletion,
    NotSentYet,
    Extracted,
    ExtractedKept,
    Recycled,
    ReplacesRecycled,
    SentAgain,
    ObjectKeptHere,
    ObjectKeptThere,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unchanged => "unchanged",
            Self::SameChange => "both sides made the same change",
            Self::DeletedOnBoth => "deleted on both sides",
            Self::NewHere => "new here",
            Self::ChangedHere => "changed here",
            Self::DeletedHere => "deleted here",
            Self::DeletedHereKept => "deleted here; kept, because syncLocalFile is false",
            Self::DeletedHereHeld => "deleted here; held back by the deletion guard",
            Self::DeletedHereInDoubt => {
                "not found while its directory was changing; held back until a later push"
            }
            Self::NewThere => "new in the context",
            Self::ChangedThere => "changed in the context",
            Self::DeletedThere => "deleted in the context",
            Self::DeletedThereHeld => "deleted in the context; held back by the deletion guard",
            Self::BroughtAgain => "deleted here; pulled again, because syncLocalFile is false",
            Self::ChangeHereBeatsDeletion => "changed here and deleted in the context; the change wins",
            Self::ChangeThereBeatsDeletion => "changed in the context and deleted here; the change wins",
            Self::NotYetBrought => "in the context, not pulled yet",
            Self::BothChanged => "changed on both sides",
            Self::BothChangedLocalWins => "changed on both sides; the local version is preferred",
            Self::BothChangedRemoteWins => "changed on both sides; the context's version is preferred",
            Self::Modes => "changed on both sides with only the mode different; the local mode is kept",
            Self::Unreadable => "cannot be read here; left as it is on both sides",
            Self::Unmounted => "on a file system that is not mounted here now; left as it is on both sides",
            Self::NeedsDeletion => "blocked by a path whose deletion is held back",
            Self::NotSentYet => "changed here, not pushed yet",
            Self::Extracted => "already extracted; the archive itself is not needed here",
            Self::ExtractedKept => "extracted here; kept until its extracted files are pushed",
            Self::Recycled => "recycled or lost in the context; kept here, and not pushed until it changes",
            Self::ReplacesRecycled => "replaces a recycled file in the context",
            Self::SentAgain => "lost in the store; sent again from here",
            Self::ObjectKeptHere => {
                "deleted in the context; kept, because its git repository has changed here"
            }
            Self::ObjectKeptThere => {
                "deleted here; kept, because its git repository has changed in the context"
            }
        })
    }
}

/// A verdict with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What is done.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    pub(crate) const fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason }
    }
}

/// How a side differs from the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delta {
    Same,
    Changed,
    Deleted,
}

fn delta(base: Option<&Entry>, now: Option<&Entry>) -> Delta {
    match (base, now) {
        (None, None) => Delta::Same,
        (Some(b), Some(n)) if b.agrees_with(n) => Delta::Same,
        (_, Some(_)) => Delta::Changed,
        (Some(_), None) => Delta::Deleted,
    }
}

/// Decides what a sync towards one side does with a path in scope.
///
/// `base` is the state on which mount and context last agreed, `remote` the head's. The function is total:
/// every combination has an answer, and equal arguments give equal answers.
pub fn decide(
    base: Option<&Entry>,
    local: Local<'_>,
    remote: Option<&Entry>,
    rules: &Rules,
    towards: Towards,
) -> Decision {
    let (base, here) = match local {
        Local::Unreadable => return Decision::new(Verdict::Withhold, Reason::Unreadable),
        Local::Unmounted => return Decision::new(Verdict::Withhold, Reason::Unmounted),
        // A pending path has no base: whatever the context has there is still to be pulled.
        Local::Pending => (None, None),
        Local::Absent => (base, None),
        Local::Present(entry) => (base, Some(entry)),
    };
    let decision = decide_read(base, here, remote, rules, towards);
    let (from, to) = match towards {
        Towards::Store => (remote, here),
        Towards::Mount => (here, remote),
    };
    // If a directory replaces a file, the file is deleted.
    let removes = from.is_some_and(|e| !e.is_dir()) && to.is_some_and(Entry::is_dir);
    if decision.verdict == Verdict::Write && removes && !rules.deletes(towards) {
        return Decision::new(Verdict::Withhold, Reason::NeedsDeletion);
    }
    decision
}

/// Decides what a sync towards one side does with a path in scope that the context has recycled. The head no
/// longer has the content, but remembers in `was` what it was.
///
/// A file that was recycled stays in the mount, and is not pushed again until it changes. The same holds for
/// an older version that has not changed locally. In all other cases the path is decided as if the context
/// did not have it.
pub fn decide_recycled(
    base: Option<&Entry>,
    local: Local<'_>,
    was: &Entry,
    rules: &Rules,
    towards: Towards,
) -> Decision {
    if let Local::Present(here) = local
        && !here.is_dir()
        && (here.node == was.node || base.is_some_and(|b| b.agrees_with(here)))
    {
        return Decision::new(Verdict::Withhold, Reason::Recycled);
    }
    match (decide(base, local, None, rules, towards), towards) {
        (Decision { verdict: Verdict::Write, .. }, _) => {
            Decision::new(Verdict::Write, Reason::ReplacesRecycled)
        }
        (Decision { verdict: Verdict::Keep, .. }, _) => Decision::new(Verdict::Keep, Reason::NotSentYet),
        (decision, _) => decision,
    }
}

/// The decision table, for a path whose local side is known.
fn decide_read(
    base: Option<&Entry>,
    here: Option<&Entry>,
    remote: Option<&Entry>,
    rules: &Rules,
    towards: Towards,
) -> Decision {
    use Verdict::{Delete, HoldBack, Keep, Nothing, Write};
    let (verdict, reason) = match (delta(base, here), delta(base, remote), towards) {
        (Delta::Same, Delta::Same, _) => (Nothing, Reason::Unchanged),
        (Delta::Deleted, Delta::Deleted, _) => (Nothing, Reason::DeletedOnBoth),

        (Delta::Changed, Delta::Same, Towards::Store) => {
            (Write, if base.is_some() { Reason::ChangedHere } else { Reason::NewHere })
        }
        (Delta::Changed, Delta::Same, Towards::Mount) => (Keep, Reason::NotSentYet),

        (Delta::Same, Delta::Changed, Towards::Store) if base.is_none() => (Keep, Reason::NotYetBrought),
        (Delta::Same, Delta::Changed, Towards::Store) => (Keep, Reason::ChangedThere),
        (Delta::Same, Delta::Changed, Towards::Mount) => {
            (Write, if base.is_some() { Reason::ChangedThere } else { Reason::NewThere })
        }

        (Delta::Changed, Delta::Changed, _) => return both_changed(here, remote, rules, towards),

        (Delta::Deleted, Delta::Same, Towards::Store) => {
            match (rules.sync_local_file, rules.hold_deletions) {
                (false, _) => (Keep, Reason::DeletedHereKept),
                (true, true) => (HoldBack, Reason::DeletedHereHeld),
                (true, false) => (Delete, Reason::DeletedHere),
            }
        }
        (Delta::Deleted, Delta::Same, Towards::Mount) if rules.sync_local_file => (Keep, Reason::DeletedHere),
        (Delta::Deleted, Delta::Same, Towards::Mount) => (Write, Reason::BroughtAgain),

        (Delta::Deleted, Delta::Changed, Towards::Store) => (Keep, Reason::ChangeThereBeatsDeletion),
        (Delta::Deleted, Delta::Changed, Towards::Mount) => (Write, Reason::ChangeThereBeatsDeletion),

        (Delta::Changed, Delta::Deleted, Towards::Store) => (Write, Reason::ChangeHereBeatsDeletion),
        (Delta::Changed, Delta::Deleted, Towards::Mount) => (Keep, Reason::ChangeHereBeatsDeletion),

        (Delta::Same, Delta::Deleted, Towards::Store) => (Nothing, Reason::DeletedThere),
        (Delta::Same, Delta::Deleted, Towards::Mount) if rules.hold_deletions => {
            (HoldBack, Reason::DeletedThereHeld)
        }
        (Delta::Same, Delta::Deleted, Towards::Mount) => (Delete, Reason::DeletedThere),
    };
    Decision::new(verdict, reason)
}

fn both_changed(here: Option<&Entry>, there: Option<&Entry>, rules: &Rules, towards: Towards) -> Decision {
    if let (Some(h), Some(t)) = (here, there) {
        if h.agrees_with(t) {
            return Decision::new(Verdict::Nothing, Reason::SameChange);
        }
        // Conflicts protect content, and a mode is no content. An implied directory also has no mode of its
        // own that could be preferred. So a difference in modes alone is never a conflict, whatever the
        // policy.
        if h.node == t.node {
            let verdict = if towards == Towards::Store { Verdict::Write } else { Verdict::Keep };
            return Decision::new(verdict, Reason::Modes);
        }
    }
    conflict(rules, towards)
}

/// The decision for a path, or the top of a subtree, at which both sides have something of their own.
pub(crate) fn conflict(rules: &Rules, towards: Towards) -> Decision {
    match (rules.conflict, towards) {
        (ConflictPolicy::KeepBoth, _) => Decision::new(Verdict::KeepBoth, Reason::BothChanged),
        (ConflictPolicy::Fail, _) => Decision::new(Verdict::Stop, Reason::BothChanged),
        (ConflictPolicy::PreferLocal, Towards::Store) => {
            Decision::new(Verdict::Write, Reason::BothChangedLocalWins)
        }
        (ConflictPolicy::PreferLocal, Towards::Mount) => {
            Decision::new(Verdict::Keep, Reason::BothChangedLocalWins)
        }
        (ConflictPolicy::PreferRemote, Towards::Store) => {
            Decision::new(Verdict::Keep, Reason::BothChangedRemoteWins)
        }
        (ConflictPolicy::PreferRemote, Towards::Mount) => {
            Decision::new(Verdict::Write, Reason::BothChangedRemoteWins)
        }
    }
}
