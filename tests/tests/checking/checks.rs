//! What a check finds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ctxsync_tests::machine::{World, context};
use ctxsync_tests::random::Random;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use transfer_engine::format::StoreKey;
use transfer_engine::{At, CheckOptions, CheckedContext, CollectOptions, ReadData, Retention, Silent};

use crate::{Told, bytes, check, first_pack, flip, keys, options, with_history};

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
