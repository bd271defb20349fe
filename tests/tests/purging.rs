//! Purges: afterwards nothing of what was purged is in the store, and everything else is as it was.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::compare::assert_same_but_times;
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::format::Snapshot;
use transfer_engine::{
    At, CheckOptions, CollectOptions, ContextName, ContextService, Error, PurgeOptions, Purged, PurgedTag,
    ReadData, Silent, WriteOptions,
};

fn options(dry_run: bool) -> PurgeOptions {
    PurgeOptions { dry_run, concurrency: NonZeroUsize::MIN, memory: 64 << 20 }
}

async fn purge(world: &World, paths: &[&str]) -> Result<Purged, Error> {
    let paths: Vec<TreePath> = paths.iter().map(|path| path.parse().unwrap()).collect();
    world.store().purge(&context(), &paths, &options(false)).await
}

/// Deletes at once what nothing refers to.
async fn collect(world: &World) {
    let options = CollectOptions { exclusive: true, ..CollectOptions::default() };
    let report = world.store().collect(&options, &Silent).await.unwrap();
    assert_eq!((report.unreadable, report.packs_lost), (0, 0));
}

async fn is_whole(world: &World) -> bool {
    let options = CheckOptions {
        contexts: Vec::new(),
        read_data: ReadData::All,
        concurrency: NonZeroUsize::MIN,
        memory: 64 << 20,
    };
    world.store().check(&options, &Silent).await.unwrap().is_whole()
}

/// Whether some object of the store holds these bytes as they are. What is drawn at random does not get smaller, and is
/// stored as it is.
async fn holds(world: &World, bytes: &[u8]) -> bool {
    let objects: Vec<_> = world.objects.list(None).try_collect().await.unwrap();
    for object in objects {
        let content = world.objects.get(&object.location).await.unwrap().bytes().await.unwrap();
        if content.windows(bytes.len()).any(|window| window == bytes) {
            return true;
        }
    }
    false
}

/// Returns the files of a snapshot, with their contents.
async fn files(world: &World, snapshot: &Arc<Snapshot>) -> BTreeMap<String, Vec<u8>> {
    let (store, mut entries, mut files) = (world.store(), Vec::new(), BTreeMap::new());
    store.entries(snapshot, &TreePath::root(), |entry| entries.push(entry)).await.unwrap();
    for entry in entries.into_iter().filter(|entry| !entry.recycled) {
        let mut content = Vec::new();
        let read = store.read_file(&entry, 0..u64::MAX, |bytes| {
            content.extend_from_slice(&bytes);
            Ok(())
        });
        read.await.unwrap();
        files.insert(entry.path.to_string(), content);
    }
    files
}

#[tokio::test]
async fn nothing_of_a_purged_file_is_in_the_store() {
    let world = World::memory().await;
    let a = world.machine("a");
    let secret = Random::new(1).bytes(4000);
    a.mount.write("keys/secret", &secret).write("keys/public", "public").write("other", "other");
    a.push().await.clean();
    a.mount.write("other", "changed");
    a.push().await.clean();
    a.mount.write("keys/secret", Random::new(2).bytes(4000));
    a.push().await.clean();
    std::fs::remove_file(a.mount.at("keys/secret")).unwrap();
    a.push().await.clean();
    assert!(holds(&world, &secret[..64]).await);
    // It is in no head any more, but in older snapshots.
    let dry =
        world.store().purge(&context(), &["keys/secret".parse().unwrap()], &options(true)).await.unwrap();
    assert_eq!(world.head().await.number, 5);
    let done = purge(&world, &["keys/secret"]).await.unwrap();
    assert_eq!((done.paths.clone(), done.forgotten.clone()), (dry.paths, dry.forgotten));
    assert_eq!(done.paths.len(), 1);
    // The head needs a pack in which the secret is as well, and so do those before it.
    assert_eq!((done.snapshot, done.packs), (Some(6), 2));
    assert_eq!(done.forgotten[&context()], [5, 4, 3, 2]);
    collect(&world).await;
    assert!(!holds(&world, &secret[..64]).await);
    assert!(!holds(&world, &Random::new(2).bytes(4000)[..64]).await);
    assert!(is_whole(&world).await);
    let b = world.machine("b");
    b.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert!(matches!(purge(&world, &["keys/secret"]).await, Err(Error::NoPath { .. })));
}

#[tokio::test]
async fn a_file_of_the_head_leaves_it_and_machines_that_are_as_the_head_was() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount
        .write("dir/secret", Random::new(1).bytes(3000))
        .write("dir/deep/more", "more")
        .write("kept", "kept");
    a.push().await.clean();
    b.pull().await.clean();
    let done = purge(&world, &["dir"]).await.unwrap();
    assert_eq!((done.snapshot, done.paths.len()), (Some(3), 2));
    assert_eq!(files(&world, &world.head().await).await.into_keys().collect::<Vec<_>>(), ["kept"]);
    b.pull().await.clean();
    assert!(!b.mount.has("dir/secret") && b.mount.has("kept"));
}

#[tokio::test]
async fn who_has_the_same_content_is_named_and_keeps_it() {
    let world = World::memory().await;
    let a = world.machine("a");
    let secret = Random::new(1).bytes(4000);
    a.mount.write("secret", &secret).write("copy", &secret);
    a.push().await.clean();
    let other: ContextName = "other".parse().unwrap();
    let store = world.store();
    store.create_context(&other).await.unwrap();
    let service = ContextService::new(&store);
    let elsewhere = "there/too".parse().unwrap();
    service.write_file(&other, &elsewhere, &secret[..], &WriteOptions::default()).await.unwrap();
    let done = purge(&world, &["secret"]).await.unwrap();
    let held: Vec<_> = done.still_held.iter().map(|held| format!("{}:{}", held.context, held.path)).collect();
    assert_eq!(held, ["other:there/too", "work:copy"]);
    assert_eq!(done.moved.iter().map(ContextName::as_str).collect::<Vec<_>>(), ["other"]);
    collect(&world).await;
    assert!(is_whole(&world).await);
    assert_eq!(files(&world, &world.head().await).await["copy"], secret);
    assert_eq!(files(&world, &store.head(&other).await.unwrap()).await["there/too"], secret);
}

/// Whatever the history, a purge takes out the path and nothing else of the head.
#[tokio::test]
async fn whatever_the_history_everything_else_stays() {
    for seed in 0..12 {
        let (mut random, world) = (Random::new(seed), World::memory().await);
        let a = world.machine("a");
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for _ in 0..6 {
            for _ in 0..1 + random.below(4) {
                let path = format!("d{}/f{}", random.below(2), random.below(3));
                let len = 500 + random.below(2000);
                let content = random.bytes(len);
                if path == "d0/f0" {
                    contents.push(content.clone());
                }
                a.mount.write(&path, content);
            }
            a.push().await.clean();
        }
        let before = files(&world, &world.head().await).await;
        match purge(&world, &["d0/f0"]).await {
            Err(Error::NoPath { .. }) => assert!(contents.is_empty()),
            done => drop(done.unwrap()),
        }
        collect(&world).await;
        let mut after = files(&world, &world.head().await).await;
        assert!(after.remove("d0/f0").is_none());
        let expected: BTreeMap<_, _> = before.into_iter().filter(|(path, _)| path != "d0/f0").collect();
        assert_eq!(after, expected, "seed {seed}");
        for content in contents {
            assert!(!holds(&world, &content[..64]).await, "seed {seed}");
        }
        assert!(is_whole(&world).await, "seed {seed}");
    }
}

#[tokio::test]
async fn the_tags_of_what_is_forgotten_are_told_and_deleted() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("secret", Random::new(1).bytes(4000)).write("kept", "kept");
    a.push().await.clean();
    std::fs::remove_file(a.mount.at("secret")).unwrap();
    a.mount.write("other", Random::new(2).bytes(4000));
    a.push().await.clean();
    let (store, tag) = (world.store(), |name: &str| name.parse().unwrap());
    store.tag(&context(), At::Number(2), &tag("v1")).await.unwrap();
    store.tag(&context(), At::Number(1), &tag("v2")).await.unwrap();
    let paths = ["secret".parse().unwrap()];
    let dry = store.purge(&context(), &paths, &options(true)).await.unwrap();
    let expected = PurgedTag { context: context(), number: 2, tag: tag("v1") };
    assert_eq!(dry.tags, [expected].into());
    assert_eq!(store.tags(&context()).await.unwrap().len(), 2);
    assert_eq!(store.purge(&context(), &paths, &options(false)).await.unwrap().tags, dry.tags);
    assert_eq!(store.tags(&context()).await.unwrap(), [(1, vec![tag("v2")])].into());
    collect(&world).await;
    assert!(!holds(&world, &Random::new(1).bytes(4000)[..64]).await);
    assert!(is_whole(&world).await);
}

/// A world with a secret and enough small packs for the next push to gather them, and a machine that has all of it and
/// pushes next.
async fn about_to_gather(secret: &[u8]) -> (World, Machine) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("secret", secret);
    a.push().await.clean();
    for number in 0..31 {
        a.mount.write(format!("f{number}"), number.to_string());
        a.push().await.clean();
    }
    b.pull().await.clean();
    b.mount.write("own", "b's own");
    (world, b)
}

/// A push gathers the secret with its own files, and is killed before its commit. The next one goes on with its packs.
#[tokio::test(start_paused = true)]
async fn what_a_killed_push_has_gathered_is_not_used_after_a_purge() {
    let secret = Random::new(1).bytes(4000);
    let (world, mut b) = about_to_gather(&secret).await;
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::CrashBefore).on(Operation::Put).below("contexts"));
    b.objects = Arc::new(faulty.clone());
    b.push_until_crashed(&faulty).await;
    assert!(faulty.is_crashed());
    b.objects = Arc::clone(&world.objects);
    purge(&world, &["secret"]).await.unwrap();
    b.push().await.clean();
    collect(&world).await;
    assert!(!holds(&world, &secret[..64]).await);
    assert!(is_whole(&world).await);
}

/// The purge comes between a push's look at the head and its commit.
#[tokio::test(start_paused = true)]
async fn what_a_beaten_push_has_gathered_is_not_used_after_a_purge() {
    let secret = Random::new(1).bytes(4000);
    let (world, mut b) = about_to_gather(&secret).await;
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    let late = Rule::new(Fault::Delay(Duration::from_secs(60))).on(Operation::Put).below("contexts");
    faulty.add(late.nth(1));
    b.objects = Arc::new(faulty.clone());
    let purged = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        purge(&world, &["secret"]).await.unwrap();
    };
    let (pushed, ()) = tokio::join!(b.push(), purged);
    assert_eq!(pushed.report().failed, 0, "{pushed:?}");
    assert!(!faulty.injections().is_empty());
    collect(&world).await;
    assert!(!holds(&world, &secret[..64]).await);
    assert!(is_whole(&world).await);
    let c = world.machine("c");
    c.pull().await.clean();
    assert_eq!(c.mount.read("own"), "b's own");
}
