//! Tags: what has one is kept, whoever else is at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::interrupt::BeforePut;
use futures::FutureExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use transfer_engine::format::{LineageId, StoreKey};
use transfer_engine::{At, CollectOptions, Error, TagName};

use crate::GRACE;
use crate::cases::{Place, keep_last, name};
use crate::deeds::store;

fn tag(name: &str) -> TagName {
    name.parse().unwrap()
}

fn at(tag: &str) -> At {
    At::Tag(tag.parse().unwrap())
}

impl Place {
    fn copy(&self) -> Self {
        Self { objects: Arc::clone(&self.objects), outside: self.outside.clone() }
    }

    async fn tag(&self, number: i64, name_of_tag: &str) -> Result<u64, Error> {
        self.store().tag(&name("c"), Some(number), &tag(name_of_tag)).await
    }

    /// Collects twice, a grace period apart, and keeps the head alone.
    async fn collect_all(&self) {
        self.collect(&keep_last(1)).await;
        self.outside.clock.pass(GRACE + 1);
        self.collect(&keep_last(1)).await;
    }

    /// Reads the only file of a snapshot.
    async fn content(&self, at: At) -> Vec<u8> {
        let (store, mut entries) = (self.store(), Vec::new());
        let snapshot = store.snapshot(&name("c"), at).await.unwrap();
        store.entries(&snapshot, &policy_core::TreePath::root(), |entry| entries.push(entry)).await.unwrap();
        let mut read = Vec::new();
        let reading = store.read_file(&entries[0], 0..u64::MAX, |part| {
            read.extend_from_slice(&part);
            Ok(())
        });
        reading.await.unwrap();
        read
    }

    async fn numbers(&self) -> Vec<u64> {
        self.store().log(&name("c")).await.unwrap().iter().map(|snapshot| snapshot.number).collect()
    }

    async fn lineage(&self) -> LineageId {
        self.store().head(&name("c")).await.unwrap().lineage
    }

    async fn mark(&self, number: u64) {
        let mark = StoreKey::Gone { context: name("c"), number }.path();
        self.objects.put(&mark, PutPayload::new()).await.unwrap();
    }

    /// Returns the store of a machine that does something before its first put of a tag.
    fn interrupted<F>(&self, act: impl Fn(Place) -> F + Send + Sync + 'static) -> Arc<dyn ObjectStore>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (place, once) = (self.copy(), AtomicBool::new(true));
        BeforePut::new(Arc::clone(&self.objects), move |key| {
            let is_first = matches!(StoreKey::parse(key), Some(StoreKey::Tag { .. }))
                && once.swap(false, Ordering::SeqCst);
            if is_first { act(place.copy()).boxed() } else { async {}.boxed() }
        })
    }
}

#[tokio::test]
async fn a_tag_keeps_its_snapshot_until_it_is_deleted() {
    let place = Place::new().await;
    assert_eq!(place.tag(-1, "v1").await.unwrap(), 3);
    assert_eq!(place.tag(3, "v1").await.unwrap(), 3, "the same once more");
    assert_eq!(place.tag(3, "also").await.unwrap(), 3);
    assert_eq!(place.collect(&keep_last(1)).await.forgotten, 2);
    place.collect_all().await;
    assert_eq!(place.numbers().await, [4, 3]);
    assert_eq!(place.content(at("v1")).await, b"2");
    assert_eq!(place.store().tags(&name("c")).await.unwrap()[&3], [tag("also"), tag("v1")]);
    assert_eq!(place.store().untag(&name("c"), &tag("v1"), None).await.unwrap(), Some(3));
    place.collect_all().await;
    assert_eq!(place.content(at("also")).await, b"2");
    place.store().untag(&name("c"), &tag("also"), Some(3)).await.unwrap();
    place.collect_all().await;
    assert_eq!(place.numbers().await, [4]);
    assert_eq!(place.keys("packs").await.len(), 1);
}

#[tokio::test]
async fn a_tag_names_one_snapshot() {
    let place = Place::new().await;
    place.tag(3, "v1").await.unwrap();
    let is_on_3 = |error| matches!(error, Error::TagElsewhere { number: 3, .. });
    assert!(is_on_3(place.tag(4, "v1").await.unwrap_err()));
    assert!(is_on_3(place.store().untag(&name("c"), &tag("v1"), Some(4)).await.unwrap_err()));
    assert!(matches!(place.tag(9, "v2").await, Err(Error::NoSnapshot { number: 9, .. })));
    let none = place.store().snapshot(&name("c"), at("v2")).await;
    assert!(matches!(none, Err(Error::NoTag { .. })));
    assert!(matches!(place.store().untag(&name("c"), &tag("v2"), None).await, Err(Error::NoTag { .. })));
    // Of two machines that use a name at once, one is told.
    let objects = place.interrupted(|place| async move {
        place.tag(2, "v2").await.unwrap();
    });
    let second = store(&objects, &place.outside).tag(&name("c"), Some(4), &tag("v2")).await;
    assert!(matches!(second, Err(Error::TagElsewhere { number: 2, .. })));
}

/// A collection has decided to forget a snapshot, sleeps, and marks it when somebody has tagged it.
#[tokio::test]
async fn a_mark_that_lands_after_a_tag_does_not_count() {
    let place = Place::new().await;
    place.tag(3, "v1").await.unwrap();
    place.outside.clock.pass(5);
    place.mark(3).await;
    place.mark(2).await;
    place.outside.clock.pass(GRACE + 1);
    assert_eq!(place.numbers().await, [4, 3, 1]);
    let report = place.collect(&CollectOptions::default()).await;
    assert_eq!((report.erased, report.packs_deleted, report.packs_kept), (1, 1, 2));
    assert_eq!(place.content(at("v1")).await, b"2");
    assert_eq!(place.content(At::Number(3)).await, b"2");
    // When the tag goes, the snapshot stands as if it had never been marked: somebody may just be reading it.
    place.store().untag(&name("c"), &tag("v1"), None).await.unwrap();
    assert_eq!(place.numbers().await, [4, 3, 1]);
    assert_eq!(place.collect(&keep_last(1)).await.erased, 0);
}

/// Somebody tags a snapshot, and sleeps until it has been forgotten and erased.
#[tokio::test]
async fn who_tags_what_is_gone_meanwhile_is_told() {
    for pass in [GRACE / 3, 2 * GRACE] {
        let place = Place::new().await;
        let objects = place.interrupted(move |place| async move {
            place.collect(&keep_last(1)).await;
            place.outside.clock.pass(pass);
            place.collect(&keep_last(1)).await;
        });
        let tagged = store(&objects, &place.outside).tag(&name("c"), Some(3), &tag("v1")).await;
        assert!(matches!(tagged, Err(Error::NoSnapshot { number: 3, .. })), "{tagged:?}");
        assert_eq!(place.store().tags(&name("c")).await.unwrap().len(), 0);
        place.collect_all().await;
        assert_eq!(place.numbers().await, [4]);
    }
    // A mark that is a moment old is no reason: the snapshot is whole.
    let place = Place::new().await;
    let objects = place.interrupted(|place| async move { drop(place.collect(&keep_last(1)).await) });
    store(&objects, &place.outside).tag(&name("c"), Some(3), &tag("v1")).await.unwrap();
    place.collect_all().await;
    assert_eq!(place.content(at("v1")).await, b"2");
}

/// What died before it could take the tag back leaves a tag that keeps nothing.
#[tokio::test]
async fn a_tag_that_lands_long_after_the_mark_does_not_count() {
    let place = Place::new().await;
    let lineage = place.lineage().await;
    let key = StoreKey::Tag { context: name("c"), lineage, name: tag("v1") }.path();
    place.tag(3, "v1").await.unwrap();
    let bytes = place.objects.get(&key).await.unwrap().bytes().await.unwrap();
    place.objects.delete(&key).await.unwrap();
    place.mark(3).await;
    place.outside.clock.pass(GRACE / 4 + 1);
    place.objects.put(&key, bytes.into()).await.unwrap();
    let read = place.store().snapshot(&name("c"), at("v1")).await;
    assert!(matches!(read, Err(Error::NoSnapshot { number: 3, .. })), "{read:?}");
    place.collect_all().await;
    assert_eq!(place.numbers().await, [4]);
    // It still has the name, until somebody deletes it.
    assert!(matches!(place.tag(4, "v1").await, Err(Error::TagElsewhere { number: 3, .. })));
    place.store().untag(&name("c"), &tag("v1"), None).await.unwrap();
    place.tag(4, "v1").await.unwrap();
    assert_eq!(place.collect(&CollectOptions::default()).await.unreadable, 0);
}

#[tokio::test]
async fn a_damaged_tag_stops_a_collection_until_it_is_deleted() {
    let place = Place::new().await;
    let lineage = place.lineage().await;
    let key = StoreKey::Tag { context: name("c"), lineage, name: tag("v1") }.path();
    place.objects.put(&key, PutPayload::from_static(b"nonsense")).await.unwrap();
    let report = place.collect(&keep_last(1)).await;
    assert_eq!((report.unreadable, report.forgotten), (1, 0));
    assert_eq!(place.numbers().await, [4, 3, 2, 1], "the history can be read");
    place.store().untag(&name("c"), &tag("v1"), None).await.unwrap();
    assert_eq!(place.collect(&keep_last(1)).await.forgotten, 3);
}

/// A tag of a context that was deleted is nobody's, also if the deletion was cut short or the name is used again.
#[tokio::test]
async fn tags_go_with_their_context() {
    for is_made_again in [false, true] {
        let place = Place::new().await;
        place.tag(3, "v1").await.unwrap();
        let lineage = place.lineage().await;
        let key = StoreKey::Tag { context: name("c"), lineage, name: tag("v1") }.path();
        let bytes = place.objects.get(&key).await.unwrap().bytes().await.unwrap();
        place.store().delete_context(&name("c")).await.unwrap();
        assert!(place.objects.get(&key).await.is_err(), "the deletion takes the tags along");
        place.objects.put(&key, bytes.into()).await.unwrap();
        if is_made_again {
            place.store().create_context(&name("c")).await.unwrap();
            assert!(matches!(place.store().snapshot(&name("c"), at("v1")).await, Err(Error::NoTag { .. })));
            place.tag(6, "v1").await.unwrap();
        }
        place.collect_all().await;
        assert!(place.objects.get(&key).await.is_err(), "a collection finishes the deletion");
        place.collect_all().await;
        assert_eq!(place.keys("packs").await.len(), 0);
        assert_eq!(place.keys("contexts").await.len(), 1 + 2 * usize::from(is_made_again));
    }
}

#[tokio::test]
async fn a_rename_takes_tags_along() {
    let place = Place::new().await;
    place.tag(3, "v1").await.unwrap();
    place.outside.clock.pass(5);
    // Its mark does not count.
    place.mark(3).await;
    place.store().rename_context(&name("c"), &name("d")).await.unwrap();
    let tagged = place.store().snapshot(&name("d"), at("v1")).await.unwrap();
    assert_eq!((tagged.number, tagged.totals.files), (4, 1));
    assert!(matches!(place.store().snapshot(&name("c"), at("v1")).await, Err(Error::Moved { .. })));
    place.collect_all().await;
    place.collect_all().await;
    let log = place.store().log(&name("d")).await.unwrap();
    assert_eq!(log.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>(), [5, 4]);
    assert_eq!(place.keys("packs").await.len(), 2);
    assert!(!place.keys("contexts/c").await.iter().any(|key| key.contains("tag.")));
}
