//! Looking for chunks in all packs of a store, by their footers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;

use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::error::{Error, chain};
use crate::format::{
    BlockRef, ChunkId, ChunkRef, Footer, FooterBlock, PackId, StoreKey, TRAILER_LEN, footer_len,
    packs_prefix, parse_footer,
};
use crate::store::Store;

/// Footers that are read together.
const AT_ONCE: usize = 16;
/// Most footers are no longer than this, so that one request brings them.
const MOST_TAILS: u64 = 64 << 10;

impl Store {
    /// Looks for chunks in all packs but those that are `damaged`, and returns the places at which each may be. `skipped`
    /// is told of each pack that can't be read now; without it, such a pack is an error.
    pub(crate) async fn elsewhere(
        &self,
        wanted: &HashSet<ChunkId>,
        damaged: &BTreeSet<PackId>,
        skipped: Option<&(dyn Fn(&str) + Sync)>,
    ) -> Result<HashMap<ChunkId, Vec<ChunkRef>>, Error> {
        let mut found: HashMap<ChunkId, Vec<ChunkRef>> = HashMap::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let mut footers = pin!(self.footers(damaged).await?);
        while let Some((id, footer)) = footers.next().await {
            // A pack that can't be read has nothing to offer.
            let footer = match footer {
                Ok(footer) => footer,
                Err(error) if error.is_of_object() => continue,
                // One pack of another context must not stop this one, as long as the store answers.
                Err(error) => match skipped {
                    Some(skipped) if matches!(error, Error::Store { .. }) && self.confirm().await.is_ok() => {
                        skipped(&format!("nothing is looked for in a pack: {}", chain(&error)));
                        continue;
                    }
                    _ => return Err(error),
                },
            };
            for chunk in chunks_of(id, &footer).filter(|chunk| wanted.contains(&chunk.id)) {
                found.entry(chunk.id).or_default().push(chunk);
            }
        }
        Ok(found)
    }

    /// Reads the footers of all packs but those that are `damaged`, in any order.
    pub(crate) async fn footers<'s>(
        &'s self,
        damaged: &BTreeSet<PackId>,
    ) -> Result<impl Stream<Item = (PackId, Result<Footer, Error>)> + Send + use<'s>, Error> {
        let prefix = packs_prefix();
        let listed = self.list_all(&prefix);
        let packs = listed.map_err(|e| Error::store("list", &prefix, e)).try_filter_map(|meta| {
            let pack = match StoreKey::parse(&meta.location) {
                Some(StoreKey::Pack(id)) if !damaged.contains(&id) => Some((id, meta.size)),
                _ => None,
            };
            std::future::ready(Ok(pack))
        });
        let packs: Vec<(PackId, u64)> = packs.try_collect().await?;
        Ok(stream::iter(packs)
            .map(move |(id, size)| async move { (id, self.footer_of(id, size).await) })
            .buffer_unordered(AT_ONCE))
    }

    async fn footer_of(&self, id: PackId, size: u64) -> Result<Footer, Error> {
        let damaged = |source| Error::Format { key: StoreKey::Pack(id).path().to_string(), source };
        let mut tail = self.get_range(id, size - size.min(MOST_TAILS), size).await?;
        let len = u64::from(footer_len(&tail, size).map_err(damaged)?).max(TRAILER_LEN as u64);
        if len > tail.len() as u64 {
            tail = self.get_range(id, size - len, size).await?;
        }
        parse_footer(&tail, size).map_err(damaged)
    }
}

/// Returns the chunks in a pack, each with its place.
pub(crate) fn chunks_of(pack: PackId, footer: &Footer) -> impl Iterator<Item = ChunkRef> {
    footer.blocks.iter().flat_map(move |block| {
        let (block, chunks) = match block {
            FooterBlock::Data { offset, stored_len, raw_len, codec, chunks } => {
                let (offset, stored_len) = (*offset, *stored_len);
                let block = BlockRef { pack, offset, stored_len, raw_len: *raw_len, codec: *codec };
                (Some(block), chunks.as_slice())
            }
            FooterBlock::Segment { .. } => (None, [].as_slice()),
        };
        let mut at = 0;
        chunks.iter().filter_map(move |(id, len)| {
            let offset = at;
            at += len;
            Some(ChunkRef { id: *id, len: *len, offset, block: block? })
        })
    })
}
