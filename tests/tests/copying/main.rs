//! Copies of a store: the same content and history, whatever happens on the way.
//!
//! `CTXSYNC_SEEDS=500` tries so many random histories.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod cases;
mod faults;
mod place;

use std::sync::Arc;

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::random::Random;
use storage_backends::layer::{Operation, Recording};
use transfer_engine::{CollectOptions, CopyOptions};

use place::{GRACE, Place, Told, content, copy, make_history};

/// Whatever was in the source at a copy is in the destination, under the same numbers; what the source forgot later
/// stays there.
#[tokio::test]
async fn a_copy_has_every_snapshot_with_the_same_entries_and_bytes() {
    let seeds = std::env::var("CTXSYNC_SEEDS").ok().map_or(2, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let clock = HandClock::default();
        let (src, dst) = (Place::made(&clock).await, Place::made(&clock).await);
        let mut random = Random::new(seed);
        for _ in 0..4 {
            make_history(&src, &mut random, 12).await;
            let told = Told::default();
            let options =
                CopyOptions { note_every: [1, 5000, 1 << 30][random.below(3)], ..CopyOptions::default() };
            let report = src.store().copy_to(&dst.store(), &options, &told).await.unwrap();
            let (here, there) = (content(&src).await, content(&dst).await);
            let not: Vec<String> =
                told.not_copied().into_iter().map(|(name, _, error)| name + &error).collect();
            for (name, snapshots) in &here {
                // A context that began anew under its name is not the one that was copied.
                if not.iter().any(|not| not.starts_with(name.as_str())) {
                    assert!(
                        not.iter().all(|not| not.contains("snapshots of its own")),
                        "seed {seed}: {not:?}"
                    );
                    continue;
                }
                for snapshot in snapshots {
                    assert!(there[name].contains(snapshot), "seed {seed}: {name}@{}", snapshot.0);
                }
                assert_eq!(there[name][0], snapshots[0], "seed {seed}: the head of {name}");
            }
            let again = src.store().copy_to(&dst.store(), &options, &Told::default()).await.unwrap();
            assert_eq!((again.snapshots, again.packs), (0, 0), "seed {seed}: {report:?}");
            assert!(there.keys().all(|name| !name.as_str().starts_with("copying/")), "seed {seed}");
            dst.collect(CollectOptions::default()).await;
            dst.clock.pass(GRACE + 60);
            dst.collect(CollectOptions::default()).await;
            assert_eq!(content(&dst).await, there, "seed {seed}: a collection changed something");
            dst.is_whole().await;
        }
    }
}

/// Counts what a copy that has nothing to do asks for.
#[tokio::test]
async fn a_second_copy_sends_nothing() {
    let clock = HandClock::default();
    let (src, dst) = (Place::made(&clock).await, Place::made(&clock).await);
    for file in 0..5 {
        src.write("a", &format!("{file}"), &[file; 3000]).await;
    }
    let first = copy(&src, &dst).await;
    assert_eq!((first.snapshots, first.packs, first.contexts_copied), (6, 5, 1));
    assert_eq!(content(&src).await, content(&dst).await);
    let recording = Recording::new(Arc::clone(&dst.objects));
    let second = copy(&src, &dst.behind(Arc::new(recording.clone()))).await;
    assert_eq!((second.snapshots, second.packs, second.contexts), (0, 0, 1));
    assert!(recording.requests().iter().all(|request| request.operation != Operation::Put));
}
