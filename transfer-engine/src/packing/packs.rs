//! Puts blocks into packs, and sends a pack while the next one is filled.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use policy_core::Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::chunks::Chunks;
use super::copy::seal;
use super::moved::{Moved, telling};
use super::pace::Pace;
use crate::commit::is_worth_retrying;
use crate::error::Error;
use crate::format::{ChunkId, ChunkRef, PackBuilder, PackId, SealedBlock, SealedPack, StoreKey};
use crate::monitor::{Monitor, Phase, Progress};
use crate::state::{NotedPack, PackJournal};
use crate::store::{Store, unusable};
use crate::tree::{PutPack, SegmentSink};

/// What happened to a block.
#[must_use = "a block that came too late has to be sent again"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// The block is in a pack.
    Taken,
    /// The time for sending is over. The block's chunks are in no pack, and files that need them count as not
    /// sent.
    TooLate,
}

/// A smaller pack is kept until the tree is sent, to save a request.
const WORTH_SENDING_AHEAD: u64 = 4 << 20;

/// How long a put of a pack is retried. On a slow connection, one attempt takes minutes.
const PATIENCE: Duration = Duration::from_mins(30);
/// How often the put of a pack is repeated if its answer is unclear and the pack is missing.
const ATTEMPTS: u32 = 5;

/// Receives blocks and segments, and sends packs.
pub(crate) struct PackSink {
    store: Store,
    chunks: Arc<Chunks>,
    pace: Arc<Pace>,
    filling: Option<PackBuilder>,
    /// A pack for which there was no time left.
    refused: Option<SealedPack>,
    puts: JoinSet<Result<(PackId, PutPack), Error>>,
    /// Limits the bytes in flight.
    budget: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    limit: u32,
    put: HashMap<PackId, PutPack>,
    /// All packs of this push, including those that have not landed yet.
    mine: HashSet<PackId>,
    segment_lens: HashMap<Digest, u32>,
    journal: Option<Arc<PackJournal>>,
    /// The packs of what was gathered.
    gathered: HashSet<PackId>,
    /// Whether the pace limits when packs are sent. It no longer does when only the tree is left to be sent.
    paced: bool,
    closed: bool,
    /// How old packs may get before they are committed, and when the oldest one will be that old.
    round: Option<Duration>,
    round_ends: Option<Instant>,
    /// The bytes of the packs that are sent or on their way.
    pub(crate) stored: u64,
    sent: Moved,
}

/// What a sink had before something is gathered.
#[must_use]
pub(crate) struct Gathering {
    own: HashSet<PackId>,
    journal: Option<Arc<PackJournal>>,
}

/// A permit to send a pack.
type Room = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl PackSink {
    /// Makes a sink with at most about `memory` bytes of packs in flight.
    pub(crate) fn new(
        store: &Store,
        chunks: Arc<Chunks>,
        pace: Arc<Pace>,
        memory: u64,
        concurrency: usize,
    ) -> Self {
        // By default, three packs can be in flight, since a full pack is slightly more than a quarter of
        // this. With fewer, a distant store would wait for this machine. The rest is for the pack that is
        // being filled, for what is being read, and for memory that the allocator does not release at once.
        let limit = u32::try_from(memory / 2).unwrap_or(u32::MAX >> 3);
        let limit = limit.clamp(1, u32::MAX >> 3);
        Self {
            store: store.clone(),
            chunks,
            paced: pace.has_deadline(),
            pace,
            filling: None,
            refused: None,
            puts: JoinSet::new(),
            budget: Arc::new(Semaphore::new(limit as usize)),
            requests: Arc::new(Semaphore::new(concurrency)),
            limit,
            put: HashMap::new(),
            mine: HashSet::new(),
            segment_lens: HashMap::new(),
            journal: None,
            gathered: HashSet::new(),
            closed: false,
            round: None,
            round_ends: None,
            stored: 0,
            sent: Moved::default(),
        }
    }

    /// Makes a sink for a push without a deadline.
    pub(crate) fn unhurried(store: &Store, chunks: Arc<Chunks>, memory: u64, concurrency: usize) -> Self {
        Self::new(store, chunks, Arc::new(Pace::new(None)), memory, concurrency)
    }

    pub(crate) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Begins packs of their own for what is gathered. They are left out of the journal.
    pub(crate) async fn begin_gathering(&mut self) -> Result<Gathering, Error> {
        self.send().await?;
        Ok(Gathering { own: self.mine.clone(), journal: self.journal.take() })
    }

    /// Ends these packs.
    pub(crate) async fn end_gathering(&mut self, gathering: Gathering) -> Result<(), Error> {
        self.send().await?;
        self.gathered.extend(self.mine.difference(&gathering.own));
        self.journal = gathering.journal;
        Ok(())
    }

    /// Uses nothing any more that was gathered.
    pub(crate) fn forget_gathered(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        self.mine.retain(|id| !gathered.contains(id));
        self.chunks.keep_only(|id| !gathered.contains(id));
    }

    /// Writes each pack that lands from now on to the journal.
    pub(crate) fn keep_journal(&mut self, journal: PackJournal) {
        self.journal = Some(Arc::new(journal));
    }

    /// Takes over a pack that an earlier push has put; `age` is the pack's age by the store's clock.
    pub(crate) fn take_over(&mut self, id: PackId, put: PutPack, age: Duration) {
        self.put.insert(id, put);
        self.mine.insert(id);
        self.begin_round(age);
    }

    /// Sets how old packs may get before they have to be committed.
    pub(crate) fn set_round(&mut self, longest: Option<Duration>) {
        self.round = longest;
    }

    fn begin_round(&mut self, age: Duration) {
        let Some(left) = self.round.map(|longest| longest.saturating_sub(age)) else { return };
        let end = Instant::now().checked_add(left);
        self.round_ends = self.round_ends.into_iter().chain(end).min();
    }

    /// Whether the packs in the store have to be committed before more is sent.
    pub(crate) fn is_round_over(&self) -> bool {
        self.round_ends.is_some_and(|end| Instant::now() >= end)
    }

    /// Whether the time for sending is over. Blocks are no longer accepted then.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.closed |= self.paced && self.pace.is_over();
        self.closed
    }

    /// Adds a block to the pack that is being filled.
    pub(crate) async fn add_block(&mut self, block: SealedBlock) -> Result<Added, Error> {
        if self.is_closed() {
            return Ok(Added::TooLate);
        }
        // With a deadline, small files must not wait for large ones.
        let full = self.filling.as_ref().is_some_and(|pack| {
            self.pace.has_deadline()
                && !pack.is_empty()
                && pack.len() + block.bytes.len() as u64 > self.pace.pack_target()
        });
        if full {
            self.send().await?;
        }
        let chunks = block.chunks.clone();
        let pack = self.filling().await?;
        let key = StoreKey::Pack(pack.id()).path();
        let place = pack.append(block).map_err(|e| unusable(key, e))?;
        let len = pack.len();
        self.chunks.place(place, &chunks);
        if len >= self.pace.pack_target() {
            self.send().await?;
        }
        Ok(Added::Taken)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the position of a chunk in a pack of this push.
    pub(crate) fn sent(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.chunks.sent_in(id, |pack| self.mine.contains(pack))
    }

    /// Returns when the last of the packs landed, by the store's clock, or a slightly earlier time.
    pub(crate) fn last_landed(&self) -> Option<i64> {
        self.put.values().map(|put| put.landed).max()
    }

    async fn filling(&mut self) -> Result<&mut PackBuilder, Error> {
        let pack = match self.filling.take() {
            Some(pack) => pack,
            None => {
                let id = PackId(self.store.random()?);
                self.mine.insert(id);
                PackBuilder::new(id)
            }
        };
        Ok(self.filling.insert(pack))
    }

    /// Sends the current pack if it is worth a request of its own, so that it is sent while the tree is made.
    pub(crate) async fn send_ahead(&mut self) -> Result<(), Error> {
        if self.filling.as_ref().is_some_and(|pack| pack.len() >= WORTH_SENDING_AHEAD) && !self.is_closed() {
            self.send().await?;
        }
        Ok(())
    }

    /// Starts to send the current pack, as soon as there is room.
    async fn send(&mut self) -> Result<(), Error> {
        let Some(pack) = self.filling.take() else { return Ok(()) };
        // If a pack has failed, the push has to stop now, and not at its end.
        while let Some(ended) = self.puts.try_join_next() {
            self.note(ended)?;
        }
        let pack = pack.finish();
        let Some(room) = self.room(pack.size).await? else {
            self.closed = true;
            self.refused = Some(pack);
            return Ok(());
        };
        self.start(pack, room);
        Ok(())
    }

    /// Waits for room; `None` if the time for sending ends before.
    async fn room(&mut self, size: u64) -> Result<Option<Room>, Error> {
        let closed = |_| Error::local("wait for", "an upload", std::io::Error::other("closed"));
        let weight = u32::try_from(size).unwrap_or(u32::MAX).min(self.limit);
        let (budget, requests) = (self.budget.clone(), self.requests.clone());
        let free = async move {
            let room = budget.acquire_many_owned(weight).await.map_err(closed)?;
            Ok((room, requests.acquire_owned().await.map_err(closed)?))
        };
        if !self.paced {
            return free.await.map(Some);
        }
        while !self.pace.has_room(size) {
            if !self.wait_for_one().await? {
                return Ok(None);
            }
        }
        match self.pace.cutoff() {
            Some(cutoff) => timeout_at(cutoff, free).await.ok().transpose(),
            None => free.await.map(Some),
        }
    }

    /// Waits until a pack was sent; false if the time for sending is over.
    async fn wait_for_one(&mut self) -> Result<bool, Error> {
        let ended = match self.pace.cutoff() {
            Some(cutoff) => timeout_at(cutoff, self.puts.join_next()).await,
            None => Ok(self.puts.join_next().await),
        };
        match ended {
            Ok(Some(ended)) => self.note(ended)?,
            Ok(None) => {}
            // The pace, and with it the cutoff, may have changed meanwhile.
            Err(_) => return Ok(!self.pace.is_over()),
        }
        Ok(true)
    }

    fn start(&mut self, pack: SealedPack, room: Room) {
        self.stored += pack.size;
        if self.round_ends.is_none() {
            self.begin_round(Duration::ZERO);
        }
        let (store, journal) = (self.store.clone(), self.journal.clone());
        let (pace, on_its_way) = (self.pace.clone(), self.pace.send(pack.size));
        let sent = self.sent.begin(pack.size);
        self.puts.spawn(async move {
            let key = StoreKey::Pack(pack.id).path();
            let (size, footer_len, id) = (pack.size, pack.footer_len, pack.id);
            let told = put_pack(&store, &key, pack.parts, Some(sent.counter())).await?;
            on_its_way.landed();
            sent.landed();
            if let Some(journal) = journal
                && let Err(error) = journal.add(&NotedPack { id, size, footer_len })
            {
                tracing::debug!(%error, "a pack is not noted");
            }
            let (landing, asked) = landing(&store, &key, told).await?;
            if let Some(took) = asked {
                pace.note_trips(took, 1);
            }
            drop(room);
            let Landing { landed, land_by } = landing;
            Ok((id, PutPack { size, footer_len, landed, land_by }))
        });
    }

    fn note(&mut self, ended: Result<Result<(PackId, PutPack), Error>, JoinError>) -> Result<(), Error> {
        let lost = |e| Error::local("finish", "an upload", std::io::Error::other(e));
        let (id, put) = ended.map_err(lost)??;
        self.put.insert(id, put);
        Ok(())
    }

    /// Returns how many bytes of packs there are: sent, on their way, or being filled.
    pub(crate) fn packed(&self) -> u64 {
        self.stored + self.filling.as_ref().map_or(0, PackBuilder::len)
    }

    /// Returns the count of what has been sent.
    pub(crate) fn sent_so_far(&self) -> Moved {
        self.sent.clone()
    }

    /// Sends the rest, and waits until everything is in the store.
    pub(crate) async fn flush(&mut self, monitor: &dyn Monitor) -> Result<(), Error> {
        if self.filling.is_none() && self.puts.is_empty() {
            return Ok(());
        }
        monitor.phase(Phase::Sending);
        let total_bytes = self.packed();
        let sent = self.sent.clone();
        let tell = || {
            let bytes_done = sent.bytes().min(total_bytes);
            monitor.progress(&Progress { bytes_done, total_bytes, ..Progress::default() });
        };
        tell();
        telling(self.send(), tell).await?;
        while let Some(ended) = telling(self.puts.join_next(), tell).await {
            self.note(ended)?;
            tell();
        }
        Ok(())
    }

    /// Sends the rest, and waits until everything is in the store or the time for sending is over. Returns
    /// whether everything is in the store.
    pub(crate) async fn flush_in_time(&mut self) -> Result<bool, Error> {
        if !self.is_closed() {
            self.send().await?;
        }
        while !self.puts.is_empty() {
            if !self.wait_for_one().await? {
                self.closed = true;
                break;
            }
        }
        // The tree comes next, and has to be sent in any case.
        self.paced = false;
        Ok(!std::mem::take(&mut self.closed))
    }

    /// Restricts the known chunks to packs that have landed and packs of the head.
    pub(crate) fn count_on_landed(&mut self, in_head: impl Fn(&PackId) -> bool) -> Result<(), Error> {
        while let Some(ended) = self.puts.try_join_next() {
            self.note(ended)?;
        }
        self.mine = self.put.keys().copied().collect();
        self.count_on_own(in_head);
        Ok(())
    }

    /// Restricts the known chunks to packs of this push and packs of the head.
    pub(crate) fn count_on_own(&self, in_head: impl Fn(&PackId) -> bool) {
        self.chunks.keep_only(|id| self.mine.contains(id) || in_head(id));
    }

    /// Drops what has not landed, so that the connection is free for the commit.
    pub(crate) async fn let_go(&mut self) {
        (self.filling, self.refused) = (None, None);
        self.puts.shutdown().await;
    }

    /// Lets packs in flight land until `end`. Nothing refers to them, but the next push can use them.
    pub(crate) async fn land_until(&mut self, end: Instant) {
        let rest = self.refused.take().into_iter().chain(self.filling.take().map(PackBuilder::finish));
        let land = async {
            for pack in rest {
                let (budget, requests) = (self.budget.clone(), self.requests.clone());
                let weight = u32::try_from(pack.size).unwrap_or(u32::MAX).min(self.limit);
                if let (Ok(room), Ok(turn)) =
                    (budget.acquire_many_owned(weight).await, requests.acquire_owned().await)
                {
                    self.start(pack, (room, turn));
                }
            }
            while self.puts.join_next().await.is_some() {}
        };
        // What has not landed by then is sent again by the next push.
        let _ = timeout_at(end, land).await;
    }
}

impl SegmentSink for PackSink {
    async fn add_segment(&mut self, bytes: Bytes, digest: Digest) -> Result<(PackId, u32), Error> {
        let pack = self.filling().await?;
        let id = pack.id();
        let (offset, len) =
            pack.append_segment(bytes, digest).map_err(|e| unusable(StoreKey::Pack(id).path(), e))?;
        let is_full = pack.is_full();
        self.segment_lens.insert(digest, len);
        if is_full {
            self.send().await?;
        }
        Ok((id, offset))
    }

    fn segment_len(&self, digest: &Digest) -> u32 {
        self.segment_lens.get(digest).copied().unwrap_or(0)
    }

    fn put(&self, id: &PackId) -> Option<&PutPack> {
        self.put.get(id)
    }

    /// A chunk that was already sent is not copied.
    async fn copy(&mut self, chunk: &ChunkRef) -> Result<ChunkRef, Error> {
        if let Some(sent) = self.sent(&chunk.id) {
            return Ok(sent);
        }
        let bytes = self.store().chunk(chunk).await?;
        let id = chunk.id;
        let sealed = self.store().env().blocking(move || seal(vec![(id, bytes)])).await;
        let sealed = sealed.map_err(|e| Error::local("compress", "a chunk", io::Error::from(e)))?;
        for block in sealed {
            // If the block came too late, the search below finds nothing.
            let _added: Added = self.add_block(block).await?;
        }
        let what = || "a chunk was sent nowhere".to_owned();
        self.sent(&id).ok_or_else(|| Error::Corrupt { key: id.to_string(), what: what() })
    }
}

/// When a pack landed, by the store's clock, and by when a snapshot must that refers to it, in seconds since 1970.
struct Landing {
    landed: i64,
    land_by: i64,
}

/// Returns when a pack landed, when its grace period begins; and how long the store was asked for it, if it was.
async fn landing(
    store: &Store,
    key: &object_store::path::Path,
    told: Option<i64>,
) -> Result<(Landing, Option<Duration>), Error> {
    let grace = i64::try_from(store.meta().await?.grace_seconds).unwrap_or(i64::MAX);
    let (landed, grace, asked) = match told {
        // A part of the grace period is reserved, because the clock that gave the time may be wrong.
        Some(landed) if store.believes(landed).await? => (landed, grace - grace / 4, None),
        _ => {
            let asked = Instant::now();
            let landed = store.stat(key).await?.last_modified.timestamp();
            (landed, grace, Some(asked.elapsed()))
        }
    };
    Ok((Landing { landed, land_by: landed.saturating_add(grace) }, asked))
}

/// Puts a pack that is complete.
pub(crate) async fn put_whole(store: &Store, pack: SealedPack) -> Result<PutPack, Error> {
    let key = StoreKey::Pack(pack.id).path();
    let (size, footer_len) = (pack.size, pack.footer_len);
    let told = put_pack(store, &key, pack.parts, None).await?;
    let (Landing { landed, land_by }, _) = landing(store, &key, told).await?;
    Ok(PutPack { size, footer_len, landed, land_by })
}

/// Puts a pack under its id, which is random and new: any object with that id is this pack. Returns the time
/// of landing, if the answer has one.
async fn put_pack(
    store: &Store,
    key: &object_store::path::Path,
    parts: Vec<Bytes>,
    taken: Option<Arc<AtomicU64>>,
) -> Result<Option<i64>, Error> {
    let size: u64 = parts.iter().map(|p| p.len() as u64).sum();
    let (mut wait, began) = (Duration::from_millis(100), Instant::now());
    let mut attempts = 0;
    loop {
        attempts += 1;
        let source = match store.put_counted(key, parts.clone(), taken.clone()).await {
            Ok(put) => return Ok(put.landed.map(|(earliest, _)| earliest)),
            Err(source) => source,
        };
        // The answer to a put that landed may have been lost. With a directory, no answer gets lost: a file
        // that exists after an error could not be made durable.
        let in_dir = matches!(source, object_store::Error::Generic { store: "LocalFileSystem", .. });
        match store.stat(key).await {
            Ok(meta) if meta.size == size && !in_dir => {
                tracing::debug!(%key, error = %source, "the pack has landed, whatever was answered");
                return Ok(Some(meta.last_modified.timestamp()));
            }
            Ok(_) if in_dir => return Err(Error::store("write", key, source)),
            _ if attempts < ATTEMPTS && began.elapsed() < PATIENCE && is_worth_retrying(&source) => {
                tracing::debug!(%key, error = %source, "the pack is put again");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            _ => return Err(Error::store("write", key, source)),
        }
    }
}
