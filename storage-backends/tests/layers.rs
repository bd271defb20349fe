//! What each layer does to a store.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::s3::{PutFault, S3Server};
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use storage_backends::layer::{
    Bandwidth, Fault, Faulty, InjectedFault, Latency, Operation, Outcome, Recording, Rule,
};
use storage_backends::{StoreOptions, StoreUrl, open};
use tokio::time::Instant;

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn create() -> PutOptions {
    PutMode::Create.into()
}

async fn fill(store: &dyn ObjectStore, count: usize) {
    for number in 0..count {
        store.put(&Key::from(format!("k/{number:05}")), "x".into()).await.unwrap();
    }
}

async fn list(store: &dyn ObjectStore) -> Result<Vec<Key>, Error> {
    store.list(None).map_ok(|meta| meta.location).try_collect().await
}

fn is_injected(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<InjectedFault>())
}

#[tokio::test]
async fn recording_counts_requests_as_s3_sees_them() {
    let inner = memory();
    fill(&inner, 2001).await;
    let store = Recording::new(inner);
    let key = Key::from("a");
    store.put_opts(&key, "0123456789".into(), create()).await.unwrap();
    let after_put = store.counts();
    assert_eq!((after_put.requests(), after_put.bytes_sent), (1, 10));

    store.head(&key).await.unwrap();
    store.get_range(&key, 2..5).await.unwrap();
    store.get_ranges(&key, &[0..1, 8..10]).await.unwrap();
    store.get(&Key::from("none")).await.unwrap_err();
    let read = store.counts() - after_put;
    assert_eq!((read.heads, read.gets, read.bytes_received, read.requests()), (1, 3, 13, 4));

    store.clear();
    assert_eq!(list(&store).await.unwrap().len(), 2002);
    assert_eq!(store.counts().lists, 3);
    let _never_polled = store.list(None);
    assert_eq!(store.counts().lists, 3);
    store.list(None).next().await.unwrap().unwrap();
    assert_eq!(store.counts().lists, 4, "who wants one key pays for one page");
    store.list_with_delimiter(Some(&Key::from("k"))).await.unwrap();
    assert_eq!(store.counts().lists, 7);

    store.clear();
    let doomed = list(&store).await.unwrap();
    store
        .delete_stream(futures::stream::iter(doomed.into_iter().map(Ok)).boxed())
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    assert_eq!((store.counts().deletes, store.counts().deleted_keys), (3, 2002));

    store.clear();
    store.put_opts(&key, "x".into(), create()).await.unwrap();
    store.put_opts(&key, "x".into(), create()).await.unwrap_err();
    let notes: Vec<_> =
        store.requests().iter().map(|r| (r.operation, r.create, r.bytes, r.outcome)).collect();
    assert_eq!(notes, [(Operation::Put, true, 1, Outcome::Done), (Operation::Put, true, 1, Outcome::Failed)]);
}

#[tokio::test]
async fn failing_before_and_after_differ_in_what_is_stored() {
    let store = Faulty::new(memory(), 0);
    let key = Key::from("packs/a");
    store.add(Rule::new(Fault::FailBefore).on(Operation::Put).below("packs").nth(1));
    store.add(Rule::new(Fault::FailAfter).on(Operation::Put).below("packs").nth(1));
    let before = store.put_opts(&key, "x".into(), create()).await.unwrap_err();
    assert!(is_injected(&before));
    assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })));
    let after = store.put_opts(&key, "x".into(), create()).await.unwrap_err();
    assert!(is_injected(&after));
    assert_eq!(store.head(&key).await.unwrap().size, 1);
    let faults: Vec<_> = store.injections().into_iter().map(|injection| injection.fault).collect();
    assert_eq!(faults, [Fault::FailBefore, Fault::FailAfter]);
}

#[tokio::test]
async fn n7_and_n10_both_report_an_object_that_exists() {
    let store = Faulty::new(memory(), 0);
    store.add(Rule::new(Fault::AlreadyExistsThoughAbsent).on(Operation::Put).nth(1));
    store.add(Rule::new(Fault::AlreadyExistsThoughStored).on(Operation::Put).nth(1));
    let key = Key::from("a");
    let absent = store.put_opts(&key, "x".into(), create()).await;
    assert!(matches!(absent, Err(Error::AlreadyExists { .. })));
    assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })));
    let stored = store.put_opts(&key, "x".into(), create()).await;
    assert!(matches!(stored, Err(Error::AlreadyExists { .. })));
    assert_eq!(store.head(&key).await.unwrap().size, 1);
}

#[tokio::test]
async fn bodies_are_cut_broken_and_flipped() {
    let store = Faulty::new(memory(), 0);
    let key = Key::from("a");
    store.put(&key, "0123456789".into()).await.unwrap();
    let get = Rule::new(Fault::Truncate(4)).on(Operation::Get).nth(1);
    store.add(get);
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "0123");
    store.clear();
    store.add(Rule::new(Fault::Break(4)).on(Operation::Get).nth(1));
    let mut body = store.get(&key).await.unwrap().into_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "0123");
    assert!(is_injected(&body.next().await.unwrap().unwrap_err()));
    assert!(body.next().await.is_none());
    store.clear();
    store.add(Rule::new(Fault::FlipBit(3)).on(Operation::Get).nth(1));
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "0122456789");
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "0123456789");
    store.clear();
    store.add(Rule::new(Fault::Truncate(2)).on(Operation::Get));
    assert!(store.get_ranges(&key, &[0..1, 5..6]).await.is_err(), "no panic, and no short piece");
}

#[tokio::test]
async fn listings_are_stale_cut_and_broken() {
    let store = Faulty::new(memory(), 0);
    fill(&store, 5).await;
    store.add(Rule::new(Fault::StaleList(2)).on(Operation::List).nth(1));
    store.add(Rule::new(Fault::Truncate(3)).on(Operation::List).nth(1));
    store.add(Rule::new(Fault::Break(3)).on(Operation::List).nth(1));
    let stale: Vec<_> = list(&store).await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(stale, ["k/00000", "k/00001", "k/00002"]);
    assert_eq!(list(&store).await.unwrap().len(), 3);
    assert!(is_injected(&list(&store).await.unwrap_err()));
    assert_eq!(list(&store).await.unwrap().len(), 5);
}

#[tokio::test]
async fn after_a_crash_everything_fails_until_it_is_revived() {
    for (fault, stored) in [(Fault::CrashBefore, false), (Fault::CrashAfter, true)] {
        let store = Faulty::new(memory(), 0);
        store.add(Rule::new(fault).on(Operation::Put).nth(1));
        let key = Key::from("a");
        assert!(is_injected(&store.put(&key, "x".into()).await.unwrap_err()));
        assert!(store.is_crashed());
        assert!(is_injected(&store.get(&key).await.unwrap_err()));
        assert!(is_injected(&list(&store).await.unwrap_err()));
        assert!(is_injected(&store.delete(&key).await.unwrap_err()));
        store.revive();
        assert_eq!(store.head(&key).await.is_ok(), stored);
    }
}

#[tokio::test]
async fn one_seed_gives_one_trace() {
    let trace = async |seed| {
        let store = Faulty::new(memory(), seed);
        store.add(Rule::new(Fault::FailBefore).on(Operation::Put).chance(0.3));
        store.add(Rule::new(Fault::FailAfter).chance(0.3));
        for number in 0..100 {
            let _ = store.put(&Key::from(format!("{number}")), "x".into()).await;
        }
        store.injections()
    };
    let first = trace(7).await;
    assert_eq!(first, trace(7).await);
    assert_ne!(first, trace(8).await);
    assert!((30..70).contains(&first.len()), "{}", first.len());
}

#[tokio::test(start_paused = true)]
async fn latency_is_one_delay_a_round_trip() {
    let inner = memory();
    fill(&inner, 1500).await;
    let delay = Duration::from_millis(40);
    let store = Latency::new(inner, delay);
    let begun = Instant::now();
    let key = Key::from("k/00000");
    store.get(&key).await.unwrap();
    assert_eq!(begun.elapsed(), delay);
    list(&store).await.unwrap();
    assert_eq!(begun.elapsed(), delay * 3, "two pages");
    store.get_ranges(&key, &[0..1, 0..1]).await.unwrap();
    store.put(&key, "x".into()).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(begun.elapsed(), delay * 6);
    let other = Key::from("k/00001");
    futures::future::join(store.head(&other), store.head(&other)).await.0.unwrap();
    assert_eq!(begun.elapsed(), delay * 7, "those at the same time wait at the same time");
}

#[tokio::test(start_paused = true)]
async fn bandwidth_is_shared_by_all_requests_of_a_direction() {
    let rate = NonZeroU64::new(1 << 20);
    let store = Bandwidth::new(memory(), rate, rate);
    let begun = Instant::now();
    let bodies = (0..4).map(|number| {
        let store = store.clone();
        async move { store.put(&Key::from(format!("{number}")), vec![0; 512 << 10].into()).await.unwrap() }
    });
    futures::future::join_all(bodies).await;
    let up = begun.elapsed().as_secs_f64();
    assert!((1.9..2.1).contains(&up), "2 MiB at 1 MiB/s took {up} s");
    let begun = Instant::now();
    store.get(&Key::from("0")).await.unwrap().bytes().await.unwrap();
    store.get_range(&Key::from("1"), 0..256 << 10).await.unwrap();
    store.get_ranges(&Key::from("2"), &[0..1 << 10, 1 << 10..256 << 10]).await.unwrap();
    let down = begun.elapsed().as_secs_f64();
    assert!((0.9..1.1).contains(&down), "1 MiB at 1 MiB/s took {down} s");
}

#[tokio::test]
async fn n7_put_landed_reply_lost_is_reported_as_already_exists_by_the_client() {
    let server = S3Server::start().unwrap();
    let mut options = StoreOptions::default().with_env(server.env());
    options.backoff_max = Duration::from_millis(1);
    let url = StoreUrl::parse(&server.url("p"), Path::new("/")).unwrap();
    let store = open(&url, &options).unwrap().store;
    // The engine must expect this: the object is stored, the answer is a 5xx, and the retry is refused.
    server.fail_put(PutFault::StoredAndAnswered(503));
    let landed = store.put_opts(&Key::from("landed"), "x".into(), create()).await;
    assert!(matches!(landed, Err(Error::AlreadyExists { .. })), "{landed:?}");
    assert_eq!(store.head(&Key::from("landed")).await.unwrap().size, 1);
    server.fail_put(PutFault::Answered(409));
    let conflict = store.put_opts(&Key::from("conflict"), "x".into(), create()).await;
    assert!(matches!(conflict, Err(Error::AlreadyExists { .. })), "{conflict:?}");
    assert!(matches!(store.head(&Key::from("conflict")).await, Err(Error::NotFound { .. })));
    server.fail_put(PutFault::StoredAndDropped);
    let dropped = store.put_opts(&Key::from("dropped"), "x".into(), create()).await;
    assert!(dropped.is_err(), "{dropped:?}");
    assert_eq!(store.head(&Key::from("dropped")).await.unwrap().size, 1);
    server.fail_put(PutFault::Answered(503));
    store.put_opts(&Key::from("again"), "x".into(), create()).await.unwrap();
}
