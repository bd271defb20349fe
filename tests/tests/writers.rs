//! Many writers of one context (faults W).
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::compare::{assert_same_but_times, paths};
use ctxsync_tests::machine::{World, context};
use object_store::memory::InMemory;
use storage_backends::layer::Latency;
use transfer_engine::Error;

/// Lets this many machines push at the same time, each a file of its own and one that all have.
async fn at_once(world: &World, writers: usize) {
    let pushes = (0..writers).map(|i| {
        let machine = world.machine(&format!("m{i}"));
        machine.mount.write(format!("own/{i}"), format!("content {i}")).write("common", "the same for all");
        machine.push_elsewhere()
    });
    let ended = futures::future::join_all(pushes).await;
    let mut snapshots: Vec<u64> = ended.iter().map(|e| e.clean().snapshot.unwrap()).collect();
    snapshots.sort_unstable();
    let expected: Vec<u64> = (2..writers as u64 + 2).collect();
    assert_eq!(snapshots, expected, "each its own snapshot");
}

#[tokio::test]
async fn w1_two_commits_at_once_are_both_there() {
    let world = World::memory().await;
    at_once(&world, 2).await;
    assert_eq!(world.head().await.number, 3);
}

#[tokio::test]
async fn w2_fifty_writers_are_all_there_and_none_twice() {
    let slow = Latency::new(Arc::new(InMemory::new()), Duration::from_millis(1));
    let world = World::over(Arc::new(slow)).await;
    at_once(&world, 50).await;
    let log = world.store().log(&context()).await.unwrap();
    assert_eq!(log.len(), 51);
    // Each snapshot follows the one before, and adds one file.
    for (newer, older) in log.iter().zip(&log[1..]) {
        assert_eq!(newer.number, older.number + 1);
        assert!(newer.parent.is_some());
        assert_eq!(newer.changes.deleted + newer.changes.changed, 0, "{}", newer.number);
    }
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(paths(&fresh.mount.0).len(), 52);
    for i in 0..50 {
        assert_eq!(fresh.mount.read(format!("own/{i}")), format!("content {i}"));
    }
    // No machine has anything left to push.
    for i in [0, 25, 49] {
        let machine = world.machine(&format!("m{i}"));
        machine.sync().await.clean();
        assert_same_but_times(&machine.mount.0, &fresh.mount.0);
    }
    assert_eq!(world.head().await.number, 51);
}

#[tokio::test]
async fn w8_writers_of_one_file_leave_all_versions() {
    let slow = Latency::new(Arc::new(InMemory::new()), Duration::from_millis(1));
    let world = World::over(Arc::new(slow)).await;
    let machines: Vec<_> = (0..8).map(|i| world.machine(&format!("m{i}"))).collect();
    let pushes = machines.iter().enumerate().map(|(i, machine)| {
        machine.mount.write("doc", format!("version {i}"));
        machine.clone().push_elsewhere()
    });
    for ended in futures::future::join_all(pushes).await {
        assert!(!ended.report().is_incomplete(), "{:?}", ended.noted);
    }
    for _ in 0..3 {
        for machine in &machines {
            machine.sync().await.report();
        }
    }
    let tree = &machines[3].mount;
    let mut versions: Vec<String> = paths(&tree.0).iter().map(|p| tree.read(p)).collect();
    versions.sort();
    assert_eq!(versions, (0..8).map(|i| format!("version {i}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn w12_released_twice_is_saved_once() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("x", "1");
    assert_eq!(a.push().await.clean().snapshot, Some(2));
    let again = a.push().await;
    assert_eq!((again.clean().snapshot, again.clean().parent), (Some(2), None));
    // Two processes at the same time: one of them may be refused.
    a.mount.write("x", "2");
    let both = futures::future::join(a.clone().push_elsewhere(), a.clone().push_elsewhere()).await;
    for ended in [both.0, both.1] {
        assert!(matches!(ended.result, Ok(_) | Err(Error::Locked { .. })), "{ended:?}");
    }
    assert_eq!(world.head().await.number, 3);
}

#[tokio::test]
async fn w14_a_cloned_machine_takes_no_snapshot_for_its_own() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("x", "1").write("y", "1");
    a.push().await.clean();
    // The clone's mount has another path, but its state is a copy of the original's.
    let b = world.machine("b");
    b.pull().await.clean();
    a.mount.write("x", "a");
    b.mount.write("x", "b");
    a.push().await.clean();
    let (from, to) = (a.base_file(), b.base_file());
    std::fs::copy(from, to).unwrap();
    let ended = b.push().await;
    assert_eq!((ended.report().deleted, ended.report().failed), (0, 0));
    let log = world.store().log(&context()).await.unwrap();
    // What the clone overwrote knowingly is still in the history.
    assert_eq!(log[0].number, 4);
    let a_version = &log[1];
    let entry = world.store().entry(a_version, &"x".parse().unwrap()).await.unwrap();
    let mut bytes = Vec::new();
    world
        .store()
        .read_file(&entry, 0..10, |part| {
            bytes.extend_from_slice(&part);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(bytes, b"a");
}

#[tokio::test]
async fn many_machines_make_one_context() {
    let slow = Latency::new(Arc::new(InMemory::new()), Duration::from_millis(1));
    let world = World::over(Arc::new(slow)).await;
    let name = context();
    let made = (0..10).map(|_| {
        let (store, name) = (world.store(), name.clone());
        async move { store.create_context(&name).await.is_ok() }
    });
    let made = futures::future::join_all(made).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(world.head().await.number, 1);
}
