//! The effect of a plan's step: the action to report, the base's row afterwards, and whether base and context
//! then agree. One function for both directions.

use policy_core::{Entry, Node, Reason, Towards, Verdict};

use crate::monitor::Action;
use crate::plan::{PlanStep, archive_of, stands};
use crate::state::{BaseRow, DeltaState, Held};

/// The effect of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) action: Action,
    /// The base's row afterwards: `Some(None)` removes the row, `None` leaves it unchanged.
    pub(crate) base: Option<Option<BaseRow>>,
    /// Whether the context and the base agree on the path.
    pub(crate) agrees: bool,
}

/// Returns the effect of a step. `uploaded` is the time of what the step writes to the context, by the
/// store's clock, in seconds since 1970.
pub(crate) fn effect(step: &PlanStep, towards: Towards, uploaded: i64) -> Effect {
    let base = match towards {
        Towards::Store => base_after_push(step, uploaded),
        Towards::Mount => base_after_pull(step),
    };
    Effect { action: action(step, towards), agrees: agrees(step, towards, base.as_ref()), base }
}

fn action(step: &PlanStep, towards: Towards) -> Action {
    let is_there = match towards {
        Towards::Store => step.remote.is_some(),
        Towards::Mount => stands(step),
    };
    match step.decision.verdict {
        Verdict::Write if is_there => Action::Change,
        Verdict::Write => Action::Add,
        Verdict::Delete => Action::Delete,
        Verdict::Nothing | Verdict::HoldBack | Verdict::Keep => Action::Keep,
        Verdict::KeepBoth | Verdict::Stop => Action::Conflict,
        Verdict::Withhold => Action::Skip,
    }
}

fn base_after_push(step: &PlanStep, uploaded: i64) -> Option<Option<BaseRow>> {
    let writes = matches!(step.decision.verdict, Verdict::Write | Verdict::KeepBoth);
    // What is not written now keeps the time that it has in the context.
    let there = step.remote.as_ref().filter(|_| !writes).map(|row| row.0.entry.uploaded);
    let local = || local_row(step, there.unwrap_or(uploaded));
    match (step.decision.verdict, step.decision.reason) {
        (Verdict::KeepBoth, _) if step.local.is_none() => None,
        // A directory was implied, and the context dropped it. What implied it leaves the base, so the
        // directory needs a row, or it would look new afterwards.
        (_, Reason::DeletedThere | Reason::ChangedThere) if step.base.is_none() => local().map(Some),
        (Verdict::Write | Verdict::KeepBoth, _) => Some(local()),
        (Verdict::Delete, _) => Some(None),
        _ => base_after_neither(step, local),
    }
}

fn base_after_pull(step: &PlanStep) -> Option<Option<BaseRow>> {
    let local = || local_row(step, step.remote.as_ref().map_or(0, |row| row.0.entry.uploaded));
    match (step.decision.verdict, step.decision.reason) {
        // Both sides now have the pulled version, or the one that is kept as a copy. The local version counts
        // as a change from it.
        (Verdict::Write | Verdict::KeepBoth | Verdict::Delete, _) => {
            let there = step.remote.as_ref().map(|row| row.0.entry.clone());
            let there = there.or_else(|| step.remote_implied.then_some(Entry::IMPLIED_DIR));
            Some(there.map(|entry| BaseRow::new(step.path.clone(), entry, None)))
        }
        (Verdict::HoldBack, Reason::DeletedThereHeld) if step.base.is_none() => local().map(Some),
        // Both sides agree on the content, so a later deletion of it is a deletion. The local mode is a
        // change from the base, so the file must be compared again.
        (Verdict::Keep, Reason::Modes) => {
            let there = step.remote.as_ref().map(|row| &row.0.entry).filter(|there| !there.is_dir())?;
            let row = BaseRow::new(step.path.clone(), there.clone(), None);
            Some(Some(BaseRow { archive: archive_of(step, there), ..row }))
        }
        _ => base_after_neither(step, local),
    }
}

/// Returns the base's row after a step that changes neither side.
fn base_after_neither(step: &PlanStep, local: impl Fn() -> Option<BaseRow>) -> Option<Option<BaseRow>> {
    match (step.decision.verdict, step.decision.reason) {
        (Verdict::Nothing, Reason::DeletedOnBoth) => Some(None),
        // Without a row, it is something that only the other side has, also when the rest of its repository is the same
        // on both sides again.
        (Verdict::Keep, Reason::ObjectKeptHere | Reason::ObjectKeptThere) => Some(None),
        (Verdict::Nothing, Reason::SameChange | Reason::Unchanged) => match (local(), &step.base) {
            (None, Some(base)) if base.held == Held::Recycled => {
                Some(Some(BaseRow { held: Held::No, ..base.clone() }))
            }
            (row, _) => row.map(Some),
        },
        // With the row, the file need not be read again each time to see that it is the recycled version, and it is
        // known that the mount may have its last copy.
        (Verdict::Withhold, Reason::Recycled) => {
            let row = local().or_else(|| step.base.clone())?;
            Some(Some(BaseRow { held: Held::Recycled, ..row }))
        }
        _ => None,
    }
}

/// Returns the base's row for the mount's version.
fn local_row(step: &PlanStep, uploaded: i64) -> Option<BaseRow> {
    let DeltaState::Present { entry, seen, trusted, .. } = &step.local.as_ref()?.state else { return None };
    let row = BaseRow::new(step.path.clone(), Entry { uploaded, ..entry.clone() }, seen.filter(|_| *trusted));
    Some(BaseRow { archive: archive_of(step, entry), ..row })
}

/// Whether context and base agree on the path after the step.
fn agrees(step: &PlanStep, towards: Towards, base_after: Option<&Option<BaseRow>>) -> bool {
    if step.recycled {
        // The context keeps an entry without content for a recycled file, and a new file at the path may have
        // to be withheld.
        return false;
    }
    let base = match base_after {
        Some(row) => row.as_ref(),
        None => step.base.as_ref(),
    };
    match (towards, step.decision.verdict) {
        (Towards::Store, Verdict::Write | Verdict::Delete) => return true,
        (Towards::Store, Verdict::KeepBoth) => return false,
        _ => {}
    }
    match (base.map(|row| &row.entry), step.remote.as_ref().map(|row| &row.0.entry)) {
        (None, None) => true,
        (Some(base), Some(there)) => base.agrees_with(there),
        // One of them lists a directory that is implied in the other.
        (Some(entry), None) => step.remote_implied && entry.agrees_with(&Entry::IMPLIED_DIR),
        (None, Some(_)) => false,
    }
}

/// Whether the mount's file has the same content as the context's, so that only the modes differ.
pub(crate) fn has_same_content(step: &PlanStep) -> bool {
    let local = match &step.local {
        Some(row) => row.present().map(|(entry, _)| entry),
        None => step.base.as_ref().map(|base| &base.entry),
    };
    let there = step.remote.as_ref().map(|row| &row.0.entry.node);
    matches!(there, Some(Node::File { .. })) && local.map(|local| &local.node) == there
}

#[cfg(test)]
mod tests {
    use policy_core::{ConflictPolicy, Digest, Local, Rules, Timestamp, TreePath, decide};

    use super::*;
    use crate::format::TreeEntry;
    use crate::plan::RemoteRow;
    use crate::state::DeltaRow;

    fn entries() -> Vec<Option<Entry>> {
        let entry = |node, mode| Some(Entry { node, mode, mtime: Timestamp::default(), uploaded: 7 });
        let file = |content| Node::File { size: 1, digest: Digest([content; 32]) };
        let link = Node::Symlink { target: [1].into() };
        vec![
            None,
            entry(file(1), 0o644),
            entry(file(1), 0o755),
            entry(file(2), 0o644),
            entry(file(3), 0o644),
            entry(Node::Dir, 0o700),
            entry(link, 0o777),
        ]
    }

    fn all_rules() -> Vec<Rules> {
        let mut all = Vec::new();
        for sync_local_file in [true, false] {
            for hold_deletions in [true, false] {
                for conflict in [
                    ConflictPolicy::KeepBoth,
                    ConflictPolicy::PreferLocal,
                    ConflictPolicy::PreferRemote,
                    ConflictPolicy::Fail,
                ] {
                    all.push(Rules { sync_local_file, conflict, hold_deletions });
                }
            }
        }
        all
    }

    fn path() -> TreePath {
        TreePath::new("p".as_bytes()).unwrap()
    }

    fn same(a: Option<&Entry>, b: Option<&Entry>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => a.agrees_with(b),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    /// Returns a plan's step for these three sides. If the local side equals the base, it has no row.
    fn step(
        base: &Option<Entry>,
        local: &Option<Entry>,
        remote: &Option<Entry>,
        rules: &Rules,
        towards: Towards,
    ) -> PlanStep {
        let here = local.as_ref().map_or(Local::Absent, Local::Present);
        let state = match local {
            None => DeltaState::Absent,
            Some(entry) => {
                let (seen, trusted, chunks, empty_dir) = (None, false, Vec::new(), false);
                DeltaState::Present { entry: entry.clone(), seen, trusted, chunks, empty_dir }
            }
        };
        let row = DeltaRow { path: path(), base: base.clone(), state };
        PlanStep {
            path: path(),
            base: base.clone().map(|entry| BaseRow::new(path(), entry, None)),
            local: (!same(base.as_ref(), local.as_ref())).then_some(row),
            remote: remote.clone().map(|entry| RemoteRow(TreeEntry::bare(path(), entry))),
            recycled: false,
            heals: false,
            remote_implied: false,
            decision: decide(base.as_ref(), here, remote.as_ref(), rules, towards),
            copy: None,
        }
    }

    /// Calls `check` with every combination of the three sides, under all rules.
    fn each(mut check: impl FnMut(&PlanStep, Towards, [Option<&Entry>; 3])) {
        for towards in [Towards::Store, Towards::Mount] {
            for rules in all_rules() {
                for base in entries() {
                    for local in entries() {
                        for remote in entries() {
                            let step = step(&base, &local, &remote, &rules, towards);
                            check(&step, towards, [base.as_ref(), local.as_ref(), remote.as_ref()]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_base_says_afterwards_what_one_of_the_sides_says_and_agrees_only_if_the_context_does() {
        let mut seen = 0;
        each(|step, towards, [base, local, remote]| {
            let effect = effect(step, towards, 9);
            let verdict = step.decision.verdict;
            // The entry in the context afterwards.
            let there = match (towards, verdict) {
                (Towards::Store, Verdict::Write | Verdict::KeepBoth) => local,
                (Towards::Store, Verdict::Delete) => None,
                _ => remote,
            };
            let after = match &effect.base {
                Some(row) => row.as_ref().map(|row| &row.entry),
                None => base,
            };
            let known = [base, local, there].into_iter().any(|side| same(after, side));
            assert!(known, "{step:?} {effect:?}");
            if effect.agrees {
                assert!(same(after, there), "{step:?} {effect:?}");
            }
            if verdict == Verdict::Write {
                assert!(same(after, if towards == Towards::Store { local } else { remote }), "{step:?}");
            }
            // What is postponed has to be decided again from the same base.
            let marks = step.decision.reason == Reason::Recycled;
            if matches!(verdict, Verdict::HoldBack | Verdict::Withhold | Verdict::Stop)
                && base.is_some()
                && !marks
            {
                assert_eq!(effect.base, None, "{step:?}");
            }
            seen += 1;
        });
        assert_eq!(seen, 2 * 16 * 7 * 7 * 7);
    }

    #[test]
    fn every_verdict_has_its_action() {
        let mut met = std::collections::BTreeSet::new();
        each(|step, towards, [_, local, remote]| {
            let target = if towards == Towards::Store { remote } else { local };
            let expected = match step.decision.verdict {
                Verdict::Write => {
                    if target.is_some() {
                        Action::Change
                    } else {
                        Action::Add
                    }
                }
                Verdict::Delete => Action::Delete,
                Verdict::Nothing | Verdict::Keep | Verdict::HoldBack => Action::Keep,
                Verdict::KeepBoth | Verdict::Stop => Action::Conflict,
                Verdict::Withhold => Action::Skip,
            };
            assert_eq!(effect(step, towards, 9).action, expected, "{step:?}");
            met.insert(format!("{:?}", step.decision.verdict));
        });
        assert_eq!(met.len(), 8, "{met:?}");
    }

    #[test]
    fn what_is_pushed_has_the_time_of_the_push_and_the_rest_that_of_the_context() {
        each(|step, towards, _| {
            if let Some(Some(row)) = effect(step, towards, 9).base {
                let is_pushed = towards == Towards::Store
                    && (matches!(step.decision.verdict, Verdict::Write | Verdict::KeepBoth)
                        || step.remote.is_none());
                assert_eq!(row.entry.uploaded, if is_pushed { 9 } else { 7 }, "{step:?}");
            }
        });
    }
}
