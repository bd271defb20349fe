use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use object_store::memory::InMemory;

use super::*;
use crate::env::{Env, Spawn};
use crate::format::fixture::{dir, symlink};
use crate::format::{LineageId, PackBuilder, PackUse, StoreId, encode_segment};

/// Runs the jobs that unpack segments when the test says so, and counts them.
#[derive(Default)]
struct Jobs {
    waiting: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    started: AtomicUsize,
}

impl Spawn for Jobs {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().unwrap().push(job);
    }

    fn parallelism(&self) -> usize {
        8
    }
}

impl Jobs {
    fn started(&self) -> usize {
        self.started.load(Ordering::Relaxed)
    }

    fn run_all(&self) -> usize {
        let jobs = std::mem::take(&mut *self.waiting.lock().unwrap());
        jobs.into_iter().map(|job| job()).count()
    }
}

/// Makes a tree of these segments, all in one pack.
async fn stored(segments: &[Vec<TreeEntry>]) -> (Store, Snapshot, Arc<Jobs>) {
    let mut pack = PackBuilder::new(PackId([3; 16]));
    let mut refs = Vec::new();
    for entries in segments {
        let encoded = encode_segment(entries).unwrap();
        let (offset, len) = pack.append_segment(encoded.bytes, encoded.digest).unwrap();
        let (first, entries, digest) = (encoded.first, encoded.entries, encoded.digest);
        let place = Place::Pack { pack: 0, offset };
        refs.push(SegmentRef { first, entries, digest, len, place, packs: Vec::new() });
    }
    let pack = pack.finish();
    let objects = Arc::new(InMemory::new());
    let jobs = Arc::new(Jobs::default());
    let store = Store::new(objects.clone(), "test:", Env::real().with_spawn(jobs.clone()));
    let used = PackUse {
        id: pack.id,
        size: pack.size,
        footer_len: pack.footer_len,
        live: pack.size - u64::from(pack.footer_len),
        land_by: None,
    };
    let payload = pack.parts.into_iter().collect::<object_store::PutPayload>();
    object_store::ObjectStoreExt::put(&*objects, &StoreKey::Pack(pack.id).path(), payload).await.unwrap();
    let snapshot = Snapshot {
        packs: vec![used],
        segments: refs,
        ..Snapshot::empty(StoreId([1; 16]), "c".parse().unwrap(), LineageId([2; 16]))
    };
    (store, snapshot, jobs)
}

/// Consumes all segments. Returns the largest number that were unpacked, or being unpacked, but not consumed
/// at once.
async fn most_at_once(segments: &[Vec<TreeEntry>]) -> usize {
    let (store, snapshot, jobs) = stored(segments).await;
    let tree = Tree { store: &store, snapshot: &snapshot, cache: None };
    let mut read = std::pin::pin!(tree.segments(0..segments.len()));
    let (mut taken, mut most) = (0, 0);
    while taken < segments.len() {
        match read.next().now_or_never() {
            Some(next) => {
                most = most.max(jobs.started() - taken);
                let (index, entries) = next.unwrap().unwrap();
                assert_eq!((index, &entries), (taken, &segments[taken]));
                taken += 1;
            }
            None => {
                most = most.max(jobs.started() - taken);
                assert!(jobs.run_all() > 0, "nothing is under way, and {taken} were read");
            }
        }
    }
    assert!(read.next().now_or_never().unwrap().is_none());
    most
}

#[tokio::test]
async fn ordinary_segments_are_unpacked_side_by_side() {
    let segment = |n| (0..1000).map(|i| dir(&format!("{n:03}-{i:04}"), 0o700)).collect();
    let segments: Vec<Vec<_>> = (0..20).map(segment).collect();
    assert_eq!(most_at_once(&segments).await, AHEAD);
}

#[tokio::test]
async fn s9_what_claims_much_is_unpacked_alone() {
    let target = "t".repeat(16 << 10);
    let segment = |n| (0..2000).map(|i| symlink(&format!("{n:03}-{i:04}"), &target)).collect();
    let segments: Vec<Vec<_>> = (0..6).map(segment).collect();
    assert!(encode_segment(&segments[0]).unwrap().bytes.len() < 100 << 10);
    assert_eq!(most_at_once(&segments).await, 1);
}

#[tokio::test]
async fn s9_few_names_that_are_many_long_paths_count_as_these() {
    let start = format!("{}/", "p".repeat(250)).repeat(60);
    let segment = |n| (0..2000).map(|i| dir(&format!("{n:03}{start}{i:09}"), 0o700)).collect();
    let segments: Vec<Vec<_>> = (0..3).map(segment).collect();
    let bytes = encode_segment(&segments[0]).unwrap().bytes;
    assert!(bytes.len() < 50 << 10 && memory_of(&segments[0]) > 28 << 20);
    // When a segment is unpacked, its real size is known, and two fit at once.
    let most = most_at_once(&segments).await;
    assert!((1..=2).contains(&most), "{most}");
}
