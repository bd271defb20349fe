//! Merges: the laws, on random trees; ancestors, through forks, renames and merges; and what happens beside a merge.
//!
//! `CTXSYNC_SEEDS=500` tries so many random trees.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::place::{GRACE, Place, content_of, name};
use ctxsync_tests::random::Random;
use futures::FutureExt;
use object_store::ObjectStoreExt;
use policy_core::{ConflictPolicy, MaxDelete};
use storage_backends::layer::{Operation, Recording};
use transfer_engine::format::{StoreKey, TreeEntry};
use transfer_engine::{
    CollectOptions, ContextService, Error, MergeOptions, Monitor, PathEvent, Silent, SyncReport,
};

/// A context's files.
type Files = BTreeMap<String, Vec<u8>>;

async fn files(place: &Place, context: &str) -> Files {
    entries(place, context).await.into_iter().filter_map(|(path, content)| Some((path, content?))).collect()
}

/// Returns a context's files, and its directories that are listed, without content.
async fn entries(place: &Place, context: &str) -> BTreeMap<String, Option<Vec<u8>>> {
    let store = place.store();
    let content = content_of(&store, &store.head(&name(context)).await.unwrap()).await.2;
    let entry = |(entry, bytes): (TreeEntry, _)| {
        (entry.path.to_string(), Some(bytes).filter(|_| !entry.entry.is_dir()))
    };
    content.into_iter().map(entry).collect()
}

async fn remove(place: &Place, context: &str, path: &str) {
    let store = place.store();
    let paths = [path.parse().unwrap()];
    ContextService::new(&store).delete_files(&name(context), &paths, true).await.unwrap();
}

async fn fork(place: &Place, from: &str, to: &str) {
    place.store().fork_context(&name(from), None, &name(to)).await.unwrap();
}

async fn merge_with(place: &Place, from: &str, into: &str, options: &MergeOptions) -> SyncReport {
    place.store().merge_context(&name(from), None, &name(into), options, &Silent).await.unwrap()
}

async fn merge(place: &Place, from: &str, into: &str) -> SyncReport {
    merge_with(place, from, into, &MergeOptions::default()).await
}

/// Changes some files of a context, out of those that `paths` names.
async fn change(place: &Place, random: &mut Random, context: &str, paths: &[&str], most: usize) {
    for _ in 0..random.below(most + 1) {
        let path = paths[random.below(paths.len())];
        let there = entries(place, context).await;
        let holds = |dir: &str| there.keys().any(|p| p.starts_with(&format!("{dir}/")));
        let is_dir = there.get(path).is_some_and(Option::is_none);
        let is_below_file = there.iter().any(|(p, c)| c.is_some() && path.starts_with(&format!("{p}/")));
        if random.below(3) == 0 {
            if there.contains_key(path) || holds(path) {
                remove(place, context, path).await;
            }
        } else if !is_dir && !is_below_file && !holds(path) {
            // Few contents, so that both sides sometimes make the same change.
            let content = format!("content {}", random.below(4)).repeat(20);
            place.write(context, path, content.as_bytes()).await;
        }
    }
}

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

pub(crate) fn seeds() -> u64 {
    std::env::var("CTXSYNC_SEEDS").ok().map_or(25, |seeds| seeds.parse().unwrap())
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

/// Contents stay in their packs: a merge puts no pack but the empty one for the time, and is whole after its origin is
/// gone.
#[tokio::test]
async fn a_merge_moves_no_contents() {
    let clock = HandClock::default();
    let place = Place::made(&clock).await;
    let mut random = Random::new(5);
    place.write("base", "x", &random.bytes(100)).await;
    fork(&place, "base", "try").await;
    for file in 0..5 {
        place.write("try", &format!("{file}"), &random.bytes(5000)).await;
    }
    let recording = Recording::new(Arc::clone(&place.objects));
    let behind = place.behind(Arc::new(recording.clone()));
    merge(&behind, "try", "base").await;
    let packs = recording.requests();
    let packs: Vec<_> = packs.iter().filter(|r| r.key.to_string().starts_with("packs/")).collect();
    let puts: Vec<_> = packs.iter().filter(|r| r.operation == Operation::Put).collect();
    assert_eq!(
        (puts.len(), packs.iter().filter(|r| r.operation == Operation::Get).count()),
        (1, 0),
        "{packs:?}"
    );
    let expected = files(&place, "try").await;
    place.store().delete_context(&name("try")).await.unwrap();
    for _ in 0..2 {
        clock.pass(GRACE + 60);
        place.collect(CollectOptions::default()).await;
    }
    assert_eq!(files(&place, "base").await, expected);
    place.is_whole().await;
}

/// A machine that sleeps before the put, while what it merges is deleted and collected.
#[tokio::test(start_paused = true)]
async fn w13_a_merge_that_landed_too_late_is_made_once_more_or_not_at_all() {
    for is_deleted in [false, true] {
        let clock = HandClock::default();
        let place = Place::made(&clock).await;
        place.write("base", "x", &[1; 3000]).await;
        fork(&place, "base", "try").await;
        place.write("try", "new", &[2; 3000]).await;
        let (once, asleep, other) = (AtomicU64::new(0), clock.clone(), place.clone());
        let sleepy = BeforePut::new(Arc::clone(&place.objects), move |key| {
            let sleeps =
                key.as_ref().starts_with("contexts/base/") && once.fetch_add(1, Ordering::SeqCst) == 0;
            let (asleep, other) = (asleep.clone(), other.clone());
            async move {
                if sleeps {
                    if is_deleted {
                        other.store().delete_context(&name("try")).await.unwrap();
                    }
                    asleep.pass(GRACE + 60);
                    if is_deleted {
                        other.collect(CollectOptions::default()).await;
                        asleep.pass(GRACE + 60);
                        other.collect(CollectOptions::default()).await;
                    }
                }
            }
            .boxed()
        });
        let store = place.behind(Arc::new(sleepy)).store();
        let merged =
            store.merge_context(&name("try"), None, &name("base"), &MergeOptions::default(), &Silent).await;
        assert_eq!(merged.is_err(), is_deleted, "{merged:?}");
        // The next writer does not trust what landed too late.
        place.write("base", "after", b"after").await;
        for _ in 0..2 {
            clock.pass(GRACE + 60);
            place.collect(CollectOptions::default()).await;
        }
        let merged = files(&place, "base").await;
        assert_eq!(merged.keys().collect::<Vec<_>>().len(), if is_deleted { 2 } else { 3 }, "{merged:?}");
        assert!(is_deleted || merged["new"] == [2; 3000]);
    }
}

/// Twenty forks, merged back into their origin all at once: nothing is lost.
#[tokio::test]
async fn twenty_forks_are_merged_at_once() {
    let place = Place::made(&HandClock::default()).await;
    place.write("base", "shared", b"0").await;
    for at in 0..20 {
        fork(&place, "base", &format!("try/{at}")).await;
        place.write(&format!("try/{at}"), &format!("own/{at}"), format!("{at}").as_bytes()).await;
        place.write(&format!("try/{at}"), "shared", format!("changed by {at}").as_bytes()).await;
    }
    let merges = (0..20).map(|at| {
        let place = place.clone();
        async move { merge(&place, &format!("try/{at}"), "base").await.conflicts }
    });
    let conflicts: u64 = futures::future::join_all(merges).await.iter().sum();
    let merged = files(&place, "base").await;
    // The first changes the file, all others are in conflict with that.
    assert_eq!((conflicts, merged.len()), (19, 20 + 1 + 19));
    for at in 0..20 {
        assert_eq!(merged[&format!("own/{at}")], format!("{at}").as_bytes());
        assert!(merged.values().any(|content| *content == format!("changed by {at}").as_bytes()));
    }
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
