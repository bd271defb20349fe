//! Finds the chunks of a file that are available locally: from an interrupted pull, in a file with the same
//! content, or in the version that is replaced. Those chunks are not fetched.
//!
//! Nothing is noted about a partially fetched file: its chunks are recognized by their digests.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use policy_core::TreePath;
use tokio_util::sync::CancellationToken;

use super::item::Item;
use crate::format::{CHUNK_MAX, ChunkId, ChunkRef, cut, sha256};
use crate::local::{Expected, Fingerprint, MountDir, NewFile, Shelf, Stagings, is_hole, write_sparse};

/// How many bytes of the old version are read at a time.
const STEP: usize = 8 << 20;

/// A file that is about to be fetched.
pub(super) struct Begun {
    pub(super) file: NewFile,
    /// For each chunk, whether the file has it already.
    pub(super) present: Vec<bool>,
    /// Whether the file may have content that this pull did not write.
    pub(super) is_resumed: bool,
    /// Whether the file may have to be extended to its full length.
    pub(super) ends_in_hole: bool,
}

/// Opens the staged file of an item, and finds the chunks that need not be fetched.
///
/// If it is stopped, it does not look for more chunks.
pub(super) fn begin(
    dir: &MountDir,
    stagings: &Stagings,
    item: &Item,
    stop: &CancellationToken,
) -> io::Result<Begun> {
    let staging = stagings.of(&item.path)?;
    let mut present = vec![false; item.entry.chunks.len()];
    let new = if item.is_long() {
        staging.resumable_file(&resumable_name(item))?
    } else {
        Shelf::of(staging).new_file()?
    };
    let is_resumed = new.file.metadata()?.len() > 0;
    if is_resumed {
        note_present(&new.file, &item.entry.chunks, &mut present, stop)?;
    } else {
        // A new file consists of zeros.
        for (chunk, present) in item.entry.chunks.iter().zip(&mut present) {
            *present = is_zero_chunk(chunk);
        }
    }
    // If one of these can't be read, or is gone, only more has to be fetched.
    if let Some(source) = &item.source {
        let _ = copy_same(dir, source, &new.file, item, &mut present, stop);
    }
    if item.is_long() && matches!(item.expected, Expected::Leaf(_)) && present.contains(&false) {
        let _ = copy_from_old(dir, &new.file, item, &mut present, stop);
    }
    let ends_in_hole = present.last() == Some(&true);
    Ok(Begun { file: new, present, is_resumed, ends_in_hole })
}

/// Whether a chunk is the one that long runs of zeros are cut into. A file with large holes has many of them.
fn is_zero_chunk(chunk: &ChunkRef) -> bool {
    static ID: LazyLock<ChunkId> = LazyLock::new(|| ChunkId::of(&vec![0; CHUNK_MAX]));
    chunk.len as usize == CHUNK_MAX && chunk.id == *ID
}

/// Returns a name that is the same only for a later pull of the same content to the same path.
fn resumable_name(item: &Item) -> String {
    let mut key = item.path.as_bytes().to_vec();
    key.push(0);
    for chunk in &item.entry.chunks {
        key.extend_from_slice(&chunk.id.0);
    }
    sha256(&key).to_string()[..32].to_owned()
}

fn note_present(
    file: &File,
    chunks: &[ChunkRef],
    present: &mut [bool],
    stop: &CancellationToken,
) -> io::Result<()> {
    let written = file.metadata()?.len();
    let mut buf = Vec::new();
    let mut at = 0;
    for (chunk, present) in chunks.iter().zip(present) {
        let len = chunk.len as usize;
        if at + len as u64 > written || stop.is_cancelled() {
            break;
        }
        if is_zero_chunk(chunk) && is_hole(file, at, len as u64) {
            *present = true;
            at += len as u64;
            continue;
        }
        buf.resize(len, 0);
        file.read_exact_at(&mut buf, at)?;
        *present = ChunkId::of(&buf) == chunk.id;
        at += len as u64;
    }
    Ok(())
}

/// Copies the chunks of a file that may have the same content.
fn copy_same(
    dir: &MountDir,
    source: &TreePath,
    to: &File,
    item: &Item,
    present: &mut [bool],
    stop: &CancellationToken,
) -> io::Result<()> {
    let (from, _) = dir.open_file(source)?;
    let mut buf = Vec::new();
    let mut at = 0;
    for (chunk, present) in item.entry.chunks.iter().zip(present) {
        if stop.is_cancelled() {
            break;
        }
        if !*present {
            buf.resize(chunk.len as usize, 0);
            from.read_exact_at(&mut buf, at)?;
            if ChunkId::of(&buf) == chunk.id {
                write_sparse(to, &buf, at, false)?;
                *present = true;
            }
        }
        at += u64::from(chunk.len);
    }
    Ok(())
}

/// Copies the chunks that the replaced file has in common with the new one.
fn copy_from_old(
    dir: &MountDir,
    to: &File,
    item: &Item,
    present: &mut [bool],
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut wanted: HashMap<ChunkId, Vec<(usize, u64)>> = HashMap::new();
    let mut at = 0;
    for (index, chunk) in item.entry.chunks.iter().enumerate() {
        if !present[index] {
            wanted.entry(chunk.id).or_default().push((index, at));
        }
        at += u64::from(chunk.len);
    }
    let (old, stat) = dir.open_file(&item.path)?;
    copy_chunks(&old, Fingerprint::of(&stat).size, &mut wanted, stop, |chunk, (index, at)| {
        // An earlier pull may have left other bytes here.
        write_sparse(to, chunk, at, false)?;
        present[index] = true;
        Ok(())
    })
}

/// Cuts the first `size` bytes of a file into chunks, and passes on the wanted ones.
fn copy_chunks(
    old: &File,
    size: u64,
    wanted: &mut HashMap<ChunkId, Vec<(usize, u64)>>,
    stop: &CancellationToken,
    mut give: impl FnMut(&[u8], (usize, u64)) -> io::Result<()>,
) -> io::Result<()> {
    // The file offset of the buffer, and the offset in the buffer of what is not used yet.
    let (mut begin, mut from) = (0, 0);
    let mut buf: Vec<u8> = Vec::with_capacity(STEP + CHUNK_MAX);
    while !wanted.is_empty() && !stop.is_cancelled() {
        let at = begin + from as u64;
        if at + CHUNK_MAX as u64 <= size && is_hole(old, at, CHUNK_MAX as u64) {
            // Such chunks are in the new file already, or are not wanted.
            (begin, from) = (at + CHUNK_MAX as u64, 0);
            buf.clear();
            continue;
        }
        if buf.len() - from < CHUNK_MAX && begin + (buf.len() as u64) < size {
            buf.drain(..from);
            (begin, from) = (at, 0);
            // The file may have grown meanwhile, without end.
            let left = size - begin - buf.len() as u64;
            let room = left.min((STEP + CHUNK_MAX - buf.len()) as u64) as usize;
            let filled = buf.len();
            buf.resize(filled + room, 0);
            old.read_exact_at(&mut buf[filled..], begin + filled as u64)?;
        }
        let ended = begin + buf.len() as u64 == size;
        let Some(len) = cut(&buf[from..], ended).filter(|len| *len > 0) else { break };
        let chunk = &buf[from..from + len];
        for place in wanted.remove(&ChunkId::of(chunk)).unwrap_or_default() {
            give(chunk, place)?;
        }
        from += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::fixture::block;

    #[test]
    fn what_is_here_is_found_unless_it_is_told_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let contents = [b"same", b"lost", b"here", b"torn"];
        let mut at = 0;
        let chunks = contents.map(|content| {
            let (id, len) = (ChunkId::of(content), content.len() as u32);
            at += len;
            ChunkRef { id, len, offset: at - len, block: block(1, 0) }
        });
        let path = dir.path().join("p-1");
        std::fs::write(&path, b"same....hereto").unwrap();
        let file = File::open(&path).unwrap();
        let found = |stop: &CancellationToken| {
            let mut present = [false; 4];
            note_present(&file, &chunks, &mut present, stop).unwrap();
            present
        };
        let stop = CancellationToken::new();
        assert_eq!(found(&stop), [true, false, true, false]);
        stop.cancel();
        assert_eq!(found(&stop), [false; 4]);
    }
}
