//! Forks: the same tree under another name, at the cost of one put, and whole whatever happens to the original.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::place::{GRACE, Place, content_of, name};
use ctxsync_tests::random::Random;
use futures::FutureExt;
use storage_backends::layer::{Operation, Recording};
use transfer_engine::format::{Kind, TreeEntry};
use transfer_engine::{CollectOptions, Error, Retention, RetentionRules};

/// Makes a context with this many files, each written by a commit of its own.
async fn base(clock: &HandClock, files: usize) -> Place {
    let place = Place::made(clock).await;
    let mut random = Random::new(3);
    for file in 0..files {
        place.write("base", &format!("dir/{file}"), &random.bytes(2000)).await;
    }
    place
}

/// Returns all files of a context's head, with their bytes.
async fn files(place: &Place, context: &str) -> Vec<(TreeEntry, Vec<u8>)> {
    let store = place.store();
    content_of(&store, &store.head(&name(context)).await.unwrap()).await.2
}

fn last(n: u64) -> CollectOptions {
    let retention = Retention { last: std::num::NonZeroU64::new(n), ..Retention::default() };
    CollectOptions { retention: RetentionRules::from(retention), ..CollectOptions::default() }
}

#[tokio::test]
async fn a_fork_has_the_tree_and_lives_on_without_its_origin() {
    let clock = HandClock::default();
    let place = base(&clock, 4).await;
    let expected = files(&place, "base").await;
    let fork = place.store().fork_context(&name("base"), None, &name("try")).await.unwrap();
    let origin = fork.forked_from().unwrap();
    assert_eq!((origin.context.as_str(), origin.number, fork.number), ("base", 5, 1));
    assert_eq!(files(&place, "try").await, expected);
    let old = place.store().fork_context(&name("base"), Some(3), &name("old")).await.unwrap();
    assert_eq!((old.totals.files, old.forked_from().unwrap().number), (2, 3));
    let back = place.store().fork_context(&name("base"), Some(-1), &name("back")).await.unwrap();
    assert_eq!(back.forked_from().unwrap().number, 4);

    place.store().delete_context(&name("base")).await.unwrap();
    for _ in 0..2 {
        clock.pass(GRACE + 60);
        place.collect(CollectOptions::default()).await;
    }
    assert_eq!(files(&place, "try").await, expected);
    place.is_whole().await;
    // What comes after a fork is its own, and remembers where it came from.
    place.write("try", "more", b"more").await;
    assert_eq!(place.store().head(&name("try")).await.unwrap().forked_from(), Some(origin));
}

#[tokio::test]
async fn a_fork_costs_one_put_whatever_its_size() {
    let mut all = Vec::new();
    for count in [1, 40] {
        let place = base(&HandClock::default(), count).await;
        let recording = Recording::new(Arc::clone(&place.objects));
        let behind = place.behind(Arc::new(recording.clone()));
        behind.store().fork_context(&name("base"), None, &name("try")).await.unwrap();
        let of = |request: &storage_backends::layer::Request| {
            let key = request.key.to_string();
            (request.operation, key.split('/').next().unwrap_or_default().to_owned())
        };
        all.push(recording.requests().iter().map(of).collect::<Vec<_>>());
    }
    assert_eq!(all[0], all[1]);
    let puts = |folder: &str| {
        all[0].iter().filter(|(operation, key)| *operation == Operation::Put && key == folder).count()
    };
    // This store's answers have no time, so one empty object is put to find it out.
    assert_eq!((puts("contexts"), puts("packs")), (1, 1), "{:?}", all[0]);
}

#[tokio::test]
async fn a_fork_of_nothing_or_onto_something_is_refused() {
    let place = base(&HandClock::default(), 2).await;
    place.write("other", "file", b"x").await;
    let store = place.store();
    let fork = async |from: &str, at, to: &str| store.fork_context(&name(from), at, &name(to)).await;
    assert!(matches!(fork("base", None, "other").await, Err(Error::ContextExists { .. })));
    assert!(matches!(fork("base", None, "base").await, Err(Error::ContextExists { .. })));
    assert!(matches!(fork("missing", None, "try").await, Err(Error::NoContext { .. })));
    assert!(matches!(fork("base", Some(9), "try").await, Err(Error::NoSnapshot { .. })));
    place.collect(last(1)).await;
    assert!(matches!(fork("base", Some(2), "try").await, Err(Error::NoSnapshot { .. })));
    assert!(matches!(store.head(&name("try")).await, Err(Error::NoContext { .. })));
    // A name that was used before goes on with its numbers.
    store.delete_context(&name("other")).await.unwrap();
    assert_eq!(fork("base", None, "other").await.unwrap().number, 4);
}

/// A machine that sleeps between looking and putting makes the fork once more; if the origin is gone by then, there
/// is no fork.
#[tokio::test(start_paused = true)]
async fn w13_a_fork_that_landed_too_late_is_made_once_more_or_not_at_all() {
    for is_forgotten in [false, true] {
        let clock = HandClock::default();
        let place = base(&clock, 3).await;
        let expected = {
            let store = place.store();
            content_of(&store, &store.snapshot(&name("base"), Some(3)).await.unwrap()).await.2
        };
        let (once, asleep, collector) = (AtomicU64::new(0), clock.clone(), place.clone());
        let sleepy = BeforePut::new(Arc::clone(&place.objects), move |key| {
            let sleeps =
                key.as_ref().starts_with("contexts/try/") && once.fetch_add(1, Ordering::SeqCst) == 0;
            let (asleep, collector) = (asleep.clone(), collector.clone());
            async move {
                if !sleeps {
                    return;
                }
                if is_forgotten {
                    collector.collect(last(1)).await;
                }
                asleep.pass(GRACE + 60);
                if is_forgotten {
                    collector.collect(CollectOptions::default()).await;
                }
            }
            .boxed()
        });
        let forked =
            place.behind(Arc::new(sleepy)).store().fork_context(&name("base"), Some(3), &name("try")).await;
        if is_forgotten {
            assert!(matches!(forked, Err(Error::NoSnapshot { .. })), "{forked:?}");
            assert!(matches!(place.store().head(&name("try")).await, Err(Error::NoContext { .. })));
        } else {
            assert_eq!(forked.unwrap().number, 2);
            assert_eq!(files(&place, "try").await, expected);
        }
        for _ in 0..2 {
            clock.pass(GRACE + 60);
            place.collect(CollectOptions::default()).await;
        }
        place.is_whole().await;
    }
}

#[tokio::test]
async fn renamed_and_copied_forks_remember_their_origin() {
    let clock = HandClock::default();
    let place = base(&clock, 1).await;
    let store = place.store();
    let fork = store.fork_context(&name("base"), None, &name("try")).await.unwrap();
    let renamed = store.rename_context(&name("try"), &name("kept")).await.unwrap();
    assert_eq!(renamed.forked_from(), fork.forked_from());
    // A fork of a fork was forked from that one.
    let second = store.fork_context(&name("kept"), None, &name("second")).await.unwrap();
    assert_eq!(second.forked_from().unwrap().context, name("kept"));
    // Its origin, that one's name before the rename, and what that was forked from.
    assert_eq!(second.ancestors().len(), 3);
    let dst = Place::made(&clock).await;
    store.copy_to(&dst.store(), &Default::default(), &transfer_engine::Silent).await.unwrap();
    assert_eq!(dst.store().head(&name("second")).await.unwrap().ancestors(), second.ancestors());
    assert_eq!(second.kind, Kind::Normal);
}
