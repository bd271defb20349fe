//! Trees in the store: segments of entries, and the snapshot that lists the segments.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group};
use ctxsync_benches::{Random, entries, pack_uses, paths};
use policy_core::{Digest, Timestamp, TreePath};
use transfer_engine::ContextName;
use transfer_engine::format::{
    Changes, Kind, LineageId, Place, RecycleRules, SegmentCutter, SegmentRef, Snapshot, StoreId, Totals,
    TreeEntry, decode_segment, encode_segment,
};

use super::config;

const ENTRIES: usize = 100_000;
/// As many segments as a tree of a million entries has.
const SEGMENTS: usize = 1_000;
const PACKS: usize = 300;

/// Cuts a tree's entries into segments, as a push does.
fn segments(entries: Vec<TreeEntry>) -> Vec<Vec<TreeEntry>> {
    let mut cutter = SegmentCutter::new();
    let mut segments = vec![Vec::new()];
    for entry in entries {
        if cutter.begins_segment(&entry) {
            segments.push(Vec::new());
        }
        segments.last_mut().unwrap().push(entry);
    }
    segments
}

fn segment(c: &mut Criterion) {
    let entries = entries(&paths(ENTRIES));
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("cut", |b| {
        b.iter(|| {
            let mut cutter = SegmentCutter::new();
            entries.iter().filter(|entry| cutter.begins_segment(entry)).count()
        });
    });
    let segments = segments(entries);
    let encode = || segments.iter().map(|entries| encode_segment(entries).unwrap()).collect::<Vec<_>>();
    let encoded = encode();
    let bytes = encoded.iter().map(|segment| segment.bytes.len() as u64).sum();
    group.throughput(Throughput::ElementsAndBytes { elements: ENTRIES as u64, bytes });
    group.bench_function("encode", |b| b.iter_with_large_drop(encode));
    group.bench_function("decode", |b| {
        b.iter(|| {
            let decoded = encoded.iter().map(|s| decode_segment(&s.bytes, s.digest).unwrap().len());
            decoded.sum::<usize>()
        });
    });
    group.finish();
}

fn snapshot_of(first: &[TreePath]) -> Snapshot {
    let mut random = Random::new(1);
    let segment = |(n, first): (usize, &TreePath)| {
        let pack = (n * PACKS / SEGMENTS) as u32;
        SegmentRef {
            first: first.clone(),
            entries: 1000,
            digest: Digest(random.array()),
            len: 60 << 10,
            place: Place::Pack { pack, offset: (n as u32 % 8) * (60 << 10) },
            packs: vec![(pack, 4 << 20)],
        }
    };
    let segments: Vec<SegmentRef> = first.iter().enumerate().map(segment).collect();
    Snapshot {
        number: 1,
        store_id: StoreId([1; 16]),
        context: ContextName::new("bench").unwrap(),
        lineage: LineageId([2; 16]),
        parent: Some(Digest([3; 32])),
        kind: Kind::Normal,
        created: Timestamp { secs: 1_700_000_000, nanos: 0 },
        session: "bench".to_owned(),
        nonce: [4; 16],
        policy: Digest([5; 32]),
        recycle: RecycleRules::default(),
        totals: Totals { files: 1_000_000, dirs: 30_000, symlinks: 0, bytes: 9 << 30 },
        changes: Changes { added: 1, changed: 2, deleted: 3 },
        partial: false,
        extensions: Vec::new(),
        packs: pack_uses(PACKS),
        segments,
        inline: Bytes::new(),
    }
}

fn snapshot(c: &mut Criterion) {
    let snapshot = snapshot_of(&paths(SEGMENTS));
    let encoded = snapshot.encode().unwrap().bytes;
    let mut group = c.benchmark_group("snapshot");
    let bytes = encoded.len() as u64;
    group.throughput(Throughput::ElementsAndBytes { elements: SEGMENTS as u64, bytes });
    group.bench_function("encode", |b| b.iter_with_large_drop(|| snapshot.encode().unwrap()));
    group.bench_function("decode", |b| b.iter_with_large_drop(|| Snapshot::decode(&encoded).unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = segment, snapshot
}
