//! Repairs that forget what is damaged, and delete its tags.

use std::sync::Arc;

use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::repairing::repairing;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use storage_backends::layer::{Fault, Faulty, Rule};
use transfer_engine::format::StoreKey;
use transfer_engine::{At, CollectOptions, ReadData, RepairOptions, Repaired, Silent};

use crate::{Told, bytes, check, keys, repair, with_history};

/// Forgets what is damaged, and returns what was told of the only context.
async fn forget(world: &World) -> Repaired {
    let told = Told::default();
    let forget = RepairOptions { forget_damaged: true, ..repairing(ReadData::All) };
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
    let forget = RepairOptions { forget_damaged: true, ..repairing(ReadData::All) };
    let repaired = world.store().repair(&forget, &told).await;
    assert!(repaired.is_err() || repaired.unwrap().failed == 1, "{:?}", told.repaired);
    faulty.clear();
    let log = world.store().log(&context()).await.unwrap();
    assert_eq!(log.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>(), [3, 2, 1]);
    assert!(check(&world, ReadData::All).await.0.unwrap().is_whole());
}
