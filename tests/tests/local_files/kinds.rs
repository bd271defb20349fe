//! Links, and what a context can't hold.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use ctxsync_tests::compare::{assert_same, assert_same_but_times};
use ctxsync_tests::machine::{World, changed};
use ctxsync_tests::notes::Notes;
use ctxsync_tests::tree::Tree;
use rustix::fs::{CWD, FileType, Mode};

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

/// Replacing or removing one changes the ctime of the other, which is no change of a user's.
#[tokio::test]
async fn l9_a_pull_replaces_and_removes_hard_links_of_one_file() {
    let (_world, a, b) = changed(
        |t| {
            ["one", "two", "three", "four", "kept"].iter().for_each(|name| drop(t.write(name, "base").at("")))
        },
        |t| drop(t.write("one", "1").write("two", "22").remove("three").remove("four").at("")),
    )
    .await;
    for name in ["two", "three", "four", "kept"] {
        b.mount.remove(name);
        std::fs::hard_link(b.mount.at("one"), b.mount.at(name)).unwrap();
    }
    b.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert_eq!(b.mount.read("kept"), "base");
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
async fn l10_fifos_and_sockets_are_warned_of_and_never_opened() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("file", "f").dir("run");
    // Opening a FIFO for reading would wait for a writer.
    rustix::fs::mknodat(CWD, a.mount.at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _listener = UnixListener::bind(a.mount.at("run/socket")).unwrap();
    for _ in 0..2 {
        let ended = a.push().await;
        ended.clean();
        let expected =
            "left out, because a context can't hold it: `fifo` is a FIFO, `run/socket` is a socket";
        assert_eq!(ended.noted.warnings, [expected]);
        let mut strict = a.clone();
        strict.options.strict = true;
        let ended = strict.push().await;
        assert_eq!(ended.report().failed, 2);
        assert!(ended.report().is_incomplete());
        assert!(ended.noted.problems[0].contains("fifo: it is a FIFO"), "{:?}", ended.noted.problems);
    }
    assert_eq!(a.push().await.report().requests, 1, "they are nothing to push");
    a.pull().await.clean();
    b.pull().await.clean();
    assert_eq!(b.mount.read("file"), "f");
    assert!(!b.mount.has("fifo") && !b.mount.has("run/socket"));
    // A FIFO in the place of a synced file is not a deletion, and is not overwritten.
    a.mount.remove("file");
    rustix::fs::mknodat(CWD, a.mount.at("file"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(a.push().await.report().deleted, 0);
    b.mount.write("file", "changed by b");
    b.push().await.clean();
    a.pull().await.report();
    assert!(!a.mount.at("file").is_file());
}

#[tokio::test]
async fn l10_one_warning_names_a_few_of_many_sockets_once_a_session() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("file", "f");
    let sockets: Vec<_> =
        (0..200).map(|i| UnixListener::bind(a.mount.at(format!("s{i:03}"))).unwrap()).collect();
    let mut mount = a.open().unwrap();
    let notes = Notes::default();
    for _ in 0..3 {
        mount.push(&a.options, &notes).await.unwrap();
    }
    let noted = notes.noted();
    assert_eq!((noted.warnings.len(), noted.problems.len()), (1, 0), "{noted:?}");
    assert!(noted.warnings[0].contains("`s000` is a socket") && noted.warnings[0].ends_with("195 more"));
    drop(sockets);
}

#[tokio::test]
async fn l10_what_stands_where_the_context_has_a_file_is_incomplete() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("file", "f").write("dir/deep", "d");
    a.push().await.clean();
    // The second machine has never had the file, so its base does not list it.
    let make = |name: &str| {
        rustix::fs::mknodat(CWD, b.mount.at(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    };
    make("file");
    make("other");
    for ended in [b.push().await, b.pull().await, b.push().await, b.pull().await] {
        assert_eq!(ended.report().failed, 1, "{:?}", ended.noted);
        assert!(ended.noted.problems[0].contains("file: it is a FIFO"), "{:?}", ended.noted.problems);
    }
    assert_eq!(b.mount.read("dir/deep"), "d");
    assert_eq!(world.head().await.number, 2);
}
