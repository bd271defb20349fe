//! Blocks become packs, and packs are put while the next one fills.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use policy_core::Digest;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::commit::is_worth_retrying;
use crate::error::Error;
use crate::format::{BlockRef, ChunkId, ChunkRef, PackBuilder, PackId, SealedBlock, StoreKey};
use crate::store::{Store, unusable};
use crate::tree::ChunkIndex;

/// The chunks that need not be sent: the head's, and those that this upload has taken on.
///
/// Shared by the readers of files. Whoever claims a chunk sends it; everyone else only names it.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    head: Mutex<Option<Arc<ChunkIndex>>>,
    /// `None` until the block that holds the chunk has its place in a pack.
    claimed: Mutex<HashMap<ChunkId, Option<ChunkRef>>>,
}

impl Chunks {
    pub(crate) fn set_head(&self, index: Arc<ChunkIndex>) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(index);
    }

    pub(crate) fn head(&self) -> Option<Arc<ChunkIndex>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the caller is to send this chunk: nobody has it, and nobody else is at it.
    pub(crate) fn claim(&self, head: Option<&ChunkIndex>, id: ChunkId) -> bool {
        if head.is_some_and(|h| h.may_hold(&id)) {
            return false;
        }
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        match claimed.entry(id) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(None);
                true
            }
        }
    }

    /// Returns where a chunk that this upload sent lies.
    pub(crate) fn sent(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().flatten()
    }

    fn place(&self, block: BlockRef, chunks: &[(ChunkId, u32)]) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut offset = 0;
        for (id, len) in chunks {
            claimed.insert(*id, Some(ChunkRef { id: *id, len: *len, offset, block }));
            offset += len;
        }
    }
}

/// A pack that is in the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PutPack {
    pub(crate) size: u64,
    pub(crate) footer_len: u32,
    /// The store time by which a snapshot that refers to it must have landed.
    pub(crate) land_by: i64,
}

/// Takes blocks and segments, and puts packs.
pub(crate) struct PackSink {
    store: Store,
    chunks: Arc<Chunks>,
    filling: Option<PackBuilder>,
    uploads: JoinSet<Result<(PackId, PutPack), Error>>,
    /// Bytes that may be under way.
    budget: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    limit: u32,
    put: HashMap<PackId, PutPack>,
    segment_lens: HashMap<Digest, u32>,
    pub(crate) stored: u64,
}

impl PackSink {
    /// Makes a sink that keeps at most about `memory` bytes of packs under way.
    pub(crate) fn new(store: &Store, chunks: Arc<Chunks>, memory: u64, concurrency: usize) -> Self {
        // A quarter is for packs under way. The rest is for the one that is being filled, for what is being
        // read, and for what the allocator does not give back at once.
        let limit = u32::try_from(memory / 4).unwrap_or(u32::MAX >> 3);
        let limit = limit.clamp(1, u32::MAX >> 3);
        Self {
            store: store.clone(),
            chunks,
            filling: None,
            uploads: JoinSet::new(),
            budget: Arc::new(Semaphore::new(limit as usize)),
            requests: Arc::new(Semaphore::new(concurrency)),
            limit,
            put: HashMap::new(),
            segment_lens: HashMap::new(),
            stored: 0,
        }
    }

    /// Makes a sink for who has no deadline.
    pub(crate) fn unhurried(store: &Store, chunks: Arc<Chunks>, memory: u64, concurrency: usize) -> Self {
        Self::new(store, chunks, memory, concurrency)
    }

    pub(crate) async fn add_block(&mut self, block: SealedBlock) -> Result<(), Error> {
        let chunks = block.chunks.clone();
        let pack = self.filling().await?;
        let key = StoreKey::Pack(pack.id()).path();
        let place = pack.append(block).map_err(|e| unusable(key, e))?;
        let is_full = pack.is_full();
        self.chunks.place(place, &chunks);
        if is_full { self.send().await } else { Ok(()) }
    }

    pub(crate) async fn add_segment(&mut self, bytes: Bytes, digest: Digest) -> Result<(PackId, u32), Error> {
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

    pub(crate) fn segment_len(&self, digest: &Digest) -> u32 {
        self.segment_lens.get(digest).copied().unwrap_or(0)
    }

    /// Returns what is known of a pack that was put.
    pub(crate) fn put(&self, id: &PackId) -> Option<&PutPack> {
        self.put.get(id)
    }

    async fn filling(&mut self) -> Result<&mut PackBuilder, Error> {
        let pack = match self.filling.take() {
            Some(pack) => pack,
            None => PackBuilder::new(PackId(self.store.random()?)),
        };
        Ok(self.filling.insert(pack))
    }

    /// Starts putting the pack that is being filled, once there is room for it.
    async fn send(&mut self) -> Result<(), Error> {
        let Some(pack) = self.filling.take() else { return Ok(()) };
        // An upload that failed must stop the work, not wait for its end.
        while let Some(ended) = self.uploads.try_join_next() {
            self.note(ended)?;
        }
        let pack = pack.finish();
        self.stored += pack.size;
        let weight = u32::try_from(pack.size).unwrap_or(u32::MAX).min(self.limit);
        let closed = |_| Error::local("wait for", "an upload", std::io::Error::other("closed"));
        let room = self.budget.clone().acquire_many_owned(weight).await.map_err(closed)?;
        let turn = self.requests.clone().acquire_owned().await.map_err(closed)?;
        let store = self.store.clone();
        self.uploads.spawn(async move {
            let key = StoreKey::Pack(pack.id).path();
            let (size, footer_len, id) = (pack.size, pack.footer_len, pack.id);
            put_pack(&store, &key, pack.parts).await?;
            // When it landed, by the store's clock, is when its grace begins.
            let landed = store.stat(&key).await?.last_modified.timestamp();
            let grace = i64::try_from(store.meta().await?.grace_seconds).unwrap_or(i64::MAX);
            drop((room, turn));
            Ok((id, PutPack { size, footer_len, land_by: landed.saturating_add(grace) }))
        });
        Ok(())
    }

    fn note(
        &mut self,
        ended: Result<Result<(PackId, PutPack), Error>, tokio::task::JoinError>,
    ) -> Result<(), Error> {
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
}

/// Puts a pack under its id, which is random and new: if something is there, it is this very pack.
async fn put_pack(store: &Store, key: &object_store::path::Path, parts: Vec<Bytes>) -> Result<(), Error> {
    let size: u64 = parts.iter().map(|p| p.len() as u64).sum();
    let mut wait = std::time::Duration::from_millis(100);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let Err(source) = store.put_new(key, parts.clone()).await else { return Ok(()) };
        // The reply to a put that landed may have been lost.
        match store.stat(key).await {
            Ok(meta) if meta.size == size => return Ok(()),
            _ if attempts < 5 && is_worth_retrying(&source) => {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            _ => return Err(Error::store("write", key, source)),
        }
    }
}
