//! What a repair makes of what is damaged.

use std::collections::BTreeSet;
use std::sync::Arc;

use ctxsync_tests::compare::{assert_same_but_times, paths};
use ctxsync_tests::machine::World;
use ctxsync_tests::random::Random;
use ctxsync_tests::repairing::repairing;
use ctxsync_tests::s3::S3Server;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use storage_backends::{StoreOptions, StoreUrl};
use transfer_engine::{ContextName, ReadData, RepairOptions};

use crate::{Told, bytes, check, first_pack, flip, keys, repair, with_history};

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
    let forget = RepairOptions { forget_damaged: true, ..repairing(ReadData::All) };
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
