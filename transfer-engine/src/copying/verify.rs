//! A pack that is read whole, and what it is checked against before it is put elsewhere.

use bytes::Bytes;

use crate::error::Error;
use crate::format::{
    BlockOpener, ChunkId, FooterBlock, FormatError, PackUse, StoreKey, footer_len, parse_footer, sha256,
};
use crate::store::Store;

/// Reads a pack, and checks all that is in it. What is damaged is read once more, because a bit may have flipped on the
/// way.
pub(super) async fn read_whole(store: &Store, pack: &PackUse) -> Result<Bytes, Error> {
    let mut again = true;
    loop {
        match read_once(store, pack).await {
            Err(Error::Format { .. } | Error::Corrupt { .. }) if again => again = false,
            read => return read,
        }
    }
}

async fn read_once(store: &Store, pack: &PackUse) -> Result<Bytes, Error> {
    let key = StoreKey::Pack(pack.id).path();
    let (bytes, _) = store.get(&key, pack.size).await?;
    let damaged = |what: String| Error::Corrupt { key: key.to_string(), what };
    if bytes.len() as u64 != pack.size {
        return Err(damaged(format!("it has {} bytes, and its snapshot says {}", bytes.len(), pack.size)));
    }
    let (checked, expected) = (bytes.clone(), pack.footer_len);
    let check = store.env().blocking(move || check(&checked, expected)).await;
    match check.map_err(|lost| Error::local("check", key.to_string(), lost))? {
        Ok(None) => Ok(bytes),
        Ok(Some(offset)) => Err(damaged(format!("the block at byte {offset} is not what it should be"))),
        Err(source) => Err(Error::Format { key: key.to_string(), source }),
    }
}

/// Checks a pack; returns where the first block begins that is damaged.
fn check(bytes: &[u8], expected: u32) -> Result<Option<u32>, FormatError> {
    let size = bytes.len() as u64;
    let footer = parse_footer(bytes, size)?;
    if footer_len(bytes, size)? != expected {
        return Ok(Some(0));
    }
    let mut opener = BlockOpener::new();
    for block in &footer.blocks {
        let (offset, is_whole) = match block {
            FooterBlock::Segment { offset, len, digest } => {
                (*offset, stored(bytes, *offset, *len).is_some_and(|segment| sha256(segment) == *digest))
            }
            FooterBlock::Data { offset, stored_len, raw_len, codec, chunks } => {
                let raw = stored(bytes, *offset, *stored_len).map(|at| opener.open(*codec, *raw_len, at));
                (*offset, raw.is_some_and(|raw| raw.is_ok_and(|raw| holds(raw, chunks))))
            }
        };
        if !is_whole {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}

fn stored(bytes: &[u8], offset: u32, len: u32) -> Option<&[u8]> {
    bytes.get(offset as usize..(offset as usize).checked_add(len as usize)?)
}

/// Whether a block consists of these chunks.
fn holds(mut raw: &[u8], chunks: &[(ChunkId, u32)]) -> bool {
    let mut each = chunks.iter().map(|(id, len)| {
        let (chunk, rest) = raw.split_at_checked(*len as usize)?;
        raw = rest;
        (ChunkId::of(chunk) == *id).then_some(())
    });
    each.all(|whole| whole.is_some())
}
