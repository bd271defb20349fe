//! Whether packs are there, with their size and a footer that fits; and what they hold.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{OnceCell, Semaphore};

use super::{CheckOptions, CheckReport, Damage, fault, key_of};
use crate::error::Error;
use crate::format::{
    BlockRef, ChunkRef, Footer, FooterBlock, MAX_FOOTER_LEN, PackId, PackUse, StoreKey, TRAILER_LEN,
    footer_len, packs_prefix, parse_footer,
};
use crate::read_data::ReadData;
use crate::store::Store;

/// What is known of a pack.
#[derive(Debug, Default)]
pub(super) struct Pack {
    /// Its length in bytes, and that of its footer with the trailer.
    lens: (u64, u32),
    /// Why nothing of it can be relied on.
    pub(super) fault: Option<String>,
    /// A hash of each chunk that it holds, with its place, in order. Eight bytes each: all chunks of a store are in
    /// memory at once.
    holds: Vec<u64>,
    /// The first bytes of the blocks that can't be read, in order.
    unreadable: Vec<u32>,
}

/// The packs of a store, each of which is checked once.
pub(super) struct Packs<'a> {
    pub(super) store: &'a Store,
    read: ReadData,
    /// Their sizes, by a listing.
    listed: HashMap<PackId, u64>,
    checked: Mutex<HashMap<PackId, Arc<OnceCell<Arc<Pack>>>>>,
    requests: Semaphore,
    /// For ranges of contents that are in memory at once.
    pub(super) ranges: Semaphore,
    hasher: RandomState,
    pub(super) bytes_read: AtomicU64,
}

/// Memory of a range and of what it unpacks to.
const RANGE_MEMORY: u64 = 24 << 20;

impl Pack {
    fn bad(what: String) -> Self {
        Self { fault: Some(what), ..Self::default() }
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.fault.is_some() || !self.unreadable.is_empty()
    }

    /// Says what is wrong with what a snapshot tells of the pack.
    pub(super) fn differs_from(&self, told: &PackUse) -> Option<String> {
        if self.fault.is_some() || self.lens == (told.size, told.footer_len) {
            return None;
        }
        let (size, footer) = self.lens;
        Some(format!(
            "it says that {} has {} bytes with a footer of {}, and the pack has {size} with one of {footer}",
            key_of(told.id),
            told.size,
            told.footer_len
        ))
    }
}

impl<'a> Packs<'a> {
    /// Lists the packs.
    pub(super) async fn list(store: &'a Store, options: &CheckOptions) -> Result<Self, Error> {
        let prefix = packs_prefix();
        let mut listed = HashMap::new();
        let mut objects = store.list_all(&prefix);
        while let Some(meta) = objects.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            if let Some(StoreKey::Pack(id)) = StoreKey::parse(&meta.location) {
                listed.insert(id, meta.size);
            }
        }
        let ranges = usize::try_from(options.memory / RANGE_MEMORY).unwrap_or(usize::MAX);
        Ok(Self {
            store,
            read: options.read_data.clone(),
            listed,
            checked: Mutex::default(),
            requests: Semaphore::new(options.concurrency.get()),
            ranges: Semaphore::new(ranges.clamp(1, options.concurrency.get())),
            hasher: RandomState::new(),
            bytes_read: AtomicU64::new(0),
        })
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Returns what a pack is found to be; it is checked if this is the first time.
    pub(super) async fn check(&self, told: &PackUse) -> Result<Arc<Pack>, Error> {
        let cell = {
            let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(checked.entry(told.id).or_default())
        };
        cell.get_or_try_init(|| async { Ok(Arc::new(self.look(told).await?)) }).await.cloned()
    }

    /// Says why a chunk of a file can't be read, if it can't.
    pub(super) fn fault_of(&self, chunk: &ChunkRef) -> Option<Damage> {
        let id = chunk.block.pack;
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let what = match checked.get(&id).and_then(|cell| cell.get()) {
            None => "the snapshot does not name it, so a collection would delete it".to_owned(),
            Some(pack) => match &pack.fault {
                Some(what) => what.clone(),
                None if pack.holds.binary_search(&self.hash(chunk)).is_err() => {
                    "it does not hold what the tree says".to_owned()
                }
                None if pack.unreadable.binary_search(&chunk.block.offset).is_ok() => {
                    format!("its block at byte {} is damaged", chunk.block.offset)
                }
                None => return None,
            },
        };
        Some(Damage { key: key_of(id), what })
    }

    /// Notes that a block can't be read.
    pub(super) fn note_unreadable(&self, pack: PackId, offset: u32) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = checked.get(&pack).and_then(|cell| cell.get()) else { return };
        let mut unreadable = known.unreadable.clone();
        if let Err(at) = unreadable.binary_search(&offset) {
            unreadable.insert(at, offset);
            let noted =
                Pack { lens: known.lens, fault: known.fault.clone(), holds: known.holds.clone(), unreadable };
            checked.insert(pack, Arc::new(OnceCell::from(Arc::new(noted))));
        }
    }

    /// Returns which of these packs, which are checked, have something damaged in them.
    pub(super) fn damaged_of(&self, packs: &[PackUse]) -> BTreeSet<PackId> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_damaged =
            |id: &PackId| checked.get(id).and_then(|cell| cell.get()).is_some_and(|p| p.is_damaged());
        packs.iter().map(|pack| pack.id).filter(is_damaged).collect()
    }

    /// Adds what was found to a report.
    pub(super) fn describe(&self, all: bool, report: &mut CheckReport) {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        for pack in checked.values().filter_map(|cell| cell.get()) {
            report.packs += 1;
            report.bytes += pack.lens.0;
        }
        if all {
            report.unused_packs = self.listed.keys().filter(|id| !checked.contains_key(id)).count() as u64;
        }
        report.bytes_read = self.bytes_read();
    }

    async fn look(&self, told: &PackUse) -> Result<Pack, Error> {
        let _request = self.requests.acquire().await;
        let size = match self.listed.get(&told.id) {
            Some(size) if *size == told.size => *size,
            // The listing may be older than the pack, or wrong.
            _ => match self.store.stat(&StoreKey::Pack(told.id).path()).await {
                Ok(found) => found.size,
                Err(error) => return Ok(Pack::bad(fault(self.store, error).await?)),
            },
        };
        if size != told.size {
            return Ok(Pack::bad(format!("it has {size} bytes, and {} were put", told.size)));
        }
        let (footer, len) = match self.footer(told, size).await? {
            Ok(footer) => footer,
            Err(what) => return Ok(Pack::bad(what)),
        };
        let mut pack = Pack { lens: (size, len), holds: self.holds(told.id, &footer), ..Pack::default() };
        if self.is_read() {
            let damaged = self.read_pack(told.id, footer).await?;
            pack.unreadable = damaged;
        }
        Ok(pack)
    }

    /// Whether the contents of a pack are to be read.
    fn is_read(&self) -> bool {
        match &self.read {
            ReadData::None | ReadData::Paths(_) => false,
            ReadData::All => true,
            ReadData::Percent(percent) => {
                let drawn = self.store.random::<4>().map_or(0, u32::from_le_bytes);
                u64::from(drawn) * 100 < u64::from(*percent) << 32
            }
        }
    }

    /// Reads a pack's footer; once more if it is not what it should be.
    async fn footer(&self, told: &PackUse, size: u64) -> Result<Result<(Footer, u32), String>, Error> {
        let len = u64::from(told.footer_len.clamp(TRAILER_LEN as u32, MAX_FOOTER_LEN)).min(size);
        let mut what = String::new();
        for _ in 0..2 {
            let tail = match self.store.get_range(told.id, size - len, size).await {
                Ok(tail) => tail,
                Err(error) => return Ok(Err(fault(self.store, error).await?)),
            };
            match self.parse(tail, size).await {
                Ok(parsed) => return Ok(Ok(parsed)),
                Err(error) => what = format!("its footer is damaged: {error}"),
            }
        }
        Ok(Err(what))
    }

    async fn parse(&self, tail: Bytes, size: u64) -> Result<(Footer, u32), String> {
        let parsing = self.store.env().blocking(move || {
            let len = footer_len(&tail, size)?;
            Ok::<_, crate::format::FormatError>((parse_footer(&tail, size)?, len))
        });
        match parsing.await {
            Ok(parsed) => parsed.map_err(|e| e.to_string()),
            Err(lost) => Err(std::io::Error::from(lost).to_string()),
        }
    }

    /// Returns the hashes of the chunks in a pack.
    fn holds(&self, pack: PackId, footer: &Footer) -> Vec<u64> {
        let mut holds = Vec::new();
        for block in &footer.blocks {
            let FooterBlock::Data { offset, stored_len, raw_len, codec, chunks } = block else { continue };
            let (raw_len, codec) = (*raw_len, *codec);
            let block = BlockRef { pack, offset: *offset, stored_len: *stored_len, raw_len, codec };
            let mut at = 0;
            for (id, len) in chunks {
                holds.push(self.hash(&ChunkRef { id: *id, len: *len, offset: at, block }));
                at += len;
            }
        }
        holds.sort_unstable();
        holds
    }

    fn hash(&self, chunk: &ChunkRef) -> u64 {
        let ChunkRef { id, len, offset, block } = chunk;
        let block = (block.offset, block.stored_len, block.raw_len, block.codec);
        self.hasher.hash_one((id.0, len, offset, block))
    }
}
