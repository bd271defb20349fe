//! Reading the contents of packs, block by block, each chunk verified.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{FutureExt, StreamExt, stream};
use policy_core::Digest;

use super::packs::Packs;
use super::{fault, key_of};
use crate::env::JobLost;
use crate::error::Error;
use crate::format::{BlockOpener, ChunkId, Codec, Footer, FooterBlock, PackId, TreeEntry, sha256};
use crate::packing::{BlockNeeds, Need, plan_ranges, verified};
use crate::store::MAX_RANGE;

/// Blocks that are read at once for the files of one segment.
const AHEAD: usize = 4;

/// A part of a pack that is verified on its own.
#[derive(Debug, Clone)]
struct Part {
    range: Range<u64>,
    holds: Holds,
}

#[derive(Debug, Clone)]
enum Holds {
    Chunks { raw_len: u32, codec: Codec, chunks: Vec<(ChunkId, u32)> },
    Segment(Digest),
}

impl Part {
    fn of(block: FooterBlock) -> Self {
        let (offset, len, holds) = match block {
            FooterBlock::Data { offset, stored_len, raw_len, codec, chunks } => {
                (offset, stored_len, Holds::Chunks { raw_len, codec, chunks })
            }
            FooterBlock::Segment { offset, len, digest } => (offset, len, Holds::Segment(digest)),
        };
        Self { range: u64::from(offset)..u64::from(offset) + u64::from(len), holds }
    }

    /// Whether `stored` is what the footer says.
    fn is(&self, stored: &[u8], opener: &mut BlockOpener) -> bool {
        match &self.holds {
            Holds::Segment(digest) => sha256(stored) == *digest,
            Holds::Chunks { raw_len, codec, chunks } => {
                let Ok(raw) = opener.open(*codec, *raw_len, stored) else { return false };
                let mut rest = raw;
                chunks.iter().all(|(id, len)| {
                    let Some((chunk, after)) = rest.split_at_checked(*len as usize) else { return false };
                    rest = after;
                    ChunkId::of(chunk) == *id
                })
            }
        }
    }
}

impl Packs<'_> {
    /// Reads all of a pack, and returns where the blocks begin that are damaged, in order.
    pub(super) async fn read_pack(&self, pack: PackId, footer: Footer) -> Result<Vec<u32>, Error> {
        let mut damaged = Vec::new();
        let mut run: Vec<Part> = Vec::new();
        for part in footer.blocks.into_iter().map(Part::of) {
            if run.first().is_some_and(|first| part.range.end - first.range.start > MAX_RANGE) {
                damaged.extend(self.read_run(pack, std::mem::take(&mut run)).await?);
            }
            run.push(part);
        }
        if !run.is_empty() {
            damaged.extend(self.read_run(pack, run).await?);
        }
        Ok(damaged)
    }

    /// Reads parts that follow each other, and returns where those begin that are damaged.
    async fn read_run(&self, pack: PackId, run: Vec<Part>) -> Result<Vec<u32>, Error> {
        let _memory = self.ranges.acquire().await;
        let mut damaged = self.verify(pack, run).await?;
        // A bit may have flipped on the way: each by itself, once more.
        let mut begins = Vec::new();
        for part in std::mem::take(&mut damaged) {
            let begin = u32::try_from(part.range.start).unwrap_or(u32::MAX);
            if !self.verify(pack, vec![part]).await?.is_empty() {
                begins.push(begin);
            }
        }
        Ok(begins)
    }

    /// Fetches parts that follow each other, and returns those that are damaged.
    async fn verify(&self, pack: PackId, run: Vec<Part>) -> Result<Vec<Part>, Error> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(run) };
        let (start, end) = (first.range.start, last.range.end);
        let bytes = match self.store.get_range(pack, start, end).await {
            Ok(bytes) => bytes,
            Err(error) => {
                fault(self.store, error).await?;
                return Ok(run);
            }
        };
        self.bytes_read.fetch_add(end - start, Ordering::Relaxed);
        let verifying = self.store.env().blocking(move || {
            let mut opener = BlockOpener::new();
            let is_damaged = |part: &Part| {
                let (from, to) = (part.range.start - start, part.range.end - start);
                !part.is(&bytes[from as usize..to as usize], &mut opener)
            };
            run.into_iter().filter(is_damaged).collect::<Vec<_>>()
        });
        verifying
            .await
            .map_err(|lost: JobLost| Error::local("verify", key_of(pack), std::io::Error::from(lost)))
    }

    /// Reads the blocks that hold the contents of some entries, and notes those that can't be read.
    pub(super) async fn read_entries<'e>(
        &self,
        entries: impl Iterator<Item = &'e TreeEntry>,
    ) -> Result<(), Error> {
        let chunks = entries.flat_map(|entry| &entry.chunks).filter(|chunk| self.fault_of(chunk).is_none());
        let needs = chunks.map(|chunk| Need { item: 0, chunk: *chunk, at: 0 }).collect();
        let blocks = plan_ranges(needs).into_iter().flat_map(|range| range.blocks);
        let mut read = stream::iter(blocks)
            .map(|block| async move { (block.block, self.is_readable(block).await) }.boxed())
            .buffer_unordered(AHEAD);
        while let Some((block, is_readable)) = read.next().await {
            if !is_readable? {
                self.note_unreadable(block.pack, block.offset);
            }
        }
        Ok(())
    }

    /// Reads a block, and says whether it holds the chunks that it should; once more if it does not.
    async fn is_readable(&self, wanted: BlockNeeds) -> Result<bool, Error> {
        let _memory = self.ranges.acquire().await;
        let (block, needs) = (wanted.block, Arc::new(wanted.needs));
        let (start, end) = (u64::from(block.offset), u64::from(block.offset) + u64::from(block.stored_len));
        for _ in 0..2 {
            let stored = match self.store.get_range(block.pack, start, end).await {
                Ok(stored) => stored,
                Err(error) => {
                    fault(self.store, error).await?;
                    return Ok(false);
                }
            };
            self.bytes_read.fetch_add(end - start, Ordering::Relaxed);
            let needs = Arc::clone(&needs);
            let verifying = self.store.env().blocking(move || {
                let mut opener = BlockOpener::new();
                let raw = opener.open(block.codec, block.raw_len, &stored);
                raw.is_ok_and(|raw| needs.iter().all(|need| verified(raw, need).is_some()))
            });
            let lost = |lost: JobLost| Error::local("verify", key_of(block.pack), std::io::Error::from(lost));
            if verifying.await.map_err(lost)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
