//! The journal of packs that were put but are not in a snapshot yet. A push that was killed need not send
//! them again.
//!
//! The file has a header with the store's id, then records of fixed length, each with the first bytes of its
//! SHA-256. A record is one `write`, which survives the process. If the machine loses it, the pack is sent
//! again, nothing else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::file::StateFile;
use crate::env::Env;
use crate::format::wire::{Reader, Writer};
use crate::format::{PackId, Part, StoreId, sha256};

const MAGIC: [u8; 4] = *b"CSpk";
const VERSION: u8 = 1;
const HEADER: usize = 4 + 1 + 16;
const CHECK: usize = 8;
const RECORD: usize = 16 + 8 + 4 + CHECK;
/// This many packs of 32 MiB are 2 TiB; later ones are not recorded.
const MOST: usize = 1 << 16;

/// A pack in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotedPack {
    pub(crate) id: PackId,
    pub(crate) size: u64,
    pub(crate) footer_len: u32,
}

/// Writes the journal.
#[derive(Debug)]
pub(crate) struct PackJournal {
    file: Mutex<File>,
}

impl PackJournal {
    /// Returns the packs in the journal, oldest first, up to the first damaged record. If the journal is of
    /// another format or another store, returns none: then everything is sent again. A journal that can't be
    /// read now is an error, since it must not be replaced.
    pub(crate) fn read(path: &Path, store: StoreId, env: &Env) -> io::Result<Vec<NotedPack>> {
        let bytes = StateFile::read_all(path, env)?.unwrap_or_default();
        Ok(match bytes.split_at_checked(HEADER) {
            // Records after a damaged one do not count.
            Some((header, records)) if header == encode_header(store) => {
                records.chunks_exact(RECORD).take(MOST).map_while(decode).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Replaces the journal by one with these packs.
    pub(crate) fn begin(path: &Path, store: StoreId, packs: &[NotedPack]) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let new = path.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut bytes = encode_header(store).to_vec();
        packs.iter().for_each(|pack| bytes.extend_from_slice(&encode(pack)));
        let put = file.write_all(&bytes).and_then(|()| fs::rename(&new, path));
        // If it stays, the next push writes over it.
        put.inspect_err(|_| drop(fs::remove_file(&new)))?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Adds a pack that is in the store now.
    pub(crate) fn add(&self, pack: &NotedPack) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&encode(pack))
    }

    /// Removes the journal.
    pub(crate) fn drop_at(path: &Path) {
        // If it stays, the next push finds that its packs are useless.
        let _ = fs::remove_file(path);
    }
}

fn encode_header(store: StoreId) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = VERSION;
    header[5..].copy_from_slice(&store.0);
    header
}

fn encode(pack: &NotedPack) -> Vec<u8> {
    let mut w = Writer::with_capacity(RECORD);
    w.bytes(&pack.id.0);
    w.bytes(&pack.size.to_le_bytes());
    w.u32(pack.footer_len);
    let check = sha256(w.as_slice());
    w.bytes(&check.0[..CHECK]);
    w.into_vec()
}

fn decode(record: &[u8]) -> Option<NotedPack> {
    let (body, check) = record.split_at_checked(RECORD - CHECK)?;
    if sha256(body).0[..CHECK] != *check {
        return None;
    }
    let mut r = Reader::new(Part::State, body);
    let id = PackId(r.array().ok()?);
    let size = u64::from_le_bytes(r.array().ok()?);
    let footer_len = r.u32().ok()?;
    (u64::from(footer_len) <= size).then_some(NotedPack { id, size, footer_len })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    fn pack(n: u8) -> NotedPack {
        NotedPack { id: PackId([n; 16]), size: 1000 + u64::from(n), footer_len: 100 }
    }

    fn read(path: &Path, store: StoreId) -> Vec<NotedPack> {
        PackJournal::read(path, store, &Env::real()).unwrap()
    }

    fn written(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("packs");
        let journal = PackJournal::begin(&path, STORE, &[pack(0)]).unwrap();
        for n in 1..4 {
            journal.add(&pack(n)).unwrap();
        }
        path
    }

    #[test]
    fn tells_what_was_added_and_to_its_store_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        assert_eq!(read(&path, STORE), (0..4).map(pack).collect::<Vec<_>>());
        assert_eq!(read(&path, StoreId([8; 16])), []);
        PackJournal::drop_at(&path);
        assert_eq!(read(&path, STORE), []);
    }

    proptest! {
        #[test]
        fn a_damaged_journal_tells_nothing_that_is_not_so(at in 0usize..165, bit in 0u8..8, cut in 0usize..166) {
            let dir = tempfile::tempdir().unwrap();
            let path = written(dir.path());
            let mut bytes = fs::read(&path).unwrap();
            prop_assert_eq!(bytes.len(), 165);
            bytes[at] ^= 1 << bit;
            bytes.truncate(cut);
            fs::write(&path, &bytes).unwrap();
            let told = read(&path, STORE);
            let whole: Vec<_> = (0..4).map(pack).collect();
            prop_assert!(whole.starts_with(&told));
        }
    }
}
