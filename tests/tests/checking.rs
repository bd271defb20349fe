//! Checks, repairs and healing pushes: what is damaged is found, what can be made whole is, and nothing is deleted.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctxsync_tests::compare::{assert_same_but_times, paths};
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use ctxsync_tests::s3::S3Server;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use policy_core::TreePath;
use sha2::{Digest, Sha256};
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use storage_backends::{StoreOptions, StoreUrl};
use transfer_engine::format::StoreKey;
use transfer_engine::{
    At, CheckMonitor, CheckOptions, CheckReport, CheckedContext, CollectOptions, ContextName, Damage, Error,
    Fate, ReadData, RepairMonitor, RepairOptions, RepairReport, Repaired, Retention, Silent,
};

fn options(read_data: ReadData) -> CheckOptions {
    CheckOptions { contexts: Vec::new(), read_data, concurrency: NonZeroUsize::MIN, memory: 64 << 20 }
}

fn repairing(dry_run: bool) -> RepairOptions {
    RepairOptions {
        contexts: Vec::new(),
        read_data: ReadData::All,
        dry_run,
        forget_damaged: false,
        concurrency: NonZeroUsize::MIN,
        memory: 64 << 20,
    }
}

/// Keeps what a check or a repair tells.
#[derive(Default)]
struct Told {
    contexts: Mutex<Vec<CheckedContext>>,
    files: Mutex<BTreeSet<String>>,
    repaired: Mutex<Vec<Repaired>>,
}

impl Told {
    fn files(&self) -> Vec<String> {
        self.files.lock().unwrap().iter().cloned().collect()
    }
}

impl CheckMonitor for Told {
    fn context(&self, checked: &CheckedContext) {
        self.files.lock().unwrap().extend(checked.files.iter().map(|file| file.path.to_string()));
        self.contexts.lock().unwrap().push(checked.clone());
    }
}

impl RepairMonitor for Told {
    fn file(&self, _: &ContextName, path: &TreePath, fate: Fate, _: &Damage) {
        self.files.lock().unwrap().insert(format!("{path} {fate:?}"));
    }

    fn context(&self, _: &ContextName, repaired: &Repaired) {
        self.repaired.lock().unwrap().push(repaired.clone());
    }
}

async fn check(world: &World, read_data: ReadData) -> (Result<CheckReport, Error>, Told) {
    let told = Told::default();
    (world.store().check(&options(read_data), &told).await, told)
}

async fn repair(world: &World, dry_run: bool) -> (RepairReport, Told) {
    let told = Told::default();
    (world.store().repair(&repairing(dry_run), &told).await.unwrap(), told)
}

/// Returns the keys of all objects below a prefix, with their lengths.
async fn keys(world: &World, prefix: &str) -> Vec<(Path, u64)> {
    let prefix = Path::from(prefix);
    let listed = world.objects.list(Some(&prefix)).map_ok(|meta| (meta.location, meta.size));
    listed.try_collect().await.unwrap()
}

async fn bytes(world: &World, key: &Path) -> Vec<u8> {
    world.objects.get(key).await.unwrap().bytes().await.unwrap().to_vec()
}

async fn flip(world: &World, key: &Path, at: usize) {
    let mut bytes = bytes(world, key).await;
    bytes[at] ^= 0x10;
    world.objects.put(key, bytes.into()).await.unwrap();
}

/// A context with a history: many files, then a change, then one more file; and a second context.
async fn with_history() -> (World, Machine) {
    let world = World::memory().await;
    let a = world.machine("a");
    for i in 0..40 {
        a.mount.write(format!("d{}/f{i}", i % 4), format!("content {i} ").repeat(20));
    }
    a.mount.write("long", Random::new(1).bytes(3 << 20));
    a.push().await.clean();
    a.mount.write("d0/f0", "changed");
    a.push().await.clean();
    a.mount.write("new", Random::new(2).bytes(5000));
    a.push().await.clean();
    (world, a)
}

/// Returns the key of the pack with most bytes, which is that of the first push.
async fn first_pack(world: &World) -> Path {
    keys(world, "packs").await.into_iter().max_by_key(|(_, size)| *size).unwrap().0
}

#[tokio::test]
async fn what_is_whole_is_called_whole() {
    let (world, _) = with_history().await;
    for read_data in [ReadData::None, ReadData::All, ReadData::Percent(50)] {
        let (report, told) = check(&world, read_data).await;
        let report = report.unwrap();
        assert!(report.is_whole(), "{report:?}");
        let packs = keys(&world, "packs").await.len() as u64;
        assert_eq!((report.contexts, report.snapshots, report.packs), (1, 4, packs));
        let head = &told.contexts.lock().unwrap()[0].snapshots[0];
        assert!(head.is_head && head.number == 4 && head.is_whole());
    }
}

#[tokio::test]
async fn every_object_that_is_missing_or_cut_short_is_found() {
    let (world, _) = with_history().await;
    for (key, size) in [keys(&world, "packs").await, keys(&world, "contexts").await].concat() {
        let whole = bytes(&world, &key).await;
        // That nothing follows a snapshot can't be seen in the store alone.
        let is_head = key.as_ref().ends_with("fffffffffffffffb");
        for left in [None, Some(0), Some(size as usize / 2), Some(size as usize - 1)] {
            match left {
                None if is_head => continue,
                None => world.objects.delete(&key).await.unwrap(),
                Some(left) => drop(world.objects.put(&key, whole[..left].to_vec().into()).await.unwrap()),
            }
            let (report, _) = check(&world, ReadData::None).await;
            assert!(!report.unwrap().is_whole(), "{key} {left:?}");
        }
        world.objects.put(&key, whole.into()).await.unwrap();
        assert!(check(&world, ReadData::None).await.0.unwrap().is_whole());
    }
}

#[tokio::test]
async fn every_flipped_byte_is_found_by_reading() {
    let (world, _) = with_history().await;
    let mut random = Random::new(7);
    let objects = [keys(&world, "packs").await, keys(&world, "contexts").await].concat();
    for (key, size) in objects {
        let whole = bytes(&world, &key).await;
        for _ in 0..12 {
            let at = random.below(size as usize);
            flip(&world, &key, at).await;
            let (report, _) = check(&world, ReadData::All).await;
            assert!(!report.unwrap().is_whole(), "{key} at {at} of {size}");
            world.objects.put(&key, whole.clone().into()).await.unwrap();
        }
    }
    let key = Path::from("ctxsync.json");
    let whole = bytes(&world, &key).await;
    // The digest in it stands for the values; what is between them says nothing.
    for at in (0..whole.len()).filter(|at| whole[*at].is_ascii_digit()) {
        flip(&world, &key, at).await;
        assert!(check(&world, ReadData::None).await.0.is_err(), "at {at}");
        world.objects.put(&key, whole.clone().into()).await.unwrap();
    }
}

#[tokio::test]
async fn the_files_that_a_lost_pack_takes_are_named_with_their_snapshots() {
    let (world, _) = with_history().await;
    world.objects.delete(&first_pack(&world).await).await.unwrap();
    let (report, told) = check(&world, ReadData::None).await;
    let report = report.unwrap();
    assert_eq!((report.damaged_files, report.damaged_packs, report.damaged_snapshots), (41, 1, 3));
    let contexts = told.contexts.lock().unwrap();
    let file = |path: &str| contexts[0].files.iter().find(|f| f.path.to_string() == path).cloned();
    let changed = file("d0/f0").unwrap();
    assert_eq!((changed.newest, changed.oldest), (2, 2), "it was changed after that");
    let other = file("d1/f1").unwrap();
    assert_eq!((other.newest, other.oldest, other.cause.what.as_str()), (4, 2, "it is not in the store"));
    assert_eq!(file("new"), None);
    let damaged: Vec<_> = contexts[0].snapshots.iter().map(|s| (s.number, s.damaged_files)).collect();
    assert_eq!(damaged, [(4, 40), (3, 40), (2, 41), (1, 0)]);
}

#[tokio::test]
async fn a_pattern_reads_only_what_matches() {
    let (world, _) = with_history().await;
    let pack = first_pack(&world).await;
    // Somewhere in the long file, which takes most of the pack.
    flip(&world, &pack, 1 << 20).await;
    let of = |pattern: &str| {
        let glob = globset::Glob::new(pattern).unwrap();
        ReadData::Paths(globset::GlobSet::builder().add(glob).build().unwrap())
    };
    let (report, _) = check(&world, of("d*/*")).await;
    let report = report.unwrap();
    assert!(report.is_whole() && report.bytes_read > 0 && report.bytes_read < 1 << 20, "{report:?}");
    let (report, told) = check(&world, of("l*")).await;
    assert!(!report.unwrap().is_whole());
    assert_eq!(told.files(), ["long"]);
}

/// A check beside writers and collections, each of which takes from under it what it has just seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_writers_and_collections_nothing_is_called_damaged() {
    let world = World::memory().await;
    world.store().create_context(&context()).await.unwrap();
    let (a, done) = (world.machine("a"), AtomicBool::new(false));
    let writing = async {
        for i in 0..30 {
            a.mount.write(format!("f{}", i % 7), Random::new(i).bytes(20_000));
            a.push().await.clean();
            if i % 5 == 4 {
                // With nobody else who writes at this moment, it need not wait for the grace period.
                let last = std::num::NonZeroU64::new(2);
                let options = CollectOptions {
                    retention: Retention { last, ..Retention::default() }.into(),
                    exclusive: true,
                    ..CollectOptions::default()
                };
                world.store().collect(&options, &Silent).await.unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    let checking = async {
        let mut checks = 0;
        while !done.load(Ordering::Relaxed) {
            let (report, told) = check(&world, ReadData::All).await;
            let report = report.unwrap();
            assert!(report.is_whole(), "{report:?} {:?}", told.contexts.lock().unwrap());
            checks += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        checks
    };
    let ((), checks) = tokio::join!(writing, checking);
    assert!(checks > 3, "{checks}");
}

#[tokio::test]
async fn a_push_that_heals_sends_again_what_is_here() {
    let (world, mut a) = with_history().await;
    let b = world.machine("b");
    b.pull().await.clean();
    let pack = first_pack(&world).await;
    world.objects.delete(&pack).await.unwrap();
    assert_eq!(a.push().await.report().snapshot, Some(4), "a push without a change does not look");
    a.options.heal = Some(ReadData::All);
    let healed = a.push().await;
    assert_eq!(healed.report().snapshot, Some(5), "{:?}", healed.noted);
    assert_eq!((healed.clean().lost_packs, &healed.noted.warnings[..]), (0, &[][..] as &[String]));
    let (report, told) = check(&world, ReadData::All).await;
    assert_eq!(report.unwrap().damaged_snapshots, 3, "the older ones stay as they are");
    assert!(told.contexts.lock().unwrap()[0].snapshots[0].is_whole());
    let c = world.machine("c");
    c.pull().await.clean();
    assert_same_but_times(&a.mount.0, &c.mount.0);
    assert_eq!(b.pull().await.clean().deleted, 0);
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert_eq!(a.push().await.report().snapshot, Some(5), "there is nothing more to heal");
}

#[tokio::test]
async fn a_push_that_heals_leaves_what_is_not_here_as_it_is() {
    let (world, a) = with_history().await;
    world.objects.delete(&first_pack(&world).await).await.unwrap();
    // A machine with another half of the files.
    let mut c = world.machine("c");
    c.options.heal = Some(ReadData::None);
    for i in 1..40 {
        if i % 4 < 2 {
            c.mount.write(format!("d{}/f{i}", i % 4), format!("content {i} ").repeat(20));
        }
    }
    let healed = c.push().await;
    assert_eq!(healed.report().lost_packs, 1, "the rest is still missing: {:?}", healed.noted);
    let head = world.head().await;
    assert_eq!(head.totals.files, 42, "nothing is left out: {head:?}");
    let (_, told) = check(&world, ReadData::All).await;
    let contexts = told.contexts.lock().unwrap();
    assert_eq!(contexts[0].snapshots[0].damaged_files, 21, "d2, d3 and the long one");
    drop(a);
}

#[tokio::test]
async fn a_repair_leaves_out_what_is_lost_and_no_machine_deletes_it() {
    let (world, a) = with_history().await;
    let b = world.machine("b");
    b.pull().await.clean();
    world.objects.delete(&first_pack(&world).await).await.unwrap();
    let before = keys(&world, "contexts").await;
    let (report, told) = repair(&world, true).await;
    assert_eq!((report.repaired, report.left_out), (1, 40));
    assert!(told.files().contains(&"d1/f1 LeftOut".to_owned()), "{:?}", told.files());
    assert_eq!(keys(&world, "contexts").await, before, "a dry run writes nothing");
    let (report, told) = repair(&world, false).await;
    assert_eq!((report.repaired, report.left_out, report.beyond), (1, 40, 0));
    let repaired = told.repaired.lock().unwrap()[0].clone();
    assert_eq!((repaired.snapshot, repaired.begins_anew), (Some(5), false));
    assert_eq!(repaired.damaged_left, [4, 3, 2]);
    let (_, told) = check(&world, ReadData::All).await;
    assert!(told.contexts.lock().unwrap()[0].snapshots[0].is_whole());
    // A new machine gets what is left.
    let c = world.machine("c");
    c.pull().await.clean();
    assert_eq!(paths(&c.mount.0), ["d0", "d0/f0", "new"]);
    // The others keep what they have.
    for machine in [&a, &b] {
        let pulled = machine.pull().await;
        assert_eq!(pulled.report().deleted, 0, "{:?}", pulled.noted);
        assert_eq!(paths(&machine.mount.0).len(), 46);
    }
}

/// Any push sends what a repair has left out and the mount still has, although nothing has changed in the mount.
#[tokio::test]
async fn what_a_repair_has_left_out_is_sent_by_the_next_push() {
    for case in ["at once", "after a pull", "from a copy", "by name"] {
        let (world, mut a) = with_history().await;
        world.objects.delete(&first_pack(&world).await).await.unwrap();
        let (report, _) = repair(&world, false).await;
        assert_eq!(report.left_out, 40, "{case}");
        match case {
            "after a pull" => assert_eq!(a.pull().await.report().deleted, 0),
            // A machine that has never synced.
            "from a copy" => a.state = a.state.with_file_name("another"),
            "by name" => a.options.only = vec!["d1/f1".parse().unwrap()],
            _ => {}
        }
        let b = world.machine("b");
        b.pull().await.clean();
        let sent = if case == "by name" { 1 } else { 40 };
        let pushed = a.push().await.clean().clone();
        assert_eq!((pushed.added, pushed.withheld), (sent, 0), "{case}");
        let again = a.push().await.clean().clone();
        assert_eq!((again.parent, again.withheld), (None, 0), "{case}");
        if case != "by name" {
            let (_, told) = check(&world, ReadData::All).await;
            assert!(told.contexts.lock().unwrap()[0].snapshots[0].is_whole());
            b.pull().await.clean();
            assert_same_but_times(&a.mount.0, &b.mount.0);
            let report = b.push().await.clean().clone();
            assert_eq!(report.parent, None, "{case}");
        }
    }
}

/// Changed files are pushed as ever, and a file that was deleted here meanwhile is not sent.
#[tokio::test]
async fn what_is_not_here_any_more_stays_left_out() {
    let (world, a) = with_history().await;
    world.objects.delete(&first_pack(&world).await).await.unwrap();
    repair(&world, false).await;
    std::fs::remove_file(a.mount.at("d1/f1")).unwrap();
    a.mount.write("d1/f5", "changed");
    let pushed = a.push().await.clean().clone();
    assert_eq!((pushed.added, pushed.deleted, pushed.withheld), (39, 0, 0));
    let c = world.machine("c");
    c.pull().await.clean();
    assert!(!c.mount.at("d1/f1").exists());
    assert_same_but_times(&a.mount.0, &c.mount.0);
}

#[tokio::test]
async fn a_repair_finds_the_same_chunk_in_another_pack() {
    let world = World::memory().await;
    let content = Random::new(3).bytes(50_000);
    let a = world.machine("a");
    a.mount.write("f", &content);
    a.push().await.clean();
    let pack = first_pack(&world).await;
    // Another context's pack holds the same.
    let other = "other".parse::<ContextName>().unwrap();
    world.store().create_context(&other).await.unwrap();
    let service_store = world.store();
    let service = transfer_engine::ContextService::new(&service_store);
    let path: TreePath = "copy".parse().unwrap();
    service.write_file(&other, &path, &content[..], &transfer_engine::WriteOptions::default()).await.unwrap();
    world.objects.delete(&pack).await.unwrap();
    let (report, told) = repair(&world, false).await;
    assert_eq!((report.healed, report.left_out), (1, 0), "{:?}", told.files());
    let b = world.machine("b");
    b.pull().await.clean();
    assert_eq!(std::fs::read(b.mount.at("f")).unwrap(), content);
}

#[tokio::test]
async fn a_head_that_cannot_be_read_gives_way_to_the_one_before() {
    let (world, a) = with_history().await;
    let head = keys(&world, "contexts").await.into_iter().map(|(key, _)| key).min().unwrap();
    flip(&world, &head, 100).await;
    assert!(a.pull().await.result.is_err());
    let (report, told) = repair(&world, false).await;
    assert_eq!((report.repaired, report.beyond), (1, 0));
    let repaired = told.repaired.lock().unwrap()[0].clone();
    assert_eq!((repaired.snapshot, repaired.from, repaired.begins_anew), (Some(5), Some(3), true));
    // What only the lost head had is still in the mount, and is pushed again.
    let pulled = a.pull().await;
    assert_eq!((pulled.report().deleted, pulled.report().conflicts), (0, 0), "{:?}", pulled.noted);
    assert_eq!(a.push().await.clean().added, 1);
    let c = world.machine("c");
    c.pull().await.clean();
    assert_same_but_times(&a.mount.0, &c.mount.0);
    // Once the damaged one is forgotten, everything is whole.
    let told = Told::default();
    let forget = RepairOptions { forget_damaged: true, ..repairing(false) };
    world.store().repair(&forget, &told).await.unwrap();
    assert_eq!(told.repaired.lock().unwrap()[0].forgotten, [4]);
    assert!(check(&world, ReadData::All).await.0.unwrap().is_whole());
}

#[tokio::test]
async fn a_part_of_the_tree_that_is_lost_comes_from_an_older_snapshot() {
    let world = World::memory().await;
    let a = world.machine("a");
    // So many that the tree is not embedded in the snapshot, nor is the one after a change of all of it.
    let dir = |i: usize| format!("d{:02}", i % 50);
    for i in 0..4500 {
        a.mount.write(format!("{}/f{i}", dir(i)), format!("{i}"));
    }
    a.push().await.clean();
    let first: BTreeSet<_> = keys(&world, "packs").await.into_iter().map(|(key, _)| key).collect();
    for i in 0..50 {
        a.mount.write(format!("{}/more", dir(i)), "more");
    }
    a.push().await.clean();
    let packs = keys(&world, "packs").await;
    let newer: Vec<_> = packs.into_iter().filter(|(key, _)| !first.contains(key)).collect();
    for (key, _) in &newer {
        world.objects.delete(key).await.unwrap();
    }
    let (report, told) = check(&world, ReadData::None).await;
    assert!(!report.unwrap().is_whole());
    let unnamed: u64 = told.contexts.lock().unwrap()[0].files.iter().map(|file| file.unnamed).sum();
    assert!(unnamed > 0);
    let (report, told) = repair(&world, false).await;
    let repaired = told.repaired.lock().unwrap()[0].clone();
    assert!(repaired.begins_anew && repaired.from_older > 0 && repaired.unnamed == 0, "{repaired:?}");
    assert_eq!(report.left_out, 0);
    assert_eq!(world.head().await.totals.files, 4500);
    let pulled = a.pull().await;
    assert_eq!((pulled.report().deleted, pulled.report().conflicts), (0, 0), "{:?}", pulled.noted);
    assert_eq!(a.push().await.clean().added, 50);
}

/// Whatever single object is lost or damaged, a repair gives each context a head that is whole, and no machine loses a
/// file.
#[tokio::test]
async fn whatever_is_damaged_the_head_is_whole_after_a_repair() {
    let mut random = Random::new(11);
    let objects = keys(&with_history().await.0, "packs").await.len() + 4;
    for which in 0..objects {
        for cut in [true, false] {
            let (world, mut a) = with_history().await;
            let all = [keys(&world, "packs").await, keys(&world, "contexts").await].concat();
            let (key, size) = &all[which % all.len()];
            if cut {
                let half = bytes(&world, key).await[..*size as usize / 2].to_vec();
                world.objects.put(key, half.into()).await.unwrap();
            } else {
                flip(&world, key, random.below(*size as usize)).await;
            }
            let (report, told) = repair(&world, false).await;
            assert_eq!(report.beyond, 0, "{key} {cut} {:?}", told.repaired.lock().unwrap());
            let (_, told) = check(&world, ReadData::All).await;
            let head = told.contexts.lock().unwrap()[0].snapshots[0].clone();
            assert!(head.is_head && head.is_whole(), "{key} {cut} {head:?}");
            let before = paths(&a.mount.0);
            let pulled = a.pull().await;
            assert_eq!(pulled.report().deleted, 0, "{key} {cut} {:?}", pulled.noted);
            a.options.heal = Some(ReadData::None);
            a.push().await;
            assert_eq!(paths(&a.mount.0), before, "{key} {cut}");
            let c = world.machine("c");
            c.pull().await.clean();
            assert_same_but_times(&a.mount.0, &c.mount.0);
        }
    }
}

/// A repair that another writer is quicker than goes on from what that one made.
#[tokio::test]
async fn a_repair_beside_a_writer_loses_nothing() {
    let (world, a) = with_history().await;
    world.objects.delete(&first_pack(&world).await).await.unwrap();
    let b = world.machine("b");
    b.mount.write("from-b", "b");
    let (pushed, (report, _)) = tokio::join!(b.push(), repair(&world, false));
    assert!(pushed.result.is_ok() && report.beyond == 0);
    let (_, told) = check(&world, ReadData::All).await;
    let head = told.contexts.lock().unwrap()[0].snapshots[0].clone();
    assert!(head.is_whole(), "{head:?}");
    let listed = world.store().entry(&*world.head().await, &"from-b".parse().unwrap()).await;
    assert!(listed.is_ok());
    drop(a);
}

/// A mark does not count where a tag outdoes it, so the snapshot is checked; and the tag is checked itself.
#[tokio::test]
async fn a_tagged_snapshot_is_checked_although_it_is_marked_and_so_is_its_tag() {
    let (world, _) = with_history().await;
    let lineage = world.head().await.lineage;
    for (number, tag) in [(2, "v1"), (3, "v2")] {
        world.store().tag(&context(), At::Number(number), &tag.parse().unwrap()).await.unwrap();
        let mark = StoreKey::Gone { context: context(), number }.path();
        world.objects.put(&mark, PutPayload::new()).await.unwrap();
    }
    let key = |number| StoreKey::Snapshot { context: context(), number }.path();
    let tag = StoreKey::Tag { context: context(), lineage, name: "v1".parse().unwrap() }.path().to_string();
    let found = || async {
        let (report, told) = check(&world, ReadData::None).await;
        let named = Told::default();
        let options = CheckOptions { contexts: vec![context()], ..options(ReadData::None) };
        world.store().check(&options, &named).await.unwrap();
        let (mut all, named) = (told.contexts.into_inner().unwrap(), named.contexts.into_inner().unwrap());
        assert_eq!(format!("{all:?}"), format!("{named:?}"));
        let found = all.remove(0);
        assert_eq!(report.unwrap().is_whole(), found.is_whole());
        found
    };
    let whole = found().await;
    assert!(whole.is_whole() && whole.odd.is_empty(), "{whole:?}");
    assert_eq!(whole.snapshots.iter().map(|s| s.number).collect::<Vec<_>>(), [4, 3, 2, 1]);
    // One that was erased is forgotten, whatever has a tag.
    world.objects.put(&key(3), PutPayload::new()).await.unwrap();
    let odd = found().await;
    assert!(odd.is_whole());
    assert_eq!(odd.odd, ["the tag v2 of work keeps nothing: its snapshot 3 is forgotten"]);
    world.objects.put(&key(2), PutPayload::from_static(b"CSsn nonsense")).await.unwrap();
    let of_tag = |found: &CheckedContext| {
        found
            .damage
            .iter()
            .filter(|damage| damage.key == tag)
            .map(|damage| damage.what.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of_tag(&found().await), ["its snapshot 2 can't be read"]);
    world.objects.delete(&key(2)).await.unwrap();
    world.objects.delete(&StoreKey::Gone { context: context(), number: 2 }.path()).await.unwrap();
    assert_eq!(of_tag(&found().await), ["its snapshot 2 is not in the store"]);
    world.objects.put(&tag.clone().into(), PutPayload::from_static(b"CStg nonsense")).await.unwrap();
    assert!(of_tag(&found().await)[0].starts_with("it is damaged"));
}

/// Each kind of store says in other words that a range begins where the object has ended.
#[tokio::test]
async fn s2_a_pack_that_ends_before_its_content_is_damage_on_every_kind_of_store() {
    let server = S3Server::start().unwrap();
    let url = StoreUrl::parse(&server.url("prefix"), std::path::Path::new("/")).unwrap();
    let options = StoreOptions::default().with_env(server.env());
    let bucket = storage_backends::open(&url, &options).unwrap().store;
    for world in [World::memory().await, World::local().await, World::over(bucket).await] {
        let a = world.machine("a");
        a.mount.write("big", Random::new(1).bytes(3 << 20));
        a.push().await.clean();
        let pack = first_pack(&world).await;
        // Another context has nothing to do with that.
        let mut b = world.machine("b");
        b.context = "other".parse().unwrap();
        b.mount.write("f", "whole");
        b.push().await.clean();
        let packs = keys(&world, "packs").await;
        let small = packs.iter().map(|(key, _)| key).find(|key| **key != pack).unwrap();
        let (long, short) = (bytes(&world, &pack).await, bytes(&world, small).await);
        // Two thirds of it, nothing of it, and another pack.
        for left in [long[..2 << 20].to_vec(), Vec::new(), short] {
            world.objects.put(&pack, left.into()).await.unwrap();
            let (report, told) = check(&world, ReadData::All).await;
            assert_eq!(report.unwrap().damaged_contexts, 1);
            assert_eq!(told.files(), ["big"]);
            let (report, told) = repair(&world, true).await;
            assert_eq!((report.repaired, report.failed), (1, 0), "{:?}", told.repaired);
            assert_eq!(told.files(), ["big LeftOut"]);
            let pulled = world.machine("c").pull().await;
            assert_eq!(pulled.report().failed, 1, "{:?}", pulled.noted);
        }
        assert_eq!(repair(&world, false).await.0.left_out, 1);
        assert_eq!(repair(&world, false).await.0.repaired, 0, "the new head is whole");
    }
}

#[tokio::test]
async fn what_stops_the_repair_of_one_context_does_not_stop_the_others() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let faulty = Faulty::new(inner, 1);
    let world = World::over(Arc::new(faulty.clone())).await;
    let mut packs = Vec::new();
    for name in ["one", "two"] {
        let mut machine = world.machine(name);
        machine.context = name.parse().unwrap();
        machine.mount.write("f", name);
        machine.push().await.clean();
        let known: Vec<Path> = keys(&world, "packs").await.into_iter().map(|(key, _)| key).collect();
        packs.push(known.into_iter().find(|key| !packs.contains(key)).unwrap());
    }
    world.objects.delete(&packs[1]).await.unwrap();
    // Who can't read a pack for now must not take it for lost.
    let sealed = packs[0].clone();
    faulty.add(Rule::new(Fault::Denied).on(Operation::Get).with_key(move |key| *key == sealed));
    let (report, told) = repair(&world, false).await;
    assert_eq!((report.failed, report.repaired, report.left_out), (1, 1, 1));
    let why = told.repaired.lock().unwrap()[0].failed.clone().unwrap();
    assert!(why.contains(packs[0].as_ref()), "{why}");
    faulty.clear();
    let checked = check(&world, ReadData::All).await.1.contexts.into_inner().unwrap();
    assert!(checked.iter().all(|context| context.snapshots[0].is_whole()), "{checked:?}");
}

/// Forgets what is damaged, and returns what was told of the only context.
async fn forget(world: &World) -> Repaired {
    let told = Told::default();
    let forget = RepairOptions { forget_damaged: true, ..repairing(false) };
    world.store().repair(&forget, &told).await.unwrap();
    told.repaired.into_inner().unwrap().remove(0)
}

/// Expects that nothing is damaged or odd, that collections and pushes work, and that the log has these numbers.
async fn assert_healthy(world: &World, machine: &Machine, numbers: &[u64]) {
    let (report, told) = check(world, ReadData::All).await;
    assert!(report.unwrap().is_whole(), "{:?}", told.contexts);
    assert_eq!(told.contexts.lock().unwrap()[0].odd, [""; 0]);
    let log = world.store().log(&context()).await.unwrap();
    assert_eq!(log.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>(), numbers);
    let collected = world.store().collect(&CollectOptions::default(), &Silent).await.unwrap();
    assert_eq!(collected.unreadable, 0);
    machine.mount.write("later", "later");
    machine.push().await.clean();
    assert!(check(world, ReadData::All).await.0.unwrap().is_whole());
}

#[tokio::test]
async fn an_older_snapshot_that_is_missing_can_be_forgotten() {
    for lost in 1..4 {
        let (world, a) = with_history().await;
        let key = StoreKey::Snapshot { context: context(), number: lost }.path();
        world.objects.delete(&key).await.unwrap();
        assert!(!check(&world, ReadData::None).await.0.unwrap().is_whole());
        let (report, told) = repair(&world, false).await;
        assert_eq!(report.repaired, 0, "the head is whole");
        assert_eq!(told.repaired.lock().unwrap()[0].damaged_left, [lost]);
        let repaired = forget(&world).await;
        assert_eq!((&repaired.forgotten[..], repaired.snapshot), (&[lost][..], None));
        let left: Vec<u64> = (1..=4).rev().filter(|number| *number != lost).collect();
        assert_healthy(&world, &a, &left).await;
    }
}

#[tokio::test]
async fn a_snapshot_in_the_place_of_another_can_be_forgotten() {
    let (world, a) = with_history().await;
    let key = |number| StoreKey::Snapshot { context: context(), number }.path();
    let head = bytes(&world, &key(4)).await;
    // A part of the store was restored from a backup.
    for number in [4, 3] {
        world.objects.delete(&key(number)).await.unwrap();
    }
    let b = world.machine("b");
    b.mount.write("other", "other");
    b.push().await.clean();
    world.objects.put(&key(4), head.into()).await.unwrap();
    assert!(!check(&world, ReadData::None).await.0.unwrap().is_whole());
    assert_eq!(forget(&world).await.forgotten, [3]);
    assert_healthy(&world, &a, &[4, 2, 1]).await;
}

/// What a newer program wrote is not damaged. S5: nothing is written.
#[tokio::test]
async fn s5_a_repair_leaves_what_a_newer_program_wrote() {
    for number in [3, 4] {
        let (world, _) = with_history().await;
        let key = StoreKey::Snapshot { context: context(), number }.path();
        let mut newer = bytes(&world, &key).await;
        newer[4] = 9;
        let body = newer.len() - 32;
        let digest = Sha256::digest(&newer[..body]);
        newer[body..].copy_from_slice(&digest);
        world.objects.put(&key, newer.into()).await.unwrap();
        let before = keys(&world, "contexts").await;
        let repaired = forget(&world).await;
        assert_eq!(keys(&world, "contexts").await, before, "{repaired:?}");
        assert_eq!(
            (repaired.failed.is_some(), repaired.damaged_left.contains(&3)),
            (number == 4, number == 3)
        );
    }
}

#[tokio::test]
async fn a_repair_deletes_tags_that_cannot_be_read() {
    let (world, a) = with_history().await;
    let lineage = world.head().await.lineage;
    for tag in ["whole", "empty", "nonsense"] {
        world.store().tag(&context(), At::Number(2), &tag.parse().unwrap()).await.unwrap();
    }
    let key = |tag: &str| StoreKey::Tag { context: context(), lineage, name: tag.parse().unwrap() }.path();
    world.objects.put(&key("empty"), PutPayload::new()).await.unwrap();
    world.objects.put(&key("nonsense"), PutPayload::from_static(b"CStg nonsense")).await.unwrap();
    let untagged = |told: &Told| -> Vec<String> {
        told.repaired.lock().unwrap()[0].untagged.iter().map(ToString::to_string).collect()
    };
    let (_, told) = repair(&world, true).await;
    assert_eq!(untagged(&told), ["empty", "nonsense"]);
    assert!(!check(&world, ReadData::None).await.0.unwrap().is_whole(), "nothing was done");
    assert_eq!(untagged(&repair(&world, false).await.1), ["empty", "nonsense"]);
    assert_eq!(world.store().tags(&context()).await.unwrap()[&2].len(), 1);
    assert_healthy(&world, &a, &[4, 3, 2, 1]).await;
    // The snapshot of a tag is gone, and it was the newest one.
    world.store().tag(&context(), At::Head, &"gone".parse().unwrap()).await.unwrap();
    world.objects.delete(&StoreKey::Snapshot { context: context(), number: 5 }.path()).await.unwrap();
    assert_eq!(untagged(&repair(&world, false).await.1), [""; 0], "it may be put back");
    assert_eq!(forget(&world).await.untagged.len(), 1);
    assert!(check(&world, ReadData::None).await.0.unwrap().is_whole());
}

/// What this user may not read now is neither damaged nor forgotten: others can read it.
#[tokio::test]
async fn a_snapshot_whose_pack_may_not_be_read_is_not_forgotten() {
    let faulty = Faulty::new(Arc::new(InMemory::new()), 1);
    let world = World::over(Arc::new(faulty.clone())).await;
    let machine = world.machine("a");
    machine.mount.write("old", "old").write("kept", "1");
    machine.push().await.clean();
    let sealed = keys(&world, "packs").await.remove(0).0;
    machine.mount.remove("old").write("kept", "2");
    machine.push().await.clean();
    faulty.add(Rule::new(Fault::Denied).with_key(move |key| *key == sealed));
    let told = Told::default();
    let forget = RepairOptions { forget_damaged: true, ..repairing(false) };
    let repaired = world.store().repair(&forget, &told).await;
    assert!(repaired.is_err() || repaired.unwrap().failed == 1, "{:?}", told.repaired);
    faulty.clear();
    let log = world.store().log(&context()).await.unwrap();
    assert_eq!(log.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>(), [3, 2, 1]);
    assert!(check(&world, ReadData::All).await.0.unwrap().is_whole());
}
