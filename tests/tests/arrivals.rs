//! Pulls that are cut short: the files that arrived are known, the others are pending, and an edit in between
//! counts as what it is.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctxsync_tests::compare::{assert_same, assert_same_but_times, paths};
use ctxsync_tests::faults::{Death, Fails, Meanwhile};
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use futures::FutureExt;
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::{Action, ContextSync, CreateSessionParams, Env, ReleaseOptions, Session, Spawn, Store};

/// Writes files of every kind that a pull handles differently.
fn fill(machine: &Machine) {
    for i in 0..12 {
        machine.mount.write(format!("d{}/f{i}", i % 4), format!("content {i}"));
    }
    machine.mount.write("empty", "").dir("nothing").link("link", "empty");
    machine.mount.write("long", vec![7; 5 << 20]);
}

/// Returns a machine that has to wait for its disks, because it has no boot id.
fn waiting() -> Env {
    Env::real().with_boot(None)
}

/// Edits every third of the files that exist, and deletes every other third.
fn work_on(machine: &Machine) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut edited, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    let files: Vec<String> = paths(&machine.mount.0)
        .into_iter()
        .filter(|path| machine.mount.0.join(path).symlink_metadata().unwrap().is_file())
        .collect();
    for (i, path) in files.into_iter().enumerate() {
        if path.contains(".ctxsync-stage") {
            continue;
        }
        match i % 3 {
            0 => {
                machine.mount.write(&path, "edited here");
                edited.insert(path);
            }
            1 => {
                machine.mount.remove(&path);
                deleted.insert(path);
            }
            _ => {}
        }
    }
    (edited, deleted)
}

/// The pull may die at any change. What the user does afterwards is a local change: there is no conflict
/// copy, no deletion is forgotten, and the files that had not arrived are pulled.
#[tokio::test]
async fn p1_a_user_goes_on_where_a_download_died() {
    let world = World::memory().await;
    let a = world.machine("a");
    fill(&a);
    a.push().await.clean();
    let all = {
        let mut b = world.machine("count");
        let death = Death::after(u64::MAX);
        b.env = Env::real().with_file_faults(death.clone());
        b.pull().await.clean();
        death.calls()
    };
    assert!(all > 20, "{all}");
    for lives in 0..all {
        let world = World::memory().await;
        let (a, mut b) = (world.machine("a"), world.machine("b"));
        fill(&a);
        a.push().await.clean();
        b.env = Env::real().with_file_faults(Death::after(lives));
        let _ = b.pull().await;
        b.env = Env::real();
        let (edited, deleted) = work_on(&b);
        let synced = b.sync().await;
        let report = synced.report();
        assert_eq!((report.conflicts, report.failed), (0, 0), "after {lives}: {:?}", synced.noted);
        // If no pulled file is left, the mount may look lost. Then all files are pulled again.
        if report.held_back == 0 && !synced.warned("treating it as lost") {
            for path in &deleted {
                assert!(!b.mount.0.join(path).exists(), "after {lives}: {path} is back; {:?}", synced.noted);
            }
        }
        for path in &edited {
            assert_eq!(b.mount.read(path), "edited here", "after {lives}: {path}");
        }
        let there = paths(&b.mount.0);
        assert!(!there.iter().any(|path| path.contains("conflict")), "after {lives}: {there:?}");
        a.pull().await.clean();
        assert_same_but_times(&a.mount.0, &b.mount.0);
    }
}

/// The state is on one disk, the mount on another, and power is lost right after a pull. The mount's disk
/// must have everything that the base lists: a file that it lost would count as deleted.
#[tokio::test]
async fn p2_the_base_knows_of_nothing_that_the_mounts_disk_may_lose() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    fill(&a);
    a.push().await.clean();
    let (unsynced, state) = (Arc::new(AtomicU64::new(0)), b.state.clone());
    let (counted, mount) = (unsynced.clone(), b.mount.0.clone());
    b.env = waiting().with_file_faults(Meanwhile::new(move |operation, path| {
        if operation == "syncfs" {
            counted.store(0, Ordering::SeqCst);
        } else if path.starts_with(&mount) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        assert!(!paths(&state).iter().any(|path| path.ends_with("/base")), "{operation} came after the base");
    }));
    b.pull().await.clean();
    assert!(paths(&b.state).iter().any(|path| path.ends_with("/base")));
    assert_eq!(unsynced.load(Ordering::SeqCst), 0);
}

/// A job that puts files in place panics, and the process goes on. What it has not put in place was not deleted.
#[tokio::test]
async fn what_a_job_that_ended_without_a_result_has_not_placed_counts_as_still_to_come() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount.write("x", "1").write("y", "2");
    a.push().await.clean();
    b.env = Env::real().with_file_faults(Meanwhile::new(|operation, path| {
        if operation == "renameat2" && path.ends_with("y") {
            std::panic::resume_unwind(Box::new("a bug"));
        }
    }));
    b.pull().await.error();
    b.env = Env::real();
    assert_eq!(paths(&b.mount.0).iter().filter(|path| !path.starts_with('.')).count(), 1);
    assert_eq!(b.push().await.clean().deleted, 0);
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

/// The same for what a push has read: a file that was written a moment ago may not be on the disk yet.
#[tokio::test]
async fn p2_a_push_makes_durable_what_its_base_knows_of() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    fill(&a);
    let (synced, ahead) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, knew, state) = (synced.clone(), ahead.clone(), a.state.clone());
    a.env = waiting().with_file_faults(Meanwhile::new(move |operation, _| {
        // A slow disk: a push that does not wait for it writes the base too early.
        if operation == "syncfs" {
            std::thread::sleep(Duration::from_millis(300));
            counted.fetch_add(1, Ordering::SeqCst);
        }
        for path in paths(&state).iter().filter(|path| path.contains("/base")) {
            // The base's header is written last.
            let bytes = std::fs::read(state.join(path)).unwrap_or_default();
            knew.fetch_add(u64::from(bytes.iter().take(16).any(|byte| *byte != 0)), Ordering::SeqCst);
        }
    }));
    a.push().await.clean();
    assert_eq!((synced.load(Ordering::SeqCst), ahead.load(Ordering::SeqCst)), (1, 0));
}

/// If the disk fails, the push still happens, also where it is not known what was on the disk. But a file that is missing afterwards was not deleted.
#[tokio::test]
async fn p7_a_push_whose_disk_fails_saves_and_believes_nothing() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.env = waiting();
    fill(&a);
    a.push().await.clean();
    a.env = waiting().with_file_faults(Fails::new("syncfs", rustix::io::Errno::IO, |_| true));
    a.mount.write("new", "1").write("empty", "no more");
    let pushed = a.push().await;
    assert!(pushed.warned("may not have all of it yet"), "{:?}", pushed.noted);
    assert_eq!((pushed.report().added, pushed.report().changed), (1, 1));
    let b = world.machine("b");
    b.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);

    a.env = waiting();
    a.mount.remove("new");
    let pushed = a.push().await;
    assert_eq!((pushed.report().deleted, pushed.report().conflicts), (0, 0), "{:?}", pushed.noted);
    a.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert!(a.push().await.clean().parent.is_none());
}

/// The inode of a file that was pulled and deleted may be used again by a staged file. It must not be taken
/// for the pulled one.
#[tokio::test]
async fn an_inode_that_is_used_again_takes_nothing_back() {
    let world = World::memory().await;
    let (a, b) = all_came_and_no_base(&world).await;
    // The same inode with other content.
    std::fs::rename(b.mount.at("d1/f1"), b.mount.at(STAGING).join("p-1")).unwrap();
    b.mount.write(format!("{STAGING}/p-1"), "a part of another file");
    b.push().await.clean();
    a.pull().await.clean();
    assert!(!a.mount.has("d1/f1"));
}

const STAGING: &str = ".ctxsync-stage-0123456789abcdef";

/// Returns a machine with a tree, and one that has pulled all of it but not written its base. There is a
/// staging directory in the latter's mount.
async fn all_came_and_no_base(world: &World) -> (Machine, Machine) {
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    fill(&a);
    a.push().await.clean();
    let at_the_end = |path: &std::path::Path| path.ends_with("mount");
    b.env = waiting().with_file_faults(Fails::new("syncfs", rustix::io::Errno::IO, at_the_end));
    let said = b.pull().await.error().to_string();
    assert!(said.contains("make durable"), "{said}");
    b.env = waiting();
    b.mount.write(format!("{STAGING}/.ctxsync-stage"), "");
    (a, b)
}

/// The journal is on disk, but the renames that it lists are not, so they did not happen.
#[tokio::test]
async fn p2_what_is_still_staged_after_a_power_loss_did_not_arrive() {
    let world = World::memory().await;
    let (a, mut b) = all_came_and_no_base(&world).await;
    std::fs::rename(b.mount.at("d1/f1"), b.mount.at(STAGING).join("n-1")).unwrap();

    // The files that did arrive are flushed before the base lists them.
    let (first, state) = (Arc::new(Mutex::new(None)), b.state.clone());
    let seen = first.clone();
    b.env = waiting().with_file_faults(Meanwhile::new(move |operation, _| {
        let has_base = paths(&state).iter().any(|path| path.ends_with("/base"));
        seen.lock().unwrap().get_or_insert((operation, has_base));
    }));
    let pushed = b.push().await;
    assert_eq!(pushed.report().deleted, 0, "{:?}", pushed.noted);
    assert_eq!(*first.lock().unwrap(), Some(("syncfs", false)));
    b.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert!(b.push().await.clean().parent.is_none());
}

/// Counts the jobs that have not ended, including those that nothing waits for.
#[derive(Clone, Default)]
struct Jobs(Arc<AtomicU64>);

struct Ends(Jobs);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Spawn for Jobs {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        let ends = Ends(self.clone());
        tokio::task::spawn_blocking(move || {
            let _ends = ends;
            job();
        });
    }

    fn parallelism(&self) -> usize {
        2
    }
}

/// A pull is dropped at any of its await points. A later one does not fetch again what had arrived.
#[tokio::test]
async fn a_download_that_is_dropped_goes_on_where_it_was() {
    let world = World::memory().await;
    let a = world.machine("a");
    for i in 0..300 {
        a.mount.write(format!("d{}/f{i}", i % 7), vec![i as u8; 40_000]);
    }
    a.push().await.clean();
    let mut polls = 1;
    loop {
        let mut b = world.machine(&format!("b{polls}"));
        let jobs = Jobs::default();
        b.env = Env::real().with_spawn(Arc::new(jobs.clone()));
        let mut left = polls;
        let mut pull = Box::pin(b.pull());
        let ended = std::future::poll_fn(|cx| match pull.poll_unpin(cx) {
            std::task::Poll::Ready(_) => std::task::Poll::Ready(true),
            std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(false),
            std::task::Poll::Pending => {
                left -= 1;
                std::task::Poll::Pending
            }
        })
        .await;
        drop(pull);
        // Jobs that had begun go on until they end, and may still put a file in place.
        while jobs.0.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let arrived = paths(&b.mount.0).iter().filter(|p| p.contains("/f")).count();
        let rest = b.pull().await.clean().added as usize;
        assert_eq!(rest, 300 - arrived, "after {polls} polls");
        assert_same_but_times(&a.mount.0, &b.mount.0);
        assert!(b.push().await.clean().parent.is_none());
        if ended {
            assert_eq!(arrived, 300);
            break;
        }
        polls += 7;
    }
}

/// A long file that was partly pulled is resumed. One that changed a little copies the unchanged chunks from
/// its old version.
#[tokio::test]
async fn n4_a_long_file_goes_on_where_it_stopped_and_takes_what_it_has() {
    let world = World::memory().await;
    let a = world.machine("a");
    let mut long = Random::new(7).bytes(100 << 20);
    a.mount.write("long", &long);
    a.push().await.clean();

    let faulty = Faulty::new(world.objects.clone(), 1);
    let mut b = world.machine("b");
    b.objects = std::sync::Arc::new(faulty.clone());
    // One range after the other, so that it is known what has arrived.
    b.options.concurrency = std::num::NonZeroUsize::MIN;
    // The machine loses its network after some of the file's ranges.
    faulty.add(Rule::new(Fault::CrashBefore).on(Operation::Get).below("packs").nth(6));
    assert!(b.pull().await.result.is_err());
    assert!(!b.mount.has("long"));
    faulty.clear();
    faulty.revive();
    let rest = b.pull().await.clean().bytes_received;
    assert!(rest < 80 << 20, "{rest} bytes were fetched of {}", long.len());
    assert_same_but_times(&a.mount.0, &b.mount.0);

    long.splice(50 << 20..50 << 20, *b"inserted");
    a.mount.write("long", &long);
    a.push().await.clean();
    let changed = b.pull().await.clean().bytes_received;
    assert!(changed < 8 << 20, "{changed} bytes were fetched for one insertion");
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert!(b.push().await.clean().parent.is_none());
}

/// A directory is removed while some of its files are still pending: they are neither pulled nor deleted.
#[tokio::test]
async fn a_directory_that_vanishes_while_its_files_arrive_stays_away() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    let mut random = Random::new(3);
    for i in 0..12 {
        a.mount.write(format!("gone/f{i:02}"), random.bytes(300_000));
        a.mount.write(format!("stays/f{i:02}"), random.bytes(1000));
    }
    a.push().await.clean();
    let (mount, times) = (b.mount.0.clone(), AtomicU64::new(0));
    b.env = Env::real().with_file_faults(Meanwhile::new(move |operation, path| {
        // Its user removes the directory when some of the files have arrived.
        let comes = operation == "renameat2" && path.ends_with("gone/f05");
        if comes && times.fetch_add(1, Ordering::SeqCst) == 0 {
            // Files that another window puts there meanwhile are removed as well.
            while std::fs::remove_dir_all(mount.join("gone")).is_err() {}
        }
    }));
    let pulled = b.pull().await;
    let arrived = paths(&b.mount.0);
    assert!(!arrived.iter().any(|path| path.starts_with("gone")), "{arrived:?}");
    assert_eq!(arrived.iter().filter(|path| path.starts_with("stays/")).count(), 12);
    assert!(pulled.report().pending > 0, "{:?}", pulled.report());
    assert!(
        pulled
            .noted
            .events
            .iter()
            .any(|(path, action)| { path.to_string().starts_with("gone/") && *action == Action::Skip })
    );
    b.env = Env::real();
    let pushed = b.push().await;
    let left = world.head().await.totals.files;
    // The user has deleted the files that had arrived, and no others.
    assert_eq!(left, 24 - pushed.report().deleted, "{:?}", pushed.noted);
    assert!(pushed.report().deleted > 0 && left > 12, "{:?}", pushed.report());
}

/// A session is released while files are being written. The release waits for the writers, so no staging is
/// left behind, and it pushes what the session's command wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_for_those_who_still_write() {
    let world = World::memory().await;
    let a = world.machine("a");
    for i in 0..200 {
        a.mount.write(format!("d{}/f{i}", i % 9), format!("content {i}"));
    }
    a.push().await.clean();
    for round in 0..6 {
        let mut b = world.machine(&format!("b{round}"));
        // A slow disk.
        b.env = Env::real().with_file_faults(Meanwhile::new(|operation, _| {
            if operation == "openat" {
                std::thread::sleep(Duration::from_millis(1));
            }
        }));
        let store = Store::new(b.objects.clone(), "test:", b.env.clone());
        let sync = ContextSync::new(context(), &b.mount.0, b.policy.clone());
        let session = Session::create(&store, CreateSessionParams::new(vec![sync], &b.state)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10 * (round + 1))).await;
        b.mount.write(format!("mine{round}"), "mine");
        let released = session.release(ReleaseOptions::default()).await.unwrap();
        assert!(released.mounts.iter().all(|m| m.error.is_none()), "round {round}: {released:?}");
        let there = paths(&b.mount.0);
        assert!(!there.iter().any(|path| path.contains(".ctxsync-stage")), "round {round}: {there:?}");
        b.env = Env::real();
        b.pull().await.clean();
        assert!(b.push().await.clean().parent.is_none());
        a.pull().await.clean();
        assert_same_but_times(&a.mount.0, &b.mount.0);
    }
}
