//! A list of all contexts costs requests by pages, not by contexts, and says what their heads say, whatever the index
//! of heads says.
//!
//! `CTXSYNC_CONTEXTS=10000` sets how many contexts are listed over S3, with 50 ms for each request. With `--nocapture`
//! the test prints its figures.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctxsync_tests::place::name;
use ctxsync_tests::s3::S3Server;
use futures::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use storage_backends::layer::{Counts, Fault, Faulty, Latency, Operation, Recording, Rule};
use storage_backends::{StoreOptions, StoreUrl};
use transfer_engine::format::{HeadIndex, HeadState, LiveHead, Snapshot, StoreId, StoreKey};
use transfer_engine::{CollectOptions, Context, ContextName, Env, Error, Silent, Store};

/// More contexts than fit on a page of a listing.
const MANY: usize = 2500;
/// More than an index is worth being written for.
const SOME: usize = 150;

fn store_on(objects: &Arc<dyn ObjectStore>) -> Store {
    Store::new(Arc::clone(objects), "test:", Env::real())
}

/// Creates contexts `c-0`, `c-1`, and so on.
async fn create(store: &Store, numbers: std::ops::Range<usize>) {
    let made = stream::iter(numbers).map(|n| async move {
        store.create_context(&name(&format!("c-{n}"))).await.unwrap();
    });
    made.buffer_unordered(32).collect::<()>().await;
}

/// A store with contexts in memory, and a count of its requests.
struct World {
    objects: Arc<dyn ObjectStore>,
    recording: Recording,
}

impl World {
    async fn with(contexts: usize) -> Self {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let recording = Recording::new(inner);
        let objects: Arc<dyn ObjectStore> = Arc::new(recording.clone());
        let world = Self { objects, recording };
        world.store().init(Duration::from_secs(86_400)).await.unwrap();
        create(&world.store(), 0..contexts).await;
        world
    }

    /// Returns the store as a process sees it that has just begun.
    fn store(&self) -> Store {
        store_on(&self.objects)
    }

    /// Lists the contexts, and returns the requests.
    async fn list(&self) -> (Vec<Context>, Counts) {
        let before = self.recording.counts();
        let listed = self.store().list_contexts().await.unwrap();
        (listed, self.recording.counts() - before)
    }

    /// Lists the contexts, and expects what their heads say, one by one. Returns the requests.
    async fn lists_right(&self) -> Counts {
        let (listed, counts) = self.list().await;
        assert!(listed == self.truth().await, "the list is not what the heads say");
        counts
    }

    /// Returns what the heads say: a directory has no index, and each head in it is read.
    async fn truth(&self) -> Vec<Context> {
        self.store().in_directory("/no/such/directory").list_contexts().await.unwrap()
    }

    async fn index(&self) -> Option<HeadIndex> {
        let found = self.objects.get(&StoreKey::Index.path()).await.ok()?;
        HeadIndex::decode(&found.bytes().await.unwrap()).ok()
    }

    async fn put_index(&self, bytes: impl Into<PutPayload>) {
        self.objects.put(&StoreKey::Index.path(), bytes.into()).await.unwrap();
    }
}

#[tokio::test]
async fn many_contexts_cost_requests_by_pages() {
    let world = World::with(MANY).await;
    let first = world.lists_right().await;
    // The description, the index that is not there, and each head; the pages of names, and those of all keys.
    assert_eq!((first.gets, first.puts), (2 + MANY as u64, 1));
    assert!(first.lists <= 8, "{first:?}");
    let again = world.lists_right().await;
    assert_eq!((again.gets, again.puts, again.heads), (2, 0, 0));
    assert!(again.lists <= 4, "{again:?}");
    // What changed is read, and nothing else.
    for n in 0..50 {
        world.store().delete_context(&name(&format!("c-{}", n * 49))).await.unwrap();
    }
    let changed = world.lists_right().await;
    assert_eq!((changed.gets, changed.puts), (2 + 50, 0));
    create(&world.store(), MANY..MANY + 60).await;
    let more = world.lists_right().await;
    assert_eq!((more.gets, more.puts), (2 + 50 + 60, 1));
    assert_eq!(world.lists_right().await.gets, 2);
}

#[tokio::test]
async fn histories_longer_than_a_page_are_passed_over() {
    let world = World::with(SOME).await;
    for n in [3, 70, 149] {
        let context = name(&format!("c-{n}"));
        let head = Snapshot { number: 1500, ..(*world.store().head(&context).await.unwrap()).clone() };
        let key = StoreKey::Snapshot { context: context.clone(), number: 1500 };
        world.objects.put(&key.path(), head.encode().unwrap().bytes.into()).await.unwrap();
        for number in 2..1500 {
            let (snapshot, mark) = (context.clone(), context.clone());
            let erased =
                [StoreKey::Snapshot { context: snapshot, number }, StoreKey::Gone { context: mark, number }];
            for key in erased {
                world.objects.put(&key.path(), PutPayload::new()).await.unwrap();
            }
        }
        world.store().delete_context(&name(&format!("c-{}", n - 1))).await.unwrap();
    }
    world.lists_right().await;
    let again = world.lists_right().await;
    assert_eq!(again.gets, 2);
    assert!(again.lists <= 12, "{again:?}");
}

#[tokio::test]
async fn few_contexts_leave_no_index() {
    let world = World::with(99).await;
    let counts = world.lists_right().await;
    assert_eq!((counts.gets, counts.lists, counts.puts), (2 + 99, 1, 0));
    assert_eq!(world.index().await, None);
}

#[tokio::test]
async fn whatever_happened_to_contexts_since_is_listed() {
    let world = World::with(SOME).await;
    let store = world.store();
    world.lists_right().await;
    let c = |n: usize| name(&format!("c-{n}"));
    store.delete_context(&c(0)).await.unwrap();
    store.delete_context(&c(1)).await.unwrap();
    store.create_context(&c(1)).await.unwrap();
    store.rename_context(&c(2), &name("renamed")).await.unwrap();
    store.rename_context(&c(3), &name("a/first")).await.unwrap();
    store.create_context(&c(3)).await.unwrap();
    store.fork_context(&c(4), None, &name("zz-forked")).await.unwrap();
    store.rename_context(&c(5), &name("gone")).await.unwrap();
    store.delete_context(&name("gone")).await.unwrap();
    let counts = world.lists_right().await;
    let listed = world.list().await.0;
    assert_eq!(listed.len(), SOME);
    let forked = listed.iter().find(|context| context.name == name("zz-forked")).unwrap();
    assert_eq!(forked.forked_from, Some((c(4), 1)));
    assert!(counts.gets < 40, "{counts:?}");
}

#[tokio::test]
async fn a_row_counts_only_for_exactly_the_head_that_is_listed() {
    let world = World::with(SOME).await;
    world.lists_right().await;
    let good = world.index().await.unwrap();
    assert_eq!(good.rows.len(), SOME);
    for n in 0..4 {
        let mut index = good.clone();
        for row in &mut index.rows {
            let HeadState::Live(live) = &row.state else { panic!("{row:?}") };
            row.state = HeadState::Live(Box::new(LiveHead { files: 7, ..(**live).clone() }));
            match n {
                0 => row.number += 1,
                1 => row.size += 1,
                2 => row.e_tag.push('x'),
                _ => row.landed -= 1,
            }
        }
        world.put_index(index.encode().unwrap()).await;
        assert_eq!(world.lists_right().await.gets, 2 + SOME as u64);
        assert_eq!(world.index().await.unwrap(), good);
    }
}

#[tokio::test]
async fn a_damaged_index_is_replaced_and_one_of_a_later_program_stays() {
    let world = World::with(SOME).await;
    world.lists_right().await;
    let good = world.index().await.unwrap();
    let bytes = good.encode().unwrap();
    let mut flipped = bytes.to_vec();
    flipped[SOME] ^= 1;
    let elsewhere = HeadIndex { store_id: StoreId([7; 16]), ..good.clone() }.encode().unwrap();
    for bad in [flipped, bytes[..50].to_vec(), Vec::new(), b"<html>".to_vec(), elsewhere.to_vec()] {
        world.put_index(bad).await;
        assert_eq!(world.lists_right().await.puts, 1);
        assert_eq!(world.index().await.as_ref(), Some(&good));
    }
    let later = later_version(&bytes);
    world.put_index(later.clone()).await;
    assert_eq!(world.lists_right().await.puts, 0);
    let found = world.objects.get(&StoreKey::Index.path()).await.unwrap().bytes().await.unwrap();
    assert_eq!(found, later);
}

/// Returns an index that says it is of version 2.
fn later_version(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    let mut body = bytes[..bytes.len() - 32].to_vec();
    body[4] = 2;
    let digest = sha2::Sha256::digest(&body);
    body.extend_from_slice(&digest);
    body
}

#[tokio::test]
async fn who_may_not_write_lists_as_well() {
    let world = World::with(SOME).await;
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::Denied).on(Operation::Put));
    faulty.add(Rule::new(Fault::Denied).with_key(|key| *key == StoreKey::Index.path()));
    let objects: Arc<dyn ObjectStore> = Arc::new(faulty);
    let listed = store_on(&objects).list_contexts().await.unwrap();
    assert_eq!(listed, world.truth().await);
    assert_eq!(world.index().await, None);
}

#[tokio::test]
async fn a_head_that_is_gone_when_it_is_read_is_looked_for_again() {
    let world = World::with(3).await;
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::NotFound).on(Operation::Get).below("contexts").nth(1));
    let objects: Arc<dyn ObjectStore> = Arc::new(faulty);
    assert_eq!(store_on(&objects).list_contexts().await.unwrap(), world.truth().await);
}

#[tokio::test]
async fn lists_and_writers_at_once_lose_nothing() {
    let world = World::with(SOME).await;
    let (a, b, store) = (world.store(), world.store(), world.store());
    let write = async {
        for n in 0..SOME {
            match n % 3 {
                0 => store.delete_context(&name(&format!("c-{n}"))).await.unwrap(),
                1 => drop(store.create_context(&name(&format!("d-{n}"))).await.unwrap()),
                _ => {
                    let to = name(&format!("e-{n}"));
                    drop(store.rename_context(&name(&format!("c-{n}")), &to).await.unwrap());
                }
            }
        }
    };
    let list = async |store: Store| {
        for _ in 0..10 {
            store.list_contexts().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, list(a), list(b));
    world.lists_right().await;
    world.lists_right().await;
}

#[tokio::test]
async fn renames_of_contexts_that_are_gone_are_looked_at_once() {
    let world = World::with(SOME).await;
    let store = &world.store();
    let moved = stream::iter(0..SOME).map(|n| async move {
        let to = name(&format!("moved-{n}"));
        store.rename_context(&name(&format!("c-{n}")), &to).await.unwrap();
        store.delete_context(&to).await.unwrap();
    });
    moved.buffer_unordered(32).collect::<()>().await;
    let first = world.lists_right().await;
    assert!(first.requests() > 3 * SOME as u64, "{first:?}");
    let again = world.lists_right().await;
    assert!(again.requests() < 6, "{again:?}");
    // The names can be used again.
    create(store, 0..3).await;
    store.create_context(&name("moved-7")).await.unwrap();
    world.lists_right().await;
    assert_eq!(world.list().await.0.len(), 4);
}

#[tokio::test]
async fn a_rename_that_died_is_completed_by_a_list_with_an_index() {
    for nth in 1.. {
        let world = World::with(SOME).await;
        world.lists_right().await;
        let faulty = Faulty::new(Arc::clone(&world.objects), 1);
        faulty.add(Rule::new(Fault::CrashAfter).on(Operation::Put).nth(nth));
        let dying: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
        let renamed = store_on(&dying).rename_context(&name("c-9"), &name("new")).await;
        let listed = world.list().await.0;
        let names: Vec<&str> = listed.iter().map(|context| context.name.as_str()).collect();
        assert_eq!(listed.len(), SOME, "{nth}");
        assert!(names.contains(&"new") && !names.contains(&"c-9"), "{nth}");
        assert_eq!(listed, world.truth().await);
        if faulty.injections().is_empty() {
            renamed.unwrap();
            assert!(nth > 3);
            break;
        }
    }
}

#[tokio::test]
async fn a_store_that_lists_in_no_order_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let inner = object_store::local::LocalFileSystem::new_with_prefix(dir.path()).unwrap();
    let recording = Recording::new(Arc::new(inner));
    let objects: Arc<dyn ObjectStore> = Arc::new(recording.clone());
    let world = World { objects, recording };
    world.store().init(Duration::from_secs(86_400)).await.unwrap();
    create(&world.store(), 0..600).await;
    let keys: Vec<Path> =
        world.objects.list(Some(&"contexts".into())).map(|meta| meta.unwrap().location).collect().await;
    assert!(!keys.is_sorted(), "this directory is listed in order: the test shows nothing");
    let ended = stream::iter(0..600).map(|n| {
        let store = world.store();
        async move { store.delete_context(&name(&format!("c-{n}"))).await.unwrap() }
    });
    ended.buffer_unordered(32).collect::<()>().await;
    create(&world.store(), 0..20).await;
    world.lists_right().await;
    world.lists_right().await;
    assert_eq!(world.list().await.0.len(), 20);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_no_empty_store() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let error = store_on(&objects).list_contexts().await.unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }), "{error:?}");
    let (one, other) = (World::with(3).await, World::with(SOME).await);
    // The contexts of another store, as if it were mounted in this one's place.
    let context: ContextName = name("c-1");
    let key = StoreKey::Snapshot { context, number: 1 }.path();
    let foreign = other.objects.get(&key).await.unwrap().bytes().await.unwrap();
    one.objects.put(&key, foreign.into()).await.unwrap();
    let error = one.store().list_contexts().await.unwrap_err();
    assert!(matches!(error, Error::OtherStore { .. }), "{error:?}");
}

#[tokio::test]
async fn a_collection_lists_by_pages() {
    for contexts in [SOME, MANY] {
        let world = World::with(contexts).await;
        let store = &world.store();
        let long = name("c-7");
        for _ in 0..40 {
            store.revert_context(&long, 1, "", false).await.unwrap();
        }
        store.rename_context(&name("c-8"), &name("team/8")).await.unwrap();
        store.delete_context(&name("c-9")).await.unwrap();
        let before = world.recording.counts();
        let report = world.store().collect(&CollectOptions::default(), &Silent).await.unwrap();
        let counts = world.recording.counts() - before;
        assert_eq!((report.contexts, report.unreadable), (contexts as u64 + 1, 0));
        // Each head, and each snapshot; and for each context a look whether there is a newer one.
        assert!(counts.lists <= 8 + 5 * contexts.div_ceil(900) as u64, "{counts:?}");
        let objects = contexts as u64 + 50;
        assert!(counts.gets <= 2 * objects && counts.heads <= objects, "{counts:?}");
    }
}

/// Returns how many answers a list waits for, one after the other: requests at once take no longer than one.
async fn waits(objects: &Arc<dyn ObjectStore>, by_name: bool) -> u128 {
    let trip = Duration::from_millis(50);
    let slow: Arc<dyn ObjectStore> = Arc::new(Latency::new(Arc::clone(objects), trip));
    let store = store_on(&slow);
    let store = if by_name { store.in_directory("/no/such/directory") } else { store };
    // The clock stands still except while all wait.
    let begun = tokio::time::Instant::now();
    store.list_contexts().await.unwrap();
    begun.elapsed().as_millis() / trip.as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_list_waits_for_few_answers() {
    let count = measured().unwrap_or(MANY);
    let world = World::with(count).await;
    let by_name = waits(&world.objects, true).await;
    let first = waits(&world.objects, false).await;
    let again = waits(&world.objects, false).await;
    for n in 0..50 {
        world.store().delete_context(&name(&format!("c-{}", n * (count / 50)))).await.unwrap();
    }
    let changed = waits(&world.objects, false).await;
    println!(
        "answers waited for: {by_name} name by name, {first} without an index, {again} with one, {changed} after 50 changes"
    );
    assert!(first < by_name / 2, "{first} of {by_name}");
    assert_eq!((again, changed), (2, 4));
}

/// Returns the store on a server, as a process sees it that has just begun.
fn store_at(server: &S3Server) -> Store {
    let url = StoreUrl::parse(&server.url("prefix"), std::path::Path::new("/")).unwrap();
    store_on(&storage_backends::open(&url, &StoreOptions::default().with_env(server.env())).unwrap().store)
}

/// Returns the number of contexts for the measurement, if there is to be one.
fn measured() -> Option<usize> {
    std::env::var("CTXSYNC_CONTEXTS").ok().map(|given| given.parse().unwrap())
}

/// Lists the contexts, and prints and returns what that takes.
#[expect(clippy::print_stdout, reason = "whoever asks for the figures reads them here")]
async fn timed(what: &str, server: &S3Server, store: Store) -> (Vec<Context>, usize) {
    server.clear_requests();
    let begun = Instant::now();
    let listed = store.list_contexts().await.unwrap();
    let requests = server.requests().len();
    println!("{what}: {requests} requests, {:.2} s", begun.elapsed().as_secs_f64());
    (listed, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_are_listed_over_s3() {
    let (count, delay) = measured().map_or((300, Duration::ZERO), |n| (n, Duration::from_millis(25)));
    let root = tempfile::tempdir().unwrap();
    let near = S3Server::start_at(root.path(), Duration::ZERO).unwrap();
    let store = store_at(&near);
    store.init(Duration::from_secs(86_400)).await.unwrap();
    create(&store, 0..count).await;
    let far = S3Server::start_at(root.path(), delay).unwrap();
    if measured().is_some() {
        let store = store_at(&far).in_directory("/no/such/directory");
        assert_eq!(timed("name by name", &far, store).await.0.len(), count);
    }
    let (first, requests) = timed("without an index", &far, store_at(&far)).await;
    assert_eq!(first.len(), count);
    assert!(requests >= count);
    let pages = 4 + count.div_ceil(900) * 2;
    let (again, requests) = timed("with an index", &far, store_at(&far)).await;
    assert_eq!(again, first);
    assert!(requests <= pages, "{requests}");
    for n in 0..50 {
        store.delete_context(&name(&format!("c-{}", n * (count / 50)))).await.unwrap();
    }
    let (changed, requests) = timed("after 50 of them have changed", &far, store_at(&far)).await;
    let names: BTreeMap<_, _> = changed.iter().map(|context| (context.name.clone(), context)).collect();
    assert_eq!((changed.len(), names.contains_key(&name("c-0"))), (count - 50, false));
    assert!((50..=50 + pages).contains(&requests), "{requests}");
}

/// Returns the bytes that came from the server after so many. They are counted a little after they came.
async fn received_since(server: &S3Server, before: u64) -> u64 {
    let mut last = before;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        match server.bytes().received {
            now if now == last && now > before => return now - before,
            now => last = now,
        }
    }
}

/// The newest key of a context sorts first. A sync needs no other key of the page.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_of_a_listing_costs_little() {
    let server = S3Server::start().unwrap();
    let url = StoreUrl::parse(&server.url("prefix"), std::path::Path::new("/")).unwrap();
    let store = storage_backends::open(&url, &StoreOptions::default().with_env(server.env())).unwrap().store;
    let keys: Vec<Path> = (0..40).map(|n| Path::from(format!("contexts/work/{n:040}"))).collect();
    for key in &keys {
        store.put(key, PutPayload::from_static(b"x")).await.unwrap();
    }
    server.clear_requests();
    let before = server.bytes();
    let prefix = Path::from("contexts/work");
    let first = store.list(Some(&prefix)).next().await.unwrap().unwrap();
    assert_eq!((&first.location, server.requests().len()), (&keys[0], 1));
    let received = received_since(&server, before.received).await;
    assert!((1..2000).contains(&received), "{received} bytes");
    // The whole listing is the same, and takes one request with an offset.
    let all: Vec<Path> = store.list(Some(&prefix)).map(|found| found.unwrap().location).collect().await;
    assert_eq!(all, keys);
    server.clear_requests();
    let all: Vec<Path> =
        store.list_with_offset(Some(&prefix), &prefix).map(|found| found.unwrap().location).collect().await;
    assert_eq!((all, server.requests().len()), (keys, 1));
}
