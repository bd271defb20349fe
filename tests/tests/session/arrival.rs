//! When files arrive in a session.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::random::Random;
use storage_backends::layer::{Bandwidth, Fault, Faulty, Operation, Recording, Rule};
use transfer_engine::{Arrival, Direction, SyncParams, TaskState, TaskType};

use crate::gate::Gate;
use crate::{BEFORE_START, ON_DEMAND, PERIODIC, eventually, open, packs, path, release, report_of};

/// A world with `first` and `dir/..` in a pack each, and a machine that reaches the store through a gate.
async fn two_packs() -> (World, Machine, Machine, Gate) {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount.write("first", "1").write("shared", "1");
    a.push().await.clean();
    let first = packs(&world.objects).await;
    a.mount.write("dir/second", "2").write("dir/third", "3");
    a.push().await.clean();
    let gate = Gate::new(Arc::clone(&world.objects));
    b.objects = Arc::new(gate.clone());
    // The tree is embedded in the snapshot, so only the files of the first push are held.
    gate.hold(move |key| key.as_ref().starts_with("packs/") && first.contains(key));
    (world, a, b, gate)
}

#[tokio::test]
async fn with_download_before_start_everything_is_there() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b").with_policy(BEFORE_START));
    a.mount.odd();
    a.push().await.report();
    let session = open(&b).await;
    assert_same(&a.mount.0, &b.mount.0);
    let arrived = session.wait_for(&Arrival::All).await.unwrap();
    assert_eq!(arrived[0].mounts[0].report.as_ref().unwrap().pending, 0);
    assert_eq!(report_of(&session).await.parent, None);
}

#[tokio::test]
async fn on_demand_nothing_comes_until_it_is_asked_for_and_nothing_counts_as_deleted() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b").with_policy(ON_DEMAND));
    a.mount.write("one", "1").write("dir/two", "2").write("dir/three", "3");
    a.push().await.clean();
    let session = open(&b).await;
    session.wait_for(&Arrival::All).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!b.mount.has("one") && !b.mount.has("dir"));
    session.fetch(&b.mount.0, &[path("one")]).await.unwrap();
    assert_eq!(b.mount.read("one"), "1");
    let wanted = Arrival::Paths { mount: b.mount.0.clone(), paths: vec![path("dir")] };
    assert!(session.wait_for(&wanted).await.unwrap()[0].success);
    assert_eq!(b.mount.read("dir/two"), "2");
    b.mount.remove("one").write("new", "n");
    let report = report_of(&session).await;
    assert_eq!((report.added, report.deleted), (1, 1));
    // What was never fetched is still in the context.
    let session = open(&b).await;
    b.mount.write("more", "m");
    report_of(&session).await;
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(ctxsync_tests::compare::paths(&fresh.mount.0).len(), 5);
    let session = open(&b).await;
    let down = SyncParams { mode: Direction::Download, ..SyncParams::default() };
    assert!(session.context().sync_with(down).await.success);
    assert_same(&fresh.mount.0, &b.mount.0);
    release(&session).await;
}

#[tokio::test]
async fn a_session_is_open_before_its_files_are_there_and_one_asked_for_overtakes_the_rest() {
    let (_world, a, b, gate) = two_packs().await;
    let session = open(&b).await;
    gate.somebody_waits().await;
    assert!(!b.mount.has("first"));
    let wanted = Arrival::Paths { mount: b.mount.0.clone(), paths: vec![path("dir/second")] };
    assert!(session.wait_for(&wanted).await.unwrap()[0].success);
    assert_eq!(b.mount.read("dir/second"), "2");
    assert!(!b.mount.has("first"));
    gate.open();
    assert!(session.wait_for(&Arrival::All).await.unwrap()[0].success);
    assert_same(&a.mount.0, &b.mount.0);
    assert_eq!(report_of(&session).await.parent, None);
}

/// A fetch brings only what has never been in the mount. The pull that runs beside it leaves the path to the fetch, and
/// must bring the rest afterwards: otherwise the base says that mount and context agree, and the next push replaces or
/// deletes versions that nobody here has seen.
#[tokio::test]
async fn what_a_fetch_leaves_is_pulled_after_it() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount.write("dir/changed", "1").write("dir/gone", "1").write("other", "1");
    a.push().await.clean();
    b.pull().await.clean();
    let before = packs(&world.objects).await;
    a.mount.write("first", "first");
    a.push().await.clean();
    let first = packs(&world.objects).await.into_iter().find(|key| !before.contains(key)).unwrap();
    a.mount.write("dir/changed", "2").remove("dir/gone").write("dir/new", "2");
    a.push().await.clean();
    let gate = Gate::new(Arc::clone(&world.objects));
    b.objects = Arc::new(gate.clone());
    gate.hold(move |key| *key == first);
    let session = open(&b).await;
    gate.somebody_waits().await;
    session.fetch(&b.mount.0, &[path("dir")]).await.unwrap();
    assert_eq!((b.mount.read("dir/new"), b.mount.read("dir/changed")), ("2".into(), "1".into()));
    gate.open();
    assert!(session.wait_for(&Arrival::All).await.unwrap()[0].success);
    assert_same(&a.mount.0, &b.mount.0);
    assert_eq!(report_of(&session).await.parent, None);
}

#[tokio::test]
async fn saved_while_files_still_arrive_what_was_done_counts_and_what_is_missing_does_not() {
    let (world, a, b, gate) = two_packs().await;
    let session = open(&b).await;
    gate.somebody_waits().await;
    session.fetch(&b.mount.0, &[path("dir")]).await.unwrap();
    // The command edits and deletes files that have arrived, and creates one new file and one at a path that
    // has not arrived.
    b.mount.write("dir/second", "edited").remove("dir/third").write("new", "n").write("shared", "mine");
    let saved = session.context().sync().await;
    assert!(saved.success, "{saved:?}");
    let report = saved.mounts[0].report.clone().unwrap();
    assert_eq!((report.deleted, report.conflicts), (1, 1), "{report:?}");
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("first"), "1");
    assert_eq!((fresh.mount.read("dir/second"), fresh.mount.read("new")), ("edited".into(), "n".into()));
    assert_eq!(fresh.mount.read("shared"), "mine");
    assert!(!fresh.mount.has("dir/third"));
    // The pull goes on.
    gate.open();
    assert!(session.wait_for(&Arrival::All).await.unwrap()[0].success);
    assert_eq!((b.mount.read("first"), b.mount.read("dir/second")), ("1".into(), "edited".into()));
    assert!(!b.mount.has("dir/third"));
    release(&session).await;
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn released_while_files_still_arrive_nothing_is_lost() {
    let (world, a, b, gate) = two_packs().await;
    let session = open(&b).await;
    gate.somebody_waits().await;
    b.mount.write("new", "n");
    let report = report_of(&session).await;
    assert_eq!((report.added, report.deleted), (1, 0));
    a.pull().await.clean();
    assert_eq!(a.mount.read("first"), "1");
    assert_eq!(world.head().await.totals.files, 5);
    gate.open();
    let session = open(&b).await;
    session.wait_for(&Arrival::All).await.unwrap();
    assert_same(&a.mount.0, &b.mount.0);
    release(&session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_asks_for_each_thing_once_and_a_release_with_nothing_to_save_for_one() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    // Too many files for their entries to be embedded in the snapshot.
    for i in 0..3000 {
        a.mount.write(format!("{i:04}"), "x");
    }
    a.push().await.clean();
    let recording = Recording::new(Arc::clone(&world.objects));
    b.objects = Arc::new(recording.clone());
    let session = tokio::spawn({
        let b = b.clone();
        async move { open(&b).await }
    });
    let session = session.await.unwrap();
    session.wait_for(&Arrival::All).await.unwrap();
    assert_eq!(ctxsync_tests::compare::paths(&b.mount.0).len(), 3000);
    // The store's description may be read at any time.
    let (described, requests): (Vec<_>, Vec<_>) =
        recording.requests().into_iter().partition(|r| r.key.as_ref() == "ctxsync.json");
    assert!(described.len() <= 1, "{described:?}");
    assert_eq!(requests[0].operation, Operation::List);
    assert!(requests[1].key.as_ref().starts_with("contexts/"), "{requests:?}");
    // The rest reads packs: first segments, then blocks.
    assert!(requests[2..].iter().all(|r| r.key.as_ref().starts_with("packs/")), "{requests:?}");
    recording.clear();
    assert_eq!(report_of(&session).await.parent, None);
    assert_eq!(recording.requests().len(), 1, "a release with nothing to save: {:?}", recording.requests());
}

#[tokio::test(start_paused = true)]
async fn a_download_that_the_network_fails_is_tried_again_and_the_session_goes_on() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount.write("x", "1");
    a.push().await.clean();
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::FailBefore).on(Operation::Get).below("packs").times(3));
    b.objects = Arc::new(faulty.clone());
    let session = open(&b).await;
    let task = || {
        let info = session.context().info().context_status_data;
        info.into_iter().find(|t| t.task_type == TaskType::Download).unwrap()
    };
    eventually("it fails", async || task().status == TaskState::Failed).await;
    let failed = task();
    assert!(failed.error_message.is_some() && failed.finish_time.is_some(), "{failed:?}");
    eventually("it arrives", async || b.mount.has("x")).await;
    eventually("it says so", async || task().status == TaskState::Success).await;
    assert_eq!(task().error_message, None);
    b.mount.write("y", "2");
    assert_eq!(report_of(&session).await.added, 1);
}

fn both() -> SyncParams {
    SyncParams { mode: Direction::Both, ..SyncParams::default() }
}

/// A directory that a pull removed comes again when the context has it again, also in a running session.
#[tokio::test]
async fn a_directory_that_left_the_context_and_is_back_comes_again() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b").with_policy(BEFORE_START));
    a.mount.write("keep", "1").write("dir/one", "1").write("mine/one", "1");
    a.push().await.clean();
    let session = open(&b).await;
    session.wait_for(&Arrival::All).await.unwrap();
    // One directory is removed by the session's own pull, the other by the user, who saves that.
    std::fs::remove_dir_all(a.mount.at("dir")).unwrap();
    a.push().await.clean();
    std::fs::remove_dir_all(b.mount.at("mine")).unwrap();
    assert!(session.context().sync_with(both()).await.success);
    assert_eq!(paths(&b.mount.0), ["keep"]);
    a.pull().await.clean();
    a.mount.write("dir/two", "2").write("mine/two", "2");
    a.push().await.clean();
    let synced = session.context().sync_with(both()).await;
    assert!(synced.success, "{synced:?}");
    assert_eq!(synced.mounts[0].report.as_ref().unwrap().pending, 0);
    assert_same(&a.mount.0, &b.mount.0);
}

/// What had not arrived in a directory when the command removed it is neither brought nor deleted, also by later pulls;
/// what comes into the directory afterwards is brought.
#[tokio::test]
async fn what_is_withheld_stays_so_and_newer_files_come() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount.write("dir/first", "1");
    a.push().await.clean();
    let first = packs(&world.objects).await;
    a.mount.write("dir/second", "2").write("keep", "k");
    a.push().await.clean();
    let gate = Gate::new(Arc::clone(&world.objects));
    b.objects = Arc::new(gate.clone());
    gate.hold(move |key| key.as_ref().starts_with("packs/") && first.contains(key));
    let session = open(&b).await;
    gate.somebody_waits().await;
    session.fetch(&b.mount.0, &[path("dir/second"), path("keep")]).await.unwrap();
    std::fs::remove_dir_all(b.mount.at("dir")).unwrap();
    gate.open();
    session.wait_for(&Arrival::All).await.unwrap();
    for _ in 0..2 {
        let synced = session.context().sync_with(both()).await;
        assert_eq!(synced.mounts[0].report.as_ref().unwrap().pending, 1, "{synced:?}");
        assert!(!b.mount.has("dir"));
    }
    a.pull().await.clean();
    assert_eq!(paths(&a.mount.0), ["dir", "dir/first", "keep"]);
    a.mount.write("dir/third", "3");
    a.push().await.clean();
    session.context().sync_with(both()).await;
    assert!(b.mount.has("dir/third") && !b.mount.has("dir/second"));
    release(&session).await;
}

/// Each checkpoint stops the pull. What had come of a file by then is not fetched again, or the file would never be there
/// if it takes longer than the pull runs at a time.
#[tokio::test(start_paused = true)]
async fn a_long_file_comes_over_a_slow_connection_between_checkpoints() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b").with_policy(PERIODIC));
    let long = Random::new(1).bytes(24 << 20);
    a.mount.write("long", &long);
    a.push().await.clean();
    let slow = NonZeroU64::new(200 << 10);
    b.objects = Arc::new(Bandwidth::new(Arc::clone(&world.objects), None, slow));
    let session = open(&b).await;
    let arrived = tokio::time::timeout(Duration::from_secs(3600), session.wait_for(&Arrival::All)).await;
    let arrived = arrived.expect("it comes within an hour").unwrap();
    assert!(std::fs::read(b.mount.0.join("long")).unwrap() == long);
    let received = arrived[0].mounts[0].report.as_ref().unwrap().bytes_received;
    assert!(received < long.len() as u64 * 11 / 10, "{received} bytes were fetched of {}", long.len());
    release(&session).await;
}
