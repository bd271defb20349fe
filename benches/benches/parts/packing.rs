//! Blocks and packs: chunks are compressed together, and combined into objects.

use std::cell::LazyCell;
use std::ops::Deref;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use ctxsync_benches::{Random, text};
use transfer_engine::format::{
    ARCHIVE_MODE_LEVEL, ARCHIVE_MODE_TARGET, BlockBuilder, BlockOpener, ChunkId, FILE_MODE_TARGET,
    PackBuilder, PackId, SealedBlock, parse_footer,
};

use super::config;

const LEN: usize = 32 << 20;

type Chunks = Vec<(ChunkId, Bytes)>;

/// Returns chunks of `len` bytes in total: with the sizes of small files, or 1 MiB each.
fn chunks(are_small: bool, mut make: impl FnMut(u64, usize) -> Vec<u8>) -> Chunks {
    let mut random = Random::new(1);
    let mut chunks = Chunks::new();
    let mut left = LEN;
    while left > 0 {
        let len = if are_small { random.file_size() } else { 1 << 20 }.min(left);
        let data = make(chunks.len() as u64, len);
        chunks.push((ChunkId::of(&data), data.into()));
        left -= len;
    }
    chunks
}

fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).bytes(len)
}

fn seal(chunks: &Chunks, target: usize) -> Vec<SealedBlock> {
    let mut builder = BlockBuilder::new(target);
    if target == ARCHIVE_MODE_TARGET {
        builder = builder.at_level(ARCHIVE_MODE_LEVEL);
    }
    let mut blocks = Vec::new();
    for (id, data) in chunks {
        if !builder.takes(data.len()) {
            blocks.extend(builder.finish());
        }
        builder.push(*id, data.clone()).unwrap();
        if builder.is_full() {
            blocks.extend(builder.finish());
        }
    }
    blocks.extend(builder.finish());
    blocks
}

fn blocks(c: &mut Criterion) {
    // Generated only if the filter selects a benchmark that needs them.
    let small_text = LazyCell::new(|| chunks(true, text));
    let small_random = LazyCell::new(|| chunks(true, random_bytes));
    let large_text = LazyCell::new(|| chunks(false, text));
    let large_random = LazyCell::new(|| chunks(false, random_bytes));
    let texts: [(&str, &dyn Deref<Target = Chunks>, usize); 3] = [
        ("small_text", &small_text, FILE_MODE_TARGET),
        ("small_text_archive_mode", &small_text, ARCHIVE_MODE_TARGET),
        ("1_MiB_text", &large_text, FILE_MODE_TARGET),
    ];
    let random: [(&str, &dyn Deref<Target = Chunks>, usize); 2] = [
        ("small_random", &small_random, FILE_MODE_TARGET),
        ("1_MiB_random", &large_random, FILE_MODE_TARGET),
    ];

    let mut group = c.benchmark_group("seal_blocks");
    group.throughput(Throughput::Bytes(LEN as u64));
    for (name, chunks, target) in texts.into_iter().chain(random) {
        group.bench_function(name, |b| {
            let chunks: &Chunks = chunks;
            b.iter_with_large_drop(|| seal(chunks, target));
        });
    }
    group.finish();

    // Only text: random bytes are stored uncompressed, so opening their blocks does nothing.
    let mut group = c.benchmark_group("open_blocks");
    group.throughput(Throughput::Bytes(LEN as u64));
    for (name, chunks, target) in texts {
        let sealed = LazyCell::new(|| seal(chunks, target));
        group.bench_function(name, |b| {
            let sealed = LazyCell::force(&sealed);
            let mut opener = BlockOpener::new();
            b.iter(|| {
                let lens = sealed.iter().map(|s| opener.open(s.codec, s.raw_len, &s.bytes).unwrap().len());
                lens.sum::<usize>()
            });
        });
    }
    group.finish();
}

fn packs(c: &mut Criterion) {
    let sealed = seal(&chunks(true, random_bytes), FILE_MODE_TARGET);
    let pack = |blocks: Vec<SealedBlock>| {
        let mut builder = PackBuilder::new(PackId([1; 16]));
        for block in blocks {
            builder.append(block).unwrap();
        }
        builder.finish()
    };
    let chunks = sealed.iter().map(|block| block.chunks.len() as u64).sum();
    let whole = pack(sealed.clone());
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Elements(chunks));
    // Appending does not copy the blocks, so this mainly measures the footer, whose size depends on the
    // chunks.
    group.bench_function("append_and_finish", |b| {
        b.iter_batched(|| sealed.clone(), pack, BatchSize::SmallInput);
    });
    let footer = whole.parts.last().unwrap();
    group.bench_function("parse_footer", |b| {
        b.iter_with_large_drop(|| parse_footer(footer, whole.size).unwrap());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = blocks, packs
}
