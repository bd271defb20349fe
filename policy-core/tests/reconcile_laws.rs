//! Laws of the reconciler, on related trees: a base with two changed versions, and whole histories of two
//! mounts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod model;
mod reconcile_cases;

use std::collections::BTreeSet;

use model::edit::{Edit, apply, edits, paths};
use model::world::{Mount, World};
use model::{
    DEFAULT, Difference, Row, State, Tree, canonical, differences, expanded, has_below, plan, plan_rows,
};
use policy_core::{ConflictPolicy, Entry, Node, Rules, Towards, TreePath, Verdict};
use proptest::prelude::*;

/// The number of cases of each law; the environment can raise it.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if default.cases == 256 { 64 } else { default.cases };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

fn mount_of(edits: &[Edit], from: &Tree) -> Tree {
    let mut mount = expanded(from);
    edits.iter().for_each(|edit| apply(&mut mount, edit));
    mount
}

fn context_of(edits: &[Edit], from: &Tree) -> Tree {
    canonical(&mount_of(edits, from)).unwrap()
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let policy = prop_oneof![
        3 => Just(ConflictPolicy::KeepBoth),
        1 => Just(ConflictPolicy::PreferLocal),
        1 => Just(ConflictPolicy::PreferRemote),
        1 => Just(ConflictPolicy::Fail),
    ];
    (any::<bool>(), policy, any::<bool>()).prop_map(|(sync_local_file, conflict, hold_deletions)| Rules {
        sync_local_file,
        conflict,
        hold_deletions,
    })
}

fn towards() -> impl Strategy<Value = Towards> {
    prop_oneof![Just(Towards::Store), Just(Towards::Mount)]
}

/// A base, and a mount and a context that have changed since.
fn related() -> impl Strategy<Value = (Tree, Mount, Tree)> {
    (edits(12), edits(8), edits(8)).prop_map(|(base, here, there)| {
        let base = context_of(&base, &Tree::new());
        let files = mount_of(&here, &base);
        let store = context_of(&there, &base);
        (base.clone(), Mount { files, base, unreadable: BTreeSet::new() }, store)
    })
}

fn world(rules: Rules, mount: Mount, base: Tree, store: Tree) -> World {
    let other = Mount { files: expanded(&base), base, unreadable: BTreeSet::new() };
    World { rules, store, mounts: [mount, other] }
}

#[derive(Debug, Clone)]
enum Event {
    Edit(usize, Vec<Edit>),
    Sync(usize, Towards),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0usize..2, edits(4)).prop_map(|(m, e)| Event::Edit(m, e)),
        (0usize..2, towards()).prop_map(|(m, t)| Event::Sync(m, t)),
    ];
    proptest::collection::vec(event, 0..14)
}

fn run(world: &mut World, events: &[Event]) -> Result<(), String> {
    for event in events {
        match event {
            Event::Edit(m, edits) => edits.iter().for_each(|e| apply(&mut world.mounts[*m].files, e)),
            Event::Sync(m, towards) => drop(world.sync(*m, *towards)?),
        }
    }
    Ok(())
}

fn ok(result: Result<(), String>) -> Result<(), TestCaseError> {
    result.map_err(TestCaseError::fail)
}

const BITS: [u16; 4] = [0o644, 0o664, 0o600, 0o755];
const UP: Towards = Towards::Store;
const DOWN: Towards = Towards::Mount;

fn listed(tree: &Tree) -> Vec<(TreePath, Entry)> {
    tree.iter().map(|(path, entry)| (path.clone(), entry.clone())).collect()
}

proptest! {
    #![proptest_config(config())]

    /// Content, validity, order, guards: `World::sync` checks them, with all rules.
    #[test]
    fn a_plan_of_whole_trees_is_that_of_streams(
        (base, mount, store) in related(),
        rules in any_rules(),
        towards in towards(),
    ) {
        let local = differences(&base, &mount.files, &BTreeSet::new());
        let streamed = plan(rules, towards, &base, &local, &store).into_iter();
        let streamed: Vec<_> = streamed
            .filter(|step| step.decision.verdict != Verdict::Nothing)
            .map(|step| (step.path, step.decision, step.copy))
            .collect();
        // A listing of all directories gives the same plan as one of those that a tree lists.
        for files in [&mount.files, &canonical(&mount.files).unwrap()] {
            let whole = policy_core::plan(&listed(&base), &listed(files), &listed(&store), rules, towards).unwrap();
            let whole: Vec<_> = whole.into_iter().map(|p| (p.path, p.decision, p.copy)).collect();
            prop_assert_eq!(&whole, &streamed);
        }
    }

    #[test]
    fn one_sync_keeps_the_laws((base, mount, store) in related(), rules in any_rules(), towards in towards()) {
        let mut world = world(rules, mount, base, store);
        ok(world.sync(0, towards).map(drop))?;
    }

    #[test]
    fn what_cannot_be_read_is_left_alone(
        (base, mut mount, store) in related(),
        unreadable in proptest::collection::btree_set(paths(), 1..4),
        rules in any_rules(),
        towards in towards(),
    ) {
        mount.unreadable = unreadable.into_iter().filter(|p| mount.files.contains_key(p)).collect();
        let mut world = world(rules, mount, base, store);
        ok(world.sync(0, towards).map(drop))?;
    }

    #[test]
    fn a_synced_mount_has_nothing_left_to_do((base, mount, store) in related(), up_first in any::<bool>()) {
        let mut world = world(DEFAULT, mount, base, store);
        let order = if up_first { [UP, DOWN] } else { [DOWN, UP] };
        ok(order.iter().try_for_each(|t| world.sync(0, *t).map(drop)))?;
        ok(world.expect_settled(0))?;
    }

    #[test]
    fn two_mounts_converge(base in edits(10), events in events(), first in 0usize..2) {
        let base = context_of(&base, &Tree::new());
        let mount = Mount { files: expanded(&base), base: base.clone(), unreadable: BTreeSet::new() };
        let mut world = world(DEFAULT, mount, base.clone(), base);
        ok(run(&mut world, &events))?;
        let turns = [(first, UP), (first, DOWN), (1 - first, UP), (1 - first, DOWN), (first, UP), (first, DOWN)];
        for (mount, towards) in turns {
            ok(world.sync(mount, towards).map(drop))?;
        }
        ok(world.expect_converged())?;
    }

    /// With all rules, two rounds are enough: after them nothing changes any more. The second one is needed
    /// because the copies that a pull keeps are new files of the mount.
    #[test]
    fn every_policy_comes_to_rest(base in edits(10), events in events(), rules in any_rules()) {
        let base = context_of(&base, &Tree::new());
        let mount = Mount { files: expanded(&base), base: base.clone(), unreadable: BTreeSet::new() };
        let mut world = world(rules, mount, base.clone(), base);
        ok(run(&mut world, &events))?;
        for towards in [UP, DOWN, UP, DOWN] {
            ok(world.sync(0, towards).map(drop))?;
        }
        let rest = world.clone();
        for towards in [UP, DOWN, UP] {
            ok(world.sync(0, towards).map(drop))?;
        }
        prop_assert_eq!(&world.store, &rest.store);
        prop_assert_eq!(&world.mounts[0].files, &rest.mounts[0].files);
    }

    #[test]
    fn both_directions_name_the_same_copies((base, mount, store) in related()) {
        let local = mount.differences();
        let copies = |towards| {
            let steps = plan(DEFAULT, towards, &base, &local, &store);
            steps.into_iter().filter_map(|s| Some((s.path, s.copy?))).collect::<Vec<_>>()
        };
        prop_assert_eq!(copies(UP), copies(DOWN));
    }

    /// If both sides changed a file, and only its permission bits differ, there is no copy and no stop,
    /// whatever the rules. The bits of the last push end up on both sides, and all is settled.
    #[test]
    fn modes_alone_are_no_conflict_and_the_last_to_push_wins(
        at in paths(),
        base in proptest::option::of(prop_oneof![Just((1u32, 0o644u16)), Just((2, 0o644)), Just((2, 0o600))]),
        bits in [proptest::sample::select(BITS.to_vec()), proptest::sample::select(BITS.to_vec())],
        pulls_first in any::<bool>(),
        rules in any_rules(),
    ) {
        let tree = |entry: Option<Entry>| entry.map(|entry| (at.clone(), entry)).into_iter().collect::<Tree>();
        let base = tree(base.map(|(content, mode)| model::file(content, mode)));
        let mount = |bits: u16| {
            let files = expanded(&tree(Some(model::file(2, bits))));
            Mount { files, base: base.clone(), unreadable: BTreeSet::new() }
        };
        let mut world = World { rules, store: base.clone(), mounts: [mount(bits[0]), mount(bits[1])] };
        let mut syncs = vec![(0, UP)];
        syncs.extend(pulls_first.then_some((1, DOWN)));
        syncs.extend([(1, UP), (0, DOWN), (1, DOWN), (0, UP), (1, UP)]);
        for (mount, towards) in syncs {
            for step in ok_value(world.sync(mount, towards))? {
                prop_assert!(!matches!(step.decision.verdict, Verdict::KeepBoth | Verdict::Stop), "{}", step);
            }
        }
        // A side that changed nothing gets what the other one pushed.
        let b_is_unchanged = base.get(&at).is_some_and(|b| b.agrees_with(&model::file(2, bits[1])));
        let wins = if b_is_unchanged { bits[0] } else { bits[1] };
        prop_assert_eq!(&world.store[&at], &model::file(2, wins));
        ok(world.expect_converged())?;
    }

    /// Two mounts with the same conflict make one copy, whichever direction each of them syncs in.
    #[test]
    fn copies_are_not_conflicted_again((base, mount, store) in related(), ways in [towards(), towards()]) {
        let other = mount.clone();
        let mut world = World { rules: DEFAULT, store, mounts: [mount, other] };
        for (i, first) in ways.into_iter().enumerate() {
            for towards in if first == UP { [UP, DOWN] } else { [DOWN, UP] } {
                let steps = ok_value(world.sync(i, towards))?;
                let again = steps.iter().filter_map(|s| s.copy.as_ref()).any(|copy| {
                    copy.to_string().matches(".conflict-").count() > 1
                });
                prop_assert!(!again);
            }
        }
        let _ = base;
        ok(world.sync(0, DOWN).map(drop))?;
        ok(world.expect_converged())?;
    }

    /// A shortcut of the engine: if the head is the base, only paths that differ here are planned.
    #[test]
    fn an_unmoved_head_needs_only_the_local_differences((base, mount, _) in related(), rules in any_rules()) {
        let local = mount.differences();
        let rows: Vec<Row> = local
            .iter()
            .filter_map(|row| {
                Some(Row { path: row.path.clone(), entry: base.get(&row.path)?.clone(), recycled: false })
            })
            .collect();
        let lines = |steps: Vec<model::PlanStep>| -> Vec<_> {
            let done = steps.into_iter().filter(|s| s.decision.verdict != Verdict::Nothing);
            done.map(|s| (s.path, s.decision.verdict, s.copy)).collect()
        };
        let short = plan_rows(rules, UP, rows.clone(), local.clone(), rows, &[1]);
        prop_assert_eq!(lines(short), lines(plan(rules, UP, &base, &local, &base)));
    }

    /// Y13: what leaves the scope loses its base rows, so it is not a deletion when it comes back into scope.
    #[test]
    fn y13_newly_excluded_is_not_deleted(
        (base, mut mount, store) in related(), out in paths(), rules in any_rules(), way in towards(),
    ) {
        let within = |tree: &Tree, inside: bool| -> Tree {
            tree.iter().filter(|(p, _)| p.is_within(&out) == inside).map(|(p, e)| (p.clone(), e.clone())).collect()
        };
        let local: Vec<Difference> =
            mount.differences().into_iter().filter(|row| !row.path.is_within(&out)).collect();
        let steps = plan(rules, way, &within(&base, false), &local, &within(&store, false));
        prop_assert!(steps.iter().all(|s| !s.path.is_within(&out)));
        // Out of scope, it is deleted here. Then it comes back into scope.
        mount.files.retain(|p, _| !p.is_within(&out));
        let base = within(&base, false);
        let local = differences(&base, &mount.files, &BTreeSet::new());
        for towards in [UP, DOWN] {
            let steps = plan(DEFAULT, towards, &base, &local, &store);
            let deleted = |s: &model::PlanStep| s.decision.verdict == Verdict::Delete && s.path.is_within(&out);
            prop_assert!(!steps.iter().any(deleted));
        }
    }

    /// A file that has not arrived counts as existing, whatever else happens.
    #[test]
    fn pending_is_never_deleted(
        (base, mut mount, store) in related(), share in 1usize..4, rules in any_rules(), towards in towards(),
    ) {
        let arrives = |p: &&TreePath| store[*p].is_dir() || has_below(&mount.files, p);
        let pending: Vec<TreePath> = store.keys().filter(|p| !arrives(p)).step_by(share).cloned().collect();
        for p in &pending {
            mount.files.remove(p);
            mount.base.remove(p);
        }
        let files = canonical(&mount.files).unwrap();
        let mut local = differences(&mount.base, &expanded(&files), &BTreeSet::new());
        local.retain(|row| !pending.contains(&row.path));
        local.extend(pending.iter().filter(|p| !mount.files.contains_key(*p)).map(|p| Difference {
            path: p.clone(),
            state: State::Pending,
        }));
        local.sort_by(|a, b| a.path.cmp(&b.path));
        let _ = base;
        for step in plan(rules, towards, &mount.base, &local, &store) {
            prop_assert!(step.decision.verdict != Verdict::Delete || !pending.contains(&step.path), "{}", step);
        }
    }

    /// A recycled path stays as it is here, in both directions, and is never pulled. Nothing is lost or
    /// stopped because of it.
    #[test]
    fn what_was_recycled_is_left_alone(
        (base, mount, store) in related(), share in 1usize..4, rules in any_rules(), towards in towards(),
    ) {
        let local = mount.differences();
        let is_file = |e: &Entry| matches!(e.node, Node::File { .. });
        let mut remote = model::rows(&store);
        remote.iter_mut().filter(|r| is_file(&r.entry)).step_by(share).for_each(|r| r.recycled = true);
        let was = |p: &TreePath| remote.iter().find(|r| r.recycled && r.path == *p).map(|r| &r.entry);
        let steps = plan_rows(rules, towards, model::rows(&base), local, remote.clone(), &[1]);
        for step in &steps {
            prop_assert_eq!(step.recycled, was(&step.path).is_some());
            let Some(was) = was(&step.path) else { continue };
            prop_assert!(step.remote.is_none());
            let verdict = step.decision.verdict;
            let here = mount.files.get(&step.path).filter(|e| !e.is_dir());
            match here {
                Some(here) if here.node == was.node => prop_assert_eq!(verdict, Verdict::Withhold, "{}", step),
                Some(here) if base.get(&step.path).is_some_and(|b| b.agrees_with(here)) => {
                    prop_assert_eq!(verdict, Verdict::Withhold, "{}", step);
                }
                Some(_) if towards == DOWN => prop_assert_eq!(verdict, Verdict::Keep, "{}", step),
                Some(_) => prop_assert_eq!(verdict, Verdict::Write, "{}", step),
                None => prop_assert!(verdict != Verdict::KeepBoth && verdict != Verdict::Stop, "{}", step),
            }
        }
        // The same paths are deleted as without recycled rows. Not counted are directories in the context
        // that only recycled paths imply: they have no row that could be deleted.
        let gone: Vec<_> = remote.into_iter().filter(|r| !r.recycled).collect();
        let stands = |p: &TreePath| gone.iter().any(|r| r.path == *p || r.path.is_below(p));
        let lost = |steps: &[model::PlanStep]| -> BTreeSet<TreePath> {
            let lost = steps.iter().filter(|s| s.decision.verdict == Verdict::Delete);
            let lost = lost.filter(|s| towards == DOWN || !s.remote_implied || stands(&s.path));
            lost.map(|s| s.path.clone()).collect()
        };
        let without = plan_rows(rules, towards, model::rows(&base), mount.differences(), gone.clone(), &[1]);
        prop_assert!(lost(&steps).is_subset(&lost(&without)));
    }
}

fn ok_value<T>(result: Result<T, String>) -> Result<T, TestCaseError> {
    result.map_err(TestCaseError::fail)
}
