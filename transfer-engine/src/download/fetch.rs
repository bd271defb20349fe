//! Fetches files: ranges of packs become verified files in staging, which are then put in place.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, TryStreamExt};
use policy_core::TreePath;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::item::{Applied, Failure, Item, Slot, Slots, lock};
use super::place::Placing;
use super::recent::Recent;
use super::resume;
use super::trouble::Trouble;
use crate::buffers::Buffers;
use crate::error::{Error, chain};
use crate::format::{BlockOpener, ChunkRef, PackId, StoreKey};
use crate::local::os;
use crate::local::{MountDir, Shelves, Stagings, sqlite, write_sparse};
use crate::monitor::{Monitor, PathProblem, Progress};
use crate::packing::{BlockNeeds, Moved, Need, PackRange, plan_ranges, telling, verified};
use crate::state::{Arriving, Lane};
use crate::store::{MAX_RANGE, RangeRead, Store};

/// The writeback of a chunk of at least this many bytes is started at once.
const WORTH_WRITING_OUT: usize = 128 << 10;

/// How often files are fetched if another program removes what was staged of them.
const ATTEMPTS: u32 = 5;

/// How many ranges of one fetch wait for a permit. They are queued, so a fetch that started later gets its
/// permits later.
const QUEUED: usize = 64;

/// Returns buffers for the ranges of one pull.
pub(crate) fn range_buffers() -> Buffers {
    Buffers::new(MAX_RANGE as usize)
}

/// Fetches files into one mount.
pub(crate) struct Fetcher<'a> {
    pub(crate) store: &'a Store,
    pub(crate) dir: MountDir,
    pub(crate) staging: Arc<Stagings>,
    /// A permit for each range in flight, shared by all fetches. Ranges are requested in the order in which
    /// their fetches started.
    pub(crate) ranges: Semaphore,
    /// Buffers for ranges of long files.
    pub(crate) buffers: Buffers,
    /// Recently fetched ranges.
    pub(crate) recent: Arc<Mutex<Recent>>,
    pub(crate) monitor: &'a dyn Monitor,
    pub(crate) progress: Mutex<Progress>,
    /// What is on its way.
    pub(crate) coming: Moved,
    /// The hint for a path that failed, if a retry may help.
    pub(crate) hint: &'static str,
    /// The shared state of the mount's pulls, and the kind of this pull.
    pub(crate) sharing: Option<(Arc<Arriving>, Lane)>,
    /// Stops the fetch early. Files that are complete by then are put in place.
    pub(crate) stop: CancellationToken,
    /// The most bytes of unfinished ranges that are kept for the next pull.
    pub(crate) most_parts: u64,
}

impl Fetcher<'_> {
    /// Pulls several items together: fetched with few requests, made durable with one call, then put in place
    /// one after the other.
    pub(crate) async fn fetch(&self, items: Vec<Item>) -> Result<Fetched, Error> {
        let items = Arc::new(items);
        let mut placed = self.try_fetch(&items).await?;
        for _ in 1..ATTEMPTS {
            if self.stop.is_cancelled() || !placed.contains(&Err(Trouble::unstaged())) {
                break;
            }
            // The files of a database are put in place together or not at all: the next pull brings them.
            let databases: HashSet<TreePath> =
                items.iter().filter_map(|item| sqlite::database_of(&item.path)).collect();
            let is_of_one = |path: &TreePath| {
                databases.contains(path)
                    || sqlite::database_of(path).is_some_and(|of| databases.contains(&of))
            };
            let is_lost =
                |at: &usize| placed[*at] == Err(Trouble::unstaged()) && !is_of_one(&items[*at].path);
            let again: Vec<usize> = (0..items.len()).filter(is_lost).collect();
            if again.is_empty() {
                break;
            }
            let lost: Vec<Item> = again.iter().map(|at| items[*at].clone()).collect();
            self.take_back(&lost);
            for (at, now) in again.into_iter().zip(self.try_fetch(&Arc::new(lost)).await?) {
                placed[at] = now;
            }
        }
        let outcomes = self.report(&items, placed);
        Ok(Fetched { items, outcomes })
    }

    async fn try_fetch(&self, items: &Arc<Vec<Item>>) -> Result<Vec<Result<Applied, Trouble>>, Error> {
        let slots: Slots = Arc::new(
            items
                .iter()
                .map(|i| Mutex::new(Slot { left: i.entry.chunks.len(), ..Slot::default() }))
                .collect(),
        );
        let here = self.begin_known(items, &slots).await?;
        let fetched = self.fetch_content(items, &slots, &here).await;
        let (dir, staging, sharing) = (self.dir.clone(), self.staging.clone(), self.sharing.clone());
        let stopped = fetched.is_err() || self.stop.is_cancelled();
        if stopped {
            // Running writes go on to their end, even if nobody waits for them.
            self.dir.quiet().await;
        }
        let placed = {
            let items = items.clone();
            self.blocking(move || {
                Placing { dir: &dir, staging: &staging, sharing, stopped }.all(&items, &slots)
            })
            .await
            .inspect_err(|_| self.sharing.iter().for_each(|(arriving, _)| arriving.doubt()))?
        };
        fetched?;
        placed
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let lost = |e: crate::env::JobLost| Error::local("write to", self.dir.path(), io::Error::from(e));
        self.dir.blocking(job).await.map_err(lost)
    }

    /// Creates the files for which some chunks are known locally, and returns which chunks those are.
    async fn begin_known(&self, items: &Arc<Vec<Item>>, slots: &Slots) -> Result<Vec<Vec<bool>>, Error> {
        if !items.iter().any(Item::may_be_here) {
            return Ok(Vec::new());
        }
        let (dir, staging) = (self.dir.clone(), self.staging.clone());
        let mut here = Vec::with_capacity(items.len());
        let (items, slots, stop) = (items.clone(), slots.clone(), self.stop.clone());
        let begun = self.blocking(move || {
            let begun = items.iter().zip(slots.iter()).map(|(item, slot)| {
                let mut slot = lock(slot);
                if !item.may_be_here() {
                    return (Vec::new(), Written::default());
                }
                match resume::begin(&dir, &staging, item, &stop) {
                    Ok(begun) => {
                        let chunks = item.entry.chunks.iter().zip(&begun.present);
                        let here = chunks.filter(|(_, here)| **here).map(|(chunk, _)| u64::from(chunk.len));
                        let mut written = Written { bytes: here.sum(), ..Written::default() };
                        slot.left -= begun.present.iter().filter(|here| **here).count();
                        slot.file = Some(begun.file);
                        (slot.is_resumed, slot.ends_in_hole) = (begun.is_resumed, begun.ends_in_hole);
                        match seal_if_whole(&mut slot, item, &staging) {
                            Ok(whole) => written.files = u64::from(whole),
                            Err(e) => slot.failed = Some(Failure::Local(e)),
                        }
                        (begun.present, written)
                    }
                    Err(e) => {
                        slot.failed = Some(Failure::Local(e));
                        (vec![true; item.entry.chunks.len()], Written::default())
                    }
                }
            });
            begun.collect::<Vec<_>>()
        });
        for (present, written) in begun.await? {
            self.advance(written.files, written.bytes);
            here.push(present);
        }
        Ok(here)
    }

    async fn fetch_content(
        &self,
        items: &Arc<Vec<Item>>,
        slots: &Slots,
        here: &[Vec<bool>],
    ) -> Result<(), Error> {
        let needs = items.iter().enumerate().flat_map(|(item, i)| {
            let present = here.get(item).filter(|present| !present.is_empty());
            let mut at = 0;
            i.entry.chunks.iter().enumerate().filter_map(move |(index, chunk)| {
                let need = Need { item, chunk: *chunk, at };
                at += u64::from(chunk.len);
                present.is_none_or(|present| !present[index]).then_some(need)
            })
        });
        let mut needs = needs.collect();
        let mut ranges = lock(&self.recent).split(&mut needs);
        ranges.extend(plan_ranges(needs));
        // The ranges of a long file are hardly needed again.
        let keeps = !items.iter().any(Item::is_long);
        futures::stream::iter(ranges)
            .map(|range| self.fetch_range(range, keeps, items, slots).boxed())
            .buffer_unordered(QUEUED)
            .try_collect::<()>()
            .await
    }

    /// Fetches one range, unless it was kept, and writes its chunks. Blocks whose digest is wrong are fetched
    /// once more. If it is stopped, it writes and keeps what has arrived: over a slow connection, a range may take longer
    /// than a pull runs at a time.
    async fn fetch_range(
        &self,
        range: PackRange,
        keeps: bool,
        items: &Arc<Vec<Item>>,
        slots: &Slots,
    ) -> Result<(), Error> {
        let turn = async {
            let turn = self.ranges.acquire().await;
            if let Some((arriving, Lane::All)) = &self.sharing {
                arriving.nobody_asks().await;
            }
            turn
        };
        let Some(_turn) = self.stop.run_until_cancelled(turn).await else { return Ok(()) };
        // The kept bytes are taken only now, because waiting fetches would keep them beyond the limit.
        let mut recent = lock(&self.recent).get(range.pack, range.start..range.end);
        let mut blocks = Arc::new(range.blocks);
        let mut fetched = 0;
        loop {
            let (bytes, coming) = match recent.take() {
                Some(bytes) => (Ok(bytes), None),
                None => {
                    fetched += 1;
                    // A kept range would keep a whole buffer.
                    let buffers = (!keeps).then_some(&self.buffers);
                    let needed =
                        blocks.iter().flat_map(|b| &b.needs).map(|need| u64::from(need.chunk.len)).sum();
                    let coming = self.coming.begin(needed);
                    let counter = coming.counter();
                    let begun = self.take_part(range.pack, range.start, fetched);
                    let (pack, start, end) = (range.pack, range.start + begun.len() as u64, range.end);
                    let how = RangeRead { buffers, passed: Some(&counter), stop: Some(&self.stop) };
                    let get = self.store.get_range_as(how, pack, start, end);
                    let rest = telling(get, || self.tell(&lock(&self.progress))).await;
                    (rest.map(|rest| joined(begun, rest)), Some(coming))
                }
            };
            let bytes = match bytes {
                Ok(bytes) => bytes,
                // An object that is missing, truncated or not for us to read fails its own files, but not others.
                Err(e) if is_about_the_object(&e) || self.is_denied_alone(&e).await => {
                    for need in blocks.iter().flat_map(|b| &b.needs) {
                        lock(&slots[need.item]).failed.get_or_insert_with(|| Failure::Store(chain(&e)));
                    }
                    return Ok(());
                }
                Err(e) => return Err(e),
            };
            let start = range.start;
            let (job_blocks, job_items, job_slots) = (blocks.clone(), items.clone(), slots.clone());
            let (staging, job_bytes) = (self.staging.clone(), bytes.clone());
            let write =
                move || write_blocks(&job_bytes, start, &job_blocks, &job_items, &job_slots, &staging);
            let done = self.blocking(write).await?;
            // From now on it counts as written.
            drop(coming);
            self.advance(done.files, done.bytes);
            if let Some((arriving, Lane::All)) = &self.sharing {
                arriving.note_kept(done.kept);
            }
            if self.stop.is_cancelled() {
                if let Some((arriving, Lane::All)) = &self.sharing {
                    arriving.parts.keep(range.pack, range.start, &bytes, self.most_parts);
                }
                return Ok(());
            }
            if done.bad.is_empty() {
                if keeps && fetched > 0 {
                    lock(&self.recent).keep(range.pack, range.start, bytes);
                }
                return Ok(());
            }
            if fetched < 2 {
                let bad = done.bad.into_iter().filter_map(|i| {
                    let BlockNeeds { block, needs } = blocks.get(i)?;
                    Some(BlockNeeds { block: *block, needs: needs.clone() })
                });
                blocks = Arc::new(bad.collect());
            } else {
                for block in done.bad.into_iter().filter_map(|i| blocks.get(i)) {
                    let key = StoreKey::Pack(block.block.pack).path();
                    for need in &block.needs {
                        let message = format!("{key} is corrupt at byte {}", block.block.offset);
                        lock(&slots[need.item]).failed.get_or_insert(Failure::Store(message));
                    }
                }
                return Ok(());
            }
        }
    }

    /// Returns what a stopped pull had received of a range. On the second try, that may be what is damaged.
    fn take_part(&self, pack: PackId, start: u64, tries: u32) -> Bytes {
        match &self.sharing {
            Some((arriving, Lane::All)) if tries <= 1 => arriving.parts.take(pack, start),
            _ => Bytes::new(),
        }
    }

    /// Whether a request was denied, and others are not: then it concerns a single object.
    async fn is_denied_alone(&self, e: &Error) -> bool {
        e.is_denied() && self.store.confirm().await.is_ok()
    }

    /// Counts these files as not written, because what was written of them is gone.
    fn take_back(&self, items: &[Item]) {
        let mut progress = lock(&self.progress);
        let bytes = items.iter().map(|item| item.entry.entry.size()).sum();
        progress.files_done = progress.files_done.saturating_sub(items.len() as u64);
        progress.bytes_done = progress.bytes_done.saturating_sub(bytes);
    }

    fn advance(&self, files: u64, bytes: u64) {
        let mut progress = lock(&self.progress);
        progress.files_done += files;
        progress.bytes_done += bytes;
        self.tell(&progress);
    }

    /// Tells what has been written, and what is on its way to that.
    fn tell(&self, progress: &Progress) {
        let all = if progress.total_bytes > 0 { progress.total_bytes } else { u64::MAX };
        let bytes_done = (progress.bytes_done + self.coming.bytes()).min(all.max(progress.bytes_done));
        self.monitor.progress(&Progress { bytes_done, ..*progress });
    }

    fn report(&self, items: &[Item], placed: Vec<Result<Applied, Trouble>>) -> Vec<Applied> {
        let outcomes = items.iter().zip(placed).map(|(item, placed)| {
            placed.unwrap_or_else(|trouble| {
                self.monitor.problem(&PathProblem {
                    path: item.path.clone(),
                    hint: trouble.hint_or(self.hint),
                    message: trouble.message,
                });
                Applied::Failed
            })
        });
        outcomes.collect()
    }
}

/// The results of one fetch.
pub(crate) struct Fetched {
    items: Arc<Vec<Item>>,
    outcomes: Vec<Applied>,
}

impl Fetched {
    /// Returns each item with its result.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&Item, Applied)> {
        self.items.iter().zip(self.outcomes.iter().copied())
    }
}

/// Returns the bytes of a range: what an earlier pull had received of it, and the rest.
fn joined(begun: Bytes, rest: Bytes) -> Bytes {
    if begun.is_empty() {
        return rest;
    }
    let mut whole = BytesMut::with_capacity(begun.len() + rest.len());
    whole.extend_from_slice(&begun);
    whole.extend_from_slice(&rest);
    whole.freeze()
}

/// Whether an error concerns a single object, and not the connection to the store.
fn is_about_the_object(e: &Error) -> bool {
    matches!(e, Error::Corrupt { .. } | Error::Store { source: object_store::Error::NotFound { .. }, .. })
}

#[derive(Default)]
struct Written {
    files: u64,
    bytes: u64,
    /// How many of the bytes a later pull will find if this one is stopped.
    kept: u64,
    /// The indexes of blocks with wrong content.
    bad: Vec<usize>,
}

/// Unpacks the blocks of a range, and writes each wanted chunk to its file after verifying it.
fn write_blocks(
    bytes: &Bytes,
    start: u64,
    blocks: &[BlockNeeds],
    items: &[Item],
    slots: &Slots,
    staging: &Stagings,
) -> Written {
    let mut written = Written::default();
    let mut opener = BlockOpener::new();
    let mut shelves = Shelves::new(staging);
    for (index, BlockNeeds { block, needs }) in blocks.iter().enumerate() {
        let from = (u64::from(block.offset) - start) as usize;
        let Some(stored) = bytes.get(from..from + block.stored_len as usize) else {
            written.bad.push(index);
            continue;
        };
        let Ok(raw) = opener.open(block.codec, block.raw_len, stored) else {
            written.bad.push(index);
            continue;
        };
        // All chunks are verified first. So a block is written whole or not at all, and can be fetched again.
        let Some(chunks) = all_verified(raw, needs) else {
            written.bad.push(index);
            continue;
        };
        for (need, chunk) in needs.iter().zip(chunks) {
            let item = &items[need.item];
            let mut slot = lock(&slots[need.item]);
            if slot.failed.is_some() {
                continue;
            }
            match write_chunk(&mut slot, need, chunk, item, staging, &mut shelves) {
                Ok(true) => written.files += 1,
                Ok(false) => {}
                Err(e) => slot.failed = Some(Failure::Local(e)),
            }
            written.bytes += chunk.len() as u64;
            written.kept += if item.is_long() { chunk.len() as u64 } else { 0 };
        }
    }
    written
}

/// Returns the chunks of a block. A chunk that is needed many times in a row, such as one of zeros, is hashed
/// once.
fn all_verified<'a>(raw: &'a [u8], needs: &[Need]) -> Option<Vec<&'a [u8]>> {
    let mut last: Option<(ChunkRef, &[u8])> = None;
    let chunks = needs.iter().map(|need| match last {
        Some((chunk, bytes)) if chunk == need.chunk => Some(bytes),
        _ => {
            let bytes = verified(raw, need)?;
            last = Some((need.chunk, bytes));
            Some(bytes)
        }
    });
    chunks.collect()
}

/// Writes a chunk; true if it was the file's last one.
fn write_chunk(
    slot: &mut Slot,
    need: &Need,
    chunk: &[u8],
    item: &Item,
    staging: &Stagings,
    shelves: &mut Shelves<'_>,
) -> io::Result<bool> {
    let new = match &mut slot.file {
        Some(new) => new,
        none => none.insert(shelves.of(&item.path)?.new_file()?),
    };
    slot.ends_in_hole |= write_sparse(&new.file, chunk, need.at, !slot.is_resumed)?;
    if chunk.len() >= WORTH_WRITING_OUT {
        // The disk should start writing now, or all writes would come at the end, when everything waits for
        // them. On Linux, this call starts the writeback at once. The data is made durable later in any case.
        os::start_writing(&new.file, need.at, chunk.len());
    }
    slot.left -= 1;
    seal_if_whole(slot, item, staging)
}

/// Prepares a complete file for being put in place; true if it is complete.
fn seal_if_whole(slot: &mut Slot, item: &Item, staging: &Stagings) -> io::Result<bool> {
    if slot.left > 0 {
        return Ok(false);
    }
    if let Some(new) = slot.file.take() {
        let entry = &item.entry.entry;
        if slot.ends_in_hole {
            new.file.set_len(entry.size())?;
        }
        slot.staged = Some(staging.main().seal(new, entry.mode, entry.mtime)?);
    }
    Ok(true)
}
