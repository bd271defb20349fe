//! Another program changes a path between the scan and the sync's own change there (faults.md, L5 and L6).

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::Meanwhile;
use ctxsync_tests::machine::{Machine, World, changed};
use ctxsync_tests::tree::Tree;
use rustix::fs::CWD;
use transfer_engine::Env;

/// Makes `act` run once, just before `operation` on the mount's `path`. The returned flag says whether it
/// ran.
fn just_before(
    machine: &mut Machine,
    operation: &'static str,
    path: &str,
    act: impl Fn(&Tree) + Send + Sync + 'static,
) -> Arc<AtomicBool> {
    let (tree, path, done) =
        (machine.mount.clone(), machine.mount.at(path), Arc::new(AtomicBool::new(false)));
    let ran = done.clone();
    machine.env = Env::real().with_file_faults(Meanwhile::new(move |op, at: &Path| {
        if op == operation && at == path && !done.swap(true, Ordering::SeqCst) {
            act(&tree);
        }
    }));
    ran
}

#[tokio::test]
async fn l6_a_file_edited_between_scan_and_apply_is_kept() {
    // Every kind of edit: in place, to the same size and time, replaced, or replaced by another kind.
    type Edit = fn(&Tree);
    let edits: [(&str, Edit); 6] = [
        ("rewritten", |t| drop(t.write("f", "edited").at(""))),
        ("same size", |t| drop(t.write("f", "mine").at(""))),
        ("same size and time", |t| {
            let stat = t.at("f").metadata().unwrap();
            t.write("f", "mine").time("f", stat.mtime(), stat.mtime_nsec());
        }),
        ("replaced", |t| drop(t.write("new", "edited").rename("new", "f").at(""))),
        ("a directory", |t| drop(t.remove("f").write("f/in", "edited").at(""))),
        ("a link", |t| drop(t.remove("f").link("f", "edited").at(""))),
    ];
    for (how, edit) in edits {
        // The pull replaces or removes the file. The edit happens just before the pull checks it, or just
        // after.
        let replaced: fn(&Tree) = |t| drop(t.write("f", "from a").at(""));
        let removed: fn(&Tree) = |t| drop(t.remove("f").at(""));
        let moments =
            [("fstatat", replaced), ("renameat2", replaced), ("fstatat", removed), ("unlinkat", removed)];
        for (operation, change) in moments {
            // After the check only the ctime shows such an edit, and the pull's own rename changes the ctime,
            // too.
            if how == "same size and time" && operation != "fstatat" {
                continue;
            }
            let (_world, _, mut b) = changed(|t| drop(t.write("f", "base").at("")), change).await;
            let expected = {
                let scratch = Tree(b.mount.0.parent().unwrap().join("scratch"));
                scratch.write("f", "base");
                edit(&scratch);
                scratch
            };
            let ran = just_before(&mut b, operation, "f", edit);
            let ended = b.pull().await;
            assert!(ran.load(Ordering::SeqCst), "{how} {operation}");
            assert_eq!(ended.report().failed, 1, "{how} {operation} {:?}", ended.noted);
            b.mount.remove("other");
            let (found, wanted) = (paths(&b.mount.0), paths(&expected.0));
            assert_eq!(found, wanted, "{how} {operation}");
            for path in wanted.iter().filter(|p| expected.at(p).is_file()) {
                assert_eq!(b.mount.read(path), expected.read(path), "{how} {operation}");
            }
        }
    }
}

#[tokio::test]
async fn l6_what_was_kept_is_a_conflict_at_the_next_sync() {
    let (_world, a, mut b) =
        changed(|t| drop(t.write("f", "base").at("")), |t| drop(t.write("f", "from a").at(""))).await;
    just_before(&mut b, "renameat2", "f", |t| drop(t.write("f", "from b").at("")));
    b.pull().await.report();
    b.env = Env::real();
    let ended = b.sync().await;
    assert_eq!((ended.report().conflicts, ended.report().failed), (1, 0), "{:?}", ended.noted);
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    assert_eq!((a.mount.read("f").as_str(), paths(&a.mount.0).len()), ("from b", 3));
}

#[tokio::test]
async fn l6_a_file_that_appears_where_one_comes_is_kept() {
    for edit in [
        (|t: &Tree| drop(t.write("new", "mine").at(""))) as fn(&Tree),
        |t| drop(t.link("new", "mine").at("")),
        |t| drop(t.dir("new").at("")),
    ] {
        let (_world, _, mut b) = changed(|_| (), |t| drop(t.write("new", "from a").at(""))).await;
        just_before(&mut b, "renameat2", "new", edit);
        let ended = b.pull().await;
        // The pull did not fail, but the path is not done either: the next push keeps both versions.
        let report = ended.report();
        assert_eq!((report.failed, report.unsettled), (0, 1), "{:?}", ended.noted);
        assert!(report.is_incomplete() && ended.warned("`new`"), "{:?}", ended.noted);
        assert!(
            b.mount.at("new").is_dir() || !std::fs::read(b.mount.at("new")).is_ok_and(|c| c == b"from a")
        );
    }
}

#[tokio::test]
async fn l6_a_file_that_appears_in_a_removed_directory_keeps_it() {
    let (_world, a, mut b) =
        changed(|t| drop(t.write("d/e/f", "1").at("")), |t| drop(t.remove("d").at(""))).await;
    just_before(&mut b, "unlinkat", "d/e/f", |t| drop(t.write("d/e/mine", "m").at("")));
    b.pull().await.clean();
    assert_eq!(paths(&b.mount.0), ["d", "d/e", "d/e/mine", "other"]);
    b.env = Env::real();
    b.push().await.clean();
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn l5_a_directory_that_becomes_a_link_just_before_apply_leads_nowhere() {
    type Change = fn(&Tree);
    let before: Change = |t| drop(t.write("d/e/f", "base").write("d/e/g", "base").at(""));
    let cases: [(&'static str, &'static str, Change); 5] = [
        ("renameat2", "d/e/f", |t| drop(t.write("d/e/f", "from a").write("d/e/new", "n").at(""))),
        ("renameat2", "d/e/new", |t| drop(t.write("d/e/new", "n").write("d/e/new2", "n").at(""))),
        ("unlinkat", "d/e/f", |t| drop(t.remove("d/e/f").remove("d/e/g").at(""))),
        ("mkdirat", "d/z", |t| drop(t.write("d/z/new", "n").write("d/e/new", "n").at(""))),
        ("openat", "", |t| {
            drop(t.write("d/e/f", "from a").write("d/z/y/new", "n").remove("d/e/g").mode("d/e", 0o700).at(""))
        }),
    ];
    for (operation, path, change) in cases {
        for inner in [false, true] {
            let (world, _, mut b) = changed(before, change).await;
            let canary = world.outside();
            canary.write("f", "canary").write("g", "canary").write("e/f", "canary").write("e/g", "canary");
            let listing = ctxsync_tests::compare::list(&canary.0);
            let (away, target) = (canary.0.parent().unwrap().join("away"), canary.0.clone());
            let what = if inner { "d/e" } else { "d" };
            let (tree, at, done) = (b.mount.clone(), b.mount.at(path), AtomicBool::new(false));
            b.env = Env::real().with_file_faults(Meanwhile::new(move |op, place: &Path| {
                // The name of a staged file is random, so any path of that operation will do.
                if op == operation && (place == at || path.is_empty()) && !done.swap(true, Ordering::SeqCst) {
                    std::fs::rename(tree.at(what), &away).unwrap();
                    tree.link(what, &target);
                }
            }));
            b.pull().await.report();
            let after = ctxsync_tests::compare::list(&canary.0);
            assert_eq!(
                ctxsync_tests::compare::differences(&listing, &after),
                "",
                "{operation} {path} {inner}"
            );
            assert_eq!(canary.mode_of(""), 0o755);
            // The context has the link, and nothing of its target.
            b.env = Env::real();
            b.sync().await.report();
            let fresh = world.machine("fresh");
            fresh.pull().await.clean();
            assert_eq!(std::fs::read_link(fresh.mount.at(what)).unwrap(), canary.0);
        }
    }
}

#[tokio::test]
async fn l5_a_directory_that_flickers_with_a_link_lets_nothing_in() {
    let world = World::memory().await;
    let a = world.machine("a");
    let canary = world.outside();
    // Pushing a link does not open it.
    canary
        .write("canary", "c")
        .write("sub/canary", "c")
        .link("canary-link", "t")
        .link("sub/canary-link", "t");
    a.mount.write("d/sub/mine", "m").write("other", "x");
    let elsewhere = a.mount.0.parent().unwrap().join("link");
    std::os::unix::fs::symlink(&canary.0, &elsewhere).unwrap();
    let (at, stop) = (a.mount.at("d"), Arc::new(AtomicBool::new(false)));
    let flicker = {
        let (stop, flags) = (stop.clone(), rustix::fs::RenameFlags::EXCHANGE);
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                rustix::fs::renameat_with(CWD, &at, CWD, &elsewhere, flags).unwrap();
            }
        })
    };
    let root = policy_core::TreePath::root();
    let mut found = Vec::new();
    for _ in 0..60 {
        // Whatever the push finds, it ends, and it sends only what was in the mount.
        a.push().await.report();
        let snapshot = world.head().await;
        world.store().entries(&snapshot, &root, |e| found.push(e.path.to_string())).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    flicker.join().unwrap();
    found.retain(|path| path.contains("canary"));
    assert_eq!(found, [""; 0]);
    assert_eq!(paths(&canary.0), ["canary", "canary-link", "sub", "sub/canary", "sub/canary-link"]);
}
