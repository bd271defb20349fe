//! The index of heads: what each context's newest snapshot says, for lists of contexts.
//!
//! It is a cache. A row counts only while a listing shows exactly the object that the row describes, so an index
//! that is old, damaged or lost costs requests and nothing else.

use bytes::Bytes;
use policy_core::Timestamp;
use zstd::bulk::Decompressor;

use super::block::{Codec, Zstd, unpack};
use super::error::{FormatError, Part, at_most, check_version};
use super::snapshot::MAX_SESSION_LEN;
use super::wire::{Reader, Writer};
use super::{ContextName, LineageId, Snapshot, StoreId, sha256};

const MAGIC: [u8; 4] = *b"CSix";
const VERSION: u8 = 1;
/// The longest index, in bytes, as it is stored and unpacked: some half a million contexts.
pub const MAX_INDEX_LEN: usize = 64 << 20;
/// The longest e-tag, in bytes.
const MAX_TAG: usize = 256;
const MAX_NAME: usize = 128;
/// No row is shorter.
const MIN_ROW: usize = 8;

/// What the heads of a store's contexts say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadIndex {
    /// The store's id.
    pub store_id: StoreId,
    /// One row for each context, sorted by name.
    pub rows: Vec<HeadRow>,
}

/// A head: which object it is, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRow {
    /// The context.
    pub context: ContextName,
    /// The number of the snapshot.
    pub number: u64,
    /// The length of its object, in bytes.
    pub size: u64,
    /// The object's e-tag, without quotes.
    pub e_tag: String,
    /// When the object landed, by the store's clock, in seconds since 1970.
    pub landed: i64,
    /// What the snapshot says.
    pub state: HeadState,
}

/// What a head says of its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadState {
    /// The context is live.
    Live(Box<LiveHead>),
    /// The context was deleted; or a rename to this name began, and is not complete.
    Ended,
    /// The context was renamed.
    Moved {
        /// The new name.
        to: ContextName,
        /// Whether nothing is left to do for the rename.
        is_complete: bool,
    },
}

/// What the head of a live context says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveHead {
    /// The lineage.
    pub lineage: LineageId,
    /// When the snapshot was made, by the writer's clock.
    pub created: Timestamp,
    /// The number of files.
    pub files: u64,
    /// The number of symbolic links.
    pub symlinks: u64,
    /// The size of the files, in bytes.
    pub bytes: u64,
    /// Whether the deadline came before everything was sent.
    pub partial: bool,
    /// The snapshot that the context was forked from.
    pub forked_from: Option<(ContextName, u64)>,
    /// The session that made the snapshot; empty if none did.
    pub session: String,
}

impl LiveHead {
    /// Returns what a snapshot says.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            lineage: snapshot.lineage,
            created: snapshot.created,
            files: snapshot.totals.files,
            symlinks: snapshot.totals.symlinks,
            bytes: snapshot.totals.bytes,
            partial: snapshot.partial,
            forked_from: snapshot.forked_from().map(|origin| (origin.context, origin.number)),
            session: snapshot.session.clone(),
        }
    }
}

const LIVE: u8 = 0;
const ENDED: u8 = 1;
const MOVED: u8 = 2;
/// Moved, and complete.
const SETTLED: u8 = 3;
/// Flags of a live head.
const PARTIAL: u8 = 1;
const FORKED: u8 = 2;
const IN_SESSION: u8 = 4;

impl HeadIndex {
    /// Returns the bytes of the index.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] if it would be longer than [`MAX_INDEX_LEN`].
    pub fn encode(&self) -> Result<Bytes, FormatError> {
        let mut rows = Writer::new();
        rows.varint(self.rows.len() as u64);
        self.rows.iter().for_each(|row| row.write(&mut rows));
        at_most(Part::HeadIndex, "a length", rows.len() as u64, MAX_INDEX_LEN as u64)?;
        let mut zstd = Zstd::default();
        let packed = zstd.compress(rows.as_slice());
        let codec = if packed.is_some() { Codec::Zstd } else { Codec::Stored };
        let stored = packed.unwrap_or(rows.as_slice());

        let mut w = Writer::with_capacity(stored.len() + 128);
        w.bytes(&MAGIC);
        w.u8(VERSION);
        w.bytes(&self.store_id.0);
        w.u8(codec.code());
        w.varint(rows.len() as u64);
        w.bytes(stored);
        let digest = sha256(w.as_slice());
        w.bytes(&digest.0);
        at_most(Part::HeadIndex, "a length", w.len() as u64, MAX_INDEX_LEN as u64)?;
        Ok(w.into_vec().into())
    }

    /// Parses the bytes of an index.
    ///
    /// # Errors
    /// [`FormatError::UnsupportedVersion`] for an index of a newer format; others if the bytes are not an index.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        at_most(Part::HeadIndex, "a length", bytes.len() as u64, MAX_INDEX_LEN as u64)?;
        let mut r = Reader::new(Part::HeadIndex, bytes);
        if r.array()? != MAGIC {
            return Err(r.invalid("no index begins like this"));
        }
        let version = r.u8()?;
        let truncated = FormatError::Truncated { part: Part::HeadIndex, offset: bytes.len() as u64 };
        let (Some(end), Some((body, digest))) =
            (r.remaining().checked_sub(32), bytes.split_last_chunk::<32>())
        else {
            return Err(truncated);
        };
        if sha256(body).0 != *digest {
            return Err(FormatError::Corrupt { part: Part::HeadIndex });
        }
        check_version(Part::HeadIndex, version.into(), VERSION.into())?;
        let mut r = Reader::at(Part::HeadIndex, r.take(end)?, 5);
        let store_id = StoreId(r.array()?);
        let codec = r.u8()?;
        let codec = Codec::from_code(codec).ok_or_else(|| r.invalid(format!("a codec {codec}")))?;
        let raw_len = r.varint_max("a length", MAX_INDEX_LEN as u64)? as usize;
        let stored = r.take(r.remaining())?;
        let mut unpacked = Vec::new();
        let raw = match codec {
            Codec::Stored if stored.len() == raw_len => stored,
            Codec::Stored => return Err(r.invalid(format!("rows of {raw_len} bytes take {}", stored.len()))),
            Codec::Zstd => {
                unpack(&mut Decompressor::default(), Part::HeadIndex, raw_len, stored, &mut unpacked)?;
                &unpacked
            }
        };
        Ok(Self { store_id, rows: read_rows(raw)? })
    }
}

fn read_rows(raw: &[u8]) -> Result<Vec<HeadRow>, FormatError> {
    let mut r = Reader::new(Part::HeadIndex, raw);
    let count = r.count("a number of rows", MIN_ROW)?;
    let mut rows: Vec<HeadRow> = Vec::new();
    for _ in 0..count {
        let row = HeadRow::read(&mut r)?;
        if rows.last().is_some_and(|before| before.context >= row.context) {
            return Err(r.invalid("rows that are not in order"));
        }
        rows.push(row);
    }
    r.finish()?;
    Ok(rows)
}

impl HeadRow {
    fn write(&self, w: &mut Writer) {
        w.blob(self.context.as_str().as_bytes());
        w.varint(self.number);
        w.varint(self.size);
        w.blob(self.e_tag.as_bytes());
        w.zigzag(self.landed);
        match &self.state {
            HeadState::Live(live) => {
                w.u8(LIVE);
                live.write(w);
            }
            HeadState::Ended => w.u8(ENDED),
            HeadState::Moved { to, is_complete } => {
                w.u8(if *is_complete { SETTLED } else { MOVED });
                w.blob(to.as_str().as_bytes());
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let context = name(r)?;
        let number = r.varint()?;
        let size = r.varint()?;
        let e_tag = text(r, "the length of an e-tag", MAX_TAG)?.to_owned();
        let landed = r.zigzag()?;
        let state = match r.u8()? {
            LIVE => HeadState::Live(Box::new(LiveHead::read(r)?)),
            ENDED => HeadState::Ended,
            state @ (MOVED | SETTLED) => HeadState::Moved { to: name(r)?, is_complete: state == SETTLED },
            state => return Err(r.invalid(format!("a state {state}"))),
        };
        Ok(Self { context, number, size, e_tag, landed, state })
    }

    /// Whether the row can be written.
    pub(crate) fn is_writable(&self) -> bool {
        !self.e_tag.is_empty() && self.e_tag.len() <= MAX_TAG
    }
}

impl LiveHead {
    fn write(&self, w: &mut Writer) {
        let partial = if self.partial { PARTIAL } else { 0 };
        let forked = if self.forked_from.is_some() { FORKED } else { 0 };
        let in_session = if self.session.is_empty() { 0 } else { IN_SESSION };
        w.u8(partial | forked | in_session);
        w.bytes(&self.lineage.0);
        w.zigzag(self.created.secs);
        w.u32(self.created.nanos);
        w.varint(self.files);
        w.varint(self.symlinks);
        w.varint(self.bytes);
        if let Some((context, number)) = &self.forked_from {
            w.blob(context.as_str().as_bytes());
            w.varint(*number);
        }
        if !self.session.is_empty() {
            w.blob(self.session.as_bytes());
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let flags = r.u8()?;
        if flags & !(PARTIAL | FORKED | IN_SESSION) != 0 {
            return Err(r.invalid(format!("flags {flags}")));
        }
        let lineage = LineageId(r.array()?);
        let created = Timestamp { secs: r.zigzag()?, nanos: r.u32()? };
        if created.nanos >= 1_000_000_000 {
            return Err(r.invalid("a time with too many nanoseconds"));
        }
        let (files, symlinks, bytes) = (r.varint()?, r.varint()?, r.varint()?);
        let forked_from = match flags & FORKED {
            0 => None,
            _ => Some((name(r)?, r.varint()?)),
        };
        let session = match flags & IN_SESSION {
            0 => String::new(),
            _ => text(r, "the length of a session", MAX_SESSION_LEN)?.to_owned(),
        };
        if flags & IN_SESSION != 0 && session.is_empty() {
            return Err(r.invalid("a session without a name"));
        }
        let partial = flags & PARTIAL != 0;
        Ok(Self { lineage, created, files, symlinks, bytes, partial, forked_from, session })
    }
}

fn text<'a>(r: &mut Reader<'a>, what: &'static str, limit: usize) -> Result<&'a str, FormatError> {
    let text = r.blob(what, limit)?;
    str::from_utf8(text).map_err(|_| r.invalid("a text that is not UTF-8"))
}

fn name(r: &mut Reader<'_>) -> Result<ContextName, FormatError> {
    let name = text(r, "the length of a name", MAX_NAME)?;
    ContextName::new(name).map_err(|e| r.invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index() -> HeadIndex {
        let row = |context: &str, number, state| HeadRow {
            context: context.parse().unwrap(),
            number,
            size: 300,
            e_tag: "0badcafe".into(),
            landed: 1_700_000_000,
            state,
        };
        let live = LiveHead {
            lineage: LineageId([0x11; 16]),
            created: Timestamp { secs: 1_700_000_000, nanos: 5 },
            files: 3,
            symlinks: 1,
            bytes: 1000,
            partial: true,
            forked_from: Some(("team/b".parse().unwrap(), 7)),
            session: "s-1".into(),
        };
        let plain = LiveHead { partial: false, forked_from: None, session: String::new(), ..live.clone() };
        let to = || "team/a".parse().unwrap();
        HeadIndex {
            store_id: StoreId([0x5a; 16]),
            rows: vec![
                row("deleted", 300, HeadState::Ended),
                row("moved", 2, HeadState::Moved { to: to(), is_complete: false }),
                row("moved-before", 2, HeadState::Moved { to: to(), is_complete: true }),
                row("team/a", 12, HeadState::Live(Box::new(live))),
                row("team/b", 13, HeadState::Live(Box::new(plain))),
            ],
        }
    }

    #[test]
    fn an_index_is_as_the_format_says() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // So short that it is not compressed: what zstd makes of it depends on its version.
        let one = HeadIndex { rows: vec![index().rows[0].clone()], ..index() };
        insta::assert_snapshot!(hex(&one.encode().unwrap()), @"43536978015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a001c010764656c65746564ac02ac0208306261646361666580c49fd50c01a966c71e985587b23dca9ad509513bd7ef20fd642c1ad384c3871fcb61114e1e");
        let rows = index().rows.into_iter().map(|row| {
            let mut w = Writer::new();
            row.write(&mut w);
            hex(w.as_slice())
        });
        insta::assert_snapshot!(rows.collect::<Vec<_>>().join("\n"), @r"
        0764656c65746564ac02ac0208306261646361666580c49fd50c01
        056d6f76656402ac0208306261646361666580c49fd50c02067465616d2f61
        0c6d6f7665642d6265666f726502ac0208306261646361666580c49fd50c03067465616d2f61
        067465616d2f610cac0208306261646361666580c49fd50c00071111111111111111111111111111111180c49fd50c050000000301e807067465616d2f620703732d31
        067465616d2f620dac0208306261646361666580c49fd50c00001111111111111111111111111111111180c49fd50c050000000301e807
        ");
        assert_eq!(HeadIndex::decode(&index().encode().unwrap()), Ok(index()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = index().encode().unwrap();
        for at in 0..bytes.len() {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            assert!(HeadIndex::decode(&other).is_err(), "byte {at}");
            assert!(HeadIndex::decode(&bytes[..at]).is_err(), "the first {at}");
        }
        assert!(HeadIndex::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn rows_are_in_order_and_each_context_has_one() {
        let (mut twice, mut back) = (index(), index());
        twice.rows[0] = twice.rows[1].clone();
        back.rows.reverse();
        for index in [twice, back] {
            assert!(HeadIndex::decode(&index.encode().unwrap()).unwrap_err().to_string().contains("order"));
        }
    }

    #[test]
    fn a_later_version_is_told() {
        let mut bytes = index().encode().unwrap().to_vec();
        bytes[4] = 2;
        let end = bytes.len() - 32;
        let digest = sha256(&bytes[..end]);
        bytes[end..].copy_from_slice(&digest.0);
        assert_eq!(
            HeadIndex::decode(&bytes),
            Err(FormatError::UnsupportedVersion { part: Part::HeadIndex, found: 2, supported: 1 })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(rows: Vec<u8>, whole: bool) {
            let head = [&MAGIC[..], &[VERSION], &[0x5a; 16], &[0]].concat();
            let mut w = Writer::new();
            w.varint(rows.len() as u64);
            let bytes = if whole { [&head[..], w.as_slice(), &rows].concat() } else { rows };
            let signed = [&bytes[..], &sha256(&bytes).0].concat();
            if let Ok(index) = HeadIndex::decode(&signed) {
                let again = index.encode().unwrap();
                prop_assert_eq!(HeadIndex::decode(&again), Ok(index));
            }
        }
    }
}
