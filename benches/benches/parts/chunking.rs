//! Chunks: where files are cut, and how fast chunks are hashed.

use std::cell::LazyCell;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group};
use ctxsync_benches::{Random, text};
use transfer_engine::format::{ChunkId, cut, file_digest};

use super::config;

/// More than fits into the CPU's caches, so that the bytes come from memory.
const LEN: usize = 64 << 20;
type Make = fn() -> Vec<u8>;
/// The kinds of bytes. They are generated only if the filter selects a benchmark that needs them.
const KINDS: [(&str, Make); 2] = [("random", random_bytes), ("text", || text(1, LEN))];

fn random_bytes() -> Vec<u8> {
    Random::new(1).bytes(LEN)
}

fn chunks(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (chunk, after) = rest.split_at(cut(rest, true)?);
        rest = after;
        Some(chunk)
    })
}

fn cutting(c: &mut Criterion) {
    let mut group = c.benchmark_group("cut");
    group.throughput(Throughput::Bytes(LEN as u64));
    for (name, make) in KINDS {
        let data = LazyCell::new(make);
        group.bench_function(name, |b| {
            let data = LazyCell::force(&data);
            b.iter(|| chunks(black_box(data)).count());
        });
    }
    group.finish();
}

fn hashing(c: &mut Criterion) {
    let data = LazyCell::new(random_bytes);
    let mut group = c.benchmark_group("hash");
    for (name, len) in [("1_KiB", 1 << 10), ("8_KiB", 8 << 10), ("1_MiB", 1 << 20)] {
        group.throughput(Throughput::ElementsAndBytes { elements: (LEN / len) as u64, bytes: LEN as u64 });
        group.bench_function(name, |b| {
            let data = LazyCell::force(&data);
            b.iter(|| data.chunks_exact(len).map(|chunk| ChunkId::of(chunk).0[0]).fold(0, u8::wrapping_add));
        });
    }
    group.finish();
}

fn cutting_and_hashing(c: &mut Criterion) {
    let mut group = c.benchmark_group("cut_and_hash");
    group.throughput(Throughput::Bytes(LEN as u64));
    for (name, make) in KINDS {
        let data = LazyCell::new(make);
        group.bench_function(name, |b| {
            let data = LazyCell::force(&data);
            b.iter(|| file_digest(chunks(black_box(data)).map(|c| (ChunkId::of(c), c.len() as u32))));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = cutting, hashing, cutting_and_hashing
}
