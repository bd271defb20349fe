//! What of a long file is here already: from a download that was cut short, or in the version that it
//! replaces. Those chunks are not fetched.
//!
//! Nothing is remembered of a file that is half there: its chunks are found again by their digests.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use tokio_util::sync::CancellationToken;

use super::fetch::Item;
use crate::format::{CHUNK_MAX, ChunkId, ChunkRef, cut, sha256};
use crate::local::{Expected, Fingerprint, MountDir, NewFile, Staging};

/// A file of at least this size is worth going on with.
pub(super) const RESUMED: u64 = 64 << 20;
/// How much of the old version is read at a time.
const STEP: usize = 8 << 20;

/// A file that is about to be fetched.
pub(super) struct Begun {
    pub(super) file: NewFile,
    /// Which chunks it holds already.
    pub(super) present: Vec<bool>,
}

/// Opens the staged file of a long item, and finds out what it need not be sent.
///
/// Told to stop, it looks no further.
pub(super) fn begin(
    dir: &MountDir,
    staging: &Staging,
    item: &Item,
    stop: &CancellationToken,
) -> io::Result<Begun> {
    let size = item.entry.entry.size();
    let mut present = vec![false; item.entry.chunks.len()];
    let new = if size >= RESUMED {
        let new = staging.resumable_file(&resumable_name(item))?;
        note_present(&new.file, &item.entry.chunks, &mut present, stop)?;
        new
    } else {
        staging.shelf().new_file()?
    };
    if matches!(item.expected, Expected::Leaf(_)) && present.contains(&false) {
        // That it can't be read, or is no longer there, only means that everything is fetched.
        let _ = copy_from_old(dir, &new.file, item, &mut present, stop);
    }
    Ok(Begun { file: new, present })
}

/// A name that a later download of the same content to the same path comes to, and no other one.
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
        buf.resize(len, 0);
        file.read_exact_at(&mut buf, at)?;
        *present = ChunkId::of(&buf) == chunk.id;
        at += len as u64;
    }
    Ok(())
}

/// Copies the chunks that the file which is to be replaced has in common with the new one.
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
    // It may grow for ever.
    let mut old = old.take(Fingerprint::of(&stat).size);
    let mut buf: Vec<u8> = Vec::with_capacity(STEP + CHUNK_MAX);
    let mut ended = false;
    while !ended && !stop.is_cancelled() {
        let room = STEP + CHUNK_MAX - buf.len();
        ended = (&mut old).take(room as u64).read_to_end(&mut buf)? < room;
        let mut from = 0;
        while let Some(len) = cut(&buf[from..], ended).filter(|len| *len > 0) {
            let chunk = &buf[from..from + len];
            for (index, at) in wanted.remove(&ChunkId::of(chunk)).unwrap_or_default() {
                to.write_all_at(chunk, at)?;
                present[index] = true;
            }
            from += len;
        }
        buf.drain(..from);
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
