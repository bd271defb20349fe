//! Checkpoints of a session.

use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::machine::{Machine, World};
use storage_backends::layer::{Fault, Faulty, Operation, Recording, Rule};
use transfer_engine::{Arrival, Session};

use crate::gate::Gate;
use crate::{Kept, PERIODIC, eventually, open, packs, params, release, store};

const ON_CHANGE: &str = r#"{"uploadPolicy": {"uploadStrategy": {"UploadOnChange": {"debounceMs": 30}}}}"#;

async fn has_files(world: &World, count: u64) -> bool {
    world.head().await.totals.files == count
}

#[tokio::test]
async fn checkpoints_come_by_time() {
    let world = World::memory().await;
    let a = world.machine("a").with_policy(PERIODIC);
    let session = open(&a).await;
    for count in 1..=2 {
        a.mount.write(format!("file-{count}"), "x");
        eventually("a checkpoint", async || has_files(&world, count).await).await;
    }
    // If the machine vanishes now, nothing is lost.
    drop(session);
    let fresh = world.machine("fresh");
    assert_eq!(fresh.pull().await.clean().added, 2);
}

#[tokio::test]
async fn checkpoints_come_by_change_also_in_new_directories() {
    let world = World::memory().await;
    let a = world.machine("a").with_policy(ON_CHANGE);
    a.mount.dir("old/dir");
    let session = open(&a).await;
    session.wait_for(&Arrival::All).await.unwrap();
    a.mount.write("x", "1");
    eventually("a new file", async || has_files(&world, 1).await).await;
    a.mount.write("old/dir/y", "1");
    eventually("one in a directory", async || has_files(&world, 2).await).await;
    a.mount.write("new/deep/er/z", "1");
    eventually("one in a new directory", async || has_files(&world, 3).await).await;
    a.mount.write("new/deep/er/zz", "1");
    eventually("one more there", async || has_files(&world, 4).await).await;
    a.mount.rename("new/deep", "moved").write("moved/er/zzz", "1");
    eventually("one in a moved directory", async || has_files(&world, 5).await).await;
    a.mount.write("moved/er/last", "1");
    eventually("one more there", async || has_files(&world, 6).await).await;
    a.mount.remove("x");
    eventually("a deletion", async || has_files(&world, 5).await).await;
    a.mount.mode("moved/er/last", 0o755);
    let number = world.head().await.number;
    eventually("a mode", async || world.head().await.number > number).await;
    release(&session).await;
}

async fn quiet(recording: &Recording) {
    // Several times the quiet time.
    let mut last = usize::MAX;
    eventually("it comes to rest", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = recording.requests().len();
        std::mem::replace(&mut last, now) == now
    })
    .await;
}

#[tokio::test]
async fn nothing_is_asked_of_the_store_while_nothing_changes() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b").with_policy(ON_CHANGE));
    for i in 0..50 {
        a.mount.write(format!("dir-{}/{i}", i % 7), "x");
    }
    a.push().await.clean();
    let recording = Recording::new(Arc::clone(&world.objects));
    b.objects = Arc::new(recording.clone());
    let session = open(&b).await;
    session.wait_for(&Arrival::All).await.unwrap();
    // The pull's own changes cause one more scan, which finds nothing to push.
    quiet(&recording).await;
    assert_eq!(world.head().await.number, 2);
    let before = recording.requests().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(recording.requests().len(), before);
    // Reading a file is no change.
    std::fs::read(b.mount.at("dir-1/1")).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(recording.requests().len(), before);
    b.mount.write("dir-1/1", "y");
    eventually("a checkpoint", async || world.head().await.number == 3).await;
    quiet(&recording).await;
    assert_eq!(world.head().await.number, 3);
    release(&session).await;
}

#[tokio::test]
async fn what_is_out_of_scope_makes_no_checkpoint() {
    let world = World::memory().await;
    let mut a: Machine = world.machine("a").with_policy(
        r#"{"uploadPolicy": {"uploadStrategy": {"UploadOnChange": {"debounceMs": 30}}},
            "bwList": {"whiteLists": [{"path": "src", "excludePaths": ["tmp"]}]}}"#,
    );
    let recording = Recording::new(Arc::clone(&world.objects));
    a.objects = Arc::new(recording.clone());
    a.mount.write("src/x", "1").dir("src/tmp").dir("log");
    let session = open(&a).await;
    eventually("the first checkpoint", async || has_files(&world, 1).await).await;
    quiet(&recording).await;
    let before = recording.requests().len();
    a.mount.write("log/x", "1").write("src/tmp/y", "1").write("top", "1").write("src/tmp/z/z", "1");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(recording.requests().len(), before);
    a.mount.write("src/y", "1");
    eventually("a checkpoint", async || has_files(&world, 2).await).await;
    release(&session).await;
}

#[tokio::test]
async fn a_checkpoint_is_made_while_files_still_arrive() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b").with_policy(ON_CHANGE));
    a.mount.write("late", "1").time("late", 1_000_000_000, 0);
    a.push().await.clean();
    let gate = Gate::new(Arc::clone(&world.objects));
    let held = packs(&world.objects).await;
    gate.hold(move |key| held.contains(key));
    b.objects = Arc::new(gate.clone());
    let session = open(&b).await;
    gate.somebody_waits().await;
    b.mount.write("work", "1");
    eventually("a checkpoint", async || has_files(&world, 2).await).await;
    assert!(!b.mount.has("late"));
    gate.open();
    session.wait_for(&Arrival::All).await.unwrap();
    assert_eq!(b.mount.read("late"), "1");
    release(&session).await;
}

#[tokio::test]
async fn a_checkpoint_that_fails_warns_and_is_tried_again() {
    for policy in [PERIODIC, ON_CHANGE] {
        let world = World::memory().await;
        let mut a = world.machine("a").with_policy(policy);
        let faulty = Faulty::new(Arc::clone(&world.objects), 1);
        a.objects = Arc::new(faulty.clone());
        let kept = Kept::default();
        let params = transfer_engine::CreateSessionParams { monitor: Arc::new(kept.clone()), ..params(&a) };
        let session = Session::create(&store(&a), params).await.unwrap();
        session.wait_for(&Arrival::All).await.unwrap();
        faulty.add(Rule::new(Fault::Denied).on(Operation::Put).below("packs").nth(1));
        a.mount.write("x", "1");
        eventually("a checkpoint", async || has_files(&world, 1).await).await;
        let warnings = kept.0.noted().warnings;
        assert!(warnings.iter().any(|w| w.contains("a checkpoint failed")), "{warnings:?}");
        release(&session).await;
    }
}

#[tokio::test]
async fn a_mount_that_vanishes_and_comes_back_is_watched_again() {
    let world = World::memory().await;
    let a = world.machine("a").with_policy(ON_CHANGE);
    let session = open(&a).await;
    a.mount.write("x", "1");
    eventually("a checkpoint", async || has_files(&world, 1).await).await;
    std::fs::remove_dir_all(&a.mount.0).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    a.mount.write("x", "2").write("y", "2");
    eventually("a checkpoint", async || has_files(&world, 2).await).await;
    release(&session).await;
}
