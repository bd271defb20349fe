//! The engine's readers as functions of bytes alone, for fuzzing and for the tests of the fuzzer's corpora. Each takes
//! bytes that anybody may have written, and panics only if a reader breaks a law.
//!
//! Where bytes carry a digest of themselves, the right one is put in its place: a fuzzer finds none.

use bytes::Bytes;

use policy_core::SyncPolicy;

use crate::extract::hostile::extract;
use crate::format::{
    Codec, HeadIndex, Snapshot, StoreKey, StoreMeta, Tag, decode_segment, encode_segment, open_block,
    parse_footer, sha256, signed,
};

/// Hands bytes to a reader.
pub type Reader = fn(&[u8]);

/// All readers, by name. The name is also that of a reader's corpus below `fuzz/corpus`.
pub const READERS: [(&str, Reader); 12] = [
    ("snapshot", snapshot),
    ("segment", segment),
    ("footer", footer),
    ("block", block),
    ("description", description),
    ("key", key),
    ("tag", tag),
    ("heads", heads),
    ("policy", policy),
    ("state", state),
    ("message", message),
    ("archive", archive),
];

/// A snapshot; what was read is written and read again.
pub fn snapshot(bytes: &[u8]) {
    let whole = Bytes::from([bytes, &sha256(bytes).0].concat());
    if let Ok((snapshot, _)) = Snapshot::decode(&whole) {
        let again = snapshot.encode().map(|encoded| Snapshot::decode(&encoded.bytes));
        assert!(matches!(again, Ok(Ok((again, _))) if again == snapshot), "it is written as something else");
    }
}

/// A tag; what was read is written as the same bytes.
pub fn tag(bytes: &[u8]) {
    let whole = [bytes, &sha256(bytes).0].concat();
    if let Ok(tag) = Tag::decode(&whole) {
        assert_eq!(tag.encode(), whole, "it is written as something else");
    }
}

/// An index of heads; what was read is written and read again.
pub fn heads(bytes: &[u8]) {
    let whole = [bytes, &sha256(bytes).0].concat();
    if let Ok(index) = HeadIndex::decode(&whole) {
        let again = index.encode().map(|bytes| HeadIndex::decode(&bytes));
        assert!(matches!(again, Ok(Ok(again)) if again == index), "it is written as something else");
    }
}

/// A segment of a list of files; what was read is written and read again.
pub fn segment(bytes: &[u8]) {
    if let Ok(entries) = decode_segment(bytes, sha256(bytes)) {
        let again = encode_segment(&entries).map(|s| decode_segment(&s.bytes, sha256(&s.bytes)));
        assert!(matches!(again, Ok(Ok(again)) if again == entries), "it is written as something else");
    }
}

/// The end of a pack: two bytes for the length of its data, and its list of blocks.
pub fn footer(bytes: &[u8]) {
    let Some((len, body)) = bytes.split_first_chunk::<2>() else { return };
    let tail = signed(body, 1);
    let _ = parse_footer(&tail, u64::from(u16::from_le_bytes(*len)) + tail.len() as u64);
}

/// A block: a byte for its codec, three for its length, and its bytes.
pub fn block(bytes: &[u8]) {
    let Some(([codec, a, b, c], stored)) = bytes.split_first_chunk::<4>() else { return };
    let Some(codec) = Codec::from_code(codec % 2) else { return };
    let raw_len = u32::from_le_bytes([*a, *b, *c, 0]);
    if let Ok(raw) = open_block(codec, raw_len, stored) {
        assert_eq!(raw.len(), raw_len as usize);
    }
}

/// The description of a store.
pub fn description(bytes: &[u8]) {
    if let Ok(meta) = StoreMeta::decode(bytes) {
        assert_eq!(StoreMeta::decode(meta.encode().as_bytes()), Ok(meta));
    }
}

/// The key of an object.
pub fn key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = object_store::path::Path::parse(text)
        && let Some(key) = StoreKey::parse(&path)
    {
        assert_eq!(key.path(), path, "two keys are one object");
    }
}

/// A policy; what was read is written and read again.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(policy) = SyncPolicy::from_json(text) {
        assert_eq!(SyncPolicy::from_json(&policy.to_json()), Ok(policy));
    }
}

/// A part of the local state.
pub fn state(bytes: &[u8]) {
    crate::state::hostile::read(bytes);
}

/// A line that one process sends another through a session's socket.
pub fn message(bytes: &[u8]) {
    crate::session::hostile::line(bytes);
}

/// An archive: a byte for its name, and its bytes. Nothing may be written outside its directory.
pub fn archive(bytes: &[u8]) {
    const NAMES: [&str; 8] =
        ["a.zip", "a.7z", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.tar.zst", "a.gz"];
    if let Some((name, bytes)) = bytes.split_first() {
        extract(NAMES[usize::from(*name) % NAMES.len()], bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Hands everything in the corpora to their readers: seeds, and what the fuzzer found worth keeping.
    #[test]
    fn s9_whatever_a_fuzzer_found_is_read_or_refused() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, read) in READERS {
            let inputs = std::fs::read_dir(corpora.join(name)).unwrap();
            let inputs: Vec<_> = inputs.map(|input| std::fs::read(input.unwrap().path()).unwrap()).collect();
            assert!(!inputs.is_empty(), "{name} has no corpus");
            inputs.iter().for_each(|input| read(input));
        }
    }
}
