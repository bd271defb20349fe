//! The note that a mount was synced without a flush: under which life of the page cache, and with which snapshots.
//!
//! It is durable before anything of such a sync is put in place, and goes when the mount was flushed. As long as it is
//! there, the file `base` has what was true at the last flush, and `base.recent` what is true now.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use policy_core::Digest;

use super::base::{BaseHeader, HEADER};
use super::file::StateFile;
use crate::env::{BootId, Env};
use crate::format::wire::{Reader, Writer};
use crate::format::{FormatError, Part, sha256};
use crate::local::CacheLife;

const MAGIC: [u8; 4] = *b"CSuf";
const VERSION: u8 = 1;
/// More snapshots than these are not noted; the mount is flushed first.
pub(crate) const MAX_SNAPSHOTS: usize = 1;
/// How many directories above the note the program makes: those of the context, the mount, all mounts, and the state.
const DIRS: usize = 4;

/// What the note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unflushed {
    /// `None` if a flush has failed: then nothing is trusted that was written since the one before.
    pub(crate) life: Option<CacheLife>,
    /// Whether the rows of `base` do not count, because they are of another life of the context.
    pub(crate) fresh: bool,
    /// The snapshots that the mount was synced with, oldest first: headers of bases for them. `agrees` says whether the
    /// mount had all of it after the sync.
    pub(crate) snapshots: Vec<BaseHeader>,
}

impl Unflushed {
    /// Reads the note; `None` if there is none.
    pub(super) fn read(path: &Path, env: &Env) -> io::Result<Option<Self>> {
        let Some(bytes) = StateFile::read_all(path, env)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(io::Error::other)
    }

    /// Writes the note durably.
    pub(super) fn write(&self, path: &Path, env: &Env) -> io::Result<()> {
        let new = path.with_extension("new");
        env.check_fault("write", &new)?;
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&self.encode()?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The directories above may be as new as the note.
        path.ancestors().skip(1).take(DIRS).try_for_each(|dir| File::open(dir)?.sync_all())
    }

    /// Adds to the note that the sync with a noted snapshot was completed. A loss of power may take this and no more of
    /// the note: a new file under the note's name, not yet on the disk, would take all of it.
    pub(super) fn add_completed(path: &Path, snapshot: &Digest, env: &Env) -> io::Result<()> {
        env.check_fault("write", path)?;
        File::options().append(true).open(path)?.write_all(&completed(snapshot).0)
    }

    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut w = Writer::with_capacity(64 + self.snapshots.len() * HEADER);
        w.bytes(&MAGIC);
        w.u8(VERSION);
        w.u8(u8::from(self.fresh));
        w.u8(u8::from(self.life.is_some()));
        if let Some(CacheLife { boot, mount, device }) = self.life {
            w.bytes(&boot.0);
            w.varint(mount);
            w.varint(device);
        }
        w.varint(self.snapshots.len() as u64);
        for header in &self.snapshots {
            w.bytes(&header.encode(0)?);
        }
        let digest = sha256(w.as_slice());
        w.bytes(&digest.0);
        Ok(w.into_vec())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut r = Reader::new(Part::State, bytes);
        if r.array()? != MAGIC {
            return Err(r.invalid("it is no note of a sync without a flush"));
        }
        match r.u8()? {
            VERSION => {}
            found => {
                let (found, supported) = (u32::from(found), u32::from(VERSION));
                return Err(FormatError::UnsupportedVersion { part: Part::State, found, supported });
            }
        }
        let fresh = r.u8()? != 0;
        let life = match r.u8()? {
            0 => None,
            _ => Some(CacheLife { boot: BootId(r.array()?), mount: r.varint()?, device: r.varint()? }),
        };
        let count = r.count("snapshots", HEADER)?;
        let snapshots = (0..count).map(|_| Ok(BaseHeader::decode(&r.array()?)?.0));
        let mut snapshots = snapshots.collect::<Result<Vec<_>, FormatError>>()?;
        let (body, rest) = bytes.split_at(bytes.len() - r.remaining());
        let Some((digest, added)) = rest.split_first_chunk::<32>().filter(|(d, _)| sha256(body).0 == **d)
        else {
            return Err(FormatError::Corrupt { part: Part::State });
        };
        for mark in added.chunks(digest.len()) {
            let of_mark = snapshots.iter_mut().filter(|noted| completed(&noted.digest).0 == mark);
            of_mark.for_each(|noted| noted.agrees = true);
        }
        Ok(Self { life, fresh, snapshots })
    }
}

/// Returns what is added to the note when the sync with a snapshot was completed.
fn completed(snapshot: &Digest) -> Digest {
    sha256(&[b"completed", &snapshot.0[..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(life: Option<CacheLife>, snapshots: u64) -> Unflushed {
        Unflushed { life, fresh: true, snapshots: (0..snapshots).map(BaseHeader::example).collect() }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, env) = (dir.path().join("unflushed"), Env::real());
        assert_eq!(Unflushed::read(&path, &env).unwrap(), None);
        let life = CacheLife { boot: BootId([3; 16]), mount: 1 << 40, device: 66 };
        for note in [note(Some(life), 0), note(Some(life), 3), note(None, 1)] {
            note.write(&path, &env).unwrap();
            assert_eq!(Unflushed::read(&path, &env).unwrap(), Some(note));
        }
    }

    #[test]
    fn what_is_lost_of_an_addition_leaves_the_note() {
        let dir = tempfile::tempdir().unwrap();
        let (path, env) = (dir.path().join("unflushed"), Env::real());
        let mut noted = note(None, 2);
        for (number, header) in noted.snapshots.iter_mut().enumerate() {
            (header.digest, header.agrees) = (sha256(&[number as u8]), false);
        }
        noted.write(&path, &env).unwrap();
        let before = fs::read(&path).unwrap();
        Unflushed::add_completed(&path, &noted.snapshots[1].digest, &env).unwrap();
        let after = fs::read(&path).unwrap();
        for length in before.len()..after.len() {
            let zeros = [&after[..length], &vec![0; after.len() - length]].concat();
            for lost in [&after[..length], &zeros] {
                assert_eq!(Unflushed::decode(lost).unwrap(), noted, "{length} bytes");
            }
        }
        noted.snapshots[1].agrees = true;
        assert_eq!(Unflushed::read(&path, &env).unwrap(), Some(noted));
    }

    #[test]
    fn a_damaged_note_is_no_other_note() {
        let life = CacheLife { boot: BootId([3; 16]), mount: 7, device: 66 };
        let bytes = note(Some(life), 2).encode().unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(Unflushed::decode(&flipped).is_err(), "byte {at}");
            assert!(Unflushed::decode(&bytes[..at]).is_err(), "{at} bytes");
        }
    }
}
