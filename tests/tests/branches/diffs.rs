//! Comparisons: what they say of two sides makes the one from the other, in snapshots and directories alike.
//!
//! `CTXSYNC_SEEDS=500` tries so many random trees.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::place::{Place, content_of, name};
use ctxsync_tests::random::Random;
use policy_core::{SyncPolicy, TreePath};
use storage_backends::layer::Recording;
use transfer_engine::format::Snapshot;
use transfer_engine::{
    ContextService, ContextSync, DiffDir, DiffOptions, DiffReport, DifferenceKind, Error, Mount,
    PathDifference, Silent, SnapshotPart, SyncOptions,
};

use crate::merging::seeds;

type Files = BTreeMap<String, Vec<u8>>;

async fn files(place: &Place, snapshot: &Snapshot) -> Files {
    let content = content_of(&place.store(), snapshot).await.2;
    let files = content.into_iter().filter(|(entry, _)| !entry.entry.is_dir());
    files.map(|(entry, bytes)| (entry.path.to_string(), bytes)).collect()
}

/// Makes the second side from the first, by what was said to differ. Contents come from the second.
fn applied(before: &Files, said: &[PathDifference], after: &Files) -> Files {
    let mut made = before.clone();
    for one in said.iter().filter(|one| !one.before.iter().chain(&one.after).any(|entry| entry.is_dir())) {
        let path = one.path.to_string();
        match one.kind {
            DifferenceKind::Added => assert_eq!(made.insert(path.clone(), after[&path].clone()), None),
            DifferenceKind::Changed => {
                let old = made.insert(path.clone(), after[&path].clone()).unwrap();
                assert_ne!(old, after[&path], "{path}");
            }
            DifferenceKind::Deleted => drop(made.remove(&path).unwrap()),
            DifferenceKind::Renamed => {
                let moved = made.remove(&one.from.as_ref().unwrap().to_string()).unwrap();
                assert_eq!(moved, after[&path]);
                assert_eq!(made.insert(path, moved), None);
            }
        }
    }
    made
}

async fn diff(place: &Place, before: &Snapshot, after: &Snapshot) -> (Vec<PathDifference>, DiffReport) {
    let mut said = Vec::new();
    let report =
        place.store().diff(before, after, &DiffOptions::default(), |one| said.push(one)).await.unwrap();
    assert!(said.is_sorted_by(|a, b| a.path < b.path));
    (said, report)
}

async fn diff_dir(
    place: &Place,
    before: &Snapshot,
    (dir, state): (&Path, &Path),
) -> (Vec<PathDifference>, DiffReport) {
    let sync = ContextSync::new(before.context.clone(), dir, SyncPolicy::default());
    let dir = DiffDir { sync: &sync, state_dir: state, own_files: &[] };
    let (mut said, options) = (Vec::new(), DiffOptions::default());
    let report = place.store().diff_dir(before, dir, &options, &Silent, |one| said.push(one)).await.unwrap();
    (said, report)
}

async fn change(place: &Place, random: &mut Random, context: &str) {
    let store = place.store();
    for _ in 0..random.below(12) {
        let path = ["a", "b", "dir/c", "dir/d", "dir/deep/e", "f", "g"][random.below(7)];
        let there = files(place, &store.head(&name(context)).await.unwrap()).await;
        if random.below(3) > 0 {
            place.write(context, path, format!("content {}", random.below(3)).as_bytes()).await;
        } else if there.contains_key(path) {
            let paths = [path.parse().unwrap()];
            ContextService::new(&store).delete_files(&name(context), &paths, false).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_differs_makes_one_side_from_the_other() {
    let mut kinds = BTreeMap::new();
    for seed in 0..seeds() {
        let place = Place::made(&HandClock::default()).await;
        let (mut random, store) = (Random::new(seed), place.store());
        place.write("c", "first", b"first").await;
        change(&place, &mut random, "c").await;
        let before = store.head(&name("c")).await.unwrap();
        change(&place, &mut random, "c").await;
        let after = store.head(&name("c")).await.unwrap();
        let (old, new) = (files(&place, &before).await, files(&place, &after).await);
        let (said, report) = diff(&place, &before, &after).await;
        assert_eq!(applied(&old, &said, &new), new, "seed {seed}: {said:?}");
        assert_eq!(report.added + report.changed + report.deleted + report.renamed, said.len() as u64);
        said.iter().for_each(|one| *kinds.entry(format!("{:?}", one.kind)).or_insert(0) += 1);

        // The other way round, and by exchanging the sides.
        let (back, _) = diff(&place, &after, &before).await;
        assert_eq!(applied(&new, &back, &old), old, "seed {seed}");
        let exchanged: Vec<_> = said.into_iter().map(PathDifference::reversed).collect();
        assert_eq!(applied(&new, &exchanged, &old), old, "seed {seed}");

        // The same against a directory, with and without what a pull has left in the state.
        let dir = tempfile::tempdir().unwrap();
        let (here, state) = (dir.path().join("here"), dir.path().join("state"));
        let sync = ContextSync::new(name("c"), &here, SyncPolicy::default());
        Mount::open(&store, sync, &state).unwrap().pull(&SyncOptions::default(), &Silent).await.unwrap();
        for state in [&state, &dir.path().join("no state")] {
            let (said, report) = diff_dir(&place, &before, (&here, state)).await;
            assert_eq!(applied(&old, &said, &new), new, "seed {seed}: {said:?}");
            assert_eq!(report.failed, 0);
            assert!(!diff_dir(&place, &after, (&here, state)).await.1.differs(), "seed {seed}");
        }
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

/// Returns the files in a directory, by their paths in it.
fn below(all: &Files, dir: &TreePath) -> Files {
    let inner = |path: &String| {
        let path: TreePath = path.parse().unwrap();
        path.rebase(dir, &TreePath::root()).filter(|_| path.is_below(dir)).map(|inner| inner.to_string())
    };
    all.iter().filter_map(|(path, content)| Some((inner(path)?, content.clone()))).collect()
}

#[tokio::test]
async fn what_differs_makes_one_directory_from_another() {
    let (mut compared, mut missing) = (0, 0);
    for seed in 0..seeds() {
        let place = Place::made(&HandClock::default()).await;
        let (mut random, store) = (Random::new(seed), place.store());
        place.write("c", "dir-/c", b"content 1").await;
        change(&place, &mut random, "c").await;
        let before = store.head(&name("c")).await.unwrap();
        change(&place, &mut random, "c").await;
        let after = store.head(&name("c")).await.unwrap();
        let (old, new) = (files(&place, &before).await, files(&place, &after).await);
        for _ in 0..4 {
            let mut dir =
                || ["", "dir", "dir", "dir/deep", "dir-"][random.below(5)].parse::<TreePath>().unwrap();
            let (from, to) = (dir(), dir());
            let (a, b) = (below(&old, &from), below(&new, &to));
            let part_before = SnapshotPart { snapshot: &before, path: from.clone() };
            let part = SnapshotPart { snapshot: &after, path: to.clone() };
            let mut said = Vec::new();
            let options = DiffOptions::default();
            let done = store.diff_parts(part_before, part, &options, |one| said.push(one)).await;
            if a.is_empty() || b.is_empty() {
                // It may be there as an empty directory.
                missing += usize::from(matches!(done, Err(Error::NoPart { .. })));
                continue;
            }
            done.unwrap();
            assert_eq!(applied(&a, &said, &b), b, "seed {seed}, {from} and {to}: {said:?}");

            // The same against a mount of the directory, with and without what a pull has left in the state.
            let dir = tempfile::tempdir().unwrap();
            let (here, state) = (dir.path().join("here"), dir.path().join("state"));
            let sync = |part: &TreePath| {
                ContextSync::new(name("c"), &here, SyncPolicy::default()).with_part(part.clone())
            };
            Mount::open(&store, sync(&to), &state)
                .unwrap()
                .pull(&SyncOptions::default(), &Silent)
                .await
                .unwrap();
            for state in [&state, &dir.path().join("no state")] {
                for (snapshot, of, has) in [(&before, &from, &a), (&after, &to, &b)] {
                    let sync = sync(of);
                    let dir = DiffDir { sync: &sync, state_dir: state, own_files: &[] };
                    let mut said = Vec::new();
                    store.diff_dir(snapshot, dir, &options, &Silent, |one| said.push(one)).await.unwrap();
                    assert_eq!(applied(has, &said, &b), b, "seed {seed}, {of}: {said:?}");
                }
            }
            compared += 1;
        }
    }
    assert!(compared > seeds() && missing > 0, "{compared} {missing}");
}

/// A comparison of two large trees reads only the segments that differ.
#[tokio::test]
async fn equal_parts_are_not_read() {
    let place = Place::made(&HandClock::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let (here, state) = (dir.path().join("here"), dir.path().join("state"));
    for file in 0..6000 {
        let path = here.join(format!("{}/{file}", file / 100));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{file}")).unwrap();
    }
    // How long the parts of the list are depends on the times, and on that which are in the snapshot itself.
    for entry in walkdir::WalkDir::new(&here).into_iter().flatten() {
        std::fs::File::open(entry.path()).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let store = place.store();
    let sync = ContextSync::new(name("c"), &here, SyncPolicy::default());
    let options = SyncOptions { create: true, ..SyncOptions::default() };
    Mount::open(&store, sync, &state).unwrap().push(&options, &Silent).await.unwrap();
    let before = store.head(&name("c")).await.unwrap();
    place.write("c", "42/new", b"new").await;
    let after = store.head(&name("c")).await.unwrap();
    let recording = Recording::counting(Arc::clone(&place.objects));
    let behind = place.behind(Arc::new(recording.clone()));
    let (said, _) = diff(&behind, &before, &after).await;
    assert_eq!((said.len(), said[0].path.to_string().as_str()), (1, "42/new"));
    let counts = recording.counts();
    let whole: u64 = before.segments.iter().map(|segment| u64::from(segment.len)).sum();
    assert!(counts.bytes_received * 3 < whole, "{} of {whole}", counts.bytes_received);
    assert!(counts.gets <= 4, "{counts:?}");

    // Likewise of two directories, once it is known that they are there. If they are not at the same path, all that is in
    // them is read.
    let mut all = Vec::new();
    for (from, to, differences) in [("42", "42", 1), ("20", "20", 0), ("20", "21", 200)] {
        let recording = Recording::counting(Arc::clone(&place.objects));
        let store = place.behind(Arc::new(recording.clone())).store();
        let before = SnapshotPart { snapshot: &before, path: from.parse().unwrap() };
        let after = SnapshotPart { snapshot: &after, path: to.parse().unwrap() };
        let mut said = 0;
        store.diff_parts(before, after, &DiffOptions::default(), |_| said += 1).await.unwrap();
        assert_eq!(said, differences, "{from} and {to}");
        all.push(recording.counts().gets);
    }
    assert_eq!(all, [2, 2, 4], "one part of each list, and two");
}

/// What a mount has not pulled yet is no difference, whichever snapshot it is compared with.
#[tokio::test]
async fn what_is_pending_does_not_count_as_deleted() {
    let place = Place::made(&HandClock::default()).await;
    for path in ["here", "here too", "later/a", "later/b"] {
        place.write("c", path, path.as_bytes()).await;
    }
    let store = place.store();
    let pulled = store.head(&name("c")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (here, state) = (dir.path().join("here"), dir.path().join("state"));
    let pull = async |only: &[&str]| {
        let sync = ContextSync::new(name("c"), &here, SyncPolicy::default());
        let only = only.iter().map(|path| path.parse().unwrap()).collect();
        let options = SyncOptions { only, ..SyncOptions::default() };
        Mount::open(&store, sync, &state).unwrap().pull(&options, &Silent).await.unwrap();
    };
    pull(&["here", "here too"]).await;
    let said = async |snapshot: &Snapshot| {
        let (said, report) = diff_dir(&place, snapshot, (&here, &state)).await;
        let said = said.iter().map(|one| format!("{:?} {}", one.kind, one.path));
        (said.collect::<Vec<_>>().join(", "), report.pending)
    };
    assert_eq!(said(&pulled).await, (String::new(), 2));
    std::fs::remove_file(here.join("here")).unwrap();
    assert_eq!(said(&pulled).await, ("Deleted here".to_owned(), 2));
    // A file that is newer than the last pull is in that snapshot alone.
    place.write("c", "later/a", b"changed").await;
    place.write("c", "newer", b"newer").await;
    let newer = store.head(&name("c")).await.unwrap();
    assert_eq!(said(&newer).await, ("Deleted here, Deleted newer".to_owned(), 2));
    pull(&[]).await;
    std::fs::remove_dir_all(here.join("later")).unwrap();
    let all = "Deleted here, Deleted later/a, Deleted later/b";
    assert_eq!(said(&newer).await, (all.to_owned(), 0));
    assert_eq!(said(&pulled).await, (format!("{all}, Added newer"), 0));
}
