//! Files that are edited while they are synced, or right after it.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::faults::Meanwhile;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{World, changed};
use ctxsync_tests::tree::Tree;
use futures::{FutureExt, TryStreamExt};
use policy_core::Timestamp;
use transfer_engine::{Clock, Env, Spawn};

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
