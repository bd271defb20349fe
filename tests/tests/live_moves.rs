//! Trees that change while they are pushed (fault L26): what existed all the time does not count as deleted,
//! and a snapshot of what did not come to rest is marked.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::path::Path;

use ctxsync_tests::busy::push_while;
use ctxsync_tests::compare::{Content, assert_same, differences, list, without_times};
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::tree::Tree;

/// Returns the contents and paths of all files in the context.
async fn held(world: &World) -> BTreeSet<(String, String)> {
    let fresh = world.machine("fresh");
    fresh.pull().await.report();
    let files = list(&fresh.mount.0).into_iter().filter_map(|(path, node)| match node.content {
        Content::File(_, _, Some(bytes)) => {
            Some((String::from_utf8(bytes).unwrap(), path.display().to_string()))
        }
        _ => None,
    });
    let files = files.collect();
    fresh.mount.clear();
    fresh.lose_state();
    files
}

fn rename(tree: &Path, from: &str, to: &str) {
    std::fs::rename(tree.join(from), tree.join(to)).unwrap();
}

/// Renames, each from a path to another one.
const MOVES: &[(&str, &str)] = &[
    ("d6/p", "d1/p"),
    ("d1/q", "d6/q"),
    ("d6/p/x", "d1/x"),
    ("d1/q/y", "d6/y"),
    ("d6/p/deep", "d0"),
    ("d1/q/y", "d6/p/x"),
    ("d6", "d1/q/d6"),
];

fn fill(tree: &Tree) {
    for dir in ["d1", "d2", "d3", "d4", "d5", "d6"] {
        tree.write(format!("{dir}/f"), dir);
    }
    tree.write("d1/q/y", "moves up").write("d6/p/x", "moves down").write("d6/p/deep/z", "moves too");
}

#[tokio::test]
async fn l3_what_vanishes_while_it_is_scanned_is_left_out() {
    for moment in 0..12 {
        let world = World::quick().await;
        let machine = world.machine("m");
        fill(&machine.mount);
        let tree = machine.mount.0.clone();
        let ended = push_while(&machine, move |asked| {
            if asked == moment {
                std::fs::remove_dir_all(tree.join("d6")).unwrap();
                std::fs::remove_file(tree.join("d1/f")).unwrap();
            }
        })
        .await;
        ended.clean();
        // Once more: what vanished after the last look at it leaves the context now.
        machine.push().await.clean();
        let fresh = world.machine("fresh");
        fresh.pull().await.clean();
        assert_same(&machine.mount.0, &fresh.mount.0);
        assert!(!fresh.mount.has("d6") && !fresh.mount.has("d1/f") && fresh.mount.has("d1/q/y"), "{moment}");
    }
}

#[tokio::test]
async fn l26_what_moves_while_it_is_scanned_is_not_taken_for_deleted() {
    for (from, to) in MOVES {
        for back in [false, true] {
            for moment in (0..14).step_by(if back { 6 } else { 2 }) {
                let world = World::quick().await;
                let machine = world.machine("m");
                fill(&machine.mount);
                machine.push().await.clean();
                let before: BTreeSet<String> = held(&world).await.into_iter().map(|(c, _)| c).collect();
                machine.mount.write("d3/new", "new").remove("d4/f");
                let tree = machine.mount.0.clone();
                let over = tree.join(to).is_file();
                let ended = push_while(&machine, move |asked| {
                    if asked == moment {
                        rename(&tree, from, to);
                    } else if back && !over && asked == moment + 2 {
                        rename(&tree, to, from);
                    }
                })
                .await;
                ended.report();
                let told = format!("{from} to {to} at {moment}, back: {back}: {ended:?}");
                let after: BTreeSet<String> = held(&world).await.into_iter().map(|(c, _)| c).collect();
                let lost: Vec<_> = before.difference(&after).filter(|c| **c != "d4").collect();
                let replaced: &[&str] = if over { &["moves down"] } else { &[] };
                assert!(lost.iter().all(|c| replaced.contains(&c.as_str())), "{told}: {lost:?}");
                assert!(after.contains("new"), "{told}");
                machine.push().await.clean();
                let fresh = world.machine("fresh");
                fresh.pull().await.clean();
                assert_same(&machine.mount.0, &fresh.mount.0);
            }
        }
    }
}

#[tokio::test]
async fn l26_deletions_wait_where_a_tree_does_not_come_to_rest() {
    let world = World::quick().await;
    let machine = world.machine("m");
    fill(&machine.mount);
    machine.push().await.clean();
    machine.mount.write("d3/new", "new").remove("d4/f");
    let tree = machine.mount.0.clone();
    // `p` is always at one of two places. Each time the engine asks, it is renamed to the other one.
    let ended = push_while(&machine, move |_| {
        let (a, b) = (tree.join("d1/p"), tree.join("d6/p"));
        if a.exists() {
            std::fs::rename(a, b).unwrap()
        } else {
            std::fs::rename(b, a).unwrap()
        }
        std::fs::write(tree.join("d2/f"), "d2").unwrap();
    })
    .await;
    let report = ended.report();
    assert!(report.mount_unsettled && world.head().await.is_unsettled(), "{ended:?}");
    let after = held(&world).await;
    let contents: BTreeSet<&str> = after.iter().map(|(content, _)| content.as_str()).collect();
    assert!(contents.contains("moves down") && contents.contains("moves too"), "{after:?}");
    // A deletion where nothing moves is a deletion.
    assert!(contents.contains("new") && !contents.contains("d4"), "{after:?}");
    assert_eq!(report.held_back, report.in_doubt, "{ended:?}");
    if report.held_back > 0 {
        assert!(ended.warned("what is deleted there is held back until a later push"), "{ended:?}");
    }

    machine.mount.write("d3/new", "newer");
    machine.push().await.clean();
    assert!(!world.head().await.is_unsettled());
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    let of = |machine: &Machine| without_times(list(&machine.mount.0));
    assert_eq!(differences(&of(&machine), &of(&fresh)), "");
}

#[tokio::test]
async fn l26_two_files_that_are_written_in_turn_are_of_one_moment_or_the_snapshot_is_unsettled() {
    let world = World::quick().await;
    let machine = world.machine("m");
    machine.mount.write("a", "0000").write("z", "0000");
    for i in 0..20 {
        machine.mount.write(format!("m/{i}/f"), "x");
    }
    machine.push().await.clean();
    for moment in 0..30 {
        machine.mount.write("new", moment.to_string());
        let tree = machine.mount.0.clone();
        let ended = push_while(&machine, move |asked| {
            if asked == moment {
                for name in ["a", "z"] {
                    std::fs::write(tree.join(name), format!("{:04}", moment + 1)).unwrap();
                }
            }
        })
        .await;
        assert!(!ended.clean().mount_unsettled, "{moment}: {ended:?}");
        let held = held(&world).await;
        let of = |path: &str| held.iter().find(|(_, at)| at == path).map(|(content, _)| content.clone());
        assert_eq!(of("a"), of("z"), "{moment}");
    }
    // A mount that never comes to rest.
    machine.mount.write("new", "and on");
    let tree = machine.mount.0.clone();
    let ended = push_while(&machine, move |asked| {
        // Only sometimes: a file that changes at every read would be left out.
        for name in ["a", "z"].iter().filter(|_| asked.is_multiple_of(4)) {
            std::fs::write(tree.join(name), format!("{:04}", asked + 100)).unwrap();
        }
    })
    .await;
    assert!(ended.clean().mount_unsettled && world.head().await.is_unsettled(), "{ended:?}");
}

#[tokio::test]
async fn l29_a_log_that_only_grows_leaves_a_snapshot_settled() {
    let world = World::quick().await;
    let machine = world.machine("m");
    machine.mount.write("app.log", "begin\n").write("other", "x");
    machine.push().await.clean();
    machine.mount.write("other", "changed");
    let log = machine.mount.at("app.log");
    let ended = push_while(&machine, move |asked| {
        use std::io::Write;
        if !asked.is_multiple_of(2) {
            return;
        }
        let mut log = std::fs::File::options().append(true).open(&log).unwrap();
        writeln!(log).unwrap();
    })
    .await;
    assert!(!ended.clean().mount_unsettled, "{ended:?}");
    let held = held(&world).await;
    assert!(held.iter().any(|(content, _)| content.starts_with("begin\n\n")), "{held:?} {ended:?}");
}

#[tokio::test]
async fn l26_what_comes_and_goes_and_is_not_saved_leaves_a_snapshot_settled() {
    let world = World::quick().await;
    let machine = world.machine("m").with_policy(r#"{"bwList": {"ignorePatterns": ["*.tmp"]}}"#);
    machine.mount.write("kept", "x").write("d/f", "y");
    machine.push().await.clean();
    machine.mount.write("kept", "changed");
    let tree = machine.mount.0.clone();
    let ended = push_while(&machine, move |_| {
        let tmp = tree.join("some.tmp");
        if tmp.exists() { std::fs::remove_file(tmp).unwrap() } else { std::fs::write(tmp, "t").unwrap() }
    })
    .await;
    assert!(!ended.clean().mount_unsettled, "{ended:?}");
}
