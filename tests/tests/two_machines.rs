//! Two machines change the same context between two snapshots.

use ctxsync_tests::compare::{assert_same, assert_same_but_times, paths};
use ctxsync_tests::machine::{Ended, Machine, World};
use ctxsync_tests::tree::Tree;
use policy_core::ConflictPolicy;

/// Two machines that agree on what `make` created.
async fn agreed(make: impl FnOnce(&Tree) -> &Tree) -> (World, Machine, Machine) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    make(&a.mount);
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    (world, a, b)
}

/// Syncs until there is nothing left to do. Fails if that takes many rounds, or if the machines differ
/// afterwards.
async fn converge(world: &World, machines: &[&Machine]) {
    for round in 0.. {
        let mut quiet = true;
        for machine in machines {
            let ended = machine.sync().await;
            let report = ended.report();
            assert!(!report.is_incomplete(), "{report:?} {:?}", ended.noted);
            quiet &= (report.added, report.changed, report.deleted, report.conflicts) == (0, 0, 0, 0);
        }
        if quiet {
            break;
        }
        assert!(round < 4, "they go on and on");
    }
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    for machine in machines {
        assert_same_but_times(&fresh.mount.0, &machine.mount.0);
    }
}

#[tokio::test]
async fn both_changes_of_different_files_survive() {
    let (world, a, b) = agreed(|t| t.write("x", "1").write("y", "1").write("d/z", "1")).await;
    a.mount.write("x", "a").write("new-a", "a").remove("d");
    b.mount.write("y", "b").write("new-b", "b");
    a.push().await.clean();
    b.push().await.clean();
    a.pull().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    assert_eq!(a.mount.read("x") + &a.mount.read("y"), "ab");
    assert_eq!(paths(&a.mount.0), ["new-a", "new-b", "x", "y"]);
    converge(&world, &[&a, &b]).await;
}

/// Returns the content of `doc.txt`, and the paths of its conflict copies.
fn versions(tree: &Tree) -> (String, Vec<String>) {
    let copies: Vec<_> = paths(&tree.0).into_iter().filter(|p| p.contains(".conflict-")).collect();
    (tree.read("doc.txt"), copies)
}

#[tokio::test]
async fn w8_edit_against_edit_keeps_both_when_pushed() {
    let (world, a, b) = agreed(|t| t.write("doc.txt", "base")).await;
    a.mount.write("doc.txt", "from a");
    b.mount.write("doc.txt", "from b");
    a.push().await.clean();
    let ended = b.push().await;
    assert_eq!((ended.report().conflicts, ended.report().failed), (1, 0));
    a.pull().await.clean();
    converge(&world, &[&b, &a]).await;
    let (doc, copies) = versions(&a.mount);
    assert_eq!((doc.as_str(), copies.len()), ("from b", 1), "{copies:?}");
    assert_eq!(a.mount.read(&copies[0]), "from a");
}

#[tokio::test]
async fn w8_edit_against_edit_keeps_both_when_pulled() {
    let (world, a, b) = agreed(|t| t.write("doc.txt", "base")).await;
    a.mount.write("doc.txt", "from a");
    b.mount.write("doc.txt", "from b");
    a.push().await.clean();
    let ended = b.pull().await;
    assert_eq!(ended.report().conflicts, 1);
    let (doc, copies) = versions(&b.mount);
    assert_eq!((doc.as_str(), copies.len()), ("from b", 1));
    assert_eq!(b.mount.read(&copies[0]), "from a");
    // The conflict is settled: a push does not meet it again.
    assert_eq!(b.push().await.clean().conflicts, 0);
    converge(&world, &[&b, &a]).await;
    assert_eq!(versions(&a.mount), ("from b".to_owned(), copies));
}

#[tokio::test]
async fn the_same_conflict_gives_the_same_name_on_both_sides() {
    let mut names = Vec::new();
    for pull_first in [false, true] {
        let (world, a, b) = agreed(|t| t.write("doc.txt", "base")).await;
        a.mount.write("doc.txt", "from a");
        b.mount.write("doc.txt", "from b");
        a.push().await.clean();
        if pull_first {
            b.pull().await
        } else {
            b.push().await
        };
        // The conflict is met again after a crash that lost the state: still one copy.
        b.lose_state();
        converge(&world, &[&b, &a]).await;
        let (_, copies) = versions(&b.mount);
        assert_eq!(copies.len(), 1, "{copies:?}");
        names.push(copies);
    }
    assert_eq!(names[0], names[1]);
}

#[tokio::test]
async fn the_same_edit_on_both_sides_is_no_conflict() {
    let (world, a, b) = agreed(|t| t.write("doc.txt", "base")).await;
    for machine in [&a, &b] {
        machine.mount.write("doc.txt", "same").write("new", "same").mode("new", 0o640).link("l", "t");
    }
    a.push().await.clean();
    b.push().await.clean();
    b.pull().await.clean();
    converge(&world, &[&a, &b]).await;
    assert_eq!(paths(&a.mount.0), ["doc.txt", "l", "new"]);
}

#[tokio::test]
async fn w7_a_change_beats_a_deletion_in_every_order() {
    for (edit_first, push) in [(true, true), (true, false), (false, true), (false, false)] {
        let (world, a, b) = agreed(|t| t.write("f", "base").write("other", "x")).await;
        let (editor, deleter) = if edit_first { (&a, &b) } else { (&b, &a) };
        editor.mount.write("f", "edited");
        deleter.mount.remove("f");
        a.push().await.clean();
        let ended = if push { b.push().await } else { b.pull().await };
        ended.clean();
        converge(&world, &[&b, &a]).await;
        assert_eq!(a.mount.read("f"), "edited");
        assert_eq!(paths(&a.mount.0), ["f", "other"]);
    }
}

#[tokio::test]
async fn w9_an_addition_in_a_deleted_directory_stays() {
    let (world, a, b) = agreed(|t| t.write("d/old", "x").write("d/e/old", "x").write("other", "x")).await;
    a.mount.remove("d");
    b.mount.write("d/e/new", "b");
    a.push().await.clean();
    b.push().await.clean();
    converge(&world, &[&a, &b]).await;
    assert_eq!(paths(&a.mount.0), ["d", "d/e", "d/e/new", "other"]);
}

#[tokio::test]
async fn w10_two_renames_of_one_file_leave_it_under_both_names() {
    let (world, a, b) = agreed(|t| t.write("f", "x").write("other", "x")).await;
    a.mount.rename("f", "g");
    b.mount.rename("f", "h");
    a.push().await.clean();
    b.push().await.clean();
    converge(&world, &[&a, &b]).await;
    assert_eq!(paths(&a.mount.0), ["g", "h", "other"]);
}

#[tokio::test]
async fn modes_links_and_directories_follow() {
    let (world, a, b) = agreed(|t| {
        t.write("f", "x").write("d/f", "x").write("e/f", "x").dir("void").link("l", "t").write("m/f", "x");
        t.write("gone/f", "x").mode("e", 0o700)
    })
    .await;
    a.mount.mode("f", 0o755).mode("d", 0o700).mode("e", 0o755).mode("void", 0o750);
    a.mount.remove("l").link("l", "elsewhere").rename("m", "moved/here").remove("gone/f").dir("new/void");
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    b.mount.remove("void").remove("gone").remove("l").write("l", "a file").mode("d", 0o755);
    b.push().await.clean();
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    converge(&world, &[&a, &b]).await;
}

#[tokio::test]
async fn modes_alone_send_no_content() {
    let (_world, a, b) = agreed(|t| t.write("f", vec![7; 1 << 20])).await;
    a.mount.mode("f", 0o755);
    let ended = a.push().await;
    assert_eq!(ended.clean().changed, 1);
    assert!(ended.report().bytes_sent < 4096, "{:?}", ended.report());
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn a_mode_against_an_edit_is_a_conflict_of_which_both_survive() {
    let (world, a, b) = agreed(|t| t.write("doc.txt", "base")).await;
    a.mount.mode("doc.txt", 0o755);
    b.mount.write("doc.txt", "from b");
    a.push().await.clean();
    assert_eq!(b.push().await.report().conflicts, 1);
    converge(&world, &[&a, &b]).await;
    let (doc, copies) = versions(&a.mount);
    assert_eq!((doc.as_str(), copies.len()), ("from b", 1));
    assert_eq!((a.mount.read(&copies[0]), a.mount.mode_of(&copies[0])), ("base".to_owned(), 0o755));
}

async fn clash(conflict: ConflictPolicy, pull: bool) -> (World, Machine, Machine, Ended) {
    let (world, a, mut b) = agreed(|t| t.write("doc.txt", "base").write("other", "x")).await;
    b.options.conflict = Some(conflict);
    a.mount.write("doc.txt", "from a").write("other", "a");
    b.mount.write("doc.txt", "from b").write("mine", "b");
    a.push().await.clean();
    let ended = if pull { b.pull().await } else { b.push().await };
    (world, a, b, ended)
}

#[tokio::test]
async fn preferences_decide_a_conflict_in_both_directions() {
    for (conflict, wins) in
        [(ConflictPolicy::PreferLocal, "from b"), (ConflictPolicy::PreferRemote, "from a")]
    {
        for pull in [false, true] {
            let (world, a, b, ended) = clash(conflict, pull).await;
            assert!(!ended.report().is_incomplete());
            converge(&world, &[&b, &a]).await;
            assert_eq!(versions(&a.mount), (wins.to_owned(), vec![]), "{conflict:?} {pull}");
            assert_eq!(paths(&a.mount.0), ["doc.txt", "mine", "other"]);
        }
    }
}

#[tokio::test]
async fn fail_stops_before_anything_is_written() {
    for pull in [false, true] {
        let (world, _, b, ended) = clash(ConflictPolicy::Fail, pull).await;
        assert!(ended.report().stopped_by_conflict && ended.report().conflicts == 1, "{:?}", ended.report());
        assert_eq!(world.head().await.number, 3);
        assert_eq!(paths(&b.mount.0), ["doc.txt", "mine", "other"]);
        assert_eq!((b.mount.read("doc.txt"), b.mount.read("other")), ("from b".to_owned(), "x".to_owned()));
    }
}

#[tokio::test]
async fn w16_a_program_that_writes_where_a_file_is_still_to_come_replaces_nothing() {
    let (world, a, b) = agreed(|t| t.write("other", "x")).await;
    a.mount.write("doc.txt", "a long log");
    a.push().await.clean();
    b.mount.write("doc.txt", "appended");
    assert_eq!(b.push().await.report().conflicts, 1);
    converge(&world, &[&a, &b]).await;
    assert_eq!(versions(&a.mount).1.len(), 1);
}

#[tokio::test]
async fn a_conflict_copy_with_the_longest_name_fits() {
    let name = "n".repeat(255);
    let (world, a, b) = agreed(|t| t.write(&name, "base")).await;
    a.mount.write(&name, "from a");
    b.mount.write(&name, "from b");
    a.push().await.clean();
    b.push().await.report();
    converge(&world, &[&a, &b]).await;
    assert_eq!(paths(&a.mount.0).len(), 2);
}

#[tokio::test]
async fn two_conflicts_on_one_file_keep_three_versions() {
    let world = World::memory().await;
    let machines = [world.machine("a"), world.machine("b"), world.machine("c")];
    machines[0].mount.write("doc.txt", "base");
    machines[0].push().await.clean();
    for machine in &machines[1..] {
        machine.pull().await.clean();
    }
    for (i, machine) in machines.iter().enumerate() {
        machine.mount.write("doc.txt", format!("from {i}"));
    }
    for machine in &machines {
        machine.push().await.report();
    }
    converge(&world, &[&machines[0], &machines[1], &machines[2]]).await;
    let tree = &machines[1].mount;
    let mut all: Vec<String> = paths(&tree.0).iter().map(|p| tree.read(p)).collect();
    all.sort();
    assert_eq!(all, ["from 0", "from 1", "from 2"]);
}

/// Equal content with different permission bits on each side is no conflict: a push sends the local bits, and
/// a pull keeps them. What is deleted afterwards stays deleted.
#[tokio::test]
async fn modes_alone_are_no_conflict_in_either_direction() {
    for strategy in [ConflictPolicy::KeepBoth, ConflictPolicy::Fail, ConflictPolicy::PreferRemote] {
        for pull_first in [false, true] {
            let world = World::memory().await;
            let (a, mut b) = (world.machine("a"), world.machine("b"));
            b.options.conflict = Some(strategy);
            a.mount.write("run.sh", "echo").write("gone", "g").write("d/f", "f").mode("run.sh", 0o644);
            b.mount.write("run.sh", "echo").write("gone", "g").write("d/f", "f").mode("run.sh", 0o664);
            a.mount.mode("gone", 0o600).mode("d", 0o750).mode("d/f", 0o600);
            b.mount.mode("gone", 0o644).mode("d", 0o700).mode("d/f", 0o640);
            a.push().await.clean();
            if pull_first {
                b.pull().await.clean();
                assert_eq!(b.mount.mode_of("run.sh"), 0o664);
                b.mount.remove("gone");
                // A second pull does not restore what was deleted here.
                b.pull().await.clean();
                assert!(!b.mount.has("gone"));
            }
            b.push().await.clean();
            a.pull().await.clean();
            assert_same_but_times(&a.mount.0, &b.mount.0);
            assert_eq!(a.mount.mode_of("run.sh"), 0o664);
            assert_eq!((a.mount.mode_of("d"), a.mount.mode_of("d/f")), (0o700, 0o640));
            assert_eq!(a.mount.has("gone"), !pull_first);
            let head = world.head().await.number;
            for machine in [&a, &b, &a] {
                let ended = machine.sync().await;
                let report = ended.clean();
                assert_eq!((report.added, report.changed, report.deleted), (0, 0, 0), "{:?}", ended.noted);
            }
            assert_eq!(world.head().await.number, head);
        }
    }
}

/// Two machines that have `ours` at `c`, and `theirs` at the conflict copy whose name is returned.
async fn with_a_conflict_copy() -> (World, Machine, Machine, String) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("c", "before").write("other", "1");
    a.push().await.clean();
    b.pull().await.clean();
    b.mount.write("c", "theirs");
    b.push().await.clean();
    a.mount.write("c", "ours");
    a.sync().await.report();
    b.pull().await.clean();
    let paths = ctxsync_tests::compare::paths(&b.mount.0);
    let Some(copy) = paths.iter().find(|path| path.contains("conflict")).cloned() else {
        panic!("no conflict copy among {paths:?}");
    };
    assert_eq!((b.mount.read("c"), b.mount.read(&copy)), ("ours".into(), "theirs".into()));
    (world, a, b, copy)
}

/// A conflict is resolved elsewhere: the copy takes the file's path. Here the file was edited meanwhile. The copy of the
/// new conflict is the one that is there, and which the context has no more.
#[tokio::test]
async fn a_conflict_copy_that_was_moved_to_its_path_stays_where_the_file_was_edited() {
    let (_world, a, b, copy) = with_a_conflict_copy().await;
    b.mount.rename(&copy, "c");
    b.push().await.clean();
    a.mount.write("c", "ours again");
    a.sync().await.report();
    b.pull().await.clean();
    for machine in [&a, &b] {
        let read = (machine.mount.read("c"), machine.mount.read(&copy));
        assert_eq!(read, ("ours again".into(), "theirs".into()));
    }
}

/// The same where the copy was copied there, and deleted where the file was edited: the push keeps the other version.
#[tokio::test]
async fn a_conflict_copy_that_is_deleted_while_it_replaces_its_file_elsewhere_is_kept() {
    for sync in [false, true] {
        let (_world, a, b, copy) = with_a_conflict_copy().await;
        b.mount.write("c", "theirs");
        b.push().await.clean();
        a.mount.remove(&copy).write("c", "ours again");
        if sync {
            a.sync().await
        } else {
            a.push().await
        };
        b.pull().await.report();
        assert_eq!(
            (b.mount.read("c"), b.mount.read(&copy)),
            ("ours again".into(), "theirs".into()),
            "{sync}"
        );
    }
}

/// A copy takes part in a push if its original was requested: it is in the context as it is here.
#[tokio::test]
async fn a_sync_of_one_path_saves_its_conflict_copy_too() {
    let (world, a, b) = agreed(|tree| tree.write("d/p", "0").write("k", "0")).await;
    a.mount.write("d/p", "theirs").write("k", "1");
    a.push().await.clean();
    b.mount.write("d/p", "mine").write("other", "not requested");
    let mut only = b.clone();
    only.options.only = vec!["d/p".parse().unwrap()];
    assert_eq!(only.sync().await.report().conflicts, 1);
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    let there = paths(&fresh.mount.0);
    assert_eq!(there.len(), 4, "`d`, `d/p`, its copy and `k`: {there:?}");
    let copy = there.iter().find(|path| path.contains(".conflict-")).unwrap();
    assert_eq!((fresh.mount.read("d/p"), fresh.mount.read(copy)), ("mine".into(), "theirs".into()));
    assert_eq!(only.sync().await.clean().parent, None);
    converge(&world, &[&a, &b]).await;
}
