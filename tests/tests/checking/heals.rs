//! Pushes that send again what the store has lost.

use ctxsync_tests::compare::{assert_same_but_times, paths};
use ctxsync_tests::machine::World;
use ctxsync_tests::repairing::repairing;
use object_store::ObjectStoreExt;
use transfer_engine::{ReadData, RepairOptions};

use crate::{Told, check, first_pack, keys, with_history};

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

/// A machine that could heal keeps its copy, also if another one writes in its place before it syncs.
#[tokio::test]
async fn what_is_left_out_stays_where_it_is_whatever_comes_in_its_place() {
    for in_place in ["d/x", "d"] {
        let world = World::memory().await;
        let (a, b) = (world.machine("a"), world.machine("b"));
        a.mount.write("k", "1");
        a.push().await.clean();
        a.mount.write("d/x", "the last copy ".repeat(20));
        a.push().await.clean();
        b.mount.write("k", "1");
        for (pack, _) in keys(&world, "packs").await {
            world.objects.delete(&pack).await.unwrap();
        }
        let options = RepairOptions { forget_damaged: true, ..repairing(ReadData::All) };
        let repaired = world.store().repair(&options, &Told::default()).await.unwrap();
        assert_eq!(repaired.left_out, 2, "`k` and `d/x`");
        b.sync().await;
        b.mount.write(in_place, "another");
        b.push().await.clean();
        for _ in 0..2 {
            a.sync().await;
            assert_eq!(a.mount.read("d/x"), "the last copy ".repeat(20));
        }
        let copy = paths(&a.mount.0).into_iter().find(|path| path.contains(".conflict-")).unwrap();
        assert_eq!(a.mount.read(copy), "another");
    }
}
