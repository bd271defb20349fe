//! `decide`, with every combination of three sides, against the table of the specification.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use policy_core::{
    ConflictPolicy, Decision, Digest, Entry, Local, Node, Reason, Rules, Timestamp, Towards, Verdict, decide,
    decide_recycled,
};

/// What can be at a path. Two of these agree exactly when they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    File(u8, u16),
    Dir(u16),
    Link(u8),
}

use What::{Dir, File, Link};

impl What {
    /// Returns an entry with its own timestamp, which must not matter.
    fn entry(self, time: i64) -> Entry {
        let (node, mode) = match self {
            File(content, mode) => (Node::File { size: 1, digest: Digest([content; 32]) }, mode),
            Dir(mode) => (Node::Dir, mode),
            Link(target) => (Node::Symlink { target: [target].into() }, 0o777),
        };
        Entry { node, mode, mtime: Timestamp { secs: time, nanos: 0 }, uploaded: time }
    }

    fn is_dir(self) -> bool {
        matches!(self, Dir(_))
    }
}

/// Three contents, three modes, every kind.
const WHATS: [What; 9] = [
    File(1, 0o644),
    File(2, 0o644),
    File(3, 0o644),
    File(1, 0o755),
    File(1, 0o600),
    Dir(0o755),
    Dir(0o700),
    Link(1),
    Link(2),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    Absent,
    Holds(What),
    Pending,
    Unreadable,
    Unmounted,
}

/// How a side compares to the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Same,
    Changed,
    Deleted,
}

/// The effect on the side that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It stays as it is, and both sides agree, or there is nothing to agree about.
    Settled,
    /// It stays as it is, although the other side differs.
    Stays,
    /// It gets the other side's version.
    Takes,
    /// Its version is deleted.
    Loses,
    Conflict,
}

/// How the local side compares to the remote one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    Equal,
    /// Only the permission bits differ.
    Modes,
    Other,
}

use Against::{Equal, Modes, Other};
use Effect::{Conflict, Loses, Settled, Stays, Takes};
use Side::{Changed, Deleted, Same};

/// The table: local, remote, how local compares to remote, and with `syncLocalFile` true and then false, the
/// effect of a push on the context and of a pull on the mount.
type Row = (Side, Side, Option<Against>, [Effect; 2], [Effect; 2]);
#[rustfmt::skip]
const TABLE: [Row; 11] = [
    (Same,    Same,    None,        [Settled,  Settled],  [Settled,  Settled]),
    (Changed, Same,    None,        [Takes,    Stays],    [Takes,    Stays]),
    (Same,    Changed, None,        [Stays,    Takes],    [Stays,    Takes]),
    (Changed, Changed, Some(Equal), [Settled,  Settled],  [Settled,  Settled]),
    (Changed, Changed, Some(Modes), [Takes,    Stays],    [Takes,    Stays]),
    (Changed, Changed, Some(Other), [Conflict, Conflict], [Conflict, Conflict]),
    (Deleted, Same,    None,        [Loses,    Stays],    [Stays,    Takes]),
    (Deleted, Changed, None,        [Stays,    Takes],    [Stays,    Takes]),
    (Changed, Deleted, None,        [Takes,    Stays],    [Takes,    Stays]),
    (Deleted, Deleted, None,        [Settled,  Settled],  [Settled,  Settled]),
    (Same,    Deleted, None,        [Settled,  Loses],    [Settled,  Loses]),
];

/// The verdicts for a conflict: policy, push, pull.
const CONFLICTS: [(ConflictPolicy, Verdict, Verdict); 4] = [
    (ConflictPolicy::KeepBoth, Verdict::KeepBoth, Verdict::KeepBoth),
    (ConflictPolicy::PreferLocal, Verdict::Write, Verdict::Keep),
    (ConflictPolicy::PreferRemote, Verdict::Keep, Verdict::Write),
    (ConflictPolicy::Fail, Verdict::Stop, Verdict::Stop),
];

fn side(base: Option<What>, now: Option<What>) -> Side {
    match (base, now) {
        (base, now) if base == now => Same,
        (_, None) => Deleted,
        _ => Changed,
    }
}

fn against(local: Option<What>, remote: Option<What>) -> Against {
    match (local, remote) {
        (local, remote) if local == remote => Equal,
        (Some(File(here, _)), Some(File(there, _))) if here == there => Modes,
        (Some(Dir(_)), Some(Dir(_))) => Modes,
        _ => Other,
    }
}

/// The verdict that the text of the specification requires.
fn expected(base: Option<What>, here: Here, remote: Option<What>, rules: Rules, towards: Towards) -> Verdict {
    let (base, local) = match here {
        Here::Unreadable | Here::Unmounted => return Verdict::Withhold,
        // "A pending path has no base."
        Here::Pending => (None, None),
        Here::Absent => (base, None),
        Here::Holds(what) => (base, Some(what)),
    };
    let at = if towards == Towards::Store { 0 } else { 1 };
    let (l, r) = (side(base, local), side(base, remote));
    let row = TABLE
        .iter()
        .find(|row| row.0 == l && row.1 == r && row.2.is_none_or(|a| a == against(local, remote)));
    let row = row.unwrap();
    let effect = if rules.sync_local_file { row.3[at] } else { row.4[at] };
    let deletes = !rules.hold_deletions && (rules.sync_local_file || towards == Towards::Mount);
    let verdict = match effect {
        Settled => Verdict::Nothing,
        Stays => Verdict::Keep,
        Takes => Verdict::Write,
        Loses if rules.hold_deletions => Verdict::HoldBack,
        Loses => Verdict::Delete,
        Conflict => {
            let row = CONFLICTS.iter().find(|row| row.0 == rules.conflict).unwrap();
            if towards == Towards::Store { row.1 } else { row.2 }
        }
    };
    // "Kind changes are deletions and additions": the file in the place of a directory is deleted.
    let (from, to) = if towards == Towards::Store { (remote, local) } else { (local, remote) };
    let gives_way = from.is_some_and(|w| !w.is_dir()) && to.is_some_and(What::is_dir);
    if verdict == Verdict::Write && gives_way && !deletes { Verdict::Withhold } else { verdict }
}

fn all_rules() -> Vec<Rules> {
    let mut all = Vec::new();
    for sync_local_file in [true, false] {
        for (conflict, ..) in CONFLICTS {
            for hold_deletions in [true, false] {
                all.push(Rules { sync_local_file, conflict, hold_deletions });
            }
        }
    }
    all
}

fn every(mut check: impl FnMut(Option<What>, Here, Option<What>, Rules, Towards, Decision)) -> usize {
    let somewhere = || std::iter::once(None).chain(WHATS.into_iter().map(Some));
    let mut count = 0;
    for base in somewhere() {
        let holds = WHATS.into_iter().map(Here::Holds);
        for here in [Here::Absent, Here::Pending, Here::Unreadable, Here::Unmounted].into_iter().chain(holds)
        {
            for remote in somewhere() {
                for rules in all_rules() {
                    for towards in [Towards::Store, Towards::Mount] {
                        let (b, r) = (base.map(|w| w.entry(1)), remote.map(|w| w.entry(3)));
                        let entry = WHATS[0].entry(2);
                        let entry = if let Here::Holds(what) = here { what.entry(2) } else { entry };
                        let local = match here {
                            Here::Absent => Local::Absent,
                            Here::Holds(_) => Local::Present(&entry),
                            Here::Pending => Local::Pending,
                            Here::Unreadable => Local::Unreadable,
                            Here::Unmounted => Local::Unmounted,
                        };
                        let decision = decide(b.as_ref(), local, r.as_ref(), &rules, towards);
                        check(base, here, remote, rules, towards, decision);
                        count += 1;
                    }
                }
            }
        }
    }
    count
}

#[test]
fn follows_the_table_everywhere() {
    let count = every(|base, here, remote, rules, towards, decision| {
        assert_eq!(
            decision.verdict,
            expected(base, here, remote, rules, towards),
            "base {base:?}, local {here:?}, remote {remote:?}, {rules:?}, {towards:?}: {decision:?}"
        );
    });
    assert_eq!(count, 10 * 13 * 10 * 16 * 2);
}

#[test]
fn every_row_of_the_table_is_met() {
    let mut met = [0; TABLE.len()];
    every(|base, here, remote, _, _, _| {
        let local = match here {
            Here::Absent => None,
            Here::Holds(what) => Some(what),
            _ => return,
        };
        let (l, r) = (side(base, local), side(base, remote));
        let fits = |row: &Row| row.0 == l && row.1 == r && row.2.is_none_or(|a| a == against(local, remote));
        let rows: Vec<usize> = (0..TABLE.len()).filter(|&i| fits(&TABLE[i])).collect();
        assert_eq!(rows.len(), 1, "base {base:?}, local {here:?}, remote {remote:?}");
        met[rows[0]] += 1;
    });
    assert!(met.iter().all(|n| *n > 0), "{met:?}");
}

/// What is not known to be gone is never deleted or overwritten.
#[test]
fn only_what_is_known_is_touched() {
    every(|_, here, _, _, towards, decision| match here {
        Here::Unreadable | Here::Unmounted => assert_eq!(decision.verdict, Verdict::Withhold),
        Here::Pending => {
            assert!(!matches!(decision.verdict, Verdict::Delete | Verdict::HoldBack | Verdict::KeepBoth));
            assert!(towards == Towards::Mount || decision.verdict != Verdict::Write);
        }
        _ => {}
    });
}

/// A reason is always true.
#[test]
fn reasons_are_true() {
    every(|base, here, remote, rules, _, Decision { reason, .. }| {
        let (known, local) = match here {
            Here::Holds(what) => (true, Some(what)),
            Here::Absent => (true, None),
            _ => (false, None),
        };
        let base = base.filter(|_| here != Here::Pending);
        let (l, r) = (side(base, local), side(base, remote));
        let holds = match reason {
            Reason::Unreadable => here == Here::Unreadable,
            Reason::Unmounted => here == Here::Unmounted,
            Reason::Unchanged => l == Same && r == Same,
            Reason::SameChange => local == remote && l == Changed && r == Changed,
            Reason::DeletedOnBoth => l == Deleted && r == Deleted,
            Reason::NewHere => base.is_none() && l == Changed && r == Same,
            Reason::ChangedHere => base.is_some() && l == Changed && r == Same,
            Reason::NotSentYet => l == Changed && r == Same,
            Reason::DeletedHere => l == Deleted && r == Same && rules.sync_local_file,
            Reason::DeletedHereKept | Reason::BroughtAgain => {
                l == Deleted && r == Same && !rules.sync_local_file
            }
            Reason::DeletedHereHeld => l == Deleted && r == Same && rules.hold_deletions,
            Reason::NewThere | Reason::NotYetBrought => base.is_none() && local.is_none() && r == Changed,
            Reason::ChangedThere => base.is_some() && l == Same && r == Changed,
            Reason::DeletedThere => l == Same && r == Deleted,
            Reason::DeletedThereHeld => l == Same && r == Deleted && rules.hold_deletions,
            Reason::ChangeHereBeatsDeletion => l == Changed && r == Deleted,
            Reason::ChangeThereBeatsDeletion => l == Deleted && r == Changed,
            Reason::BothChanged | Reason::BothChangedLocalWins | Reason::BothChangedRemoteWins => {
                l == Changed && r == Changed && against(local, remote) == Other
            }
            Reason::Modes => l == Changed && r == Changed && against(local, remote) == Modes,
            Reason::NeedsDeletion => rules.hold_deletions || !rules.sync_local_file,
            // Three entries do not show that a file was extracted or may have been moved.
            Reason::Extracted | Reason::ExtractedKept | Reason::DeletedHereInDoubt => false,
            // These are for recycled paths, and no path here is recycled.
            Reason::Recycled | Reason::ReplacesRecycled | Reason::SentAgain => false,
            // Nor does one path show what its repository has.
            Reason::ObjectKeptHere | Reason::ObjectKeptThere => false,
        };
        assert!(holds, "base {base:?}, local {here:?}, remote {remote:?}: {reason}");
        assert!(known || !matches!(reason, Reason::DeletedHere | Reason::DeletedOnBoth));
    });
}

/// The verdicts for a recycled path, by how the local side compares to what was recycled and to the base, for
/// pushes and pulls.
#[test]
fn recycled_paths_follow_their_table() {
    let was = WHATS[0];
    for base in std::iter::once(None).chain(WHATS.into_iter().map(Some)) {
        let holds = WHATS.into_iter().map(Here::Holds);
        for here in [Here::Absent, Here::Pending, Here::Unreadable, Here::Unmounted].into_iter().chain(holds)
        {
            for rules in all_rules() {
                for towards in [Towards::Store, Towards::Mount] {
                    let (b, w) = (base.map(|b| b.entry(1)), was.entry(3));
                    let entry = if let Here::Holds(what) = here { what.entry(2) } else { was.entry(2) };
                    let local = match here {
                        Here::Absent => Local::Absent,
                        Here::Holds(_) => Local::Present(&entry),
                        Here::Pending => Local::Pending,
                        Here::Unreadable => Local::Unreadable,
                        Here::Unmounted => Local::Unmounted,
                    };
                    let Decision { verdict, reason } =
                        decide_recycled(b.as_ref(), local, &w, &rules, towards);
                    let told = format!("{base:?} {here:?} {rules:?} {towards:?}: {verdict:?} {reason:?}");
                    let unchanged = matches!(here, Here::Holds(what) if Some(what) == base);
                    match here {
                        // Nothing is pulled, and the placeholder stays.
                        Here::Absent | Here::Pending => assert_eq!(verdict, Verdict::Nothing, "{told}"),
                        Here::Unreadable | Here::Unmounted => {
                            assert_eq!(verdict, Verdict::Withhold, "{told}");
                        }
                        // Permission bits are not content.
                        Here::Holds(File(content, _)) if File(content, 0o644) == was => {
                            assert_eq!((verdict, reason), (Verdict::Withhold, Reason::Recycled), "{told}");
                        }
                        Here::Holds(File(..) | Link(_)) if unchanged => {
                            assert_eq!((verdict, reason), (Verdict::Withhold, Reason::Recycled), "{told}");
                        }
                        // A directory here from before the file was in the context: it counts as deleted
                        // there.
                        Here::Holds(Dir(_)) if unchanged => {
                            assert!(matches!(
                                verdict,
                                Verdict::Nothing | Verdict::Delete | Verdict::HoldBack
                            ));
                        }
                        Here::Holds(_) if towards == Towards::Store => {
                            assert_eq!(
                                (verdict, reason),
                                (Verdict::Write, Reason::ReplacesRecycled),
                                "{told}"
                            );
                        }
                        Here::Holds(_) => {
                            assert_eq!((verdict, reason), (Verdict::Keep, Reason::NotSentYet), "{told}");
                        }
                    }
                }
            }
        }
    }
}
