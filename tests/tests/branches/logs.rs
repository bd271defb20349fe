//! Histories: of paths, the same snapshots as when each is listed and compared with the one before; and what each snapshot
//! was forked from and has merged.
//!
//! `CTXSYNC_SEEDS=500` tries so many random histories.

use std::collections::BTreeMap;
use std::sync::Arc;

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::place::{Place, name};
use ctxsync_tests::random::Random;
use object_store::ObjectStoreExt;
use policy_core::{Node, SyncPolicy, TreePath};
use storage_backends::layer::{Counts, Recording};
use transfer_engine::format::{Ancestor, StoreKey, TreeEntry};
use transfer_engine::{ContextSync, LogOptions, LogRow, MergeOptions, Mount, Origins, Silent, SyncOptions};

use crate::merging::{change, fork, merge, merge_with, seeds};

const FILES: [&str; 7] = ["a", "b", "dir/c", "dir/deep/d", "dir-", "f", "f/x"];
const ASKED: [&str; 9] = ["", "a", "b", "dir", "dir/deep", "dir/c", "f", "f/x", "missing"];

/// Returns the snapshots in which one of these paths changed, newest first, from a listing of each snapshot.
async fn by_listings(place: &Place, paths: &[TreePath]) -> Vec<u64> {
    let (store, mut found, mut before) = (place.store(), Vec::new(), BTreeMap::new());
    for snapshot in store.log(&name("c")).await.unwrap().into_iter().rev() {
        let mut listed: BTreeMap<TreePath, (Node, u16)> = BTreeMap::new();
        for path in paths {
            let each = |found: TreeEntry| {
                if !found.recycled {
                    listed.insert(found.path, (found.entry.node, found.entry.mode));
                }
            };
            store.entries(&snapshot, path, each).await.unwrap();
        }
        if listed != before {
            found.push(snapshot.number);
        }
        before = listed;
    }
    found.reverse();
    found
}

async fn log(place: &Place, paths: &[TreePath], limit: Option<usize>) -> Vec<u64> {
    let mut shown = Vec::new();
    let options = LogOptions { limit, paths: paths.to_vec(), origins: false };
    let each = |row: LogRow| match row {
        LogRow::Snapshot(snapshot, _) => shown.push(snapshot.number),
        LogRow::Damaged { error, .. } => panic!("{error}"),
    };
    let count = place.store().log_with(&name("c"), &options, each).await.unwrap();
    assert_eq!(count, shown.len());
    shown
}

async fn agrees(place: &Place, paths: &[TreePath], what: &str) -> usize {
    let expected = by_listings(place, paths).await;
    assert_eq!(log(place, paths, None).await, expected, "{what}: {paths:?}");
    for limit in [0, 1, 3] {
        let some = &expected[..limit.min(expected.len())];
        assert_eq!(log(place, paths, Some(limit)).await, some, "{what}: {limit} of {paths:?}");
    }
    expected.len()
}

#[tokio::test]
async fn a_history_of_paths_is_what_listings_say() {
    for seed in 0..seeds() {
        let place = Place::made(&HandClock::default()).await;
        let mut random = Random::new(seed);
        place.write("c", "a", b"first").await;
        change(&place, &mut random, "c", &FILES, 12).await;
        for number in 1..place.store().head(&name("c")).await.unwrap().number {
            if random.below(4) == 0 {
                let mark = StoreKey::Gone { context: name("c"), number }.path();
                place.objects.put(&mark, bytes::Bytes::new().into()).await.unwrap();
            }
        }
        for _ in 0..4 {
            let asked = (0..=random.below(2)).map(|_| ASKED[random.below(ASKED.len())].parse().unwrap());
            agrees(&place, &asked.collect::<Vec<_>>(), &format!("seed {seed}")).await;
        }
    }
}

/// What is written to the large tree, in this order.
const CHANGED: [&str; 7] = ["42/4250", "42/new", "00/0", "59/5999", "99", "42/4250", "20/x/y"];

/// Makes a context of many segments, of which some change.
async fn large() -> Place {
    let place = Place::made(&HandClock::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let (here, state) = (dir.path().join("here"), dir.path().join("state"));
    for file in 0..6000 {
        let path = here.join(format!("{:02}/{file}", file / 100));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{file}")).unwrap();
    }
    let sync = ContextSync::new(name("c"), &here, SyncPolicy::default());
    let options = SyncOptions { create: true, ..SyncOptions::default() };
    Mount::open(&place.store(), sync, &state).unwrap().push(&options, &Silent).await.unwrap();
    for (at, path) in CHANGED.into_iter().enumerate() {
        place.write("c", path, format!("change {at}").as_bytes()).await;
    }
    place
}

#[tokio::test]
async fn only_what_differs_near_the_paths_is_read() {
    let place = large().await;
    for (asked, expected) in
        [("42", 4), ("42/4250", 3), ("42/new", 1), ("00", 2), ("59/5999", 2), ("99", 1), ("20/x", 1), ("", 8)]
    {
        let found = agrees(&place, &[asked.parse().unwrap()], "a large tree").await;
        assert_eq!(found, expected, "{asked}");
    }
    let cost = async |asked: &[&str], limit| -> Counts {
        let recording = Recording::counting(Arc::clone(&place.objects));
        let asked: Vec<_> = asked.iter().map(|path| path.parse().unwrap()).collect();
        log(&place.behind(Arc::new(recording.clone())), &asked, limit).await;
        recording.counts()
    };
    // Nine snapshots, and the store's description.
    let all = cost(&[], None).await;
    assert_eq!((all.gets, cost(&[], Some(2)).await.gets), (10, 3));
    // It is in one of ten segments, which is the same in most snapshots.
    let near = cost(&["20"], None).await;
    let head = place.store().head(&name("c")).await.unwrap();
    let tree: u64 = head.segments.iter().map(|segment| u64::from(segment.len)).sum();
    let read = near.bytes_received - all.bytes_received;
    assert!(read * 3 < tree, "{read} of {tree}");
    // The newest snapshot has it, and the one before has it not.
    assert!(cost(&["20"], Some(1)).await.gets <= 4);
}

/// Returns what each snapshot of a context was forked from and has merged, newest first, with its nonce.
async fn origins(place: &Place, context: &str, limit: Option<usize>) -> Vec<([u8; 16], String)> {
    let mut shown = Vec::new();
    let options = LogOptions { limit, origins: true, ..LogOptions::default() };
    let each = |row: LogRow| {
        let LogRow::Snapshot(snapshot, Origins { forked_from, merged }) = row else { panic!("{row:?}") };
        let text = |what: &str, from: Ancestor| format!("{what} {}@{}", from.context, from.number);
        let forked = forked_from.map(|from| text("forked from", from));
        let all: Vec<_> =
            forked.into_iter().chain(merged.into_iter().map(|from| text("merged", from))).collect();
        shown.push((snapshot.nonce, all.join(", ")));
    };
    place.store().log_with(&name(context), &options, each).await.unwrap();
    shown
}

#[tokio::test]
async fn a_history_tells_forks_and_merges_as_they_happened() {
    let mut told = 0;
    for seed in 0..seeds() {
        let place = Place::made(&HandClock::default()).await;
        let (mut random, store) = (Random::new(seed), place.store());
        let mut happened = BTreeMap::new();
        let mut names: Vec<String> = (0..4).map(|at| format!("c{at}")).collect();
        place.write("c0", "a", b"first").await;
        for at in 1..4 {
            let from = &names[random.below(at)];
            let number = store.head(&name(from)).await.unwrap().number;
            fork(&place, from, &names[at]).await;
            let fork = store.head(&name(&names[at])).await.unwrap();
            happened.insert(fork.nonce, format!("forked from {from}@{number}"));
            change(&place, &mut random, &names[at], &FILES, 2).await;
        }
        for step in 0..8 {
            let (from, into) = (random.below(4), random.below(4));
            if random.below(5) == 0 {
                let renamed = format!("{}-{step}", names[from]);
                store.rename_context(&name(&names[from]), &name(&renamed)).await.unwrap();
                names[from] = renamed;
            } else if from != into {
                change(&place, &mut random, &names[from], &FILES, 2).await;
                let before = store.head(&name(&names[into])).await.unwrap().number;
                let options = MergeOptions::default();
                merge_with(&place, &names[from], &names[into], &options).await;
                let after = store.head(&name(&names[into])).await.unwrap();
                if after.number > before {
                    let merged = store.head(&name(&names[from])).await.unwrap().number;
                    happened.insert(after.nonce, format!("merged {}@{merged}", names[from]));
                }
            }
        }
        for name in &names {
            let all = origins(&place, name, None).await;
            for (nonce, said) in &all {
                assert_eq!(said, happened.get(nonce).map_or("", String::as_str), "seed {seed}: {name}");
                told += usize::from(!said.is_empty());
            }
            // The last of those that are shown is not taken for the oldest.
            assert_eq!(origins(&place, name, Some(2)).await, all[..2.min(all.len())], "seed {seed}: {name}");
        }
    }
    assert!(told as u64 > seeds() * 4, "{told}");
}

#[tokio::test]
async fn what_a_history_tells_without_forgotten_snapshots() {
    let place = Place::made(&HandClock::default()).await;
    place.write("base", "a", b"first").await;
    for at in 1..=3 {
        fork(&place, "base", &format!("try/{at}")).await;
        place.write(&format!("try/{at}"), &format!("new-{at}"), b"new").await;
    }
    for at in 1..=3 {
        merge(&place, &format!("try/{at}"), "base").await;
    }
    let told = async |context: &str| {
        let all = origins(&place, context, None).await;
        all.into_iter().map(|(_, said)| said).collect::<Vec<_>>()
    };
    let forget = async |context: &str, number| {
        let mark = StoreKey::Gone { context: name(context), number }.path();
        place.objects.put(&mark, bytes::Bytes::new().into()).await.unwrap();
    };
    assert_eq!(told("base").await, ["merged try/3@2", "merged try/2@2", "merged try/1@2", "", ""]);
    // Merges before the next snapshot that is kept are told together.
    forget("base", 4).await;
    assert_eq!(told("base").await, ["merged try/3@2, merged try/2@2", "merged try/1@2", "", ""]);
    // What came in with something is told only if that can't be read.
    merge(&place, "base", "try/1").await;
    assert_eq!(told("try/1").await, ["merged base@5", "", "forked from base@2"]);
    place.objects.delete(&StoreKey::Snapshot { context: name("base"), number: 5 }.path()).await.unwrap();
    assert_eq!(
        told("try/1").await,
        ["merged try/3@2, merged base@5, merged try/2@2", "", "forked from base@2"]
    );
    // Of the oldest one that is kept, only the fork is told.
    forget("try/1", 1).await;
    forget("try/1", 2).await;
    assert_eq!(told("try/1").await, ["forked from base@5"]);
}
