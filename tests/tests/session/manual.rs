//! Manual syncs.

use std::sync::Arc;

use ctxsync_tests::machine::World;
use transfer_engine::{Arrival, ContextName, Direction, SyncParams};

use crate::gate::Gate;
use crate::{open, path, release};

#[tokio::test]
async fn syncs_at_the_same_time_are_one() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let gate = Gate::new(Arc::clone(&world.objects));
    a.objects = Arc::new(gate.clone());
    let session = open(&a).await;
    session.wait_for(&Arrival::All).await.unwrap();
    a.mount.write("x", "1");
    gate.hold_packs();
    let sync = || {
        let session = session.clone();
        tokio::spawn(async move { session.context().sync().await })
    };
    let first = sync();
    gate.somebody_waits().await;
    // These are called after the first one has read the mount.
    let (second, third) = (sync(), sync());
    tokio::task::yield_now().await;
    gate.open();
    let results = [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()];
    for result in &results {
        assert!(result.success, "{result:?}");
        assert_eq!(result.mounts[0].report, results[0].mounts[0].report);
    }
    assert_eq!(world.head().await.number, 2);
    release(&session).await;
}

#[tokio::test]
async fn one_who_joins_late_has_saved_what_it_wrote_before() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let gate = Gate::new(Arc::clone(&world.objects));
    a.objects = Arc::new(gate.clone());
    let session = open(&a).await;
    session.wait_for(&Arrival::All).await.unwrap();
    a.mount.write("x", "1");
    gate.hold_packs();
    let first = tokio::spawn({
        let session = session.clone();
        async move { session.context().sync().await }
    });
    gate.somebody_waits().await;
    a.mount.write("late", "2");
    let late = tokio::spawn({
        let session = session.clone();
        async move { session.context().sync().await }
    });
    tokio::task::yield_now().await;
    gate.open();
    assert!(first.await.unwrap().success && late.await.unwrap().success);
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("late"), "2");
    release(&session).await;
}

#[tokio::test]
async fn each_direction_and_a_callback() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let session = open(&a).await;
    session.wait_for(&Arrival::All).await.unwrap();
    b.mount.write("from-b", "b");
    b.push().await.clean();
    a.mount.write("from-a", "a");
    let towards = |mode| SyncParams { mode, ..SyncParams::default() };
    assert!(session.context().sync_with(towards(Direction::Download)).await.success);
    assert_eq!(a.mount.read("from-b"), "b");
    assert_eq!(world.head().await.totals.files, 1);
    let (done, result) = tokio::sync::oneshot::channel();
    session.context().sync_in_background(towards(Direction::Both), move |result| {
        done.send(result).unwrap();
    });
    let result = result.await.unwrap();
    assert!(result.success, "{result:?}");
    assert_eq!(world.head().await.totals.files, 2);
    release(&session).await;
}

#[tokio::test]
async fn a_mount_or_context_that_is_not_there_is_named() {
    let world = World::memory().await;
    let a = world.machine("a");
    let session = open(&a).await;
    let other: ContextName = "other".parse().unwrap();
    let result =
        session.context().sync_with(SyncParams { context_id: Some(other), ..SyncParams::default() }).await;
    assert!(!result.success && result.error_message.unwrap().contains("other"));
    let error = session.fetch(&world.outside().0, &[path("x")]).await.unwrap_err();
    assert!(error.to_string().contains("outside"), "{error}");
    release(&session).await;
}
