//! Blocks become packs, and packs are put while the next one fills.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use policy_core::Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::chunks::Chunks;
use super::copy::seal;
use super::pace::Pace;
use crate::commit::is_worth_retrying;
use crate::error::Error;
use crate::format::{ChunkId, ChunkRef, PackBuilder, PackId, SealedBlock, SealedPack, StoreKey};
use crate::state::{NotedPack, PackJournal};
use crate::store::{Store, unusable};
use crate::tree::{PutPack, SegmentSink};

/// What became of a block.
#[must_use = "a block that came too late has to be sent again"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It goes with a pack.
    Taken,
    /// The time for sending is over: its chunks are in no pack, and files that need them count as not sent.
    TooLate,
}

/// A pack of less waits for the tree, to share its request.
const WORTH_SENDING_AHEAD: u64 = 4 << 20;

/// A pack is put again until this has passed: over a slow line one attempt takes minutes.
const PATIENCE: Duration = Duration::from_mins(30);
/// How often a pack is put whose put has no clear answer, and that is not there.
const ATTEMPTS: u32 = 5;

/// Takes blocks and segments, and puts packs.
pub(crate) struct PackSink {
    store: Store,
    chunks: Arc<Chunks>,
    pace: Arc<Pace>,
    filling: Option<PackBuilder>,
    /// A pack for which no time was left.
    refused: Option<SealedPack>,
    uploads: JoinSet<Result<(PackId, PutPack), Error>>,
    /// Bytes that may be under way.
    budget: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    limit: u32,
    put: HashMap<PackId, PutPack>,
    /// All packs of this upload, also those that are not in the store yet.
    mine: HashSet<PackId>,
    segment_lens: HashMap<Digest, u32>,
    journal: Option<Arc<PackJournal>>,
    /// Whether the pace says when packs are sent; not so once there is only the tree to be sent.
    paced: bool,
    closed: bool,
    /// How old packs may be when what was put is committed, and when the oldest will be.
    round: Option<Duration>,
    round_ends: Option<Instant>,
    pub(crate) stored: u64,
}

/// A place among the uploads that are under way.
type Room = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl PackSink {
    /// Makes a sink that keeps at most about `memory` bytes of packs under way.
    pub(crate) fn new(
        store: &Store,
        chunks: Arc<Chunks>,
        pace: Arc<Pace>,
        memory: u64,
        concurrency: usize,
    ) -> Self {
        // Three packs under way, by default, as a full one is slightly more than a quarter of this: with fewer a
        // store that is far away waits for us. The rest is for the one that is being filled, for what is being
        // read, and for what the allocator does not give back at once.
        let limit = u32::try_from(memory / 2).unwrap_or(u32::MAX >> 3);
        let limit = limit.clamp(1, u32::MAX >> 3);
        Self {
            store: store.clone(),
            chunks,
            paced: pace.has_deadline(),
            pace,
            filling: None,
            refused: None,
            uploads: JoinSet::new(),
            budget: Arc::new(Semaphore::new(limit as usize)),
            requests: Arc::new(Semaphore::new(concurrency)),
            limit,
            put: HashMap::new(),
            mine: HashSet::new(),
            segment_lens: HashMap::new(),
            journal: None,
            closed: false,
            round: None,
            round_ends: None,
            stored: 0,
        }
    }

    /// Makes a sink for who has no deadline.
    pub(crate) fn unhurried(store: &Store, chunks: Arc<Chunks>, memory: u64, concurrency: usize) -> Self {
        Self::new(store, chunks, Arc::new(Pace::new(None)), memory, concurrency)
    }

    pub(crate) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Notes each pack that is put from now on.
    pub(crate) fn keep_journal(&mut self, journal: PackJournal) {
        self.journal = Some(Arc::new(journal));
    }

    /// Takes a pack that an earlier upload has put, so long ago by the store's clock, as one of its own.
    pub(crate) fn take_over(&mut self, id: PackId, put: PutPack, age: Duration) {
        self.put.insert(id, put);
        self.mine.insert(id);
        self.begin_round(age);
    }

    /// Lets a round of the upload end before its packs are older than this.
    pub(crate) fn set_round(&mut self, longest: Option<Duration>) {
        self.round = longest;
    }

    fn begin_round(&mut self, age: Duration) {
        let Some(left) = self.round.map(|longest| longest.saturating_sub(age)) else { return };
        let end = Instant::now().checked_add(left);
        self.round_ends = self.round_ends.into_iter().chain(end).min();
    }

    /// Whether what was put has to be committed before more is sent.
    pub(crate) fn is_round_over(&self) -> bool {
        self.round_ends.is_some_and(|end| Instant::now() >= end)
    }

    /// Whether the time for sending is over; what is added then is given back.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.closed |= self.paced && self.pace.is_over();
        self.closed
    }

    /// Adds a block to the pack that is being filled.
    pub(crate) async fn add_block(&mut self, block: SealedBlock) -> Result<Added, Error> {
        if self.is_closed() {
            return Ok(Added::TooLate);
        }
        // Against a deadline, what is small must not wait for what is large.
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

    /// Returns where a chunk lies in a pack of this upload.
    pub(crate) fn sent(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.chunks.sent_in(id, |pack| self.mine.contains(pack))
    }

    /// Returns the store's time at which the last of the packs has landed, or a little less.
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

    /// Sends what has gathered, if that takes so long that it is worth a request of its own: the tree is made
    /// meanwhile.
    pub(crate) async fn send_ahead(&mut self) -> Result<(), Error> {
        if self.filling.as_ref().is_some_and(|pack| pack.len() >= WORTH_SENDING_AHEAD) && !self.is_closed() {
            self.send().await?;
        }
        Ok(())
    }

    /// Starts putting the pack that is being filled, once there is room for it.
    async fn send(&mut self) -> Result<(), Error> {
        let Some(pack) = self.filling.take() else { return Ok(()) };
        // An upload that failed must stop the work, not wait for its end.
        while let Some(ended) = self.uploads.try_join_next() {
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

    /// Waits for room; `None` where the time for sending is over before there is any.
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

    /// Waits until an upload has ended; false once the time for sending is over.
    async fn wait_for_one(&mut self) -> Result<bool, Error> {
        let ended = match self.pace.cutoff() {
            Some(cutoff) => timeout_at(cutoff, self.uploads.join_next()).await,
            None => Ok(self.uploads.join_next().await),
        };
        match ended {
            Ok(Some(ended)) => self.note(ended)?,
            Ok(None) => {}
            // While it was waited for, the pace may have changed.
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
        self.uploads.spawn(async move {
            let key = StoreKey::Pack(pack.id).path();
            let (size, footer_len, id) = (pack.size, pack.footer_len, pack.id);
            let told = put_pack(&store, &key, pack.parts).await?;
            on_its_way.landed();
            if let Some(journal) = journal
                && let Err(error) = journal.add(&NotedPack { id, size, footer_len })
            {
                tracing::debug!(%error, "a pack is not noted");
            }
            // When it landed, by the store's clock, is when its grace begins.
            let grace = i64::try_from(store.meta().await?.grace_seconds).unwrap_or(i64::MAX);
            let (landed, grace) = match told {
                // A part of the grace is left for an error of the clock that told it.
                Some(landed) if store.believes(landed).await? => (landed, grace - grace / 4),
                _ => {
                    let asked = Instant::now();
                    let landed = store.stat(&key).await?.last_modified.timestamp();
                    pace.note_trips(asked.elapsed(), 1);
                    (landed, grace)
                }
            };
            drop(room);
            Ok((id, PutPack { size, footer_len, landed, land_by: landed.saturating_add(grace) }))
        });
    }

    fn note(&mut self, ended: Result<Result<(PackId, PutPack), Error>, JoinError>) -> Result<(), Error> {
        let lost = |e| Error::local("finish", "an upload", std::io::Error::other(e));
        let (id, put) = ended.map_err(lost)??;
        self.put.insert(id, put);
        Ok(())
    }

    /// Puts what is left and waits until everything is in the store.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.send().await?;
        while let Some(ended) = self.uploads.join_next().await {
            self.note(ended)?;
        }
        Ok(())
    }

    /// Puts what is left, and waits until everything is in the store or the time for it is over. Says whether
    /// everything is.
    pub(crate) async fn flush_in_time(&mut self) -> Result<bool, Error> {
        if !self.is_closed() {
            self.send().await?;
        }
        while !self.uploads.is_empty() {
            if !self.wait_for_one().await? {
                self.closed = true;
                break;
            }
        }
        // What comes now is the tree, which has to be sent.
        self.paced = false;
        Ok(!std::mem::take(&mut self.closed))
    }

    /// From now on counts only on what has landed, and on packs that the head has.
    pub(crate) fn count_on_landed(&mut self, in_head: impl Fn(&PackId) -> bool) -> Result<(), Error> {
        while let Some(ended) = self.uploads.try_join_next() {
            self.note(ended)?;
        }
        self.mine = self.put.keys().copied().collect();
        self.count_on_own(in_head);
        Ok(())
    }

    /// From now on counts only on packs of this upload, and on those that the head has.
    pub(crate) fn count_on_own(&self, in_head: impl Fn(&PackId) -> bool) {
        self.chunks.keep_only(|id| self.mine.contains(id) || in_head(id));
    }

    /// Gives up what has not landed, so that the line is free for the commit.
    pub(crate) async fn let_go(&mut self) {
        (self.filling, self.refused) = (None, None);
        self.uploads.shutdown().await;
    }

    /// Lets what was begun land, until `end`: nothing refers to it, but the next upload can.
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
            while self.uploads.join_next().await.is_some() {}
        };
        // What has not landed by then is sent again next time.
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

    /// One that was sent already is not copied.
    async fn copy(&mut self, chunk: &ChunkRef) -> Result<ChunkRef, Error> {
        if let Some(sent) = self.sent(&chunk.id) {
            return Ok(sent);
        }
        let bytes = self.store().chunk(chunk).await?;
        let id = chunk.id;
        let sealed = self.store().env().blocking(move || seal(vec![(id, bytes)])).await;
        let sealed = sealed.map_err(|e| Error::local("compress", "a chunk", io::Error::from(e)))?;
        for block in sealed {
            // One that came too late is found nowhere.
            let _added: Added = self.add_block(block).await?;
        }
        let what = || "a chunk was sent nowhere".to_owned();
        self.sent(&id).ok_or_else(|| Error::Corrupt { key: id.to_string(), what: what() })
    }
}

/// Puts a pack under its id, which is random and new: if something is there, it is this very pack.
/// Returns what its answer tells of when it landed, if it does.
async fn put_pack(
    store: &Store,
    key: &object_store::path::Path,
    parts: Vec<Bytes>,
) -> Result<Option<i64>, Error> {
    let size: u64 = parts.iter().map(|p| p.len() as u64).sum();
    let (mut wait, began) = (Duration::from_millis(100), Instant::now());
    let mut attempts = 0;
    loop {
        attempts += 1;
        let source = match store.put_new(key, parts.clone()).await {
            Ok(put) => return Ok(put.landed.map(|(earliest, _)| earliest)),
            Err(source) => source,
        };
        // The reply to a put that landed may have been lost. A directory loses none: what stands there after an error
        // it could not be made to keep.
        let in_dir = matches!(source, object_store::Error::Generic { store: "LocalFileSystem", .. });
        match store.stat(key).await {
            Ok(meta) if meta.size == size && !in_dir => return Ok(Some(meta.last_modified.timestamp())),
            Ok(_) if in_dir => return Err(Error::store("write", key, source)),
            _ if attempts < ATTEMPTS && began.elapsed() < PATIENCE && is_worth_retrying(&source) => {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            _ => return Err(Error::store("write", key, source)),
        }
    }
}
