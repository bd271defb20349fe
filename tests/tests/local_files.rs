//! Faults of local files (faults L and P).

use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::{Fails, Meanwhile};
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{World, changed};
use ctxsync_tests::notes::Notes;
use ctxsync_tests::tree::{Tree, is_root};
use futures::{FutureExt, TryStreamExt};
use policy_core::Timestamp;
use rustix::fs::{CWD, FileType, Mode};
use transfer_engine::{Clock, Env, FileFaults, Spawn};

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
        // Content of the same size right after the push, and in every other round with the old timestamp.
        let stat = a.mount.at("f").metadata().unwrap();
        a.mount.write("f", &content);
        if round % 2 == 0 {
            a.mount.time("f", stat.mtime(), stat.mtime_nsec());
        }
        assert_eq!(a.push().await.clean().changed, 1, "{round}");
        b.pull().await.clean();
        assert_eq!(b.mount.read("f"), content);
        // The same on the other machine, right after its pull.
        let content = format!("b{round:03}");
        b.mount.write("f", &content);
        assert_eq!(b.push().await.clean().changed, 1, "{round}");
        a.pull().await.clean();
        assert_eq!(a.mount.read("f"), content);
    }
}

#[tokio::test]
async fn l21_an_edit_that_no_stat_shows_is_seen() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.mount.write("f", "0000").write("clock", "");
    a.push().await.clean();
    for round in 1..40 {
        // Edited again as soon as it was read, to the same size and timestamp. If the file system's clock has
        // not ticked since, its stat is unchanged.
        let (tree, done) = (a.mount.clone(), AtomicBool::new(false));
        a.objects = BeforePut::new(Arc::clone(&world.objects), move |key| {
            if key.as_ref().starts_with("packs") && !done.swap(true, Ordering::SeqCst) {
                let stat = tree.at("f").metadata().unwrap();
                tree.write("f", format!("b{round:03}")).time("f", stat.mtime(), stat.mtime_nsec());
            }
            std::future::ready(()).boxed()
        });
        let tick = |tree: &Tree| tree.write("clock", "").at("clock").metadata().unwrap().ctime_nsec();
        let before = tick(&a.mount);
        while tick(&a.mount) == before {}
        a.mount.write("f", format!("a{round:03}"));
        a.push().await.clean();
        a.objects = Arc::clone(&world.objects);
        assert_eq!((a.push().await.clean().changed, round), (1, round));
    }
}

/// A clock that stands still.
struct Stopped(Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }
}

#[tokio::test]
async fn l21_a_file_of_this_very_moment_is_read_again() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.mount.write("f", "content");
    let stat = a.mount.at("f").metadata().unwrap();
    let after = |nanos: i64| {
        let nanos = stat.ctime_nsec() + nanos;
        let secs = stat.ctime() + nanos.div_euclid(1_000_000_000);
        Env::real()
            .with_clock(Arc::new(Stopped(Timestamp { secs, nanos: nanos.rem_euclid(1_000_000_000) as u32 })))
    };
    // Within the resolution of the file system's clock a stat proves nothing. Later it does.
    a.env = after(1_000_000);
    a.push().await.clean();
    assert_eq!(a.push().await.clean().bytes_read, 7);
    a.env = after(1_000_000_000);
    assert_eq!(a.push().await.clean().bytes_read, 7);
    assert_eq!(a.push().await.clean().bytes_read, 0);
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

/// A file that an interrupted sync moved aside is kept, whatever its name, and even if that name is taken.
#[tokio::test]
async fn l24_a_file_that_was_moved_aside_is_kept_also_where_its_name_is_taken() {
    use std::os::unix::ffi::OsStrExt;
    let (_world, _a, b) = changed(|t| _ = t.write("f", "1"), |t| _ = t.write("f", "2")).await;
    let long = [&[0x80; 200][..], &[b'l'; 55]].concat();
    let aside = |name: &[u8]| {
        let staging = b.mount.at(".ctxsync-stage-0123456789abcdef");
        std::fs::create_dir_all(&staging).unwrap();
        std::fs::write(staging.join(".ctxsync-stage"), "").unwrap();
        std::fs::write(staging.join(std::ffi::OsStr::from_bytes(name)), "edited").unwrap();
    };
    let kept = || {
        let names = ctxsync_tests::compare::list(&b.mount.0).into_keys();
        names.filter(|name| name.to_string_lossy().starts_with("ctxsync-recovered-")).count()
    };
    for round in 1..=3 {
        aside(b"x");
        aside(&long);
        let pulled = b.pull().await;
        assert!(pulled.report().failed == 0 && pulled.warned("ctxsync-recovered-x"), "{:?}", pulled.noted);
        assert_eq!(kept(), 2 * round);
        assert!(!b.mount.has(".ctxsync-stage-0123456789abcdef"));
    }
    assert!(b.mount.has("ctxsync-recovered-x") && b.mount.has("ctxsync-recovered-x-3"));
}

/// A mount inside another synced directory: the staging that a killed pull left in the inner one is not
/// pushed.
#[tokio::test]
async fn p1_staging_is_passed_over_at_any_depth() {
    let world = World::memory().await;
    let (outer, mut inner) = (world.machine("outer"), world.machine("inner"));
    outer.mount.write("sub/f", "f").write("sub/deep/g", "g");
    inner.mount = Tree(outer.mount.at("sub/deep"));
    let left = "sub/deep/.ctxsync-stage-0123456789abcdef";
    outer.mount.write(format!("{left}/.ctxsync-stage"), "").write(format!("{left}/s-1/n-1"), "half a file");
    outer.mount.dir("sub/.ctxsync-stage-0000456789abcdef");
    outer.push().await.clean();
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(paths(&fresh.mount.0), ["sub", "sub/deep", "sub/deep/g", "sub/f"]);
    // The next sync of the inner mount removes it.
    inner.push().await.clean();
    assert!(!outer.mount.has(left));
}

/// Git, and tools that follow its ignore files, see nothing of a sync.
#[tokio::test]
async fn staging_hides_itself_from_git() {
    let (_world, a, mut b) =
        changed(|t| drop(t.write("f", "1").at("")), |t| drop(t.write("f", "2").at(""))).await;
    let (mount, seen) = (b.mount.clone(), Arc::new(AtomicU64::new(0)));
    let count = seen.clone();
    b.env = Env::real().with_file_faults(Meanwhile::new(move |operation, _| {
        if operation == "renameat2" {
            let ours: Vec<String> =
                mount.files().into_iter().filter(|path| path.ends_with("/.gitignore")).collect();
            assert!(ours.len() == 1 && ours[0].starts_with(".ctxsync-stage-"), "{ours:?}");
            assert_eq!(mount.read(&ours[0]), "*\n");
            count.fetch_add(1, Ordering::SeqCst);
        }
    }));
    b.pull().await.clean();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_same(&a.mount.0, &b.mount.0);
}

/// The cause is reported. What needs the user's help is not promised to be tried again.
#[tokio::test]
async fn l25_p5_p10_why_a_path_was_not_brought_is_said() {
    let cases = [
        (rustix::io::Errno::NOSPC, "No space left on device", "free space on the mount's disk"),
        (rustix::io::Errno::ROFS, "Read-only file system", "make the mount's disk writable"),
        (rustix::io::Errno::ACCESS, "Permission denied", "write access there"),
        (rustix::io::Errno::PERM, "Operation not permitted", "write access there"),
        (rustix::io::Errno::IO, "Input/output error", "the next pull tries again"),
    ];
    for (errno, cause, help) in cases {
        let world = World::memory().await;
        let (a, mut b) = (world.machine("a"), world.machine("b"));
        a.mount.write("d/f", "1").write("g", "2");
        a.push().await.clean();
        let at_d: fn(&Path) -> bool = |path| path.ends_with("d");
        b.env = Env::real().with_file_faults(Fails::new("mkdirat", errno, at_d));
        let ended = b.pull().await;
        assert_eq!(ended.report().failed, 1, "{errno}");
        let [problem] = &ended.noted.problems[..] else { panic!("{:?}", ended.noted) };
        assert!(problem.contains(cause), "{problem}");
        assert!(ended.noted.hints[0].contains(help), "{:?}", ended.noted);
        assert_eq!(b.mount.read("g"), "2");
    }
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
        // A push in between sends none of the sync's own files.
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

/// A flush may succeed after a failed one although data is lost. So data that was written before the failure
/// does not count.
#[tokio::test]
async fn p7_nothing_is_gone_on_with_after_a_failed_flush() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount.write("long", vec![7; 65 << 20]);
    a.push().await.clean();
    let of_staging = |path: &Path| path.to_string_lossy().contains(".ctxsync-stage-");
    b.env = Env::real().with_file_faults(Fails::new("syncfs", rustix::io::Errno::IO, of_staging));
    b.pull().await.error();
    assert!(paths(&b.mount.0).is_empty(), "{:?}", paths(&b.mount.0));
    b.env = Env::real();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

/// An edit at the moment when a pull changes a file's mode is not hidden by the timestamp that the pull sets.
#[tokio::test]
async fn l21_an_edit_while_a_mode_is_changed_is_seen() {
    let (_world, a, mut b) = changed(
        |t| drop(t.write("f", "one").time("f", 1_700_000_000, 0).at("")),
        |t| drop(t.mode("f", 0o755).time("f", 1_700_000_000, 0).at("")),
    )
    .await;
    let tree = b.mount.clone();
    b.env = Env::real().with_file_faults(Meanwhile::new(move |operation, path| {
        if operation == "fchmod" && path.ends_with("f") {
            tree.write("f", "two");
        }
    }));
    b.pull().await.clean();
    b.env = Env::real();
    assert_eq!((b.mount.read("f").as_str(), b.mount.mode_of("f")), ("two", 0o755));
    assert_eq!(b.push().await.clean().changed, 1);
    a.pull().await.clean();
    assert_eq!(a.mount.read("f"), "two");
}

/// Runs jobs on tokio's threads, and appends to a file before each.
struct Appending(PathBuf);

impl Spawn for Appending {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        if let Ok(mut log) = std::fs::File::options().append(true).open(&self.0) {
            assert!(std::io::Write::write_all(&mut log, &[7; 100]).is_ok());
        }
        tokio::task::spawn_blocking(job);
    }

    fn parallelism(&self) -> usize {
        2
    }
}

/// A log that is always written to is in every snapshot, with the length that it had when it was opened. The
/// next push adds the rest. That holds for a file that is read at once, for one that is read in steps, and
/// for one that becomes long meanwhile.
#[tokio::test]
async fn l2_l29_an_endless_appender_holds_nothing_up_and_is_saved() {
    for len in [0, 1000, (4 << 20) - 50, 6 << 20] {
        let world = World::memory().await;
        let (mut a, b) = (world.machine("a"), world.machine("b"));
        a.mount.write("log", vec![7; len]).write("other", "1");
        a.env = Env::real().with_spawn(Arc::new(Appending(a.mount.at("log"))));
        for number in 0..3 {
            let before = a.mount.at("log").metadata().unwrap().len();
            let pushed = a.push().await;
            assert_eq!(
                pushed.clean().added + pushed.clean().changed,
                if number == 0 { 2 } else { 1 },
                "{len}"
            );
            let after = a.mount.at("log").metadata().unwrap().len();
            b.pull().await.clean();
            let saved = std::fs::read(b.mount.at("log")).unwrap();
            assert!(
                (before..=after).contains(&(saved.len() as u64)) && saved.iter().all(|b| *b == 7),
                "{len}"
            );
        }
        a.env = Env::real();
        assert_eq!(a.push().await.clean().changed, 1);
        b.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
    }
}

/// Runs jobs on tokio's threads, and overwrites the beginning of a file before each.
struct Rewriting(PathBuf, AtomicU64);

impl Spawn for Rewriting {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        let number = self.1.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        let file = std::fs::File::options().write(true).open(&self.0);
        assert!(file.is_ok_and(|file| file.write_all_at(&number, 0).is_ok()));
        tokio::task::spawn_blocking(job);
    }

    fn parallelism(&self) -> usize {
        2
    }
}

/// Chunks that were sent for a file that then failed are used by the next push.
#[tokio::test]
async fn l29_what_was_sent_for_a_file_that_failed_is_not_sent_again() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let mut random = Vec::new();
    (0u64..1_500_000).for_each(|n| random.extend((n * n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()));
    a.mount.write("image", &random).write("other", "0");
    a.env = Env::real().with_spawn(Arc::new(Rewriting(a.mount.at("image"), AtomicU64::new(0))));
    let mut sizes = vec![0];
    for number in 1..5 {
        let pushed = a.push().await;
        assert_eq!((pushed.report().failed, pushed.noted.problems.len()), (1, 1), "{:?}", pushed.noted);
        assert!(pushed.noted.problems[0].contains("image: it keeps changing"), "{:?}", pushed.noted);
        let stored = world.objects.list(None).map_ok(|object| object.size).try_collect::<Vec<u64>>();
        sizes.push(stored.await.unwrap().into_iter().sum());
        a.mount.write("other", format!("{number}"));
    }
    let grown: Vec<u64> = sizes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(grown[0] > 11 << 20 && grown[1..].iter().all(|more| *more < grown[0] / 2), "{grown:?}");
    a.env = Env::real();
    let sent = a.push().await.clean().bytes_stored;
    assert!(sent < grown[0] / 4, "{sent} {grown:?}");
    let b = world.machine("b");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
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

/// Panics where a directory is listed for the first time.
struct Panics(AtomicBool);

impl FileFaults for Panics {
    fn before(&self, _: &'static str, _: &Path) -> std::io::Result<()> {
        Ok(())
    }

    fn before_looking(&self, operation: &'static str, path: &Path) -> std::io::Result<()> {
        let is_here = operation == "getdents64" && path.ends_with("d3");
        let first = is_here && self.0.swap(false, Ordering::SeqCst);
        assert!(!first, "planted");
        Ok(())
    }
}

/// Several threads list directories. Those who wait for one that panicked must hear of it.
#[tokio::test]
async fn a_scan_of_which_a_thread_panics_ends() {
    for round in 0..20 {
        let world = World::quick().await;
        let mut a = world.machine("a");
        for i in 0..8 {
            a.mount.write(format!("d{i}/e/f"), "x");
        }
        a.env = Env::real().with_file_faults(Arc::new(Panics(AtomicBool::new(true))));
        let push =
            tokio::spawn(async move { a.push().await.result.is_ok_and(|report| !report.is_incomplete()) });
        let ended = tokio::time::timeout(Duration::from_secs(60), push).await;
        if ended.expect("the scan hangs").unwrap() {
            // The mount was looked at once more.
            let fresh = world.machine("fresh");
            fresh.pull().await.clean();
            assert!(fresh.mount.has("d3/e/f"), "round {round}: what was not listed counts as saved");
        }
    }
}
