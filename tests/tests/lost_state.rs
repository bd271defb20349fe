//! A mount, a state or a context that was lost or replaced: nothing is deleted because of it.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::compare::{assert_same, assert_same_but_times, paths};
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{Machine, World, context};
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use transfer_engine::{CollectOptions, Error, MaxDelete, Retention, Silent};

async fn two(files: usize) -> (World, Machine, Machine) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    for i in 0..files {
        a.mount.write(format!("d{}/f{i}", i % 3), format!("content {i}"));
    }
    a.push().await.clean();
    b.pull().await.clean();
    (world, a, b)
}

#[tokio::test]
async fn d1_d2_a_lost_mount_deletes_nothing_and_is_filled_again() {
    for missing in [false, true] {
        let (_world, a, b) = two(6).await;
        b.mount.clear();
        if missing {
            std::fs::remove_dir(&b.mount.0).unwrap();
        }
        let pushed = b.push().await;
        assert_eq!(
            (pushed.report().held_back, pushed.report().deleted),
            (6, 0),
            "{missing} {:?}",
            pushed.noted
        );
        assert_eq!(pushed.report().snapshot, Some(2));
        b.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
        assert_eq!(b.push().await.clean().snapshot, Some(2));
    }
}

#[tokio::test]
async fn d2_additions_to_an_emptied_mount_are_uploaded() {
    let (_world, a, b) = two(6).await;
    b.mount.clear().write("new", "n").dir("d0");
    let pushed = b.push().await;
    assert_eq!((pushed.report().held_back, pushed.report().added), (6, 1), "{:?}", pushed.noted);
    a.pull().await.clean();
    assert_eq!(a.mount.read("new"), "n");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn d2_a_flag_lets_the_deletions_of_an_emptied_mount_through() {
    for missing in [false, true] {
        let (world, _, mut b) = two(6).await;
        b.mount.clear();
        if missing {
            std::fs::remove_dir(&b.mount.0).unwrap();
        }
        b.options.allow_empty_mount = true;
        b.options.dry_run = true;
        assert_eq!(b.push().await.clean().deleted, 6);
        b.options.dry_run = false;
        assert_eq!(b.push().await.clean().deleted, 6);
        assert_eq!(world.head().await.totals.files, 0);
        assert_eq!(b.mount.0.exists(), !missing);
    }
}

/// An empty context does not delete everything here, with or without white lists.
#[tokio::test]
async fn d6_a_head_that_is_suddenly_empty_deletes_nothing() {
    for policy in ["{}", r#"{"bwList": {"whiteLists": [{"path": "d1"}, {"path": "d2"}]}}"#] {
        let (_world, mut a, b) = two(6).await;
        let mut b = b.with_policy(policy);
        b.pull().await.clean();
        a.mount.clear();
        if policy != "{}" {
            a.mount.write("elsewhere", "x");
        }
        a.options.allow_empty_mount = true;
        a.push().await.clean();
        let count = if policy == "{}" { 6 } else { 4 };
        for warning in ["treating it as lost", "deletions are still held back"] {
            let held = b.pull().await;
            assert_eq!((held.report().held_back, held.report().deleted), (count, 0), "{:?}", held.noted);
            assert!(held.warned(warning), "{:?}", held.noted);
            assert!(b.mount.has("d1/f1"));
            // A push does not restore the deleted files in the context either.
            assert_eq!(b.push().await.report().added, 0);
        }
        b.options.dry_run = true;
        assert_eq!(b.pull().await.report().held_back, count);
        b.options.dry_run = false;
        b.options.allow_empty_mount = true;
        assert_eq!(b.pull().await.clean().deleted, count);
        assert!(!b.mount.has("d1"));
    }
}

/// A context that has lost its files and kept a directory counts as emptied. One of directories alone does not.
#[tokio::test]
async fn d6_a_head_with_nothing_but_directories_deletes_no_file() {
    let (_world, mut a, b) = two(4).await;
    b.pull().await.clean();
    a.mount.clear();
    a.mount.dir("d1").dir("d2");
    a.options.allow_empty_mount = true;
    a.push().await.clean();
    let held = b.pull().await;
    assert_eq!((held.report().held_back, held.report().deleted), (4, 0), "{:?}", held.noted);
    assert!(held.warned("missing from the context; treating it as lost"), "{:?}", held.noted);
    let (_world, a, b) = two(0).await;
    a.mount.dir("d1").dir("d2");
    a.push().await.clean();
    b.pull().await.clean();
    std::fs::remove_dir(a.mount.at("d1")).unwrap();
    a.push().await.clean();
    assert_eq!(b.pull().await.clean().deleted, 1);
}

/// What stayed when the context was emptied is not deleted because new files were pushed since, from here or elsewhere.
#[tokio::test]
async fn d6_new_files_in_an_emptied_context_do_not_end_the_guard() {
    for from_here in [true, false] {
        let (world, mut a, mut b) = two(6).await;
        a.mount.clear();
        a.options.allow_empty_mount = true;
        a.push().await.clean();
        assert_eq!(b.pull().await.report().held_back, 6);
        if from_here {
            b.mount.write("new", "n");
            assert_eq!(b.push().await.report().added, 1);
        } else {
            a.mount.write("new", "n");
            a.push().await.clean();
        }
        for _ in 0..2 {
            let held = b.pull().await;
            assert_eq!((held.report().held_back, held.report().deleted), (6, 0), "{:?}", held.noted);
            assert!(b.mount.has("new") && b.mount.has("d1/f1"));
        }
        // What comes back is synced as before, what was edited is sent, and the rest stays until it is allowed to go.
        a.pull().await.clean();
        a.mount.write("d1/f1", "content 1").write("d2/f2", "other");
        a.push().await.clean();
        b.mount.write("d0/f0", "edited");
        assert_eq!(b.pull().await.report().held_back, 3);
        assert_eq!(b.mount.read("d2/f2"), "other");
        a.mount.remove("d1/f1");
        a.push().await.clean();
        let pulled = b.pull().await;
        assert_eq!((pulled.report().held_back, pulled.report().deleted), (3, 1), "{:?}", pulled.noted);
        assert!(!b.mount.has("d1/f1"));
        assert_eq!(b.push().await.report().added, 1);
        b.options.allow_empty_mount = true;
        assert_eq!(b.pull().await.clean().deleted, 3);
        a.pull().await.clean();
        assert_same_but_times(&a.mount.0, &b.mount.0);
        assert_eq!(world.head().await.totals.files, 3);
    }
}

/// An empty mount, and an emptied context, are lost also where only some paths are synced.
#[tokio::test]
async fn d1_d6_a_lost_side_deletes_nothing_of_some_paths() {
    let (world, a, mut b) = two(6).await;
    b.options.only = vec![TreePath::new(*b"d1").unwrap()];
    b.mount.clear();
    let pushed = b.push().await;
    assert_eq!((pushed.report().held_back, pushed.report().deleted), (2, 0), "{:?}", pushed.noted);
    assert_eq!(b.pull().await.clean().added, 2);
    b.options.only.clear();
    assert_eq!(b.pull().await.clean().added, 4);
    assert_same(&a.mount.0, &b.mount.0);
    let mut a = a;
    a.mount.clear();
    a.options.allow_empty_mount = true;
    a.push().await.clean();
    assert_eq!(world.head().await.totals.files, 0);
    b.options.only = vec![TreePath::new(*b"d1").unwrap()];
    let pulled = b.pull().await;
    assert_eq!((pulled.report().held_back, pulled.report().deleted), (2, 0), "{:?}", pulled.noted);
    // Where other files are in the mount, these were deleted.
    let (_world, a, mut b) = two(6).await;
    b.options.only = vec![TreePath::new(*b"d1").unwrap()];
    std::fs::remove_dir_all(b.mount.at("d1")).unwrap();
    assert_eq!(b.push().await.clean().deleted, 2);
    assert_eq!(a.pull().await.clean().deleted, 2);
}

/// If everything has changed, nothing is deleted: the changes are pushed, and the history has the old
/// versions.
#[tokio::test]
async fn d5_everything_changed_is_saved_beside_what_was() {
    let (world, a, b) = two(6).await;
    for i in 0..6 {
        b.mount.write(format!("d{}/f{i}", i % 3), format!("scrambled {i}"));
    }
    assert_eq!(b.push().await.clean().changed, 6);
    assert_eq!((world.head().await.parent.is_some(), world.head().await.number), (true, 3));
    assert_eq!(a.pull().await.clean().changed, 6);
    assert_same(&a.mount.0, &b.mount.0);
}

/// D4: a dangling link is no mount, and a link to an empty directory is a new mount.
#[tokio::test]
async fn d4_a_mount_that_is_a_link_deletes_nothing() {
    let (world, _, b) = two(3).await;
    let outside = world.outside();
    for target in [outside.0.join("nowhere"), outside.0.clone()] {
        if b.mount.0.symlink_metadata().unwrap().is_dir() {
            b.mount.clear();
            std::fs::remove_dir(&b.mount.0).unwrap();
        } else {
            std::fs::remove_file(&b.mount.0).unwrap();
        }
        std::os::unix::fs::symlink(&target, &b.mount.0).unwrap();
        let ended = b.push().await;
        if let Ok(report) = &ended.result {
            assert_eq!(report.deleted, 0, "{:?}", ended.noted);
        }
        assert_eq!(world.head().await.totals.files, 3);
        assert!(b.mount.0.symlink_metadata().unwrap().is_symlink());
    }
}

#[tokio::test]
async fn d3_more_deletions_than_the_guard_allows_are_held_back_in_both_directions() {
    let (_world, a, mut b) = two(10).await;
    b.mount.remove("d1");
    b.options.max_delete = Some(MaxDelete::Count(2));
    let held = b.push().await;
    assert_eq!((held.report().held_back, held.report().deleted), (3, 0), "{:?}", held.noted);
    b.options.max_delete = Some(MaxDelete::Percent(29));
    assert_eq!(b.push().await.report().held_back, 3);
    b.options.max_delete = Some(MaxDelete::Percent(30));
    assert_eq!(b.push().await.clean().deleted, 3);

    let mut a = a.with_policy(r#"{"deletePolicy": {"maxDeletePercent": 10}}"#);
    let held = a.pull().await;
    assert_eq!((held.report().held_back, held.report().deleted), (3, 0), "{:?}", held.noted);
    assert!(a.mount.has("d1/f1"));
    // A deletion that is held back here is not undone in the context.
    assert_eq!(a.push().await.report().snapshot, Some(3));
    a.options.max_delete = Some(MaxDelete::Count(3));
    assert_eq!(a.pull().await.clean().deleted, 3);
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn d4_a_mount_that_is_a_file_is_left_alone() {
    let (world, _, b) = two(3).await;
    b.mount.clear();
    std::fs::remove_dir(&b.mount.0).unwrap();
    std::fs::write(&b.mount.0, "a file").unwrap();
    assert!(matches!(b.push().await.error(), Error::Local { .. }));
    assert!(matches!(b.pull().await.error(), Error::Local { .. }));
    assert_eq!(std::fs::read(&b.mount.0).unwrap(), b"a file");
    assert_eq!(world.head().await.number, 2);
}

#[tokio::test]
async fn local_deletions_stay_local_without_sync_local_file() {
    let (_world, a, b) = two(6).await;
    let b = b.with_policy(r#"{"deletePolicy": {"syncLocalFile": false}}"#);
    b.mount.remove("d1/f1").write("d1/f4", "changed");
    let pushed = b.push().await;
    assert_eq!((pushed.clean().deleted, pushed.clean().changed), (0, 1));
    // The file is restored, even if the head has not changed.
    for _ in 0..2 {
        b.pull().await.clean();
        assert_eq!(b.mount.read("d1/f1"), "content 1");
        b.mount.remove("d1/f1");
    }
    a.pull().await.clean();
    assert_eq!(a.mount.read("d1/f1"), "content 1");
    // Deletions in the context are still applied here.
    b.pull().await.clean();
    a.mount.remove("d2");
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn p15_lost_state_deletes_nothing_on_either_side() {
    let (_world, a, b) = two(6).await;
    a.mount.remove("d0/f0").write("d1/f1", "changed by a");
    a.push().await.clean();
    b.mount.remove("d2/f2").write("mine", "b");
    b.lose_state();
    let ended = b.push().await;
    // Without the state it is unknown which side changed a file, so two versions are a conflict.
    assert_eq!((ended.report().deleted, ended.report().conflicts), (0, 1));
    b.pull().await.clean();
    assert!(b.mount.has("d2/f2") && b.mount.has("d0/f0") && b.mount.has("mine"));
    a.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn p15_corrupt_state_deletes_nothing_on_either_side() {
    let (_world, _, b) = two(40).await;
    let base = b.base_file();
    let whole = std::fs::read(&base).unwrap();
    let mut places: Vec<usize> = (0..whole.len()).step_by(whole.len() / 24).collect();
    places.push(whole.len() - 1);
    for place in places {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&base, &bytes).unwrap();
        let pulled = b.pull().await;
        assert_eq!((pulled.clean().deleted, pulled.clean().added), (0, 0), "byte {place}");
        std::fs::write(&base, &bytes).unwrap();
        let pushed = b.push().await;
        assert_eq!((pushed.clean().deleted, pushed.clean().snapshot), (0, Some(2)), "byte {place}");
    }
    for len in [0, 100, 512, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&base, &whole[..len]).unwrap();
        assert_eq!(b.pull().await.clean().deleted, 0, "{len} bytes");
        std::fs::write(&base, &whole[..len]).unwrap();
        assert_eq!(b.push().await.clean().snapshot, Some(2), "{len} bytes");
    }
    b.mount.write("d0/f0", "edited");
    assert_eq!(b.push().await.clean().changed, 1, "it has found its way back");
}

#[tokio::test]
async fn p15_a_corrupt_cache_costs_requests_only() {
    let (_world, a, b) = two(6).await;
    for entry in walkdir::WalkDir::new(&b.state).into_iter().flatten() {
        if entry.path().parent().unwrap().ends_with("cache") {
            std::fs::write(entry.path(), "nonsense").unwrap();
        }
    }
    b.mount.write("d0/f0", "edited");
    b.push().await.clean();
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn w15_a_context_made_again_under_a_base_deletes_nothing() {
    let (world, a, b) = two(6).await;
    world.store().delete_context(&context()).await.unwrap();
    assert!(matches!(b.pull().await.error(), Error::NoContext { .. }));
    a.mount.remove("d1").write("d0/f0", "second life");
    a.push().await.clean();
    b.mount.write("mine", "b");
    let pulled = b.pull().await;
    assert!(pulled.warned("was deleted since the last sync"), "{:?}", pulled.noted.warnings);
    assert_eq!((pulled.report().deleted, pulled.report().conflicts), (0, 1));
    assert!(b.mount.has("d1/f1") && b.mount.has("mine"));
    assert_eq!(b.push().await.clean().deleted, 0);
    a.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert!(a.mount.has("d1/f1"));
}

#[tokio::test]
async fn w15_a_deleted_context_is_made_again_by_a_push_and_loses_nothing() {
    let (world, a, b) = two(6).await;
    world.store().delete_context(&context()).await.unwrap();
    assert!(matches!(world.store().head(&context()).await, Err(Error::NoContext { .. })));
    b.push().await.clean();
    assert_eq!(world.head().await.totals.files, 6);
    assert!(world.head().await.number > 3, "numbers are never used twice");
    assert_eq!(a.pull().await.clean().deleted, 0);
    assert_same(&a.mount.0, &b.mount.0);
}

/// What was read was compared with a base of the context's last life: the next one needs all files, not only those.
#[tokio::test(start_paused = true)]
async fn w15_a_context_that_is_deleted_during_a_push_is_made_again_with_all_files() {
    let (world, mut a, b) = two(6).await;
    a.mount.write("new", "1").remove("d2/f2");
    let (once, other) = (Arc::new(AtomicBool::new(true)), world.store());
    a.objects = BeforePut::new(Arc::clone(&world.objects), move |key| {
        let deletes = key.as_ref().starts_with("contexts") && once.swap(false, Ordering::SeqCst);
        let other = other.clone();
        async move {
            if deletes {
                other.delete_context(&context()).await.unwrap();
            }
        }
        .boxed()
    });
    let pushed = a.push().await;
    assert!(pushed.warned("was deleted since the last sync"), "{:?}", pushed.noted.warnings);
    assert_eq!(pushed.report().added, 6);
    assert_eq!(world.head().await.totals.files, 6);
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_same(&a.mount.0, &fresh.mount.0);
    assert_eq!(b.pull().await.report().deleted, 0);
}

#[tokio::test]
async fn w3_a_base_whose_snapshot_was_collected_loses_nothing() {
    let (world, a, b) = two(6).await;
    for round in 0..3 {
        a.mount.write("d1/f1", format!("a {round}")).write(format!("new{round}"), "a");
        a.push().await.clean();
    }
    let retention = Retention { last: NonZeroU64::new(1), ..Retention::default() }.into();
    let options = CollectOptions { retention, exclusive: true, ..CollectOptions::default() };
    world.store().collect(&options, &Silent).await.unwrap();
    assert_eq!(world.store().log(&context()).await.unwrap().len(), 1);
    b.mount.write("d1/f1", "b").write("mine", "b").remove("d2/f2");
    let ended = b.sync().await;
    let report = ended.report();
    assert_eq!((report.conflicts, report.failed), (1, 0), "{:?}", ended.noted);
    assert_eq!(b.mount.read("d1/f1"), "b");
    a.pull().await.report();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    let there = paths(&a.mount.0);
    for path in ["mine", "new0", "new2", "d0/f0", "d1/f4"] {
        assert!(there.iter().any(|found| found == path), "{path}: {there:?}");
    }
    let copy = there.iter().find(|path| path.starts_with("d1/") && path.contains("conflict"));
    assert_eq!(a.mount.read(copy.unwrap()), "a 2");
}

/// Returns the keys of all snapshots, newest first.
async fn snapshots(objects: &dyn ObjectStore) -> Vec<object_store::path::Path> {
    let mut keys: Vec<_> =
        objects.list(Some(&"contexts".into())).map_ok(|m| m.location).try_collect().await.unwrap();
    keys.sort();
    keys
}

#[tokio::test]
async fn s13_a_head_that_was_rolled_back_deletes_nothing() {
    let (world, a, b) = two(6).await;
    a.mount.write("late", "l").write("d0/f0", "late");
    a.push().await.clean();
    b.pull().await.clean();
    let newest = snapshots(&world.objects).await.remove(0);
    world.objects.delete(&newest).await.unwrap();
    let pulled = b.pull().await;
    assert!(pulled.warned("older state"), "{:?}", pulled.noted.warnings);
    assert_eq!(pulled.report().deleted, 0);
    assert_eq!(b.mount.read("late") + &b.mount.read("d0/f0"), "llate");
    assert_eq!(b.push().await.report().deleted, 0);
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("late"), "l");
}

#[tokio::test]
async fn s13_a_head_of_the_same_number_with_another_content_deletes_nothing() {
    let (world, a, b) = two(6).await;
    a.mount.write("late", "l");
    a.push().await.clean();
    b.pull().await.clean();
    world.objects.delete(&snapshots(&world.objects).await.remove(0)).await.unwrap();
    let c = world.machine("c");
    c.pull().await.clean();
    c.mount.write("other", "o");
    c.push().await.clean();
    let pulled = b.pull().await;
    assert!(pulled.warned("history was changed"), "{:?}", pulled.noted.warnings);
    assert_eq!(pulled.report().deleted, 0);
    assert!(b.mount.has("late") && b.mount.has("other"));
}

#[tokio::test]
async fn s14_another_stores_context_is_refused() {
    let (_world, _, mut b) = two(6).await;
    let other = World::memory().await;
    let c = other.machine("c");
    c.mount.write("theirs", "t");
    c.push().await.clean();
    b.objects = Arc::clone(&other.objects);
    assert!(matches!(b.pull().await.error(), Error::OtherStore { .. }));
    assert!(matches!(b.push().await.error(), Error::OtherStore { .. }));
    assert_eq!(other.head().await.number, 2);
    assert!(b.mount.has("d1/f1") && !b.mount.has("theirs"));
}

#[tokio::test]
async fn s14_another_store_without_the_context_is_refused_as_well() {
    let (_world, _, mut b) = two(6).await;
    let other = World::memory().await;
    b.objects = Arc::clone(&other.objects);
    assert!(matches!(b.pull().await.error(), Error::NoContext { .. } | Error::OtherStore { .. }));
    // If the push succeeds, others must be able to use what it wrote.
    if b.push().await.result.is_ok() {
        let c = other.machine("c");
        c.pull().await.clean();
        c.pull().await.clean();
        assert_same(&b.mount.0, &c.mount.0);
    } else {
        assert!(snapshots(&other.objects).await.is_empty());
    }
}

#[tokio::test]
async fn n17_a_store_that_is_gone_is_no_empty_context() {
    let (_world, _, mut b) = two(6).await;
    b.objects = Arc::new(InMemory::new());
    assert!(matches!(b.pull().await.error(), Error::StoreGone { .. }));
    assert!(matches!(b.push().await.error(), Error::StoreGone { .. }));
    assert!(snapshots(&b.objects).await.is_empty());
    assert!(b.mount.has("d1/f1"));
}

/// A deletion that is held back is still held back at the next push, and reported again.
/// A pull by which the user allows deletions pushes nothing. It must not lose them either.
#[tokio::test]
async fn d2_deletions_that_a_pull_lets_through_are_left_to_the_push() {
    let (world, a, mut b) = two(2).await;
    b.mount.clear().write("new", "n");
    assert_eq!(b.push().await.report().held_back, 2);
    b.options.allow_empty_mount = true;
    b.pull().await.clean();
    b.options.allow_empty_mount = false;
    assert_eq!(paths(&b.mount.0), ["new"]);
    assert_eq!(b.push().await.clean().deleted, 2);
    assert_eq!(world.head().await.totals.files, 1);
    a.pull().await.clean();
    assert_eq!(paths(&a.mount.0), ["new"]);
}

#[tokio::test]
async fn d2_what_is_held_back_is_not_forgotten() {
    let (world, a, mut b) = two(6).await;
    b.mount.clear().write("new", "n");
    assert_eq!(b.push().await.report().held_back, 6);
    for _ in 0..2 {
        let again = b.push().await;
        assert_eq!((again.report().held_back, again.report().pending), (6, 0), "{:?}", again.noted);
        assert!(again.warned("still held back"), "{:?}", again.noted);
    }
    assert_eq!(world.head().await.totals.files, 7);
    b.options.allow_empty_mount = true;
    assert_eq!(b.push().await.clean().deleted, 6);
    a.pull().await.clean();
    assert_eq!(paths(&a.mount.0), ["new"]);
}
