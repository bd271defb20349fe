//! What a merge moves, and what happens beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::place::{GRACE, Place, name};
use ctxsync_tests::random::Random;
use futures::FutureExt;
use storage_backends::layer::{Operation, Recording};
use transfer_engine::{CollectOptions, MergeOptions, Silent};

use crate::merging::{files, fork, merge};

/// Contents stay in their packs: a merge puts no pack but the empty one for the time, and is whole after its origin is
/// gone.
#[tokio::test]
async fn a_merge_moves_no_contents() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    let mut random = Random::new(5);
    place.write("base", "x", &random.bytes(100)).await;
    fork(&place, "base", "try").await;
    for file in 0..5 {
        place.write("try", &format!("{file}"), &random.bytes(5000)).await;
    }
    let recording = Recording::new(Arc::clone(&place.objects));
    let behind = place.behind(Arc::new(recording.clone()));
    merge(&behind, "try", "base").await;
    let packs = recording.requests();
    let packs: Vec<_> = packs.iter().filter(|r| r.key.to_string().starts_with("packs/")).collect();
    let puts: Vec<_> = packs.iter().filter(|r| r.operation == Operation::Put).collect();
    assert_eq!(
        (puts.len(), packs.iter().filter(|r| r.operation == Operation::Get).count()),
        (1, 0),
        "{packs:?}"
    );
    let expected = files(&place, "try").await;
    place.store().delete_context(&name("try")).await.unwrap();
    for _ in 0..2 {
        clock.pass(GRACE + 60);
        place.collect(CollectOptions::default()).await;
    }
    assert_eq!(files(&place, "base").await, expected);
    place.is_whole().await;
}

/// A machine that sleeps before the put, while what it merges is deleted and collected.
#[tokio::test(start_paused = true)]
async fn w13_a_merge_that_landed_too_late_is_made_once_more_or_not_at_all() {
    for is_deleted in [false, true] {
        let clock = HandClock::default();
        let place = Place::made(&clock).await;
        place.write("base", "x", &[1; 3000]).await;
        fork(&place, "base", "try").await;
        place.write("try", "new", &[2; 3000]).await;
        let (once, asleep, other) = (AtomicU64::new(0), clock.clone(), place.clone());
        let sleepy = BeforePut::new(Arc::clone(&place.objects), move |key| {
            let sleeps =
                key.as_ref().starts_with("contexts/base/") && once.fetch_add(1, Ordering::SeqCst) == 0;
            let (asleep, other) = (asleep.clone(), other.clone());
            async move {
                if sleeps {
                    if is_deleted {
                        other.store().delete_context(&name("try")).await.unwrap();
                    }
                    asleep.pass(GRACE + 60);
                    if is_deleted {
                        other.collect(CollectOptions::default()).await;
                        asleep.pass(GRACE + 60);
                        other.collect(CollectOptions::default()).await;
                    }
                }
            }
            .boxed()
        });
        let store = place.behind(Arc::new(sleepy)).store();
        let merged =
            store.merge_context(&name("try"), None, &name("base"), &MergeOptions::default(), &Silent).await;
        assert_eq!(merged.is_err(), is_deleted, "{merged:?}");
        // The next writer does not trust what landed too late.
        place.write("base", "after", b"after").await;
        for _ in 0..2 {
            clock.pass(GRACE + 60);
            place.collect(CollectOptions::default()).await;
        }
        let merged = files(&place, "base").await;
        assert_eq!(merged.keys().collect::<Vec<_>>().len(), if is_deleted { 2 } else { 3 }, "{merged:?}");
        assert!(is_deleted || merged["new"] == [2; 3000]);
    }
}

/// Twenty forks, merged back into their origin all at once: nothing is lost.
#[tokio::test]
async fn twenty_forks_are_merged_at_once() {
    let place = Place::made(&HandClock::default()).await;
    place.write("base", "shared", b"0").await;
    for at in 0..20 {
        fork(&place, "base", &format!("try/{at}")).await;
        place.write(&format!("try/{at}"), &format!("own/{at}"), format!("{at}").as_bytes()).await;
        place.write(&format!("try/{at}"), "shared", format!("changed by {at}").as_bytes()).await;
    }
    let merges = (0..20).map(|at| {
        let place = place.clone();
        async move { merge(&place, &format!("try/{at}"), "base").await.conflicts }
    });
    let conflicts: u64 = futures::future::join_all(merges).await.iter().sum();
    let merged = files(&place, "base").await;
    // The first changes the file, all others are in conflict with that.
    assert_eq!((conflicts, merged.len()), (19, 20 + 1 + 19));
    for at in 0..20 {
        assert_eq!(merged[&format!("own/{at}")], format!("{at}").as_bytes());
        assert!(merged.values().any(|content| *content == format!("changed by {at}").as_bytes()));
    }
}
