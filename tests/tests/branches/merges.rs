//! What a merge does: the laws, on random trees, and its options.

use std::sync::Mutex;

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::place::{Place, name};
use ctxsync_tests::random::Random;
use policy_core::{ConflictPolicy, MaxDelete};
use transfer_engine::{ContextService, Error, MergeOptions, Monitor, PathEvent, Silent, SyncReport};

use crate::merging::{Files, change, files, fork, merge, merge_with, remove, seeds};

/// The three-way rule, for files that are not in each other's way.
fn expected(base: &Files, into: &Files, from: &Files) -> (Files, u64) {
    let (mut all, mut conflicts) = (into.clone(), 0);
    let paths: std::collections::BTreeSet<&String> = base.keys().chain(from.keys()).collect();
    for path in paths {
        let (b, i, f) = (base.get(path), into.get(path), from.get(path));
        match (b == f, b == i, i == f) {
            (true, ..) | (_, _, true) => {}
            (_, true, _) => match f {
                Some(content) => _ = all.insert(path.clone(), content.clone()),
                None => _ = all.remove(path),
            },
            _ => match (i, f) {
                // A change wins over a deletion.
                (Some(_), None) => {}
                (None, Some(content)) => _ = all.insert(path.clone(), content.clone()),
                _ => conflicts += 1,
            },
        }
    }
    (all, conflicts)
}

/// Returns the files that are no conflict copies, and the contents of those that are.
fn without_copies(files: &Files) -> (Files, Vec<Vec<u8>>) {
    let (copies, rest): (Files, Files) =
        files.clone().into_iter().partition(|(path, _)| path.contains(".conflict-"));
    (rest, copies.into_values().collect())
}

#[tokio::test]
async fn a_merge_follows_the_three_way_rule() {
    let paths = ["a", "b", "dir/c", "dir/d", "dir/deep/e", "f"];
    let (mut conflicts, mut changed) = (0, 0);
    for seed in 0..seeds() {
        let place = Place::made(&HandClock::default()).await;
        let mut random = Random::new(seed);
        place.write("base", "first", b"first").await;
        change(&place, &mut random, "base", &paths, 8).await;
        let base = files(&place, "base").await;
        for context in ["one", "two", "one-2", "two-2"] {
            fork(&place, "base", context).await;
        }
        for (one, two) in [("one", "two"), ("one-2", "two-2")] {
            change(&place, &mut Random::new(seed + 1000), one, &paths, 6).await;
            change(&place, &mut Random::new(seed + 2000), two, &paths, 6).await;
        }
        let (one, two) = (files(&place, "one").await, files(&place, "two").await);
        let (rest, met) = expected(&base, &two, &one);

        let report = merge(&place, "one", "two").await;
        let merged = files(&place, "two").await;
        let (found, copies) = without_copies(&merged);
        assert_eq!((&found, report.conflicts), (&rest, met), "seed {seed}");
        // The version that lost its path is kept beside it.
        let lost = one.iter().filter(|(path, content)| {
            base.get(*path) != Some(*content) && merged.get(*path) != Some(*content)
        });
        let mut lost: Vec<Vec<u8>> = lost.map(|(_, content)| content.clone()).collect();
        let mut kept = copies.clone();
        lost.sort();
        kept.sort();
        assert_eq!(kept, lost, "seed {seed}");
        conflicts += met;
        changed += report.added + report.changed + report.deleted;

        // Merging again changes nothing.
        let again = merge(&place, "one", "two").await;
        assert_eq!(
            (again.snapshot, again.parent, again.conflicts),
            (report.snapshot, None, 0),
            "seed {seed}"
        );

        // The other way round, only the sides of a conflict are exchanged.
        merge(&place, "two-2", "one-2").await;
        let (other, other_copies) = without_copies(&files(&place, "one-2").await);
        let paths = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&other), paths(&found), "seed {seed}");
        let contents = |files: &Files, copies: &[Vec<u8>]| {
            let mut all: Vec<Vec<u8>> = files.values().chain(copies).cloned().collect();
            all.sort();
            all
        };
        assert_eq!(contents(&other, &other_copies), contents(&found, &copies), "seed {seed}");

        // What was merged, merged back, makes both alike.
        merge(&place, "two", "one").await;
        assert_eq!(files(&place, "one").await, merged, "seed {seed}");
        place.is_whole().await;
    }
    assert!(conflicts > 0 && changed > 20, "{conflicts} conflicts, {changed} changes");
}

/// Files in the place of directories, on either side: nothing that a side changed is lost.
#[tokio::test]
async fn nothing_is_lost_where_files_and_directories_clash() {
    let paths = ["a", "a/b", "a/b/c", "d", "d/e", "a/f"];
    let mut clashes = 0;
    for seed in 0..seeds() * 2 {
        let place = Place::made(&HandClock::default()).await;
        let mut random = Random::new(seed + 77);
        place.write("base", "first", b"first").await;
        change(&place, &mut random, "base", &paths, 5).await;
        let base = files(&place, "base").await;
        fork(&place, "base", "one").await;
        fork(&place, "base", "two").await;
        change(&place, &mut random, "one", &paths, 5).await;
        change(&place, &mut random, "two", &paths, 5).await;
        let (one, two) = (files(&place, "one").await, files(&place, "two").await);
        let report = merge(&place, "one", "two").await;
        let merged = files(&place, "two").await;
        for (path, content) in one.iter().chain(&two) {
            if base.get(path) != Some(content) {
                assert!(merged.values().any(|kept| kept == content), "seed {seed}: {path}\n{merged:?}");
            }
        }
        clashes += report.conflicts + report.failed;
        place.is_whole().await;
    }
    assert!(clashes > 0);
}

/// Collects the steps that were reported.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Monitor for Told {
    fn path(&self, event: &PathEvent<'_>) {
        self.0.lock().unwrap().push(format!("{:?} {} ({})", event.action, event.path, event.reason));
    }
}

#[tokio::test]
async fn a_dry_run_tells_what_a_merge_does() {
    let place = Place::made(&HandClock::default()).await;
    for path in ["both", "changed", "gone", "kept"] {
        place.write("base", path, b"base").await;
    }
    fork(&place, "base", "try").await;
    place.write("try", "both", b"try").await;
    place.write("try", "changed", b"try").await;
    place.write("try", "new", b"try").await;
    remove(&place, "try", "gone").await;
    place.write("base", "both", b"base 2").await;
    place.write("base", "own", b"base 2").await;
    let (before, told) = (files(&place, "base").await, Told::default());
    let options = MergeOptions { dry_run: true, ..MergeOptions::default() };
    let store = place.store();
    let would = store.merge_context(&name("try"), None, &name("base"), &options, &told).await.unwrap();
    insta::assert_snapshot!(told.0.lock().unwrap().join("\n"), @"
    Conflict both (changed in both)
    Change changed (changed in try)
    Delete gone (deleted in try)
    Add new (new in try)
    Add both.conflict-69f16917 (try's version of `both`, which both changed)
    ");
    assert_eq!(files(&place, "base").await, before);
    let done = merge(&place, "try", "base").await;
    let counts = |r: &SyncReport| (r.added, r.changed, r.deleted, r.conflicts);
    assert_eq!(counts(&would), counts(&done));
    assert_eq!(counts(&done), (2, 1, 1, 1));
    let head = store.head(&name("base")).await.unwrap();
    assert_eq!((head.changes.added, head.changes.changed, head.changes.deleted), (2, 1, 1));
}

#[tokio::test]
async fn conflicts_are_decided_as_in_a_sync() {
    for (conflict, content, others) in [
        (ConflictPolicy::PreferLocal, "base", 0),
        (ConflictPolicy::PreferRemote, "try", 0),
        (ConflictPolicy::KeepBoth, "base", 1),
        (ConflictPolicy::Fail, "base", 0),
    ] {
        let place = Place::made(&HandClock::default()).await;
        place.write("base", "x.txt", b"before").await;
        fork(&place, "base", "try").await;
        place.write("base", "x.txt", b"base").await;
        place.write("try", "x.txt", b"try").await;
        place.write("try", "new", b"new").await;
        let report =
            merge_with(&place, "try", "base", &MergeOptions { conflict, ..Default::default() }).await;
        let merged = files(&place, "base").await;
        assert_eq!(merged["x.txt"], content.as_bytes(), "{conflict:?}");
        let stopped = conflict == ConflictPolicy::Fail;
        assert_eq!((report.stopped_by_conflict, merged.contains_key("new")), (stopped, !stopped));
        let copies: Vec<_> = merged.keys().filter(|path| path.starts_with("x.conflict-")).collect();
        assert_eq!(copies.len(), others, "{conflict:?}");
        if others == 1 {
            assert_eq!(merged[copies[0]], b"try");
        }
    }
}

#[tokio::test]
async fn only_some_paths_are_merged_and_the_rest_is_not_taken_as_merged() {
    let place = Place::made(&HandClock::default()).await;
    place.write("base", "a/old", b"old").await;
    fork(&place, "base", "try").await;
    place.write("try", "a/new", b"a").await;
    place.write("try", "b/new", b"b").await;
    let only = vec!["a".parse().unwrap()];
    let report = merge_with(&place, "try", "base", &MergeOptions { only, ..Default::default() }).await;
    assert_eq!(report.added, 1);
    assert!(!files(&place, "base").await.contains_key("b/new"));
    assert_eq!(merge(&place, "try", "base").await.added, 1);
    assert_eq!(files(&place, "base").await, files(&place, "try").await);
}

#[tokio::test]
async fn deletions_that_a_guard_holds_back_are_found_again() {
    let place = Place::made(&HandClock::default()).await;
    for file in 0..4 {
        place.write("base", &file.to_string(), b"x").await;
    }
    fork(&place, "base", "try").await;
    for file in 0..3 {
        remove(&place, "try", &file.to_string()).await;
    }
    place.write("try", "new", b"new").await;
    let max_delete = Some(MaxDelete::Count(2));
    let held = merge_with(&place, "try", "base", &MergeOptions { max_delete, ..Default::default() }).await;
    assert_eq!((held.added, held.deleted, held.held_back), (1, 0, 3));
    assert_eq!(files(&place, "base").await.len(), 5);
    assert_eq!(merge(&place, "try", "base").await.deleted, 3);
    assert_eq!(files(&place, "base").await, files(&place, "try").await);
}

#[tokio::test]
async fn an_emptied_context_deletes_nothing_unless_it_may() {
    let place = Place::made(&HandClock::default()).await;
    place.write("base", "f", b"1").await;
    fork(&place, "base", "try").await;
    ContextService::new(&place.store()).clear(&name("try")).await.unwrap();
    let held = merge(&place, "try", "base").await;
    assert_eq!((held.deleted, held.held_back, files(&place, "base").await.len()), (0, 1, 1));
    let allowed = MergeOptions { allow_empty: true, ..MergeOptions::default() };
    assert_eq!(merge_with(&place, "try", "base", &allowed).await.deleted, 1);
}

#[tokio::test]
async fn a_path_that_is_nowhere_is_not_merged_in_silence() {
    let place = Place::made(&HandClock::default()).await;
    place.write("base", "f", b"1").await;
    fork(&place, "base", "try").await;
    place.write("try", "new", b"1").await;
    let only = MergeOptions { only: vec!["nwe".parse().unwrap()], ..MergeOptions::default() };
    let refused = place.store().merge_context(&name("try"), None, &name("base"), &only, &Silent).await;
    assert!(matches!(refused, Err(Error::NoPath { .. })), "{refused:?}");
}

/// A conflict copy that was moved to its path, where the file was edited: its version stays as the copy of this conflict.
#[tokio::test]
async fn a_conflict_copy_that_replaced_its_file_is_kept_where_the_file_was_edited() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    place.write("base", "x", b"before").await;
    fork(&place, "base", "one").await;
    place.write("base", "x", b"theirs").await;
    place.write("one", "x", b"ours").await;
    assert_eq!(merge(&place, "base", "one").await.conflicts, 1);
    let copy = files(&place, "one").await.into_keys().find(|path| path.contains("conflict")).unwrap();
    fork(&place, "one", "two").await;
    place.write("two", "x", b"theirs").await;
    remove(&place, "two", &copy).await;
    place.write("one", "x", b"ours again").await;
    assert_eq!(merge(&place, "two", "one").await.conflicts, 1);
    let merged = files(&place, "one").await;
    assert_eq!((&merged["x"][..], &merged[&copy][..]), (&b"ours again"[..], &b"theirs"[..]));
}
