//! Purges: afterwards nothing of what was purged is in the store, and everything else is as it was.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::compare::assert_same_but_times;
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::{Retention, TreePath};
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::format::{Snapshot, StoreKey};
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

/// Forgets everything but the heads.
async fn keep_last(world: &World, exclusive: bool) {
    let last = Retention { last: NonZeroU64::new(1), ..Retention::default() };
    let options = CollectOptions { exclusive, retention: last.into(), ..CollectOptions::default() };
    world.store().collect(&options, &Silent).await.unwrap();
}

/// A world in which an older version of a secret is in the pack that `big` needs.
async fn with_a_changed_secret() -> (World, Machine, Vec<u8>) {
    let world = World::memory().await;
    let a = world.machine("a");
    let old = Random::new(1).bytes(3000);
    a.mount.write("key", &old).write("big", Random::new(2).bytes(20_000));
    a.push().await.clean();
    a.mount.write("key", Random::new(3).bytes(3000));
    a.push().await.clean();
    (world, a, old)
}

/// What retention has forgotten can be read for a while, and what it has erased can't: nothing tells then which parts
/// of a pack were the secret's.
#[tokio::test]
async fn an_older_version_that_retention_has_forgotten_or_erased_leaves_the_store() {
    for exclusive in [false, true] {
        let (world, a, old) = with_a_changed_secret().await;
        keep_last(&world, exclusive).await;
        assert!(holds(&world, &old[..64]).await);
        let done = purge(&world, &["key"]).await.unwrap();
        assert_eq!((done.packs, done.unknown_packs), (2, u64::from(exclusive)));
        collect(&world).await;
        assert!(!holds(&world, &old[..64]).await, "{exclusive}");
        assert!(is_whole(&world).await);
        std::fs::remove_file(a.mount.at("key")).unwrap();
        let b = world.machine("b");
        b.pull().await.clean();
        assert_same_but_times(&a.mount.0, &b.mount.0);
    }
}

/// An empty file at the path lets it be purged, as the docs say.
#[tokio::test]
async fn a_path_that_only_erased_snapshots_had_is_purged_by_an_empty_file() {
    let (world, a, old) = with_a_changed_secret().await;
    std::fs::remove_file(a.mount.at("key")).unwrap();
    a.push().await.clean();
    keep_last(&world, true).await;
    assert!(matches!(purge(&world, &["key"]).await, Err(Error::NoPath { .. })));
    a.mount.write("key", "");
    a.push().await.clean();
    purge(&world, &["key"]).await.unwrap();
    collect(&world).await;
    assert!(!holds(&world, &old[..64]).await);
    assert!(is_whole(&world).await);
}

/// The fork still needs the pack with the old version, and the context that it was forked from does not.
#[tokio::test]
async fn what_was_erased_leaves_the_packs_of_forks_as_well() {
    let (world, a, old) = with_a_changed_secret().await;
    let fork: ContextName = "fork".parse().unwrap();
    world.store().fork_context(&context(), At::Head, &fork).await.unwrap();
    ContextService::new(&world.store()).delete_file(&fork, &"key".parse().unwrap()).await.unwrap();
    a.mount.write("big", Random::new(4).bytes(20_000));
    a.push().await.clean();
    keep_last(&world, true).await;
    assert!(holds(&world, &old[..64]).await);
    let done = purge(&world, &["key"]).await.unwrap();
    assert_eq!(done.moved.iter().map(ContextName::as_str).collect::<Vec<_>>(), ["fork"]);
    collect(&world).await;
    assert!(!holds(&world, &old[..64]).await);
    assert!(is_whole(&world).await);
    let kept = files(&world, &world.store().head(&fork).await.unwrap()).await;
    assert_eq!(kept["big"], Random::new(2).bytes(20_000));
}

/// As long as the whole history can be read, nobody's snapshots are forgotten for what they have to do with nothing.
#[tokio::test]
async fn with_a_whole_history_only_packs_with_the_content_are_given_up() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("big", Random::new(1).bytes(20_000)).write("other", Random::new(2).bytes(3000));
    a.push().await.clean();
    std::fs::remove_file(a.mount.at("other")).unwrap();
    a.mount.write("key", Random::new(3).bytes(3000));
    a.push().await.clean();
    let done = purge(&world, &["key"]).await.unwrap();
    assert_eq!((done.packs, done.unknown_packs), (1, 0));
    assert_eq!(done.forgotten[&context()], [3]);
}

/// Flips a bit at the end of all packs.
async fn damage_footers(world: &World) {
    let packs: Vec<_> = world.objects.list(Some(&"packs".into())).try_collect().await.unwrap();
    for pack in packs {
        assert!(matches!(StoreKey::parse(&pack.location), Some(StoreKey::Pack(_))));
        let mut bytes = world.objects.get(&pack.location).await.unwrap().bytes().await.unwrap().to_vec();
        let at = bytes.len() - 3;
        bytes[at] ^= 64;
        world.objects.put(&pack.location, bytes.into()).await.unwrap();
    }
}

/// The tree names the pack that has the content. So what is in it is moved, whatever its footer says.
#[tokio::test]
async fn a_pack_with_the_content_goes_also_if_its_footer_is_damaged() {
    let world = World::memory().await;
    let a = world.machine("a");
    let secret = Random::new(1).bytes(3000);
    a.mount.write("key", &secret).write("big", Random::new(2).bytes(20_000));
    a.push().await.clean();
    damage_footers(&world).await;
    let done = purge(&world, &["key"]).await.unwrap();
    assert_eq!((done.packs, done.snapshot), (1, Some(3)));
    collect(&world).await;
    assert!(!holds(&world, &secret[..64]).await);
    assert!(is_whole(&world).await);
    assert_eq!(files(&world, &world.head().await).await["big"], Random::new(2).bytes(20_000));
}

/// A pack that can't say what is in it may hold the content as well.
#[tokio::test]
async fn another_needed_pack_with_a_damaged_footer_is_an_error() {
    let world = World::memory().await;
    let store = world.store();
    let other: ContextName = "other".parse().unwrap();
    store.create_context(&other).await.unwrap();
    let service = ContextService::new(&store);
    let elsewhere = "there".parse().unwrap();
    service.write_file(&other, &elsewhere, &[1; 3000][..], &WriteOptions::default()).await.unwrap();
    damage_footers(&world).await;
    let a = world.machine("a");
    a.mount.write("key", Random::new(1).bytes(3000));
    a.push().await.clean();
    assert!(matches!(purge(&world, &["key"]).await, Err(Error::Format { .. })));
    assert_eq!(world.head().await.number, 2);
    // What nobody needs holds up nothing: it is deleted by the next collection.
    store.delete_context(&other).await.unwrap();
    keep_last(&world, true).await;
    purge(&world, &["key"]).await.unwrap();
}

/// A file that has one chunk of the secret, and an own one.
#[tokio::test]
async fn who_has_a_part_of_the_content_is_named() {
    let world = World::memory().await;
    let a = world.machine("a");
    let secret = Random::new(1).bytes(6 << 20);
    a.mount.write("secret", &secret).write("edited", [&secret[..], b"more"].concat());
    a.push().await.clean();
    let done = purge(&world, &["secret"]).await.unwrap();
    let held: Vec<_> = done.still_held.iter().map(|held| format!("{}:{}", held.context, held.path)).collect();
    assert_eq!(held, ["work:edited"]);
}
