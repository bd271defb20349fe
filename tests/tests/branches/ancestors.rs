//! The base of a merge: the newest snapshot that both contexts contain, through forks, renames and merges.

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::place::{GRACE, Place, name};
use object_store::ObjectStoreExt;
use policy_core::ConflictPolicy;
use transfer_engine::format::StoreKey;
use transfer_engine::{CollectOptions, Error, MergeOptions, Silent};

use crate::merging::{Files, files, fork, merge, merge_with, remove};

#[tokio::test]
async fn contexts_without_a_common_snapshot_are_merged_only_by_consent() {
    let place = Place::made(&HandClock::default()).await;
    place.write("one", "a", b"one").await;
    place.write("two", "a", b"two").await;
    place.write("one", "same", b"same").await;
    place.write("two", "same", b"same").await;
    place.write("one", "new", b"new").await;
    let store = place.store();
    let refused =
        store.merge_context(&name("one"), None, &name("two"), &MergeOptions::default(), &Silent).await;
    assert!(matches!(refused, Err(Error::Unrelated { .. })), "{refused:?}");
    let report =
        merge_with(&place, "one", "two", &MergeOptions { unrelated: true, ..Default::default() }).await;
    assert_eq!((report.added, report.conflicts), (2, 1));
    // From now on they are related.
    place.write("one", "new", b"newer").await;
    let report = merge(&place, "one", "two").await;
    assert_eq!((report.changed, report.conflicts), (1, 0));
}

#[tokio::test]
async fn ancestors_are_found_through_forks_merges_and_renames() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    let store = place.store();
    place.write("base", "x", b"0").await;
    fork(&place, "base", "left").await;
    fork(&place, "left", "leaf").await;
    fork(&place, "base", "right").await;
    // Cousins.
    place.write("leaf", "leaf", b"leaf").await;
    place.write("right", "right", b"right").await;
    assert_eq!(merge(&place, "leaf", "right").await.added, 1);
    // What came in by one merge is no conflict in the next.
    place.write("leaf", "leaf", b"leaf 2").await;
    assert_eq!(
        (merge(&place, "right", "base").await.added, merge(&place, "leaf", "base").await.changed),
        (2, 1)
    );
    // A renamed context is still the origin of its forks.
    store.rename_context(&name("base"), &name("main")).await.unwrap();
    place.write("main", "x", b"1").await;
    place.write("right", "x", b"2").await;
    let report = merge(&place, "right", "main").await;
    assert_eq!((report.conflicts, report.added), (1, 1));
    fork(&place, "main", "new").await;
    place.write("left", "left", b"left").await;
    let report = merge(&place, "left", "new").await;
    assert_eq!((report.added, report.changed, report.conflicts), (1, 0, 0));
    let report = merge(&place, "main", "left").await;
    assert_eq!(report.conflicts, 0);
    assert_eq!(files(&place, "left").await["x"], b"1");
}

#[tokio::test]
async fn forks_that_were_renamed_are_related_also_if_their_origin_was() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    let store = place.store();
    place.write("base", "x", b"0").await;
    for fork_name in ["left", "right"] {
        fork(&place, "base", fork_name).await;
        place.write(fork_name, fork_name, b"1").await;
    }
    for from in ["left", "right", "base"] {
        for at in 0..2 {
            let names = [from.to_owned(), format!("{from}-0"), format!("{from}-1")];
            store.rename_context(&name(&names[at]), &name(&names[at + 1])).await.unwrap();
        }
    }
    let report = merge(&place, "left-1", "right-1").await;
    assert_eq!((report.added, report.changed, report.deleted, report.conflicts), (1, 0, 0, 0));
}

/// A fork's first snapshot stands for its origin, which may have been forgotten.
#[tokio::test]
async fn a_forgotten_origin_is_known_from_the_fork() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    place.write("base", "x", b"0").await;
    place.write("base", "y", b"0").await;
    fork(&place, "base", "try").await;
    place.write("base", "x", b"1").await;
    place.write("try", "y", b"1").await;
    // A collection may keep both snapshots of the fork, and of the base only the head.
    for number in 1..=3 {
        let key = StoreKey::Gone { context: name("base"), number }.path();
        place.objects.put(&key, bytes::Bytes::new().into()).await.unwrap();
    }
    let report = merge(&place, "try", "base").await;
    assert_eq!((report.changed, report.conflicts), (1, 0));
    assert_eq!(
        files(&place, "base").await,
        Files::from([("x".into(), b"1".into()), ("y".into(), b"1".into())])
    );
}

/// Two contexts that merged each other's older states: of the two snapshots that both contain, the one that landed last
/// is the base. So a change that came from the other one may be in conflict, and the answer is the same every time.
#[tokio::test]
async fn criss_cross_merges_have_one_answer() {
    let mut answers = Vec::new();
    for _ in 0..3 {
        let clock = HandClock::default();
        let place = Place::made(&clock).await;
        place.write("base", "x", b"0").await;
        fork(&place, "base", "one").await;
        fork(&place, "base", "two").await;
        place.write("one", "x", b"1").await;
        clock.pass(10);
        place.write("two", "y", b"2").await;
        let store = place.store();
        let (old_one, old_two) = (
            store.head(&name("one")).await.unwrap().number as i64,
            store.head(&name("two")).await.unwrap().number as i64,
        );
        let at = async |from: &str, number, into: &str| {
            let options = MergeOptions::default();
            let merged = store.merge_context(&name(from), Some(number), &name(into), &options, &Silent).await;
            merged.unwrap()
        };
        at("one", old_one, "two").await;
        at("two", old_two, "one").await;
        place.write("one", "x", b"3").await;
        place.write("two", "z", b"4").await;
        let report = merge(&place, "one", "two").await;
        answers.push((report.added, report.changed, report.conflicts, files(&place, "two").await));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let (added, changed, conflicts, files) = &answers[0];
    assert_eq!((*added, *changed, *conflicts), (1, 0, 1));
    let kept: Vec<_> = files.iter().filter(|(path, _)| path.starts_with('x')).map(|(_, c)| &c[..]).collect();
    assert_eq!(kept, [b"1", b"3"]);
}

/// What was merged and then undone on purpose is not done again, by whatever way the common snapshot is found.
#[tokio::test]
async fn what_was_merged_and_undone_stays_undone() {
    for way in ["again", "renamed", "renamed back", "criss-cross", "forgotten"] {
        let place = Place::made(&HandClock::default()).await;
        let store = place.store();
        for path in ["f", "k", "z"] {
            place.write("base", path, b"1").await;
        }
        fork(&place, "base", "one").await;
        fork(&place, "base", "two").await;
        remove(&place, "one", "k").await;
        place.write("one", "f", b"2").await;
        let at = store.head(&name("two")).await.unwrap().number as i64;
        merge(&place, "one", "two").await;
        if way == "criss-cross" {
            store
                .merge_context(&name("two"), Some(at), &name("one"), &MergeOptions::default(), &Silent)
                .await
                .unwrap();
            place.write("one", "n", b"n").await;
        }
        store.revert_context(&name("two"), at, "", false).await.unwrap();
        let undone = files(&place, "two").await;
        let mut from = name("one");
        let renames: &[&str] = match way {
            "renamed" => &["three"],
            "renamed back" => &["three", "one"],
            _ => &[],
        };
        for to in renames {
            store.rename_context(&from, &name(to)).await.unwrap();
            from = name(to);
        }
        if way == "forgotten" {
            let one = store.head(&from).await.unwrap().number;
            place.write("one", "n", b"n").await;
            let key = StoreKey::Gone { context: from.clone(), number: one }.path();
            place.objects.put(&key, bytes::Bytes::new().into()).await.unwrap();
        }
        let merged = store.merge_context(&from, None, &name("two"), &MergeOptions::default(), &Silent).await;
        if way == "forgotten" {
            assert!(matches!(merged, Err(Error::Unrelated { .. })), "{merged:?}");
            continue;
        }
        let mut found = files(&place, "two").await;
        found.remove("n");
        assert_eq!(found, undone, "{way}: {merged:?}");
    }
}

/// Each of two has merged an older state of the other, and one has undone it.
#[tokio::test]
async fn a_common_snapshot_that_is_not_the_base_still_has_a_say() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    let store = place.store();
    place.write("base", "f", b"1").await;
    place.write("base", "g", b"1").await;
    fork(&place, "base", "one").await;
    fork(&place, "base", "two").await;
    remove(&place, "one", "f").await;
    place.write("one", "g", b"2").await;
    clock.pass(10);
    let two = place.write("two", "h", b"1").await as i64;
    let one = store.head(&name("one")).await.unwrap().number as i64;
    let options = MergeOptions::default();
    store.merge_context(&name("one"), Some(one), &name("two"), &options, &Silent).await.unwrap();
    store.merge_context(&name("two"), Some(two), &name("one"), &options, &Silent).await.unwrap();
    store.revert_context(&name("two"), two, "", false).await.unwrap();
    let report = merge(&place, "one", "two").await;
    let merged = files(&place, "two").await;
    // What was restored is not deleted again, and what was put back is not replaced.
    assert_eq!((merged["f"].as_slice(), merged["g"].as_slice()), (&b"1"[..], &b"1"[..]), "{report:?}");
    assert_eq!((report.deleted, report.changed, report.conflicts), (0, 0, 1));
}

#[tokio::test]
async fn a_merge_that_changes_nothing_is_remembered_and_one_of_nothing_is_not() {
    let place = Place::made(&HandClock::default()).await;
    place.write("base", "f", b"1").await;
    for context in ["one", "two", "same", "idle"] {
        fork(&place, "base", context).await;
    }
    place.write("one", "f", b"one").await;
    place.write("two", "f", b"two").await;
    place.write("same", "f", b"two").await;
    let local = MergeOptions { conflict: ConflictPolicy::PreferLocal, ..MergeOptions::default() };
    assert!(merge_with(&place, "one", "two", &local).await.parent.is_some());
    // The decision stands.
    assert_eq!(merge(&place, "one", "two").await.conflicts, 0);
    // Both made the same change; what comes after it is no conflict.
    assert!(merge(&place, "same", "two").await.parent.is_some());
    place.write("two", "f", b"three").await;
    let report = merge(&place, "same", "two").await;
    assert_eq!((report.conflicts, report.parent), (0, None));
    // The fork has nothing of its own.
    assert_eq!(merge(&place, "idle", "two").await.parent, None);
}

/// However few snapshots a collection keeps, it keeps those that the next merges compare with; and no longer than that.
#[tokio::test]
async fn a_collection_keeps_what_merges_compare_with() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    let store = place.store();
    let retention = transfer_engine::Retention { last: std::num::NonZeroU64::new(1), ..Default::default() };
    let collect = async || {
        for _ in 0..3 {
            place.collect(CollectOptions { retention: retention.into(), ..Default::default() }).await;
            clock.pass(GRACE + 60);
        }
    };
    let kept = async |context: &str| {
        let log = store.log(&name(context)).await.unwrap();
        log.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>()
    };
    for path in ["f", "g", "h"] {
        place.write("base", path, b"0").await;
    }
    fork(&place, "base", "try").await;
    // It is found again when the name has changed.
    store.rename_context(&name("base"), &name("main")).await.unwrap();
    // Of each of its names, the fork has one snapshot.
    for (number, base, left) in [(1, "main", 2), (2, "main", 3), (3, "other", 3)] {
        let content = format!("{number}");
        place.write("try", "f", content.as_bytes()).await;
        place.write(if number < 3 { base } else { "main" }, "g", content.as_bytes()).await;
        if number == 3 {
            store.rename_context(&name("main"), &name(base)).await.unwrap();
        }
        collect().await;
        assert_eq!(kept(base).await.len(), left, "{number}: the head, and what the fork has of it");
        let report = merge(&place, "try", base).await;
        assert_eq!(
            (report.changed, report.conflicts, report.added, report.deleted),
            (1, 0, 0, 0),
            "{number}"
        );
        let report = merge(&place, base, "try").await;
        assert_eq!(
            (report.changed, report.conflicts, report.added, report.deleted),
            (1, 0, 0, 0),
            "{number}"
        );
    }
    place.write("other", "h", b"1").await;
    collect().await;
    assert_eq!(kept("other").await.len(), 4);
    store.delete_context(&name("try")).await.unwrap();
    collect().await;
    assert_eq!(kept("other").await.len(), 1, "nothing has it any more");
    place.is_whole().await;
}
