//! What is copied, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::interrupt::BeforePut;
use futures::FutureExt;
use object_store::{ObjectStoreExt, PutPayload};
use transfer_engine::format::{Snapshot, StoreKey};
use transfer_engine::{
    At, CollectOptions, CopyOptions, CopyReport, Error, Gathering, NamePattern, Retention, Silent, TagName,
};

use crate::place::{GRACE, Place, Told, content, copy, name};

async fn pair() -> (Place, Place) {
    let clock = HandClock::default();
    (Place::made(&clock).await, Place::made(&clock).await)
}

async fn copy_some(src: &Place, dst: &Place, names: &[&str]) -> (Result<CopyReport, Error>, Told) {
    let names = names.iter().map(|name| NamePattern::new(name).unwrap()).collect();
    let (options, told) = (CopyOptions { names, ..CopyOptions::default() }, Told::default());
    (src.store().copy_to(&dst.store(), &options, &told).await, told)
}

async fn keep_last(place: &Place, last: u64) {
    let retention = Retention { last: std::num::NonZeroU64::new(last), ..Retention::default() };
    for _ in 0..2 {
        place.collect(CollectOptions { retention: retention.into(), ..CollectOptions::default() }).await;
        place.clock.pass(GRACE + 60);
    }
    place.collect(CollectOptions { retention: retention.into(), ..CollectOptions::default() }).await;
}

#[tokio::test]
async fn only_the_named_contexts_are_copied() {
    let (src, dst) = pair().await;
    for context in ["user-1", "user-2", "team/x"] {
        src.write(context, "f", context.as_bytes()).await;
    }
    let (report, _) = copy_some(&src, &dst, &["user-*"]).await;
    assert_eq!(report.unwrap().contexts, 2);
    assert_eq!(dst.store().contexts().await.unwrap(), [name("user-1"), name("user-2")]);
    let (report, _) = copy_some(&src, &dst, &["team/x", "nobody-*"]).await;
    assert_eq!(report.unwrap().unmatched, 1);
    assert_eq!(content(&dst).await, content(&src).await);
    let (report, _) = copy_some(&src, &dst, &["team/y"]).await;
    assert!(matches!(report, Err(Error::NoContext { .. })));
    assert!(matches!(
        src.store().copy_to(&src.store(), &CopyOptions::default(), &Silent).await,
        Err(Error::SameStore { .. })
    ));
}

/// What the source forgot since the last copy is known by its number.
#[tokio::test]
async fn a_source_that_forgets_is_followed() {
    let (src, dst) = pair().await;
    for file in 0..6 {
        src.write("a", &format!("{file}"), &[file; 3000]).await;
    }
    copy(&src, &dst).await;
    for file in 6..12 {
        src.write("a", &format!("{file}"), &[file; 3000]).await;
    }
    keep_last(&src, 2).await;
    let report = copy(&src, &dst).await;
    assert_eq!((report.snapshots, report.packs), (2, 6), "what the first copy brought is recognized");
    let (here, there) = (content(&src).await, content(&dst).await);
    assert_eq!(here[&name("a")].len(), 2);
    assert_eq!(here[&name("a")][..], there[&name("a")][..2]);
    assert_eq!(there[&name("a")].len(), 9);
    keep_last(&dst, 1).await;
    assert_eq!(copy(&src, &dst).await.snapshots, 0, "what the destination forgot is not copied again");
    assert_eq!(content(&dst).await[&name("a")][0], here[&name("a")][0]);
}

/// A context that somebody has pushed to in the destination is left alone, and the others are copied.
#[tokio::test]
async fn a_context_with_snapshots_of_its_own_is_refused() {
    let (src, dst) = pair().await;
    src.write("a", "f", b"1").await;
    src.write("b", "f", b"1").await;
    src.write("c", "f", b"1").await;
    copy(&src, &dst).await;
    dst.write("a", "mine", b"2").await;
    dst.write("c", "mine", b"2").await;
    for context in ["a", "b"] {
        src.write(context, "f", b"3").await;
    }
    let before = content(&dst).await;
    let (report, told) = copy_some(&src, &dst, &[]).await;
    let report = report.unwrap();
    assert_eq!((report.contexts_failed, report.contexts_copied, report.snapshots), (2, 1, 1));
    let not = told.not_copied();
    assert_eq!(not[0].2, "`a` in test: has snapshots of its own: snapshot 3 is no copy");
    assert_eq!(not[1].0, "c");
    let after = content(&dst).await;
    assert_eq!((&after[&name("a")], &after[&name("c")]), (&before[&name("a")], &before[&name("c")]));
    assert_eq!(after[&name("b")], content(&src).await[&name("b")]);
    // Once it is out of the way, the copy goes on counting.
    dst.store().rename_context(&name("a"), &name("kept")).await.unwrap();
    let (report, told) = copy_some(&src, &dst, &["a"]).await;
    assert!(report.unwrap().is_incomplete(), "a name that has moved is not taken again");
    assert!(told.not_copied()[0].2.contains("was moved to `kept`"));
    dst.store().delete_context(&name("c")).await.unwrap();
    copy_some(&src, &dst, &["c"]).await.0.unwrap();
    let log = dst.store().log(&name("c")).await.unwrap();
    assert_eq!(log.iter().map(|s| s.number).collect::<Vec<_>>(), [6, 5]);
    assert_eq!(log.iter().map(|s| s.copied_from().unwrap().1).collect::<Vec<_>>(), [2, 1]);
    src.write("c", "f", b"4").await;
    copy_some(&src, &dst, &["c"]).await.0.unwrap();
    assert_eq!(dst.store().head(&name("c")).await.unwrap().number, 7);
}

/// There and back: what the copy got since goes to the original.
#[tokio::test]
async fn a_copy_can_be_copied_back() {
    let (src, dst) = pair().await;
    src.write("a", "f", b"1").await;
    copy(&src, &dst).await;
    assert_eq!(copy(&dst, &src).await.snapshots, 0);
    dst.write("a", "g", b"2").await;
    assert_eq!(copy(&dst, &src).await.snapshots, 1);
    assert_eq!(content(&src).await, content(&dst).await);
    assert_eq!(copy(&src, &dst).await.snapshots, 0);
    // And on to a third.
    let third = Place::made(&src.clock).await;
    copy(&dst, &third).await;
    assert_eq!(content(&third).await, content(&dst).await);
    assert_eq!(copy(&src, &third).await.snapshots, 0);
}

/// What can't be had is named, the rest is copied, and what comes back is copied later.
#[tokio::test]
async fn what_the_source_has_lost_is_named_and_copied_once_it_is_back() {
    let (src, dst) = pair().await;
    src.write("a", "f", &[1; 3000]).await;
    src.write("a", "g", &[2; 3000]).await;
    src.write("b", "f", &[3; 3000]).await;
    let log = src.store().log(&name("a")).await.unwrap();
    let lost = log[0].packs.iter().find(|p| log[1].packs.iter().all(|q| q.id != p.id)).unwrap().id;
    let key = StoreKey::Pack(lost).path();
    let bytes = src.objects.get(&key).await.unwrap().bytes().await.unwrap();
    src.delete(lost).await;
    // What needs it no more comes after.
    src.write("a", "g", &[4; 3000]).await;
    for _ in 0..2 {
        let (report, told) = copy_some(&src, &dst, &[]).await;
        assert!(report.unwrap().is_incomplete());
        let not = told.not_copied();
        assert_eq!((not.len(), &not[0].0[..], &not[0].1[..]), (1, "a", &[3][..]));
        assert!(not[0].2.starts_with("cannot read packs/"), "{}", not[0].2);
        let numbers: Vec<_> = dst.store().log(&name("a")).await.unwrap().iter().map(|s| s.number).collect();
        assert_eq!(numbers, [4, 2, 1]);
        dst.clock.pass(GRACE + 60);
        dst.collect(CollectOptions::default()).await;
    }
    src.objects.put(&key, bytes.into()).await.unwrap();
    assert_eq!(copy(&src, &dst).await.snapshots, 1);
    assert_eq!(content(&dst).await, content(&src).await);
    dst.is_whole().await;
    dst.clock.pass(GRACE + 60);
    dst.collect(CollectOptions::default()).await;
    assert_eq!(content(&dst).await, content(&src).await);
}

#[tokio::test]
async fn a_context_whose_head_is_damaged_is_named_and_the_others_are_copied() {
    let (src, dst) = pair().await;
    src.write("a", "f", b"1").await;
    src.write("b", "f", b"1").await;
    let key = StoreKey::Snapshot { context: name("a"), number: 2 }.path();
    src.objects.put(&key, PutPayload::from_static(b"CSsn nonsense")).await.unwrap();
    let (report, told) = copy_some(&src, &dst, &[]).await;
    assert_eq!(report.unwrap().contexts_failed, 1);
    assert_eq!(told.not_copied()[0].0, "a");
    assert_eq!(dst.store().contexts().await.unwrap(), [name("b")]);
}

/// Contexts that were made of one another share packs, and so do their copies.
#[tokio::test]
async fn packs_that_contexts_share_are_copied_once() {
    let (src, dst) = pair().await;
    src.write("a", "f", &[1; 3000]).await;
    let head = src.store().head(&name("a")).await.unwrap();
    let fork = Snapshot {
        number: 1,
        context: name("b"),
        lineage: transfer_engine::format::LineageId([9; 16]),
        parent: None,
        ..(*head).clone()
    };
    let key = StoreKey::Snapshot { context: name("b"), number: 1 }.path();
    src.objects.put(&key, fork.encode().unwrap().bytes.into()).await.unwrap();
    let report = copy(&src, &dst).await;
    assert_eq!((report.packs, report.snapshots), (1, 3));
    assert_eq!(dst.packs().await.len(), 1);
    assert_eq!(content(&dst).await, content(&src).await);
}

/// Numbers that the source has forgotten are no way past another writer.
#[tokio::test]
async fn who_commits_at_a_number_that_is_left_out_keeps_the_head() {
    let (src, dst) = pair().await;
    src.write("a", "f", b"1").await;
    copy(&src, &dst).await;
    for content in 2..9u8 {
        src.write("a", "f", &[content]).await;
    }
    keep_last(&src, 1).await;
    let (place, once) = (dst.clone(), Arc::new(AtomicBool::new(true)));
    let rival = BeforePut::new(Arc::clone(&dst.objects), move |key| {
        let (place, once) = (place.clone(), Arc::clone(&once));
        let is_commit = key.as_ref().starts_with("contexts/a/");
        async move {
            if is_commit && once.swap(false, Ordering::SeqCst) {
                place.write("a", "theirs", b"kept").await;
            }
        }
        .boxed()
    });
    let told = Told::default();
    let there = dst.behind(rival).store();
    src.store().copy_to(&there, &CopyOptions::default(), &told).await.unwrap();
    assert!(
        told.not_copied()[0].2.contains("has snapshots of its own: snapshot 3"),
        "{:?}",
        told.not_copied()
    );
    let heads = content(&dst).await;
    let head: Vec<_> =
        heads[&name("a")][0].2.iter().map(|(entry, bytes)| (entry.path.to_string(), &bytes[..])).collect();
    assert_eq!(head, [("f".to_owned(), &b"1"[..]), ("theirs".to_owned(), b"kept")]);
    dst.is_whole().await;
}

/// A collection makes no snapshots of its own in a copy, or the next copy would be refused.
#[tokio::test]
async fn a_collection_leaves_copies_as_they_are() {
    let (src, dst) = pair().await;
    for file in 0..8 {
        src.write("a", &format!("{file}"), &[file; 3000]).await;
    }
    copy(&src, &dst).await;
    let gathering = Gathering { many: 2, ..Gathering::default() };
    let options = CollectOptions { gathering, ..CollectOptions::default() };
    dst.collect(options.clone()).await;
    assert_eq!(dst.store().head(&name("a")).await.unwrap().number, 9);
    src.collect(options.clone()).await;
    assert_eq!(src.store().head(&name("a")).await.unwrap().number, 10);
    copy(&src, &dst).await;
    assert_eq!(content(&dst).await, content(&src).await);
    // It is a context of its own as soon as somebody has pushed to it.
    for file in 0..8 {
        dst.write("a", &format!("{file}"), &[file + 100; 3000]).await;
    }
    dst.collect(options).await;
    assert_eq!(dst.store().head(&name("a")).await.unwrap().number, 19);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_copied_and_writes_nothing() {
    let (src, dst) = pair().await;
    src.write("a", "f", &[1; 3000]).await;
    copy(&src, &dst).await;
    src.write("a", "g", &[2; 3000]).await;
    let there = dst.objects.list(None);
    let before: Vec<_> = futures::TryStreamExt::try_collect(there).await.unwrap();
    let (options, told) = (CopyOptions { dry_run: true, ..CopyOptions::default() }, Told::default());
    let planned = src.store().copy_to(&dst.store(), &options, &told).await.unwrap();
    let after: Vec<_> = futures::TryStreamExt::try_collect(dst.objects.list(None)).await.unwrap();
    assert_eq!((before, planned.snapshots, planned.packs), (after, 1, 1));
    let done = copy(&src, &dst).await;
    assert_eq!((planned.snapshots, planned.packs, planned.bytes), (done.snapshots, done.packs, done.bytes));
}

/// The oldest snapshot is filled in below all others.
#[tokio::test]
async fn what_was_damaged_first_is_copied_once_it_is_back() {
    let (src, dst) = pair().await;
    src.write("a", "f", &[1; 3000]).await;
    src.write("a", "f", &[2; 3000]).await;
    let first = StoreKey::Snapshot { context: name("a"), number: 1 }.path();
    let bytes = src.objects.get(&first).await.unwrap().bytes().await.unwrap();
    src.objects.put(&first, PutPayload::from_static(b"CSsn nonsense")).await.unwrap();
    for _ in 0..2 {
        let (report, told) = copy_some(&src, &dst, &[]).await;
        assert_eq!((report.unwrap().snapshots_failed, &told.not_copied()[0].1[..]), (1, &[1][..]));
    }
    src.objects.put(&first, bytes.into()).await.unwrap();
    assert_eq!(copy(&src, &dst).await.snapshots, 1);
    assert_eq!(content(&dst).await, content(&src).await);
    dst.is_whole().await;
}

/// A source whose tree is in packs of its own, and whose snapshots share most of it.
#[tokio::test]
async fn segments_that_snapshots_share_are_shared_by_their_copies() {
    let (src, dst) = pair().await;
    let machine = ctxsync_tests::machine::World::over(Arc::clone(&src.objects)).await.machine("m");
    let mut random = ctxsync_tests::random::Random::new(3);
    for i in 0..4000 {
        machine.mount.write(format!("d{}/{i:04}-with-a-name-of-some-length", i / 500), random.bytes(20));
    }
    machine.push().await.clean();
    for content in ["1", "2"] {
        machine.mount.write("d3/other", content);
        machine.push().await.clean();
    }
    copy(&src, &dst).await;
    assert_eq!(content(&dst).await, content(&src).await);
    let places = |snapshot: &Snapshot| {
        let digests = snapshot.segments.iter().map(|segment| segment.digest);
        digests.collect::<std::collections::BTreeSet<_>>()
    };
    let log = dst.store().log(&ctxsync_tests::machine::context()).await.unwrap();
    let shared = places(&log[0]).intersection(&places(&log[1])).count();
    assert!(shared >= 3 && shared + 1 >= log[0].segments.len(), "{shared} of {}", log[0].segments.len());
    assert!(log[0].packs.iter().any(|pack| log[1].packs.iter().any(|other| other.id == pack.id)));
    // Without the originals, the same segments are made again and found.
    machine.mount.write("d3/other", "3");
    machine.push().await.clean();
    keep_last(&src, 1).await;
    let before = dst.packs().await.len();
    copy(&src, &dst).await;
    assert_eq!(
        content(&dst).await.values().next().unwrap()[0],
        content(&src).await.values().next().unwrap()[0]
    );
    assert!(dst.packs().await.len() <= before + 2, "only what is new was put");
}

#[tokio::test]
async fn tags_are_copied_and_never_moved() {
    let (src, dst) = pair().await;
    for content in 1..5 {
        src.write("a", "f", &[content; 3000]).await;
    }
    let tag = |name: &str| -> TagName { name.parse().unwrap() };
    let (a, here) = (name("a"), src.store());
    for (number, name) in [(3, "v1"), (3, "also"), (5, "v2")] {
        here.tag(&a, At::Number(number), &tag(name)).await.unwrap();
    }
    let (options, planned) = (CopyOptions { dry_run: true, ..CopyOptions::default() }, Told::default());
    assert_eq!(here.copy_to(&dst.store(), &options, &planned).await.unwrap().tags, 3);
    assert_eq!(copy(&src, &dst).await.tags, 3);
    let tags = || async { dst.store().tags(&a).await.unwrap() };
    assert_eq!(tags().await, here.tags(&a).await.unwrap());
    assert_eq!(copy(&src, &dst).await.tags, 0, "once is enough");
    keep_last(&dst, 1).await;
    assert_eq!(content(&dst).await[&a].len(), 2, "a collection there keeps what has a tag");

    // One that is on another snapshot there stays, and the rest goes on.
    here.untag(&a, &tag("v2"), None).await.unwrap();
    here.tag(&a, At::Number(3), &tag("v2")).await.unwrap();
    // What was forgotten there can't be tagged.
    here.tag(&a, At::Number(4), &tag("late")).await.unwrap();
    src.write("a", "f", &[5; 3000]).await;
    here.tag(&a, At::Number(6), &tag("new")).await.unwrap();
    let (report, told) = copy_some(&src, &dst, &[]).await;
    let report = report.unwrap();
    assert_eq!((report.snapshots, report.tags, report.tags_failed, report.is_incomplete()), (1, 1, 1, true));
    assert!(told.not_copied()[0].2.contains("v2"), "{:?}", told.not_copied());
    let warnings = told.warnings.lock().unwrap().clone();
    assert_eq!(warnings, ["tag late of a is not copied: test: has forgotten the copy of snapshot 4"]);
    let expected = [(3, vec![tag("also"), tag("v1")]), (5, vec![tag("v2")]), (6, vec![tag("new")])];
    assert_eq!(tags().await, expected.into());

    // Where the numbers differ, the copy of the tagged snapshot is found.
    dst.store().delete_context(&a).await.unwrap();
    assert_eq!(copy(&src, &dst).await.tags, 5);
    let shifted = here.tags(&a).await.unwrap().into_iter().map(|(number, tags)| (number + 7, tags)).collect();
    assert_eq!(tags().await, shifted);
}
