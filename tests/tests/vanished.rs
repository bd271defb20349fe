//! A store that suddenly differs: listings lack keys, packs are lost, or the store has vanished or is another
//! one.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ctxsync_tests::compare::paths;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use policy_core::SyncPolicy;
use storage_backends::layer::{Fault, Faulty, Operation, Recording, Rule};
use transfer_engine::{
    CollectMonitor, CollectOptions, ContextSync, CreateSessionParams, Env, Error, LostPack, Session, Store,
    SyncOptions,
};

type Hides = dyn Fn(&Path) -> bool + Send + Sync;

/// A store whose listings lack some keys, and that can be replaced by another one.
#[derive(Clone)]
struct Odd {
    inner: Arc<Mutex<Arc<dyn ObjectStore>>>,
    hides: Arc<Hides>,
}

impl Odd {
    fn new(inner: &Arc<dyn ObjectStore>, hides: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        Self { inner: Arc::new(Mutex::new(Arc::clone(inner))), hides: Arc::new(hides) }
    }

    fn inner(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.inner.lock().unwrap())
    }

    fn exchange(&self, other: Arc<dyn ObjectStore>) {
        *self.inner.lock().unwrap() = other;
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

impl fmt::Debug for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

#[async_trait]
impl ObjectStore for Odd {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner().put_opts(at, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner().put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner().get_opts(at, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner().delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let hides = Arc::clone(&self.hides);
        let listed = self.inner().list(prefix);
        listed.try_filter(move |meta| std::future::ready(!hides(&meta.location))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner().list_with_delimiter(prefix).await?;
        listed.common_prefixes.retain(|prefix| !(self.hides)(&prefix.clone().join("")));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner().copy_opts(from, to, options).await
    }
}

/// A store with two contexts and some snapshots, and the machine that pushed them.
async fn filled() -> (World, Machine) {
    let world = World::memory().await;
    let a = world.machine("a");
    let mut random = Random::new(3);
    for round in 0..3 {
        a.mount.write(format!("file{round}"), random.bytes(50_000));
        a.push().await.clean();
    }
    world.store().create_context(&"zz".parse().unwrap()).await.unwrap();
    (world, a)
}

async fn keys(objects: &Arc<dyn ObjectStore>) -> Vec<Path> {
    let mut keys: Vec<Path> = objects.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    keys.sort();
    keys
}

fn exclusive() -> CollectOptions {
    CollectOptions { exclusive: true, ..CollectOptions::default() }
}

#[derive(Default)]
struct Heard(Mutex<Vec<LostPack>>);

impl CollectMonitor for Heard {
    fn lost(&self, lost: &LostPack) {
        self.0.lock().unwrap().push(lost.clone());
    }
}

async fn collect(objects: Arc<dyn ObjectStore>) -> (Result<u64, Error>, Vec<LostPack>) {
    let (store, heard) = (Store::new(objects, "test:", Env::real()), Heard::default());
    let result = store.collect(&exclusive(), &heard).await.map(|report| report.packs_lost);
    (result, heard.0.into_inner().unwrap())
}

#[tokio::test]
async fn n18_gc_deletes_nothing_by_a_listing_that_is_not_whole() {
    let (world, _) = filled().await;
    let before = keys(&world.objects).await;
    let newest = format!("contexts/work/{:016x}", u64::MAX - 4);
    let oldest = format!("contexts/work/{:016x}", u64::MAX - 1);
    let middle = format!("contexts/work/{:016x}", u64::MAX - 2);
    assert!(before.iter().any(|key| key.as_ref() == newest), "{before:?}");
    let packs: Vec<Path> = before.iter().filter(|key| key.as_ref().starts_with("packs/")).cloned().collect();
    let lacking: [(&str, Arc<Hides>); 5] = [
        ("no context", Arc::new(|key| key.as_ref().starts_with("contexts"))),
        ("the newest", Arc::new(move |key| key.as_ref() == newest)),
        ("the oldest", Arc::new(move |key| key.as_ref() == oldest)),
        ("one between", Arc::new(move |key| key.as_ref() == middle)),
        ("a pack", Arc::new(move |key| *key == packs[0])),
    ];
    for (what, hides) in lacking {
        let odd = Odd::new(&world.objects, move |key| hides(key));
        let (result, _) = collect(Arc::new(odd)).await;
        assert!(matches!(result, Err(Error::BadListing { .. })), "{what}: {result:?}");
        assert_eq!(keys(&world.objects).await, before, "{what}");
    }
}

#[tokio::test]
async fn n18_gc_believes_no_listing_that_contradicts_another() {
    let (world, _) = filled().await;
    let before = keys(&world.objects).await;
    // One or all of the listings end too early, without an error.
    for keep in 0..4 {
        for nth in 0..8 {
            let faulty = Faulty::new(Arc::clone(&world.objects), 1);
            let rule = Rule::new(Fault::Truncate(keep)).on(Operation::List).below("contexts");
            faulty.add(if nth == 0 { rule } else { rule.nth(nth) });
            let (result, _) = collect(Arc::new(faulty)).await;
            assert!(
                result.is_ok() || matches!(result, Err(Error::BadListing { .. } | Error::Store { .. })),
                "{result:?}"
            );
            assert_eq!(keys(&world.objects).await, before, "{keep} of listing {nth}");
        }
    }
}

#[tokio::test]
async fn s15_a_lost_pack_is_told_by_gc_and_by_the_next_push() {
    let (world, a) = filled().await;
    let lost = keys(&world.objects).await.into_iter().find(|key| key.as_ref().starts_with("packs/")).unwrap();
    world.objects.delete(&lost).await.unwrap();
    let left = keys(&world.objects).await;
    let (result, told) = collect(Arc::clone(&world.objects)).await;
    assert_eq!(result.unwrap(), 1);
    let [told] = &told[..] else { panic!("{told:?}") };
    assert_eq!((told.key.as_str(), told.context.as_str(), told.number), (lost.as_ref(), "work", 4));
    assert!(told.is_head);
    assert_eq!(keys(&world.objects).await, left);

    // A push with nothing to do does not check.
    let recording = Recording::new(Arc::clone(&world.objects));
    let mut quiet = a.clone();
    quiet.objects = Arc::new(recording.clone());
    quiet.push().await.clean();
    assert_eq!(recording.requests().len(), 1);
    a.mount.write("more", "m");
    let ended = a.push().await;
    assert_eq!((ended.report().lost_packs, ended.report().snapshot), (1, Some(5)));
    assert!(ended.report().is_incomplete() && ended.warned(lost.as_ref()), "{:?}", ended.noted);
}

#[tokio::test]
async fn s14_a_snapshot_of_another_store_is_refused_before_anything_is_placed() {
    let ((one, _), other) = (filled().await, World::memory().await);
    for key in keys(&one.objects).await.into_iter().filter(|key| key.as_ref() != "ctxsync.json") {
        let bytes = one.objects.get(&key).await.unwrap().bytes().await.unwrap();
        other.objects.put(&key, bytes.into()).await.unwrap();
    }
    let b = other.machine("b");
    assert!(matches!(b.pull().await.error(), Error::OtherStore { .. }));
    assert!(matches!(b.push().await.error(), Error::OtherStore { .. }));
    assert_eq!(paths(&b.mount.0), Vec::<String>::new());
    // Such a snapshot is not shown, listed or restored either.
    let fresh = || Store::new(Arc::clone(&other.objects), "test:", Env::real());
    let refused = [
        fresh().head(&context()).await.map(drop),
        fresh().snapshot(&context(), Some(2)).await.map(drop),
        fresh().snapshot(&context(), Some(-1)).await.map(drop),
        fresh().log(&context()).await.map(drop),
    ];
    for result in refused {
        assert!(matches!(result, Err(Error::OtherStore { .. })), "{result:?}");
    }
}

fn empty() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

async fn another_store() -> Arc<dyn ObjectStore> {
    let objects = empty();
    Store::new(Arc::clone(&objects), "test:", Env::real()).init(Duration::from_secs(60)).await.unwrap();
    objects
}

fn is_told(error: &Error) -> bool {
    matches!(error, Error::StoreGone { .. } | Error::OtherStore { .. })
}

#[tokio::test]
async fn a_store_that_vanished_or_was_exchanged_is_no_new_store() {
    for other in [empty(), another_store().await] {
        let (world, mut a) = filled().await;
        let before = keys(&other).await;
        a.objects = Arc::clone(&other);
        a.mount.write("more", "m");
        for ended in [a.push().await, a.pull().await, a.sync().await] {
            assert!(is_told(ended.error()), "{:?}", ended.error());
        }
        assert_eq!(keys(&other).await, before);
        a.objects = Arc::clone(&world.objects);
        assert_eq!(a.push().await.clean().added, 1);
    }
}

#[tokio::test]
async fn a_commit_into_another_store_is_not_believed() {
    for other in [empty(), another_store().await] {
        for first in [true, false] {
            let (world, mut a) = filled().await;
            if first {
                a = world.machine("new");
            }
            let odd = Odd::new(&world.objects, |_| false);
            let (inside, once) = (odd.clone(), Arc::new(AtomicBool::new(true)));
            let other = Arc::clone(&other);
            a.objects = BeforePut::new(Arc::new(odd), move |key| {
                if key.as_ref().starts_with("contexts") && once.swap(false, Ordering::SeqCst) {
                    inside.exchange(Arc::clone(&other));
                }
                std::future::ready(()).boxed()
            });
            a.mount.write("more", "m");
            let ended = a.push().await;
            assert!(is_told(ended.error()), "{:?}", ended.error());
            a.objects = Arc::clone(&world.objects);
            let ended = a.push().await;
            assert_eq!(ended.clean().added, 1, "{:?}", ended.noted);
        }
    }
}

#[tokio::test]
async fn a_session_whose_store_vanishes_does_not_end_well() {
    for other in [empty(), another_store().await] {
        let world = World::memory().await;
        let a = world.machine("a");
        let odd = Odd::new(&world.objects, |_| false);
        let store = Store::new(Arc::new(odd.clone()), "test:", Env::real());
        let sync = ContextSync::new(context(), &a.mount.0, SyncPolicy::default());
        let mut params = CreateSessionParams::new(vec![sync], &a.state);
        params.options = SyncOptions { create: true, ..SyncOptions::default() };
        let session = Session::create(&store, params).await.unwrap();
        session.wait_for(&transfer_engine::Arrival::All).await.unwrap();
        a.mount.write("p", "w");
        let before = keys(&other).await;
        odd.exchange(Arc::clone(&other));
        let released = session.release(Default::default()).await.unwrap();
        let [mount] = &released.mounts[..] else { panic!("{released:?}") };
        let error = mount.error.as_ref().unwrap();
        assert!(is_told(error) || matches!(**error, Error::NoContext { .. }), "{error:?}");
        assert_eq!(keys(&other).await, before);
    }
}
