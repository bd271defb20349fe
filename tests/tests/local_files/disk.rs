//! Files and directories that can't be read or written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::Fails;
use ctxsync_tests::machine::{World, changed};
use ctxsync_tests::tree::is_root;
use transfer_engine::{Env, FileFaults};

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
        // Without a boot id it has to wait for its disk.
        b.env = Env::real().with_boot(None).with_file_faults(Fails::new(operation, errno, anywhere));
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
    b.env = Env::real().with_boot(None);
    b.env = b.env.with_file_faults(Fails::new("syncfs", rustix::io::Errno::IO, of_staging));
    b.pull().await.error();
    assert!(paths(&b.mount.0).is_empty(), "{:?}", paths(&b.mount.0));
    b.env = Env::real();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
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
