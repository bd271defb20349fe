//! What goes wrong on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::random::Random;
use futures::FutureExt;
use object_store::ObjectStore;
use storage_backends::layer::{Fault, Faulty, Operation, Recording, Rule};
use transfer_engine::{CollectOptions, CopyOptions, Silent, Store};

use crate::place::{GRACE, Place, Told, content, copy, name};

/// Every pack is noted at once.
fn careful() -> CopyOptions {
    CopyOptions { note_every: 1, ..CopyOptions::default() }
}

/// A context with a few snapshots, two of which need several packs, and another one.
async fn source(clock: &HandClock) -> Place {
    let src = Place::made(clock).await;
    let mut random = Random::new(7);
    for file in ["1", "2", "3"] {
        src.write("a", file, &random.bytes(3000)).await;
    }
    src.write("b", "x", &random.bytes(100)).await;
    // The first snapshot that there is needs several packs.
    let last = std::num::NonZeroU64::new(1);
    let retention = transfer_engine::Retention { last, ..Default::default() };
    src.collect(CollectOptions { retention: retention.into(), ..CollectOptions::default() }).await;
    src.write("a", "4", &random.bytes(3000)).await;
    src
}

/// Returns the packs of content that contexts of the destination list, the anchor included.
async fn listed(place: &Place) -> usize {
    let store = place.store();
    let mut packs = std::collections::BTreeSet::new();
    for name in store.contexts().await.unwrap() {
        for snapshot in store.log(&name).await.unwrap() {
            packs.extend(snapshot.packs.iter().map(|pack| pack.id));
        }
    }
    packs.len()
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_killed_at_any_request_is_finished_by_the_next() {
    let clock = HandClock::default();
    let src = source(&clock).await;
    let expected = content(&src).await;
    let whole = Place::made(&clock).await;
    let recording = Recording::new(Arc::clone(&whole.objects));
    let options = careful();
    let all = {
        let dst = whole.behind(Arc::new(recording.clone()));
        src.store().copy_to(&dst.store(), &options, &Silent).await.unwrap()
    };
    let requests = recording.requests().len() as u64;
    assert!(requests > 30 && all.packs == 5, "{requests} {all:?}");
    for nth in 1..=requests {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let dst = Place::made(&clock).await;
            let faulty = Faulty::new(Arc::clone(&dst.objects), 1);
            faulty.add(Rule::new(fault).nth(nth));
            let first = src.store().copy_to(&dst.behind(Arc::new(faulty)).store(), &options, &Silent).await;
            if let Ok(report) = first {
                // Only what tidies up may fail without a word.
                assert_eq!(report.snapshots, all.snapshots);
            }
            let there = listed(&dst).await as u64;
            // What lists packs only, so that they stay, is whole as well.
            if there > 0 {
                dst.is_whole().await;
            }
            // Days go by, and garbage is collected.
            clock.pass(GRACE + 60);
            if there > 0 {
                dst.collect(CollectOptions::default()).await;
            }
            let second = src.store().copy_to(&dst.store(), &options, &Silent).await.unwrap();
            assert_eq!(content(&dst).await, expected, "{fault:?} at request {nth}");
            assert_eq!(
                second.packs,
                all.packs - there,
                "{fault:?} at request {nth}: what was listed is not sent again"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_lost_and_requests_that_fail_change_nothing() {
    let clock = HandClock::default();
    let src = source(&clock).await;
    let expected = content(&src).await;
    for seed in 0..20 {
        let dst = Place::made(&clock).await;
        let faulty = Faulty::new(Arc::clone(&dst.objects), seed);
        for fault in [
            Fault::FailAfter,
            Fault::FailBefore,
            Fault::AlreadyExistsThoughAbsent,
            Fault::AlreadyExistsThoughStored,
        ] {
            faulty.add(Rule::new(fault).on(Operation::Put).chance(0.1));
        }
        // A put is tried again only so often.
        for _ in 0..10 {
            let there = dst.behind(Arc::new(faulty.clone())).store();
            if src.store().copy_to(&there, &careful(), &Silent).await.is_ok() {
                break;
            }
        }
        faulty.clear();
        copy(&src, &dst).await;
        assert_eq!(content(&dst).await, expected, "seed {seed}");
    }
}

/// Each put takes an eighth of the grace period, and garbage is collected before it.
#[tokio::test(start_paused = true)]
async fn a_copy_that_takes_days_loses_nothing_to_collections() {
    let clock = HandClock::default();
    let src = source(&clock).await;
    let dst = Place::made(&clock).await;
    let (place, step) = (dst.clone(), GRACE / 8);
    let slow = BeforePut::new(Arc::clone(&dst.objects), move |_| {
        let place = place.clone();
        async move {
            place.clock.pass(step);
            tokio::time::advance(Duration::from_secs(step.unsigned_abs())).await;
            place.collect(CollectOptions::default()).await;
        }
        .boxed()
    });
    let options = CopyOptions { concurrency: std::num::NonZeroUsize::MIN, ..CopyOptions::default() };
    let told = Told::default();
    let report = src.store().copy_to(&dst.behind(slow).store(), &options, &told).await.unwrap();
    assert_eq!((report.packs, told.not_copied().len()), (5, 0));
    assert_eq!(content(&dst).await, content(&src).await);
    clock.pass(GRACE + 60);
    dst.collect(CollectOptions::default()).await;
    assert_eq!(content(&dst).await, content(&src).await);
}

/// A machine that sleeps before a commit makes it once more, under the next number.
#[tokio::test(start_paused = true)]
async fn w13_a_copy_that_landed_too_late_is_made_once_more() {
    for killed in [false, true] {
        let clock = HandClock::default();
        let src = source(&clock).await;
        let dst = Place::made(&clock).await;
        let once = AtomicU64::new(0);
        let asleep = clock.clone();
        let sleepy = BeforePut::new(Arc::clone(&dst.objects), move |key| {
            if key.as_ref().starts_with("contexts/a/") && once.fetch_add(1, Ordering::SeqCst) == 0 {
                asleep.pass(GRACE + 60);
            }
            async {}.boxed()
        });
        let faulty = Faulty::new(sleepy, 1);
        if killed {
            faulty.add(Rule::new(Fault::CrashAfter).on(Operation::Put).below("contexts/a").nth(1));
        }
        let first = src
            .store()
            .copy_to(&dst.behind(Arc::new(faulty)).store(), &CopyOptions::default(), &Silent)
            .await;
        assert_eq!(first.is_err(), killed);
        copy(&src, &dst).await;
        let log = dst.store().log(&name("a")).await.unwrap();
        let (late, head) = (log.last().unwrap(), &log[0]);
        let mut numbers: Vec<u64> = log.iter().map(|snapshot| snapshot.number).collect();
        numbers.reverse();
        assert_eq!(numbers, [4, 5, 6], "one of the source's two was made twice");
        let copied: Vec<_> = log.iter().rev().map(|s| s.copied_from().unwrap().1).collect();
        assert_eq!(copied, [4, 4, 5]);
        let is_late = |pack: &&transfer_engine::format::PackUse| head.packs.iter().all(|p| p.id != pack.id);
        for pack in late.packs.iter().filter(is_late) {
            dst.delete(pack.id).await;
        }
        let (here, there) = (content(&src).await, content_of_head(&dst, "a").await);
        assert_eq!(here[&name("a")][0].2, there);
        assert_eq!(copy(&src, &dst).await.snapshots, 0);
    }
}

async fn content_of_head(place: &Place, context: &str) -> Vec<(transfer_engine::format::TreeEntry, Vec<u8>)> {
    let head = place.store().head(&name(context)).await.unwrap();
    crate::place::content_of(&place.store(), &head).await.2
}

/// A bit that flips on the way is read once more; one that flipped in the store is told.
#[tokio::test]
async fn a_pack_is_checked_before_it_is_put() {
    let clock = HandClock::default();
    let src = source(&clock).await;
    let expected = content(&src).await;
    for at in [0, 500, 1000, 3040, 3060, 3090] {
        let dst = Place::made(&clock).await;
        let faulty = Faulty::new(Arc::clone(&src.objects), 1);
        faulty.add(Rule::new(Fault::FlipBit(at)).on(Operation::Get).below("packs").nth(1));
        let report = copy(&src.behind(Arc::new(faulty.clone())), &dst).await;
        assert_eq!((report.snapshots_failed, faulty.injections().len()), (0, 1));
        assert_eq!(content(&dst).await, expected, "byte {at}");
        let dst = Place::made(&clock).await;
        faulty.clear();
        // Both snapshots need the packs that the older one lists.
        let log = src.store().log(&name("a")).await.unwrap();
        let key = transfer_engine::format::StoreKey::Pack(log.last().unwrap().packs[0].id).path();
        faulty.add(Rule::new(Fault::FlipBit(at)).on(Operation::Get).with_key(move |got| *got == key));
        let (damaged, told) = (src.behind(Arc::new(faulty)).store(), Told::default());
        let report = damaged.copy_to(&dst.store(), &CopyOptions::default(), &told).await.unwrap();
        assert!(report.is_incomplete() && report.contexts_copied == 1, "byte {at}: {report:?}");
        assert_eq!(told.not_copied()[0].1, [4, 5], "byte {at}");
        assert!(!content(&dst).await.contains_key(&name("a")), "byte {at}");
    }
}

/// The store of a process that dies while it waits is as if it had been killed there.
#[tokio::test]
async fn a_store_that_goes_away_is_no_damage() {
    let clock = HandClock::default();
    let (src, dst) = (source(&clock).await, Place::made(&clock).await);
    let faulty = Faulty::new(Arc::clone(&src.objects), 1);
    let place: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
    let store: Store = src.behind(place).store();
    store.contexts().await.unwrap();
    faulty.add(Rule::new(Fault::NotFound));
    let told = Told::default();
    let ended = store.copy_to(&dst.store(), &CopyOptions::default(), &told).await;
    assert!(ended.is_err() || told.not_copied().is_empty(), "{:?}", told.not_copied());
}
