//! A file becomes a directory, or the other way round (faults L4).

use ctxsync_tests::compare::{assert_same, assert_same_but_times, list, paths};
use ctxsync_tests::faults::Fails;
use ctxsync_tests::machine::{Machine, World, changed};
use ctxsync_tests::tree::Tree;
use std::path::Path;
use transfer_engine::Env;

type Change = fn(&Tree);

/// One machine makes a change. Fails unless the other one follows.
async fn follows(before: Change, change: Change) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    before(&a.mount);
    a.mount.write("other", "x");
    a.push().await.clean();
    b.pull().await.clean();
    change(&a.mount);
    a.push().await.clean();
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_same(&a.mount.0, &fresh.mount.0);
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    assert_eq!(b.push().await.clean().snapshot, Some(3), "it had nothing of its own");
}

#[tokio::test]
async fn l4_a_file_becomes_a_directory_and_back() {
    let file: Change = |t| drop(t.write("x", "file").time("x", 5, 5).at(""));
    let dir: Change = |t| {
        t.write("x/y/z", "deep").write("x/w", "w").time("x/w", 6, 6).time("x/y/z", 7, 7);
    };
    fn clear(t: &Tree) {
        t.remove("x");
    }
    let cases: [(Change, Change); 10] = [
        (file, |t| {
            clear(t);
            t.write("x/y/z", "deep").write("x/w", "w");
        }),
        (dir, |t| {
            clear(t);
            t.write("x", "file");
        }),
        (file, |t| {
            clear(t);
            t.dir("x");
        }),
        (
            |t| drop(t.dir("x").at("")),
            |t| {
                clear(t);
                t.write("x", "file");
            },
        ),
        (
            |t| drop(t.dir("x").mode("x", 0o700).at("")),
            |t| {
                clear(t);
                t.link("x", "target");
            },
        ),
        (
            |t| drop(t.link("x", "target").at("")),
            |t| {
                clear(t);
                t.write("x/y", "y").mode("x", 0o700);
            },
        ),
        (file, |t| {
            clear(t);
            t.link("x", "target");
        }),
        (
            |t| drop(t.dir("x/void").dir("x/y/void").at("")),
            |t| {
                clear(t);
                t.write("x", "file");
            },
        ),
        (
            |t| drop(t.write("x/y/z", "1").mode("x", 0o700).mode("x/y", 0o750).at("")),
            |t| {
                clear(t);
                t.write("x", "file");
            },
        ),
        (dir, |t| {
            t.remove("x/y").write("x/y", "file").remove("x/w").write("x/w/v", "v");
        }),
    ];
    for (before, change) in cases {
        follows(before, change).await;
    }
}

#[tokio::test]
async fn emptied_and_renamed_directories_follow() {
    let cases: [(Change, Change); 6] = [
        (|t| drop(t.write("d/f", "1").at("")), |t| drop(t.remove("d/f").at(""))),
        (|t| drop(t.write("d/e/f", "1").at("")), |t| drop(t.remove("d/e/f").at(""))),
        (|t| drop(t.write("d/e/f", "1").at("")), |t| drop(t.remove("d/e").at(""))),
        (|t| drop(t.write("d/e/f", "1").dir("d/v").at("")), |t| drop(t.rename("d", "z").at(""))),
        (
            |t| drop(t.write("d/f", "1").write("d/g", "1").at("")),
            |t| drop(t.remove("d/f").rename("d/g", "g").at("")),
        ),
        (
            |t| drop(t.write("d/f", "1").mode("d", 0o711).at("")),
            |t| drop(t.remove("d/f").mode("d", 0o755).at("")),
        ),
    ];
    for (before, change) in cases {
        follows(before, change).await;
    }
}

/// An obstacle to a change of kind is not a conflict: the cause is reported, and the next pull goes on.
#[tokio::test]
async fn l4_a_failed_removal_is_no_conflict() {
    let file: Change = |t| drop(t.write("x", "file").at(""));
    let dir: Change = |t| drop(t.write("x/y/z", "deep").at(""));
    let clear: Change = |t| drop(t.remove("x").at(""));
    let cases = [
        (dir, file, "rmdir", "x/y", rustix::io::Errno::BUSY, "`x/y` cannot be removed"),
        (dir, file, "rmdir", "x", rustix::io::Errno::ACCESS, "`x` cannot be removed"),
        (dir, file, "unlinkat", "x/y/z", rustix::io::Errno::PERM, "cannot be removed"),
        (file, dir, "unlinkat", "x", rustix::io::Errno::IO, "cannot be removed"),
    ];
    for (before, after, operation, at, errno, said) in cases {
        let world = World::memory().await;
        let (a, mut b) = (world.machine("a"), world.machine("b"));
        before(&a.mount);
        a.mount.write("other", "x");
        a.push().await.clean();
        b.pull().await.clean();
        clear(&a.mount);
        after(&a.mount);
        a.push().await.clean();
        let place = b.mount.at(at);
        b.env = Env::real().with_file_faults(Fails::new(operation, errno, move |path: &Path| path == place));
        let ended = b.pull().await;
        let report = ended.report();
        assert_eq!((report.conflicts, report.unsettled), (0, 0), "{operation} {at}: {:?}", ended.noted);
        assert!(report.failed > 0 && report.is_incomplete(), "{operation} {at}");
        let cause = std::io::Error::from(errno).to_string();
        let told = |problem: &String| problem.contains(said) && problem.contains(&cause);
        assert!(ended.noted.problems.iter().any(told), "{operation} {at}: {:?}", ended.noted);
        assert!(ended.noted.warnings.is_empty(), "{:?}", ended.noted);
        b.env = Env::real();
        assert_eq!(b.push().await.clean().added, 0, "{operation} {at}: nothing of it is its user's");
        b.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
    }
}

/// The removal of a directory that failed is tried again. Until then the directory does not count as a local
/// one.
#[tokio::test]
async fn l4_an_emptied_directory_that_cannot_be_removed_goes_later() {
    let (_world, a, mut b) =
        changed(|t| drop(t.write("x/y/z", "1").at("")), |t| drop(t.remove("x").at(""))).await;
    let busy = rustix::io::Errno::BUSY;
    b.env = Env::real().with_file_faults(Fails::new("rmdir", busy, |path: &Path| path.ends_with("y")));
    let ended = b.pull().await;
    assert_eq!((ended.report().failed, ended.report().deleted), (1, 1), "{:?}", ended.noted);
    assert!(ended.noted.problems[0].contains("`x/y` cannot be removed"), "{:?}", ended.noted);
    b.env = Env::real();
    assert_eq!(b.push().await.clean().added, 0);
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

/// Makes one change on each machine, syncs in all orders, and fails unless both end up with the expected
/// contents.
async fn clash(before: Change, left: Change, right: Change, expect: &[&str]) {
    for order in 0..4 {
        let world = World::memory().await;
        let (a, b) = (world.machine("a"), world.machine("b"));
        before(&a.mount);
        a.mount.write("other", "x");
        a.push().await.clean();
        b.pull().await.clean();
        left(&a.mount);
        right(&b.mount);
        let (first, second) = if order % 2 == 0 { (&a, &b) } else { (&b, &a) };
        first.push().await.clean();
        let ended = if order < 2 { second.push().await } else { second.pull().await };
        assert!(!ended.report().is_incomplete(), "{order} {:?}", ended.noted);
        for machine in [second, first, second, first, second] {
            let ended = machine.sync().await;
            assert!(!ended.report().is_incomplete(), "{order} {:?}", ended.noted);
        }
        assert_same_but_times(&a.mount.0, &b.mount.0);
        let found: Vec<String> = contents(&a);
        assert_eq!(found, expect, "{order}: {:?}", list(&a.mount.0).keys());
    }
}

/// Returns the sorted contents of all files: names of copies depend on which side lost.
fn contents(machine: &Machine) -> Vec<String> {
    let tree = &machine.mount;
    let files = paths(&tree.0).into_iter().filter(|p| tree.at(p).is_file());
    let mut contents: Vec<String> = files.map(|p| tree.read(p)).collect();
    contents.sort();
    contents
}

#[tokio::test]
async fn l4_a_file_against_a_directory_keeps_both() {
    let file: Change = |t| drop(t.write("x", "file").at(""));
    let dir: Change = |t| drop(t.write("x/y", "y").write("x/z/w", "w").at(""));
    clash(|_| (), file, dir, &["file", "w", "x", "y"]).await;
    // Edited on one side, replaced by a directory on the other.
    let before: Change = |t| drop(t.write("x", "base").at(""));
    let edit: Change = |t| drop(t.write("x", "edited").at(""));
    let to_dir: Change = |t| drop(t.remove("x").write("x/y", "y").at(""));
    clash(before, edit, to_dir, &["edited", "x", "y"]).await;
    // A change below a directory that became a file.
    let before: Change = |t| drop(t.write("x/y", "base").write("x/z", "base").at(""));
    let below: Change = |t| drop(t.write("x/y", "below").at(""));
    let to_file: Change = |t| drop(t.remove("x").write("x", "file").at(""));
    clash(before, below, to_file, &["below", "file", "x"]).await;
    let added: Change = |t| drop(t.write("x/new", "new").at(""));
    clash(before, added, to_file, &["file", "new", "x"]).await;
}

#[tokio::test]
async fn an_emptied_directory_against_changes_in_it() {
    let before: Change = |t| drop(t.write("d/f", "1").at(""));
    let emptied: Change = |t| drop(t.remove("d/f").at(""));
    clash(before, emptied, |t| drop(t.write("d/g", "g").at("")), &["g", "x"]).await;
    clash(before, emptied, |t| drop(t.write("d/f", "2").at("")), &["2", "x"]).await;
    clash(before, emptied, |t| drop(t.remove("d").at("")), &["x"]).await;
    clash(before, emptied, |t| drop(t.mode("d", 0o700).at("")), &["x"]).await;
    clash(before, emptied, |t| drop(t.remove("d").write("d", "file").at("")), &["file", "x"]).await;
}
