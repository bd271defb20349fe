//! Faults of local files (faults L and P).

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::{Fails, Meanwhile};
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::tree::{Tree, is_root};
use rustix::fs::{CWD, FileType, Mode};
use transfer_engine::Env;

/// Two machines that agree, of which the first then changed something.
async fn changed(before: fn(&Tree), change: fn(&Tree)) -> (World, Machine, Machine) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    before(&a.mount);
    a.mount.write("other", "x");
    a.push().await.clean();
    b.pull().await.clean();
    change(&a.mount);
    a.push().await.clean();
    (world, a, b)
}

/// Lets `act` run once, just before `operation` on the mount's `path`.
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
    // However it is edited: in place, to the same size and time, replaced, removed, made something else.
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
        // Replaced by another content, and removed; just before it is looked at, and just after.
        let replaced: fn(&Tree) = |t| drop(t.write("f", "from a").at(""));
        let removed: fn(&Tree) = |t| drop(t.remove("f").at(""));
        let moments =
            [("fstatat", replaced), ("renameat2", replaced), ("fstatat", removed), ("unlinkat", removed)];
        for (operation, change) in moments {
            // Once it was looked at, only its ctime would tell, and a rename changes that as well.
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
        assert_eq!(ended.report().failed, 1, "{:?}", ended.noted);
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
                // A staged file's name is not known before, any one will do.
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
            // What the link leads to is not in the context afterwards.
            b.env = Env::real();
            b.sync().await.report();
            let fresh = world.machine("fresh");
            fresh.pull().await.clean();
            assert_eq!(std::fs::read_link(fresh.mount.at(what)).unwrap(), canary.0);
        }
    }
}

#[tokio::test]
async fn l9_writing_one_hard_link_leaves_the_other() {
    let (_world, _, mut b) = changed(
        |t| drop(t.write("one", "base").write("two", "base").write("three", "base").at("")),
        |t| drop(t.write("one", "from a").mode("two", 0o755).remove("three").at("")),
    )
    .await;
    let sibling = Tree(b.mount.0.parent().unwrap().join("siblings"));
    sibling.dir("");
    for name in ["one", "two", "three"] {
        std::fs::hard_link(b.mount.at(name), sibling.at(name)).unwrap();
    }
    b.options.checksum = true;
    b.pull().await.clean();
    assert_eq!(
        (b.mount.read("one").as_str(), b.mount.mode_of("two"), b.mount.has("three")),
        ("from a", 0o755, false)
    );
    for name in ["one", "two", "three"] {
        assert_eq!((sibling.read(name).as_str(), sibling.mode_of(name)), ("base", 0o644), "{name}");
    }
}

#[tokio::test]
async fn l9_hard_links_in_a_mount_go_up_as_files() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("one", vec![1; 100_000]);
    std::fs::hard_link(a.mount.at("one"), a.mount.at("two")).unwrap();
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    assert_ne!(b.mount.at("one").metadata().unwrap().ino(), b.mount.at("two").metadata().unwrap().ino());
}

#[tokio::test]
async fn l10_fifos_and_sockets_are_reported_and_never_opened() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("file", "f").dir("run");
    // Opening a FIFO for reading would wait for a writer, for ever.
    rustix::fs::mknodat(CWD, a.mount.at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _listener = UnixListener::bind(a.mount.at("run/socket")).unwrap();
    for _ in 0..2 {
        let ended = a.push().await;
        assert_eq!(ended.report().failed, 2);
        assert!(ended.report().is_incomplete());
        assert_eq!(ended.noted.problems.len(), 2, "{:?}", ended.noted.problems);
        assert!(ended.noted.problems[0].contains("fifo: it is a FIFO"), "{:?}", ended.noted.problems);
    }
    b.pull().await.clean();
    assert_eq!(b.mount.read("file"), "f");
    assert!(!b.mount.has("fifo") && !b.mount.has("run/socket"));
    // One that takes the place of a file that was synced is neither its deletion nor overwritten.
    a.mount.remove("file");
    rustix::fs::mknodat(CWD, a.mount.at("file"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(a.push().await.report().deleted, 0);
    b.mount.write("file", "changed by b");
    b.push().await.clean();
    a.pull().await.report();
    assert!(!a.mount.at("file").is_file());
}

#[tokio::test]
async fn l11_what_cannot_be_read_is_neither_sent_nor_deleted() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("closed/f", "1").write("file", "1").write("other", "1");
    a.push().await.clean();
    b.pull().await.clean();
    a.mount.write("file", "22").mode("file", 0o000).mode("closed", 0o000);
    let ended = a.push().await;
    if is_root() {
        ended.clean();
    } else {
        assert_eq!((ended.report().failed, ended.report().deleted), (2, 0), "{:?}", ended.noted);
        b.mount.write("closed/f", "from b").write("file", "from b");
        b.push().await.clean();
        let ended = a.pull().await;
        assert_eq!(ended.report().changed, 0, "{:?}", ended.noted);
        a.mount.mode("file", 0o644).mode("closed", 0o755);
        assert_eq!((a.mount.read("file"), a.mount.read("closed/f")), ("22".to_owned(), "1".to_owned()));
    }
    b.pull().await.report();
    assert!(b.mount.has("closed/f") && b.mount.has("file"));
}

#[tokio::test]
async fn l11_a_directory_that_cannot_be_written_to_still_takes_what_comes() {
    let (_world, a, b) = changed(
        |t| drop(t.write("d/f", "1").write("d/g", "1").mode("d", 0o555).at("")),
        |t| {
            drop(t.mode("d", 0o755).write("d/f", "2").remove("d/g").write("d/h", "3").mode("d", 0o555).at(""))
        },
    )
    .await;
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn l21_an_edit_of_the_same_size_right_after_a_sync_is_seen() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("f", "0000");
    a.push().await.clean();
    b.pull().await.clean();
    for round in 1..30 {
        let content = format!("{round:04}");
        // The same size, at once, and by turns with the time set back to what it was.
        let stat = a.mount.at("f").metadata().unwrap();
        a.mount.write("f", &content);
        if round % 2 == 0 {
            a.mount.time("f", stat.mtime(), stat.mtime_nsec());
        }
        assert_eq!(a.push().await.clean().changed, 1, "{round}");
        b.pull().await.clean();
        assert_eq!(b.mount.read("f"), content);
        // The other machine as well, right after its pull.
        let content = format!("b{round:03}");
        b.mount.write("f", &content);
        assert_eq!(b.push().await.clean().changed, 1, "{round}");
        a.pull().await.clean();
        assert_eq!(a.mount.read("f"), content);
    }
}

#[tokio::test]
async fn l24_names_like_our_own_are_a_users_files() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write(".ctxsync-stage-00/x", "1").write("d/.ctxsync-stage", "2").write(".ctxsync-stage", "3");
    a.mount.write("ctxsync-recovered-x", "4").write("f.conflict-00112233.txt", "5").write("f.txt", "6");
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    b.mount.remove("f.txt").write(".ctxsync-stage-00/x", "changed");
    b.push().await.clean();
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn p5_p6_p7_a_failing_disk_stops_a_pull_and_leaves_nothing_half_done() {
    let anywhere: fn(&Path) -> bool = |_| true;
    let cases = [
        ("openat", rustix::io::Errno::NOSPC),
        ("fchmod", rustix::io::Errno::IO),
        ("syncfs", rustix::io::Errno::IO),
        ("symlinkat", rustix::io::Errno::NOSPC),
        ("renameat2", rustix::io::Errno::NOSPC),
        ("mkdirat", rustix::io::Errno::ROFS),
        ("unlinkat", rustix::io::Errno::IO),
    ];
    for (operation, errno) in cases {
        let (_world, a, mut b) = changed(
            |t| drop(t.write("d/f", "1").write("gone", "1").at("")),
            |t| drop(t.write("d/f", "2").write("new/g", "3").link("l", "t").remove("gone").at("")),
        )
        .await;
        b.env = Env::real().with_file_faults(Fails::new(operation, errno, anywhere));
        let ended = b.pull().await;
        assert!(ended.result.is_err() || ended.report().is_incomplete(), "{operation} {:?}", ended.report());
        for (path, versions) in [("d/f", ["1", "2"]), ("new/g", ["3", "3"])] {
            assert!(
                !b.mount.has(path) || versions.contains(&b.mount.read(path).as_str()),
                "{operation} {path}"
            );
        }
        // A push in between sends nothing that is ours.
        b.env = Env::real();
        let pushed = b.push().await;
        assert_eq!(
            (pushed.report().added, pushed.report().conflicts),
            (0, 0),
            "{operation} {:?}",
            pushed.noted
        );
        b.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
    }
}

#[tokio::test]
async fn p14_a_mount_is_locked_and_the_message_says_by_whom() {
    let world = World::memory().await;
    let a = world.machine("a");
    let held = a.open().unwrap();
    let ended = a.push().await;
    let message = ended.error().to_string();
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    drop(held);
    a.mount.write("x", "1");
    a.push().await.clean();
}

#[tokio::test]
async fn k3_state_is_for_its_owner_only() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("x", "1");
    a.push().await.clean();
    let files = walkdir::WalkDir::new(&a.state).into_iter().flatten().filter(|e| e.file_type().is_file());
    for file in files
        .map(walkdir::DirEntry::into_path)
        .filter(|p: &PathBuf| !p.components().any(|c| c.as_os_str() == "cache"))
    {
        assert_eq!(file.metadata().unwrap().mode() & 0o077, 0, "{}", file.display());
    }
}

#[tokio::test]
async fn l20_our_own_state_and_store_inside_the_mount_are_left_out() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.state = a.mount.at("inside/state");
    a.mount.write("x", "1");
    a.push().await.clean();
    a.push().await.clean();
    let b = world.machine("b");
    b.pull().await.clean();
    assert_eq!(b.mount.read("x"), "1");
    assert!(!b.mount.has("inside/state"));
}
