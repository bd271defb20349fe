use proptest::prelude::*;

use super::super::fixture::{path, time};
use super::super::wire::Writer;
use super::*;

fn pack(id: u8, land_by: Option<i64>) -> PackUse {
    PackUse { id: PackId([id; 16]), size: 33_000_000, footer_len: 40_000, live: 30_000_000, land_by }
}

fn segment(first: &str, place: Place, packs: Vec<(u32, u64)>) -> SegmentRef {
    SegmentRef { first: path(first), entries: 1000, digest: Digest([3; 32]), len: 5, place, packs }
}

fn snapshot() -> Snapshot {
    Snapshot {
        number: 42,
        store_id: StoreId([1; 16]),
        context: "team/project".parse().unwrap(),
        lineage: LineageId([2; 16]),
        parent: Some(Digest([4; 32])),
        kind: Kind::Terminal { moved_to: Some("team/other".parse().unwrap()) },
        created: time(1_700_000_000),
        session: "session-1".into(),
        nonce: [5; 16],
        policy: Digest([6; 32]),
        recycle: RecycleRules { lifecycle_days: Some(30), paths: vec![path(""), path("tmp/a")] },
        totals: Totals { files: 2500, dirs: 100, symlinks: 3, bytes: 1 << 40 },
        changes: Changes { added: 1, changed: 2, deleted: 3 },
        partial: true,
        extensions: vec![(2, "ctxsync 0.1.0".into()), (1 << 20, Bytes::from_static(b"\xff"))],
        packs: vec![pack(7, None), pack(8, Some(1_700_086_400)), pack(9, Some(1_700_086_460))],
        segments: vec![
            segment("a", Place::Pack { pack: 0, offset: 0 }, vec![(0, 10), (2, 20)]),
            segment("src/lib.rs", Place::Pack { pack: 0, offset: 5 }, vec![(1, 1)]),
            segment("src/main.rs", Place::Inline { offset: 0 }, vec![]),
            segment("src-b", Place::Inline { offset: 5 }, vec![(2, u64::MAX)]),
        ],
        inline: Bytes::from_static(b"firstother"),
    }
}

/// Asserts that encoding and decoding both refuse the example with this change.
#[track_caller]
fn refused(change: impl FnOnce(&mut Snapshot), what: &str) {
    let mut value = snapshot();
    change(&mut value);
    for error in
        [value.encode().unwrap_err(), Snapshot::decode(&encode::encode(&value).unwrap().bytes).unwrap_err()]
    {
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// The bytes with a valid digest.
fn signed(mut bytes: Vec<u8>) -> Bytes {
    bytes.truncate(bytes.len().saturating_sub(32));
    let digest = identity(&bytes);
    bytes.extend_from_slice(&digest.0);
    bytes.into()
}

#[test]
fn golden() {
    let encoded = snapshot().encode().unwrap();
    assert_eq!(Snapshot::decode(&encoded.bytes).unwrap(), (snapshot(), encoded.digest));
    assert_eq!(encoded.bytes[encoded.bytes.len() - 32..], encoded.digest.0);
    let hex: String = encoded
        .bytes
        .chunks(32)
        .map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n")
        .collect();
    insta::assert_snapshot!(hex);
}

#[test]
fn finds_embedded_segments() {
    let value = snapshot();
    assert_eq!(value.inline_segment(&value.segments[3]).unwrap(), "other");
    assert_eq!(value.inline_segment(&value.segments[0]), None);
}

#[test]
fn s4_flipped_or_truncated() {
    let encoded = snapshot().encode().unwrap();
    for i in 0..encoded.bytes.len() {
        assert!(Snapshot::decode(&encoded.bytes.slice(..i)).is_err());
        let mut bytes = encoded.bytes.to_vec();
        for bit in 0..8 {
            bytes[i] ^= 1 << bit;
            assert!(Snapshot::decode(&bytes.clone().into()).is_err());
            sound(&signed(bytes.clone()));
            bytes[i] ^= 1 << bit;
        }
    }
    insta::assert_snapshot!(
        Snapshot::decode(&Bytes::new()).unwrap_err(),
        @"snapshot ends too early, at byte 0"
    );
}

/// Asserts that whatever decodes can be encoded again with the same meaning.
fn sound(bytes: &Bytes) {
    if let Ok((value, _)) = Snapshot::decode(bytes) {
        let again = value.encode().unwrap();
        assert_eq!(Snapshot::decode(&again.bytes).unwrap().0, value);
    }
}

#[test]
fn s5_future_format() {
    let mut bytes = snapshot().encode().unwrap().bytes.to_vec();
    bytes[4] = 9;
    // A flipped bit must not look like a newer format: the digest shows the damage.
    assert_eq!(
        Snapshot::decode(&bytes.clone().into()).unwrap_err(),
        FormatError::Corrupt { part: Part::Snapshot }
    );
    assert_eq!(
        Snapshot::decode(&signed(bytes.clone())).unwrap_err(),
        FormatError::UnsupportedVersion { part: Part::Snapshot, found: 9, supported: 1 }
    );
    bytes[4] = 0;
    assert!(matches!(Snapshot::decode(&signed(bytes)), Err(FormatError::Invalid { .. })));
}

#[test]
fn s5_future_fields() {
    assert_eq!(snapshot().writer(), Some("ctxsync 0.1.0"));
    // The golden snapshot has an unknown field. If its tag were odd, readers would have to know it.
    let mut value = snapshot();
    value.extensions[1].0 |= 1;
    let mut bytes = encode::encode(&value).unwrap().bytes.to_vec();
    let at = bytes.len() - 40;
    bytes[at] ^= 0xff;
    insta::assert_snapshot!(
        Snapshot::decode(&signed(bytes)).unwrap_err(),
        @"snapshot has a field with the tag 1048577, which this program does not know: upgrade it"
    );
    assert!(matches!(value.encode(), Err(FormatError::UnknownField { tag: 1_048_577, .. })));
    value.extensions = vec![(2, Bytes::from_static(b"\xff"))];
    assert_eq!(value.writer(), None);
    value.extensions.clear();
    assert_eq!(Snapshot::decode(&value.encode().unwrap().bytes).unwrap().0.writer(), None);
}

#[test]
fn extensions_have_an_order_and_limits() {
    refused(|s| s.extensions.swap(0, 1), "extension 2 after 1048576, out of order");
    refused(|s| s.extensions[1].0 = 2, "extension 2 after 2, out of order");
    refused(|s| s.extensions[1].1 = vec![0; (64 << 10) - 12].into(), "a length of all extensions of 65537");
    let many =
        |count| move |s: &mut Snapshot| s.extensions = (0..count).map(|i| (2 * i, Bytes::new())).collect();
    refused(many(65), "a number of extensions of 65");
    let mut value = snapshot();
    many(64)(&mut value);
    value.extensions[63].1 = vec![0; 64 << 10].into();
    assert_eq!(Snapshot::decode(&value.encode().unwrap().bytes).unwrap().0, value);
}

#[test]
fn s6_paths_that_leave_the_tree() {
    let bytes = snapshot().encode().unwrap().bytes.to_vec();
    let at = bytes.windows(5).position(|w| w == b"tmp/a").unwrap();
    for bad in [b"../aa", b"/aaaa", b"a\0aaa", b"a//aa", b"a/./a"] {
        let mut bytes = bytes.clone();
        bytes[at..at + 5].copy_from_slice(bad);
        assert!(Snapshot::decode(&signed(bytes)).is_err(), "{bad:?}");
    }
    refused(|s| s.segments[0].first = path(""), "begins with the root");
}

#[test]
fn s7_duplicates_and_disorder() {
    refused(|s| s.segments[1].first = path("a"), "segment `a` after `a`, out of order");
    refused(|s| s.segments.swap(0, 2), "out of order");
    refused(|s| s.packs[1].id = s.packs[0].id, "is listed twice");
}

#[test]
fn s9_enormous_counts() {
    refused(|s| s.packs[0].size = 1 << 63, "a pack length of 9223372036854775808");
    refused(|s| s.packs[0].footer_len = 33_000_001, "a footer length");
    refused(|s| s.packs[0].footer_len = 47, "has a footer of 47 bytes");
    for i in 0..3 {
        let header = {
            let mut value = snapshot();
            (value.packs, value.segments, value.inline) = (vec![], vec![], Bytes::new());
            let bytes = encode::encode(&value).unwrap().bytes;
            bytes.slice(..bytes.len() - 35)
        };
        let mut w = Writer::new();
        w.bytes(&header);
        (0..i).for_each(|_| w.varint(0));
        w.varint(1 << 63);
        w.bytes(&[0; 200]);
        let error = Snapshot::decode(&signed(w.into_vec())).unwrap_err();
        assert!(matches!(error, FormatError::TooLarge { found, .. } if found == 1 << 63), "{error}");
    }
}

#[test]
fn s9_short_bytes_for_long_paths() {
    // Each path shares 16 KiB with the path before, so 40 bytes would unpack to 16,000.
    let long = "a".repeat(MAX_PATH_LEN - 4);
    let place = Place::Pack { pack: 0, offset: 0 };
    let mut value = snapshot();
    value.segments = (0..4_200).map(|i| segment(&format!("{long}{:04x}", i), place, vec![])).collect();
    assert!(matches!(value.encode(), Err(FormatError::TooLarge { .. })));
    let bytes = encode::encode(&value).unwrap().bytes;
    assert!(bytes.len() < 1 << 19);
    assert!(matches!(Snapshot::decode(&bytes), Err(FormatError::TooLarge { .. })));
}

#[test]
fn s10_places_that_do_not_exist() {
    let place = |place| move |s: &mut Snapshot| s.segments[3].place = place;
    refused(place(Place::Inline { offset: 6 }), "does not fit in 10");
    refused(place(Place::Inline { offset: u32::MAX }), "does not fit in 10");
    refused(place(Place::Pack { pack: 3, offset: 0 }), "lies in pack 3 of 3");
    refused(place(Place::Pack { pack: 0, offset: 32_959_996 }), "does not fit in 32960000");
    refused(|s| s.segments[0].packs[1].0 = 3, "uses pack 3 of 3");
    refused(|s| s.segments[0].entries = 0, "has 0 entries");
    refused(|s| s.segments[0].len = 0, "has 0 bytes");
    refused(|s| s.inline = vec![0; MAX_INLINE + 1].into(), "a length of embedded segments");
    refused(|s| s.session = "x".repeat(257), "a session length of 257");
    refused(|s| s.created.nanos = 1_000_000_000, "nanoseconds");
}

#[test]
fn stays_small() {
    let mut value = snapshot();
    let size = |value: &Snapshot| value.encode().unwrap().bytes.len();
    let (packs, segments) = (300usize, 2000usize);
    value.packs = (0..packs as u128)
        .map(|i| PackUse { id: PackId((i << 64).to_be_bytes()), ..pack(0, Some(1_700_000_000 + i as i64)) })
        .collect();
    value.segments.clear();
    let base = size(&value);
    value.segments = (0..segments)
        .map(|i| {
            let place = Place::Pack { pack: (i / 400) as u32, offset: (i % 400 * 50_000) as u32 };
            let packs = (0..3).map(|k| ((i * packs / segments + k) as u32 % 300, 900_000)).collect();
            let first = path(&format!("project/src/dir{:03}/module_{:03}.rs", i / 20, i % 20 * 7));
            SegmentRef { first, entries: 1024, digest: Digest([3; 32]), len: 50_000, place, packs }
        })
        .collect();
    let each = (size(&value) - base) / segments;
    assert!(each <= 75, "{each} bytes a segment");
    let full = size(&value);
    value.segments.iter_mut().for_each(|s| s.packs.iter_mut().for_each(|p| p.0 %= 2));
    value.segments.iter_mut().for_each(|s| s.place = Place::Pack { pack: 0, offset: 0 });
    value.packs.truncate(2);
    assert!((full - size(&value)) / packs <= 33, "{} bytes a pack", (full - size(&value)) / packs);
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let head = (any::<u64>(), any::<[u8; 32]>(), any::<bool>(), any::<bool>(), 0..3u8, "[a-z/]{0,9}");
    let packs = proptest::collection::vec(
        (any::<[u8; 16]>(), 48..100u32, 0..100_000u64, any::<u64>(), any::<Option<i64>>()),
        1..6,
    );
    let segments = proptest::collection::btree_map(
        "[a-c]{1,3}(/[a-c]{1,2}){0,2}",
        (1..=4096u32, any::<[u8; 32]>(), 1..50u32, any::<u32>(), any::<u32>()),
        0..12,
    );
    let values = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let extensions = proptest::collection::btree_map((0..=u64::MAX / 2).prop_map(|t| 2 * t), values, 0..4);
    (head, packs, segments, any::<[u64; 7]>(), any::<i64>(), extensions).prop_map(
        |(head, packs, segments, sums, secs, extensions)| {
            let (number, parent, has_parent, partial, kind, session) = head;
            let mut ids = HashSet::new();
            let packs: Vec<_> = packs
                .into_iter()
                .filter(|p| ids.insert(p.0))
                .map(|(id, footer_len, data, live, land_by)| PackUse {
                    id: PackId(id),
                    size: data + 60 + u64::from(footer_len),
                    footer_len,
                    live,
                    land_by,
                })
                .collect();
            let mut segments: Vec<_> = segments
                .into_iter()
                .map(|(first, (entries, digest, len, pack, live))| {
                    let pack = pack % (packs.len() as u32 + 1);
                    let place = match pack.checked_sub(1) {
                        None => Place::Inline { offset: live % 50 },
                        Some(pack) => Place::Pack {
                            pack,
                            offset: live
                                % (packs[pack as usize].size as u32 - packs[pack as usize].footer_len - 50),
                        },
                    };
                    let uses = (0..packs.len() as u32).map(|p| (p, u64::from(live) + 1)).collect();
                    SegmentRef {
                        first: path(&first),
                        entries,
                        digest: Digest(digest),
                        len,
                        place,
                        packs: uses,
                    }
                })
                .collect();
            segments.sort_by(|a, b| a.first.cmp(&b.first));
            let kind = match kind {
                0 => Kind::Normal,
                1 => Kind::Terminal { moved_to: None },
                _ => Kind::Terminal { moved_to: Some("x".parse().unwrap()) },
            };
            let [files, dirs, symlinks, bytes, added, changed, deleted] = sums;
            Snapshot {
                number,
                parent: has_parent.then_some(Digest(parent)),
                partial,
                kind,
                session,
                packs,
                segments,
                created: Timestamp { secs, nanos: 5 },
                totals: Totals { files, dirs, symlinks, bytes },
                changes: Changes { added, changed, deleted },
                inline: vec![1; 100].into(),
                extensions: extensions.into_iter().collect(),
                ..snapshot()
            }
        },
    )
}

proptest! {
    #[test]
    fn round_trips(value in any_snapshot()) {
        let encoded = value.encode().unwrap();
        prop_assert_eq!(Snapshot::decode(&encoded.bytes).unwrap(), (value, encoded.digest));
    }

    #[test]
    fn mutated_snapshots_are_sound(
        value in any_snapshot(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = value.encode().unwrap().bytes.to_vec();
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        sound(&signed(bytes));
    }

    #[test]
    fn no_bytes_make_it_panic(head in any::<bool>(), tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = if head { [b"CSsn\x01", &tail[..]].concat() } else { tail };
        sound(&bytes.clone().into());
        sound(&signed(bytes));
    }
}
