//! Reverts: an older state as a new snapshot.

use std::sync::Arc;

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::place::{GRACE, Place, content_of, name};
use storage_backends::layer::{Operation, Recording};
use transfer_engine::{CollectOptions, ContextService, Error};

#[tokio::test]
async fn a_revert_is_a_new_snapshot_with_the_old_tree() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    place.write("c", "kept", b"kept").await;
    place.write("c", "changed", b"before").await;
    let old = place.write("c", "deleted", b"deleted").await;
    place.write("c", "changed", b"after").await;
    place.write("c", "new", b"new").await;
    let store = place.store();
    ContextService::new(&store).delete_files(&name("c"), &["deleted".parse().unwrap()], false).await.unwrap();
    // The packs of what was deleted are in no head any more, and must not be collected under the revert.
    clock.pass(GRACE + 60);
    let then = content_of(&store, &store.snapshot(&name("c"), Some(old as i64)).await.unwrap()).await;
    let head = store.head(&name("c")).await.unwrap();

    let would = store.revert_context(&name("c"), old as i64, "s", true).await.unwrap();
    assert_eq!((would.snapshot, would.parent), (Some(head.number), None));
    let recording = Recording::new(Arc::clone(&place.objects));
    let behind = place.behind(Arc::new(recording.clone()));
    let report = behind.store().revert_context(&name("c"), old as i64, "s", false).await.unwrap();
    assert_eq!((report.added, report.changed, report.deleted), (1, 1, 1));
    assert_eq!((report.snapshot, report.parent), (Some(head.number + 1), Some(head.number)));
    let puts = recording.requests().iter().filter(|r| r.operation == Operation::Put).count();
    assert_eq!(puts, 2, "the snapshot, and one empty object for the time");
    let reverted = store.head(&name("c")).await.unwrap();
    assert_eq!(content_of(&store, &reverted).await.2, then.2);
    assert_eq!((reverted.lineage, reverted.session.as_str()), (head.lineage, "s"));
    assert_eq!(store.log(&name("c")).await.unwrap().len() as u64, head.number + 1);

    let again = store.revert_context(&name("c"), old as i64, "s", false).await.unwrap();
    assert_eq!((again.snapshot, again.parent), (Some(reverted.number), None));
    for _ in 0..2 {
        let retention =
            transfer_engine::Retention { last: std::num::NonZeroU64::new(1), ..Default::default() };
        place.collect(CollectOptions { retention: retention.into(), ..CollectOptions::default() }).await;
        clock.pass(GRACE + 60);
    }
    assert_eq!(content_of(&store, &store.head(&name("c")).await.unwrap()).await.2, then.2);
    place.is_whole().await;
    let gone = store.revert_context(&name("c"), old as i64, "s", false).await;
    assert!(matches!(gone, Err(Error::NoSnapshot { .. })), "{gone:?}");
}
