use policy_core::{Digest, Entry, Node, Timestamp, TreePath};
use proptest::prelude::*;

use super::super::fixture::*;
use super::super::wire::Writer;
use super::super::{BlockRef, Codec, FormatError, PackId, sha256};
use super::encode::write;
use super::*;

/// Decodes entries that were encoded without any check, as a malicious writer would do.
fn decode_raw(entries: &[TreeEntry]) -> Result<Vec<TreeEntry>, FormatError> {
    let (bytes, _) = write(entries).unwrap();
    decode_segment(&bytes, sha256(&bytes))
}

/// Asserts that encoding and decoding both refuse these entries with the message `what`.
#[track_caller]
fn refused(entries: &[TreeEntry], what: &str) {
    for error in [encode_segment(entries).unwrap_err(), decode_raw(entries).unwrap_err()] {
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// Decodes a segment in which `from` is replaced by `to` everywhere, with a valid digest.
fn patched(entries: &[TreeEntry], from: &[u8], to: &[u8]) -> Result<Vec<TreeEntry>, FormatError> {
    let mut bytes = write(entries).unwrap().0.to_vec();
    assert_eq!((bytes[5], from.len()), (0, to.len()), "only metadata that is not compressed can be patched");
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    decode_segment(&bytes, sha256(&bytes))
}

#[test]
fn golden() {
    let segment = encode_segment(&tree()).unwrap();
    assert_eq!(decode_segment(&segment.bytes, segment.digest).unwrap(), tree());
    assert_eq!((segment.first, segment.entries), (path(".gitignore"), 11));
    insta::assert_snapshot!(hex(&segment.bytes));
    // Of the block at 1:0, the chunks take the bytes 0..10, 10..100 (twice, counted once) and 100..400: all
    // of it.
    let live = [(PackId([1; 16]), 100), (PackId([2; 16]), 5100), (PackId([3; 16]), 1)];
    assert_eq!(segment.packs, live);
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect()
}

#[test]
fn s5_future_format() {
    let mut bytes = write(&tree()).unwrap().0.to_vec();
    bytes[4] = 2;
    let error = decode_segment(&bytes, sha256(&bytes)).unwrap_err();
    assert_eq!(error, FormatError::UnsupportedVersion { part: Part::Segment, found: 2, supported: 1 });
    insta::assert_snapshot!(error, @"segment has format 2, and this program reads up to 1: upgrade it");
    bytes[4] = 0;
    let error = decode_segment(&bytes, sha256(&bytes)).unwrap_err();
    insta::assert_snapshot!(error, @"segment is not valid at byte 0: no format has the version 0");
}

#[test]
fn s6_paths_that_leave_the_tree() {
    for bad in ["aa/../b", "../aaaa", "/aaaaaa", "aa\0aaaa", "aa//aaa", "aa/./aa", "./aaaaa", "aaaaaa/"] {
        let error = patched(&[file("replace", vec![])], b"replace", bad.as_bytes()).unwrap_err();
        assert!(matches!(error, FormatError::Invalid { .. }), "{bad:?}: {error}");
    }
    refused(&[dir("", 0o700)], "");
    refused(&[file("", vec![])], "");
    insta::assert_snapshot!(
        patched(&[file("replace", vec![])], b"replace", b"aa/../b").unwrap_err(),
        @"segment is not valid at byte 11: `aa/../b` has a component `.` or `..`"
    );
}

#[test]
fn s7_duplicates_and_disorder() {
    refused(&[file("a", vec![]), file("a", vec![])], "`a` is listed twice");
    refused(&[dir("a", 0o755), file("a", vec![])], "`a` is listed twice");
    refused(&[file("b", vec![]), file("a", vec![])], "`a` is listed after `b`, out of order");
    refused(&[file("a/b", vec![]), dir("a", 0o700)], "out of order");
    refused(&[file("a-b", vec![]), file("a/b", vec![])], "out of order");
    refused(&[file("ab", vec![]), file("abc", vec![]), file("ab/c", vec![])], "out of order");
}

#[test]
fn s8_below_what_is_no_directory() {
    refused(&[file("a", vec![]), file("a/b", vec![])], "`a` is no directory");
    refused(&[symlink("a", "b"), file("a/b/c", vec![])], "`a` is no directory");
    refused(&[recycled("a", 1), file("a/b", vec![])], "`a` is no directory");
    // Whatever sorts between a path and something below it is below it too, so the first such entry shows the
    // error.
    refused(&[file("a", vec![]), file("a/b", vec![]), file("a/c", vec![])], "`a` is no directory");
    assert!(encode_segment(&[file("a", vec![]), file("a-b", vec![]), file("ab", vec![])]).is_ok());
}

#[test]
fn s8_directories_that_are_implied() {
    refused(&[dir("a", 0o755), file("a/b", vec![])], "is implied");
    refused(&[dir("a", 0o755), dir("a/b", 0o755)], "is implied");
    assert!(encode_segment(&[dir("a", 0o700), dir("a/b", 0o755), dir("a-b", 0o755)]).is_ok());
}

#[test]
fn s9_enormous_counts() {
    for field in 0..16 {
        let mut w = Writer::new();
        w.bytes(b"CSsg\x01\x00");
        for i in 0..16 {
            w.varint(if i == field { 1 << 63 } else { 1 });
        }
        w.bytes(&[0; 256]);
        let error = decode_segment(w.as_slice(), sha256(w.as_slice())).unwrap_err();
        assert!(matches!(error, FormatError::TooLarge { found, .. } if found == 1 << 63), "{field}: {error}");
    }
    refused(&[recycled("a", 1 << 63)], "9223372036854775808");
    refused(&vec![file("a", vec![]); MAX_SEGMENT_ENTRIES + 1], "a number of entries of 4097");
}

#[test]
fn s10_chunks_that_do_not_add_up() {
    let over = |offset, len| file("a", vec![chunk("x", offset, len, block(1, 0))]);
    refused(&[over(0, 401)], "a chunk from 0 to 401 in a block of 400");
    refused(&[over(400, 1)], "a chunk from 400 to 401 in a block of 400");
    refused(&[over(0, 0)], "a chunk from 0 to 0");
    let in_block = |block| [file("a", vec![chunk("x", 0, 1, block)])];
    refused(&in_block(BlockRef { stored_len: 0, ..block(1, 0) }), "");
    refused(&in_block(BlockRef { stored_len: 401, ..block(1, 0) }), "");
    refused(&in_block(BlockRef { raw_len: 9 << 20, ..block(1, 0) }), "");
    refused(&in_block(block(1, u32::MAX - 50)), "beyond the end of any pack");

    let mut entry = over(0, 10);
    entry.entry.node = Node::File { size: 11, digest: Digest([0; 32]) };
    let error = encode_segment(&[entry]).unwrap_err();
    insta::assert_snapshot!(
        error,
        @"segment is not valid at byte 0: `a` has a size or digest that is not that of its chunks"
    );
}

#[test]
fn refuses_values_that_no_entry_has() {
    let with = |change: fn(&mut TreeEntry)| {
        let mut entry = symlink("a", "b");
        change(&mut entry);
        encode_segment(&[entry]).unwrap_err()
    };
    with(|e| e.entry.mode = 0o644);
    with(|e| e.extracted = true);
    with(|e| e.recycled = true);
    with(|e| e.chunks = vec![chunk("x", 0, 1, block(1, 0))]);
    with(|e| e.entry.node = Node::Symlink { target: [].into() });
    with(|e| e.entry.node = Node::Symlink { target: [b'a', 0].into() });
    with(|e| e.entry.mtime.nanos = 1_000_000_000);
    with(|e| e.entry.node = Node::Symlink { target: vec![b'a'; MAX_PATH_LEN + 1].into() });
    with(|e| e.path = TreePath::new(vec![b'a'; MAX_PATH_LEN + 1]).unwrap());
    assert!(encode_segment(&[]).is_err());
    assert!(decode_raw(&[]).is_err());
}

#[test]
fn longest_paths_round_trip() {
    let long = TreePath::new(vec![b'a'; MAX_PATH_LEN]).unwrap();
    let entry = TreeEntry { path: long, ..symlink("a", &"b".repeat(MAX_PATH_LEN)) };
    assert_eq!(decode_raw(std::slice::from_ref(&entry)).unwrap(), [entry]);
}

#[test]
fn orders_across_segments() {
    assert!(check_order(&dir("a", 0o700), &file("a/b", vec![])).is_ok());
    assert!(check_order(&dir("a", 0o755), &file("a/b", vec![])).is_err());
    assert!(check_order(&file("a", vec![]), &file("a/b", vec![])).is_err());
    assert!(check_order(&file("a/z", vec![]), &file("a-b", vec![])).is_ok());
    assert!(check_order(&file("a", vec![]), &file("a", vec![])).is_err());
}

#[test]
fn s4_flipped_or_truncated() {
    let segment = encode_segment(&tree()).unwrap();
    let corrupt = Err(FormatError::Corrupt { part: Part::Segment });
    for i in 0..segment.bytes.len() {
        assert_eq!(decode_segment(&segment.bytes[..i], segment.digest), corrupt);
        let mut bytes = segment.bytes.to_vec();
        for bit in 0..8 {
            bytes[i] ^= 1 << bit;
            assert_eq!(decode_segment(&bytes, segment.digest), corrupt);
            // Even with a valid digest, the result is an error or something that could have been written.
            sound(&bytes);
            bytes[i] ^= 1 << bit;
        }
        sound(&segment.bytes[..i]);
    }
}

/// Whatever the bytes are: if they decode, the result meets every requirement of a tree.
fn sound(bytes: &[u8]) {
    if let Ok(entries) = decode_segment(bytes, sha256(bytes)) {
        let again = encode_segment(&entries).unwrap();
        assert_eq!(decode_segment(&again.bytes, again.digest).unwrap(), entries);
    }
}

#[test]
fn cuts_depend_on_what_is_near() {
    let tree: Vec<_> = (0..40_000).map(|i| file(&format!("dir{}/file{i:05}", i / 100), vec![])).collect();
    let mut tree = tree;
    tree.sort_by(|a, b| a.path.cmp(&b.path));
    let cuts = |tree: &[TreeEntry]| {
        let mut cutter = SegmentCutter::new();
        let cuts: Vec<_> = tree.iter().filter(|e| cutter.begins_segment(e)).map(|e| e.path.clone()).collect();
        cuts
    };
    let before = cuts(&tree);
    assert!((20..80).contains(&before.len()), "{}", before.len());
    tree.insert(20_000, file("dir27/file-new", vec![]));
    tree.sort_by(|a, b| a.path.cmp(&b.path));
    let after = cuts(&tree);
    let same = before.iter().filter(|c| after.contains(c)).count();
    assert!(same + 2 >= before.len(), "{same} of {}", before.len());
}

#[test]
fn cuts_before_a_segment_grows_too_long() {
    let huge = vec![chunk("x", 0, 1, block(1, 0)); 40_000];
    let mut cutter = SegmentCutter::new();
    assert!(!cutter.begins_segment(&file("a", huge)));
    assert!(cutter.begins_segment(&file("b", vec![])));
    assert!(!cutter.begins_segment(&file("c", vec![])));
}

fn any_block() -> impl Strategy<Value = BlockRef> {
    (0..4u8, 0..1000u32, 1..2000u32, 1..2000u32, any::<bool>()).prop_map(|(pack, offset, a, b, zstd)| {
        let codec = if zstd { Codec::Zstd } else { Codec::Stored };
        let stored_len = if zstd { a.min(b) } else { a.max(b) };
        BlockRef { pack: PackId([pack; 16]), offset, stored_len, raw_len: a.max(b), codec }
    })
}

fn any_chunks() -> impl Strategy<Value = Vec<ChunkRef>> {
    let one = (any_block(), any::<u32>(), any::<u32>(), any::<u8>()).prop_map(|(block, a, b, id)| {
        let offset = a % block.raw_len;
        chunk(&id.to_string(), offset, 1 + b % (block.raw_len - offset), block)
    });
    proptest::collection::vec(one, 0..4)
}

fn any_entry() -> impl Strategy<Value = TreeEntry> {
    let path = proptest::collection::vec("[a-c.!-]{1,3}", 1..4)
        .prop_filter_map("components", |v| TreePath::new(v.join("/").into_bytes()).ok());
    let time = (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Timestamp { secs, nanos });
    let content = prop_oneof![
        any_chunks().prop_map(|chunks| (file_node(&chunks), false, chunks)),
        Just((Node::Dir, false, vec![])),
        "[a-z/.]{1,9}".prop_map(|t| (Node::Symlink { target: t.into_bytes().into() }, false, vec![])),
        (0..=i64::MAX as u64, any::<[u8; 32]>()).prop_map(|(size, d)| (
            Node::File { size, digest: Digest(d) },
            true,
            vec![]
        )),
    ];
    (path, content, 0..=0o7777u16, time, any::<i64>(), any::<bool>()).prop_map(
        |(path, (node, recycled, chunks), mode, mtime, uploaded, extracted)| {
            let mode = if matches!(node, Node::Symlink { .. }) { 0o777 } else { mode };
            let extracted = extracted && matches!(node, Node::File { .. });
            let entry = Entry { node, mode, mtime, uploaded };
            TreeEntry { path, entry, extracted, recycled, chunks }
        },
    )
}

fn any_tree() -> impl Strategy<Value = Vec<TreeEntry>> {
    proptest::collection::vec(any_entry(), 1..30).prop_map(|mut entries| {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut tree: Vec<TreeEntry> = Vec::new();
        for entry in entries {
            if tree.last().is_none_or(|prev| check_order(prev, &entry).is_ok()) {
                tree.push(entry);
            }
        }
        tree
    })
}

proptest! {
    #[test]
    fn round_trips(tree in any_tree()) {
        let segment = encode_segment(&tree).unwrap();
        prop_assert_eq!(&decode_segment(&segment.bytes, segment.digest).unwrap(), &tree);
        prop_assert_eq!(&encode_segment(&tree).unwrap().bytes, &segment.bytes);
    }

    #[test]
    fn live_bytes_are_within_the_packs(tree in any_tree()) {
        let blocks: std::collections::HashSet<_> =
            tree.iter().flat_map(|e| &e.chunks).map(|c| c.block).collect();
        for (pack, live) in encode_segment(&tree).unwrap().packs {
            let stored: u64 =
                blocks.iter().filter(|b| b.pack == pack).map(|b| u64::from(b.stored_len)).sum();
            prop_assert!((1..=stored).contains(&live));
        }
    }

    #[test]
    fn checks_pairs_as_it_would_the_whole(mut tree in proptest::collection::vec(any_entry(), 1..12)) {
        tree.sort_by(|a, b| a.path.cmp(&b.path));
        let pairs = tree.windows(2).all(|w| check_order(&w[0], &w[1]).is_ok());
        let whole = tree.iter().enumerate().all(|(i, a)| tree[i + 1..].iter().all(|b| {
            a.path != b.path && !(b.path.is_below(&a.path) && (!a.entry.is_dir() || a.is_plain_dir()))
        }));
        prop_assert_eq!(pairs, whole);
        prop_assert_eq!(encode_segment(&tree).is_ok(), whole);
        prop_assert_eq!(decode_raw(&tree).is_ok(), whole);
    }

    #[test]
    fn no_bytes_make_it_panic(head in any::<bool>(), tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = if head { [b"CSsg\x01\x00", &tail[..]].concat() } else { tail };
        sound(&bytes);
    }

    #[test]
    fn mutated_segments_are_sound(
        tree in any_tree(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = encode_segment(&tree).unwrap().bytes.to_vec();
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        sound(&bytes);
    }
}
