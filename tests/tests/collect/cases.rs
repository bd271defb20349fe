//! Single cases of collection, each with the number of its fault.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctxsync_tests::clock::{Clocked, HandClock};
use ctxsync_tests::interrupt::BeforePut;
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use policy_core::{SyncPolicy, TreePath};
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::format::StoreKey;
use transfer_engine::{
    CheckOptions, CollectMonitor, CollectOptions, CollectReport, ContextName, ContextService, ContextSync,
    Env, Error, Forgotten, Gathering, Mount, ReadData, Retention, Silent, Store, SyncOptions, Unreadable,
    Why, WriteOptions,
};

use crate::GRACE;
use crate::deeds::{Outside, Seeded, store};

/// A store, and the clock and random numbers of its machines.
pub(crate) struct Place {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) outside: Outside,
}

pub(crate) fn name(name: &str) -> ContextName {
    name.parse().unwrap()
}

impl Place {
    /// Creates a store with a context of four snapshots, each with a pack of its own.
    pub(crate) async fn new() -> Self {
        let outside = Outside { clock: HandClock::default(), random: Seeded::new(1) };
        let place = Self { objects: Clocked::new(Arc::new(InMemory::new()), &outside.clock), outside };
        place.store().init(Duration::from_secs(GRACE.unsigned_abs())).await.unwrap();
        place.store().create_context(&name("c")).await.unwrap();
        for content in [b"1", b"2", b"3"] {
            place.write("c", content).await;
        }
        place
    }

    pub(crate) fn store(&self) -> Store {
        store(&self.objects, &self.outside)
    }

    async fn write(&self, context: &str, content: &[u8]) {
        self.write_to(context, "x", content).await;
    }

    async fn write_to(&self, context: &str, path: &str, content: &[u8]) {
        let service = ContextService::new(&self.store());
        let (path, options) = (path.parse().unwrap(), WriteOptions::default());
        service.write_file(&name(context), &path, content, &options).await.unwrap();
    }

    /// Reads all files of a context.
    async fn files(&self, context: &str) -> BTreeMap<String, Vec<u8>> {
        let store = self.store();
        let (mut entries, mut files) = (Vec::new(), BTreeMap::new());
        let head = store.head(&name(context)).await.unwrap();
        store.entries(&head, &TreePath::root(), |entry| entries.push(entry)).await.unwrap();
        for entry in entries {
            let mut read = Vec::new();
            let reading = store.read_file(&entry, 0..u64::MAX, |part| {
                read.extend_from_slice(&part);
                Ok(())
            });
            reading.await.unwrap();
            files.insert(entry.path.to_string(), read);
        }
        files
    }

    pub(crate) async fn keys(&self, below: &str) -> Vec<String> {
        let listed: Vec<_> = self.objects.list(Some(&below.into())).try_collect().await.unwrap();
        let mut keys: Vec<_> =
            listed.into_iter().map(|meta| format!("{} {}", meta.location, meta.size)).collect();
        keys.sort();
        keys
    }

    pub(crate) async fn collect(&self, options: &CollectOptions) -> CollectReport {
        self.store().collect(options, &Silent).await.unwrap()
    }
}

pub(crate) fn keep_last(last: u64) -> CollectOptions {
    let retention = Retention { last: NonZeroU64::new(last), ..Retention::default() }.into();
    CollectOptions { retention, ..CollectOptions::default() }
}

#[derive(Default)]
struct Told(Mutex<Vec<Forgotten>>, Mutex<Vec<String>>, Mutex<Vec<String>>);

impl CollectMonitor for Told {
    fn forgotten(&self, forgotten: &Forgotten) {
        self.0.lock().unwrap().push(forgotten.clone());
    }

    fn unreadable(&self, unreadable: &Unreadable) {
        self.1.lock().unwrap().push(unreadable.key.clone());
    }

    fn warning(&self, message: &str) {
        self.2.lock().unwrap().push(message.to_owned());
    }
}

#[tokio::test]
async fn what_is_forgotten_goes_after_the_grace_period() {
    let place = Place::new().await;
    assert_eq!(
        place.collect(&CollectOptions::default()).await.forgotten,
        0,
        "nothing is forgotten by itself"
    );
    let report = place.collect(&keep_last(2)).await;
    assert_eq!((report.forgotten, report.erased, report.packs_deleted, report.packs_kept), (2, 0, 0, 3));
    place.outside.clock.pass(GRACE);
    let report = place.collect(&keep_last(2)).await;
    assert_eq!(
        (report.forgotten, report.erased, report.packs_deleted),
        (0, 0, 0),
        "not older than the grace"
    );
    place.outside.clock.pass(1);
    let report = place.collect(&keep_last(2)).await;
    assert_eq!((report.erased, report.packs_deleted, report.packs_kept, report.snapshots), (2, 1, 2, 2));
    let log = place.store().log(&name("c")).await.unwrap();
    assert_eq!(log.iter().map(|s| s.number).collect::<Vec<_>>(), [4, 3]);
    // The numbers stay taken, so their marks stay, too.
    let first = StoreKey::Snapshot { context: name("c"), number: 1 }.path();
    assert!(place.keys("contexts").await.contains(&format!("{first} 0")));
    assert!(place.keys("contexts").await.contains(&format!("{first}.gone 0")));
    assert_eq!(place.collect(&keep_last(2)).await.erased, 0, "once is enough");
}

#[tokio::test]
async fn age_counts_from_the_commit_and_the_head_stays() {
    let place = Place::new().await;
    place.outside.clock.pass(500);
    place.write("c", b"4").await;
    let within = |secs| CollectOptions {
        retention: Retention { within: Some(Duration::from_secs(secs)), ..Retention::default() }.into(),
        ..CollectOptions::default()
    };
    assert_eq!(place.collect(&within(501)).await.forgotten, 0);
    assert_eq!(place.collect(&within(500)).await.forgotten, 4);
    place.outside.clock.pass(500);
    assert_eq!(place.collect(&within(1)).await.forgotten, 0);
    assert_eq!(place.store().head(&name("c")).await.unwrap().number, 5);
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_tells_the_same() {
    let place = Place::new().await;
    let before = place.keys("").await;
    let (dry, wet) = (Told::default(), Told::default());
    let options = CollectOptions { exclusive: true, ..keep_last(1) };
    let told =
        place.store().collect(&CollectOptions { dry_run: true, ..options.clone() }, &dry).await.unwrap();
    assert_eq!(place.keys("").await, before);
    let done = place.store().collect(&options, &wet).await.unwrap();
    assert_eq!(*dry.0.lock().unwrap(), *wet.0.lock().unwrap());
    assert_eq!(dry.0.lock().unwrap().len(), 3);
    let figures = |r: &CollectReport| (r.forgotten, r.erased, r.packs_deleted, r.bytes_deleted, r.packs_kept);
    assert_eq!(figures(&told), figures(&done));
    assert_eq!((done.erased, done.packs_deleted, done.packs_kept), (3, 2, 1));
    // A later collection with a grace period copes with what was erased without one.
    assert_eq!(place.collect(&CollectOptions::default()).await.unreadable, 0);
}

#[tokio::test]
async fn n15_a_wrong_clock_deletes_nothing() {
    let place = Place::new().await;
    let before = place.keys("").await;
    for ahead in [GRACE, -GRACE] {
        let outside = Outside { clock: HandClock::default(), random: Seeded::new(2) };
        outside.clock.pass(ahead);
        let result = store(&place.objects, &outside).collect(&keep_last(1), &Silent).await;
        assert!(matches!(result, Err(Error::ClockSkew { seconds, .. }) if seconds == -ahead), "{result:?}");
        assert_eq!(place.keys("").await, before);
    }
}

#[tokio::test]
async fn w5_a_root_that_cannot_be_read_saves_everything() {
    for bytes in [&b""[..], b"CSsn?"] {
        let place = Place::new().await;
        let key = StoreKey::Snapshot { context: name("c"), number: 2 }.path();
        place.objects.put(&key, PutPayload::from_static(bytes)).await.unwrap();
        place.outside.clock.pass(2 * GRACE);
        let before = place.keys("").await;
        let told = Told::default();
        let report = place.store().collect(&keep_last(1), &told).await.unwrap();
        assert_eq!((report.unreadable, report.forgotten, report.packs_deleted), (1, 0, 0));
        assert_eq!(*told.1.lock().unwrap(), [key.to_string()]);
        assert_eq!(place.keys("").await, before);
    }
}

/// A deletion, rename or collection may die at any of its requests. The next collections finish it.
#[tokio::test(start_paused = true)]
async fn w6_what_was_cut_short_is_finished() {
    for what in ["delete", "rename", "collect"] {
        for nth in 1.. {
            let place = Place::new().await;
            place.outside.clock.pass(2 * GRACE);
            let faulty = Faulty::new(Arc::clone(&place.objects), nth);
            let fault = if nth % 2 == 0 { Fault::CrashBefore } else { Fault::CrashAfter };
            faulty.add(Rule::new(fault).nth(nth / 2 + 1));
            let objects: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
            let cut = store(&objects, &place.outside);
            let _ = match what {
                "delete" => cut.delete_context(&name("c")).await,
                "rename" => cut.rename_context(&name("c"), &name("d")).await.map(drop),
                _ => cut.collect(&keep_last(1), &Silent).await.map(drop),
            };
            if !faulty.is_crashed() {
                break;
            }
            // Everything that was in progress is old by now.
            for _ in 0..3 {
                place.outside.clock.pass(2 * GRACE);
                let report = place.collect(&keep_last(1)).await;
                assert_eq!((report.unreadable, report.failed), (0, 0), "{what} {nth}");
            }
            let contexts = place.store().contexts().await.unwrap();
            let expected = if contexts.is_empty() { 0 } else { 1 };
            assert!(expected == 1 || what == "delete", "{what} {nth}");
            assert_eq!(place.keys("packs").await.len(), expected, "{what} {nth}: {contexts:?}");
            for context in contexts {
                let service = ContextService::new(&place.store());
                let mut read = Vec::new();
                let path = "x".parse().unwrap();
                let read_file = service.read_file(&context, &path, 0..9, |part| {
                    read.extend_from_slice(&part);
                    Ok(())
                });
                read_file.await.unwrap();
                assert_eq!(read, b"3", "{what} {nth}");
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_that_was_cut_short_is_told_of() {
    let place = Place::new().await;
    let faulty = Faulty::new(Arc::clone(&place.objects), 1);
    let is_mark = |key: &object_store::path::Path| key.as_ref().ends_with(".gone");
    faulty.add(Rule::new(Fault::CrashBefore).on(Operation::Put).with_key(is_mark).nth(3));
    let objects: Arc<dyn ObjectStore> = Arc::new(faulty);
    store(&objects, &place.outside).delete_context(&name("c")).await.unwrap_err();
    // The name is used again for a new context.
    place.store().create_context(&name("c")).await.unwrap();
    let told = Told::default();
    place.store().collect(&CollectOptions::default(), &told).await.unwrap();
    let told: Vec<_> = told.0.lock().unwrap().iter().map(|f| (f.number, f.why)).collect();
    assert_eq!(told, [(2, Why::Deleted), (1, Why::Deleted)]);
    let head = place.store().head(&name("c")).await.unwrap();
    assert_eq!((head.number, head.totals.files), (6, 0));
}

/// Options of a collection that gathers small packs once there are three.
fn gathering(small: u64, most: u64) -> CollectOptions {
    CollectOptions { gathering: Gathering { small, many: 3, most }, ..CollectOptions::default() }
}

#[tokio::test]
async fn what_lies_in_many_small_packs_is_gathered_into_one() {
    let place = Place::new().await;
    place.write_to("c", "d/y", b"y").await;
    assert_eq!(place.collect(&gathering(1 << 10, 1 << 20)).await.packs_gathered, 0, "two are not many");
    place.write_to("c", "d/z", b"z").await;
    let (files, before) = (place.files("c").await, place.keys("").await);
    let dry = place.collect(&CollectOptions { dry_run: true, ..gathering(1 << 10, 1 << 20) }).await;
    assert_eq!(place.keys("").await, before);
    let report = place.collect(&gathering(1 << 10, 1 << 20)).await;
    assert_eq!((report.packs_gathered, dry.packs_gathered), (3, 3));
    assert_eq!((report.bytes_gathered, report.forgotten), (dry.bytes_gathered, 0));
    let head = place.store().head(&name("c")).await.unwrap();
    assert_eq!((head.number, head.packs.len(), head.totals.files), (7, 1, 3));
    assert_eq!((head.changes.added, head.changes.changed, head.changes.deleted), (0, 0, 0));
    assert_eq!(place.files("c").await, files);
    assert_eq!(place.collect(&gathering(1 << 10, 1 << 20)).await.packs_gathered, 0, "once is enough");

    // Collecting the older snapshots deletes the packs that only they needed.
    place.outside.clock.pass(GRACE + 1);
    place.collect(&keep_last(1)).await;
    place.outside.clock.pass(GRACE + 1);
    place.collect(&keep_last(1)).await;
    assert_eq!(place.keys("packs").await.len(), 1);
    assert_eq!(place.files("c").await, files);
}

#[tokio::test]
async fn what_is_mostly_dead_moves_once_its_rest_is_forgotten() {
    let place = Place::new().await;
    let noise = |seed, len| ctxsync_tests::random::Random::new(seed).bytes(len);
    let stays = noise(1, 4_000);
    let (mount, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(mount.path().join("stays"), &stays).unwrap();
    std::fs::write(mount.path().join("goes"), noise(2, 40_000)).unwrap();
    // Both files are in one pack.
    let env = Env::real().with_clock(Arc::new(place.outside.clock.clone()));
    let store = Store::new(Arc::clone(&place.objects), "test:", env);
    store.create_context(&name("m")).await.unwrap();
    let sync = ContextSync::new(name("m"), mount.path(), SyncPolicy::default());
    let mut pushing = Mount::open(&store, sync, state.path()).unwrap();
    pushing.push(&SyncOptions::default(), &Silent).await.unwrap();
    ContextService::new(&store).delete_file(&name("m"), &"goes".parse().unwrap()).await.unwrap();
    assert_eq!(place.collect(&gathering(1 << 10, 1 << 20)).await.packs_gathered, 0, "nothing is forgotten");
    let keep_one = |most| CollectOptions { retention: keep_last(1).retention, ..gathering(1 << 10, most) };
    assert_eq!(place.collect(&keep_one(1_000)).await.packs_gathered, 0, "more than may be moved at once");
    let report = place.collect(&keep_one(1 << 20)).await;
    assert_eq!(report.packs_gathered, 1);
    assert!((4_000..5_000).contains(&report.bytes_gathered), "{}", report.bytes_gathered);
    assert_eq!(place.files("m").await, BTreeMap::from([("stays".to_owned(), stays)]));
    let kept = place.collect(&keep_one(1 << 20)).await.bytes_kept;
    place.outside.clock.pass(GRACE + 1);
    let freed = kept - place.collect(&keep_one(1 << 20)).await.bytes_kept;
    assert!(freed >= 40_000, "{freed}");
}

/// A context with damaged data stays as it is, and the others are processed.
#[tokio::test]
async fn what_cannot_be_read_is_not_gathered() {
    let place = Place::new().await;
    for context in ["c", "d"] {
        for path in ["1", "2", "3"] {
            ContextService::new(&place.store()).get(&name(context), true).await.unwrap();
            place.write_to(context, path, format!("{context} {path}").as_bytes()).await;
        }
    }
    let head = place.store().head(&name("c")).await.unwrap();
    let pack = StoreKey::Pack(head.packs[0].id).path();
    let len = place.objects.head(&pack).await.unwrap().size;
    place.objects.put(&pack, PutPayload::from(vec![0; len as usize])).await.unwrap();
    let told = Told::default();
    let report = place.store().collect(&gathering(1 << 10, 1 << 20), &told).await.unwrap();
    assert_eq!((report.packs_gathered, report.unreadable), (3, 0));
    assert_eq!(place.store().head(&name("c")).await.unwrap().number, head.number);
    assert_eq!(place.store().head(&name("d")).await.unwrap().packs.len(), 1);
    assert!(told.2.lock().unwrap()[0].contains("cannot process context c"), "{:?}", told.2.lock().unwrap());
}

impl Place {
    /// Whether a check finds no damage.
    async fn is_whole(&self) -> bool {
        let (read_data, memory) = (ReadData::All, 64 << 20);
        let options =
            CheckOptions { contexts: Vec::new(), read_data, concurrency: NonZeroUsize::MIN, memory };
        self.store().check(&options, &Silent).await.unwrap().is_whole()
    }

    /// Lets more than a grace period pass, and collects.
    async fn later(&self) -> CollectReport {
        self.outside.clock.pass(GRACE + 1);
        self.collect(&CollectOptions::default()).await
    }

    /// Deletes the context, and collects until nothing is left of it but the deletion.
    async fn delete_for_long(&self) {
        ContextService::new(&self.store()).delete(&name("c")).await.unwrap();
        for _ in 0..2 {
            self.later().await;
        }
    }
}

/// Issue 21: of a deleted context one small object is left, two grace periods later.
#[tokio::test]
async fn i21_of_a_deleted_context_only_the_deletion_is_left() {
    let place = Place::new().await;
    ContextService::new(&place.store()).delete(&name("c")).await.unwrap();
    let deletion = StoreKey::Snapshot { context: name("c"), number: 5 }.path().to_string();
    assert_eq!(place.keys("contexts").await.len(), 4 + 4 + 1);
    let report = place.later().await;
    assert_eq!((report.erased, report.freed), (4, 0));
    place.outside.clock.pass(GRACE);
    let exclusive = CollectOptions { exclusive: true, ..CollectOptions::default() };
    assert_eq!(place.collect(&exclusive).await.freed, 0, "not older than the grace period");
    place.outside.clock.pass(1);
    let dry = CollectOptions { dry_run: true, ..CollectOptions::default() };
    assert_eq!(place.collect(&dry).await.freed, 4);
    assert_eq!(place.keys("contexts").await.len(), 4 + 4 + 1);
    assert_eq!(place.collect(&CollectOptions::default()).await.freed, 4);
    let left = place.keys("contexts").await;
    assert!(left.len() == 1 && left[0].starts_with(&deletion), "{left:?}");
    assert_eq!(place.keys("packs").await.len(), 0);
    assert!(place.is_whole().await);
    // The name goes on counting, and is deleted again.
    place.store().create_context(&name("c")).await.unwrap();
    place.write("c", b"again").await;
    assert_eq!(place.store().head(&name("c")).await.unwrap().number, 7);
    assert_eq!((place.later().await.freed, place.keys("contexts").await.len()), (0, 3));
    assert!(place.is_whole().await);
    place.delete_for_long().await;
    let left = place.keys("contexts").await;
    assert!(left.len() == 1 && !left[0].starts_with(&deletion), "{left:?}");
    assert_eq!(place.later().await.freed, 0, "once is enough");
}

/// What a collector leaves that died between the two deletions, or that slept before it erased or marked something.
#[tokio::test]
async fn i21_what_a_collector_left_half_done_below_a_deletion_goes_too() {
    let place = Place::new().await;
    place.delete_for_long().await;
    let key = |number| StoreKey::Snapshot { context: name("c"), number }.path();
    place.objects.put(&key(2), PutPayload::new()).await.unwrap();
    let mark = StoreKey::Gone { context: name("c"), number: 3 }.path();
    place.objects.put(&mark, PutPayload::new()).await.unwrap();
    let report = place.collect(&CollectOptions::default()).await;
    assert_eq!((report.unreadable, report.freed), (0, 0));
    assert_eq!(place.later().await.freed, 2);
    assert_eq!(place.keys("contexts").await.len(), 1);
    // At and above the deletion nothing goes, and what has no bytes is damaged.
    place.objects.put(&key(5), PutPayload::new()).await.unwrap();
    assert_eq!(place.later().await.unreadable, 1);
}

/// A rename leaves the deletion of an earlier life where it is: a collector that sleeps puts a tombstone below it, whose
/// mark is gone, and a writer that sleeps a snapshot.
#[tokio::test]
async fn what_lands_late_below_a_deletion_is_collected_when_the_name_was_given_up_as_well() {
    let place = Place::new().await;
    let key = |number| StoreKey::Snapshot { context: name("c"), number }.path();
    let of_old_life = place.objects.get(&key(2)).await.unwrap().bytes().await.unwrap();
    place.delete_for_long().await;
    let store = place.store();
    store.create_context(&name("c")).await.unwrap();
    place.write("c", b"new").await;
    store.rename_context(&name("c"), &name("d")).await.unwrap();
    place.later().await;
    place.later().await;
    let before = place.keys("contexts").await;
    place.objects.put(&key(3), PutPayload::new()).await.unwrap();
    place.objects.put(&key(2), of_old_life.into()).await.unwrap();
    for _ in 0..4 {
        let told = Told::default();
        store.collect(&CollectOptions::default(), &told).await.unwrap();
        assert_eq!(*told.1.lock().unwrap(), [""; 0]);
        place.outside.clock.pass(2 * GRACE);
    }
    assert_eq!(place.keys("contexts").await, before);
    assert!(matches!(store.head(&name("c")).await, Err(Error::Moved { .. })));
    assert_eq!(place.files("d").await["x"], b"new");
    assert!(place.is_whole().await);
}

/// Does something with a store on which the first commit sleeps until the numbers of its context are free again.
async fn asleep(place: &Place, is_made_again: bool) -> Store {
    let (objects, outside) = (Arc::clone(&place.objects), place.outside.clone());
    let once = std::sync::atomic::AtomicBool::new(true);
    let sleepy = BeforePut::new(Arc::clone(&place.objects), move |key| {
        let awake = Place { objects: Arc::clone(&objects), outside: outside.clone() };
        let sleeps = matches!(StoreKey::parse(key), Some(StoreKey::Snapshot { .. }))
            && once.swap(false, std::sync::atomic::Ordering::SeqCst);
        async move {
            if !sleeps {
                return;
            }
            if awake.store().contexts().await.unwrap().is_empty() {
                awake.store().create_context(&name("c")).await.unwrap();
            }
            awake.delete_for_long().await;
            if is_made_again {
                awake.store().create_context(&name("c")).await.unwrap();
                awake.write_to("c", "y", b"other").await;
                awake.outside.clock.pass(2 * GRACE);
            }
        }
        .boxed()
    });
    let objects: Arc<dyn ObjectStore> = sleepy;
    store(&objects, &place.outside)
}

/// Issue 21: a writer that slept while its context was deleted puts its snapshot under a number that is free again; it
/// does not call that saved. Without new content nothing else would tell it.
#[tokio::test]
async fn i21_who_slept_until_a_number_was_free_again_has_saved_nothing() {
    let place = Place::new().await;
    let path: TreePath = "x".parse().unwrap();
    let service = ContextService::new(&asleep(&place, false).await);
    let deleted = service.delete_file(&name("c"), &path).await;
    assert!(matches!(deleted, Err(Error::NoContext { .. })), "{deleted:?}");
    // What it put is collected like everything below a deletion.
    for _ in 0..3 {
        assert_eq!(place.later().await.unreadable, 0);
    }
    assert_eq!(place.keys("contexts").await.len(), 1);

    let place = Place::new().await;
    let service = ContextService::new(&asleep(&place, true).await);
    let report = service.write_file(&name("c"), &path, &b""[..], &WriteOptions::default()).await.unwrap();
    assert_eq!(report.snapshot, Some(8), "on top of the context that is there now");
    let files = place.files("c").await;
    assert_eq!(files, BTreeMap::from([("x".to_owned(), vec![]), ("y".to_owned(), b"other".to_vec())]));
    // The check is not misled by what it put before, nor is a collection.
    assert!(place.is_whole().await);
    let report = place.later().await;
    assert_eq!((report.packs_lost, report.unreadable), (0, 0));

    // Who makes, deletes or renames a context does not say so either if it has not.
    for what in ["create", "delete", "rename"] {
        let place = Place::new().await;
        if what == "create" {
            place.delete_for_long().await;
        }
        let asleep = asleep(&place, false).await;
        let done = match what {
            "create" => asleep.create_context(&name("c")).await.map(drop),
            "delete" => asleep.delete_context(&name("c")).await,
            _ => asleep.rename_context(&name("c"), &name("d")).await.map(drop),
        };
        let there = place.store().contexts().await.unwrap();
        let expected: &[ContextName] = if what == "create" { &[name("c")] } else { &[] };
        assert_eq!((done.is_ok(), &there[..]), (what == "create", expected), "{what}: {done:?}");
    }
}
