//! Encodes a snapshot.

use super::super::error::{FormatError, Part, at_most};
use super::super::wire::Writer;
use super::{
    EncodedSnapshot, Kind, MAGIC, MAX_SNAPSHOT_LEN, PackUse, Place, SegmentRef, Snapshot, VERSION, end_of,
    flag, identity,
};

/// Encodes a snapshot that was already checked.
pub(super) fn encode(snapshot: &Snapshot) -> Result<EncodedSnapshot, FormatError> {
    let mut w = Writer::with_capacity(
        1024 + snapshot.inline.len() + snapshot.packs.len() * 32 + snapshot.segments.len() * 80,
    );
    header(&mut w, snapshot);
    packs(&mut w, &snapshot.packs);
    segments(&mut w, &snapshot.segments);
    w.blob(&snapshot.inline);
    let digest = identity(w.as_slice());
    w.bytes(&digest.0);
    at_most(Part::Snapshot, "a length", w.len() as u64, MAX_SNAPSHOT_LEN as u64)?;
    Ok(EncodedSnapshot { bytes: w.into_vec().into(), digest })
}

fn header(w: &mut Writer, snapshot: &Snapshot) {
    w.bytes(&MAGIC);
    w.u8(VERSION);
    let mut flags = if snapshot.partial { flag::PARTIAL } else { 0 };
    if snapshot.parent.is_some() {
        flags |= flag::PARENT;
    }
    let moved_to = match &snapshot.kind {
        Kind::Normal => None,
        Kind::Terminal { moved_to } => {
            flags |= flag::TERMINAL;
            moved_to.as_ref()
        }
    };
    if moved_to.is_some() {
        flags |= flag::MOVED;
    }
    w.u8(flags);
    w.varint(snapshot.number);
    w.bytes(&snapshot.store_id.0);
    w.blob(snapshot.context.as_str().as_bytes());
    w.bytes(&snapshot.lineage.0);
    if let Some(parent) = &snapshot.parent {
        w.bytes(&parent.0);
    }
    if let Some(name) = moved_to {
        w.blob(name.as_str().as_bytes());
    }
    w.zigzag(snapshot.created.secs);
    w.u32(snapshot.created.nanos);
    w.blob(snapshot.session.as_bytes());
    w.bytes(&snapshot.nonce);
    w.bytes(&snapshot.policy.0);
    // 0 means for ever, so the number of days is stored plus one.
    w.varint(snapshot.recycle.lifecycle_days.map_or(0, |days| u64::from(days) + 1));
    w.varint(snapshot.recycle.paths.len() as u64);
    snapshot.recycle.paths.iter().for_each(|path| w.blob(path.as_bytes()));
    let (totals, changes) = (&snapshot.totals, &snapshot.changes);
    [totals.files, totals.dirs, totals.symlinks, totals.bytes].into_iter().for_each(|v| w.varint(v));
    [changes.added, changes.changed, changes.deleted].into_iter().for_each(|v| w.varint(v));
    w.varint(snapshot.extensions.len() as u64);
    for (tag, value) in &snapshot.extensions {
        w.varint(*tag);
        w.blob(value);
    }
}

fn packs(w: &mut Writer, packs: &[PackUse]) {
    w.varint(packs.len() as u64);
    let mut last = 0;
    for pack in packs {
        w.bytes(&pack.id.0);
        w.varint(pack.size);
        w.varint(u64::from(pack.footer_len) << 1 | u64::from(pack.land_by.is_some()));
        w.varint(pack.live);
        if let Some(land_by) = pack.land_by {
            w.zigzag(land_by.wrapping_sub(last));
            last = land_by;
        }
    }
}

fn segments(w: &mut Writer, segments: &[SegmentRef]) {
    w.varint(segments.len() as u64);
    let mut path: &[u8] = &[];
    let mut end = (None, 0);
    for segment in segments {
        let first = segment.first.as_bytes();
        let shared = path.iter().zip(first).take_while(|(x, y)| x == y).count();
        w.varint(shared as u64);
        w.blob(&first[shared..]);
        path = first;
        w.varint(u64::from(segment.entries));
        w.bytes(&segment.digest.0);
        w.varint(u64::from(segment.len));
        let (place, offset) = match segment.place {
            Place::Inline { offset } => (None, offset),
            Place::Pack { pack, offset } => (Some(pack), offset),
        };
        w.varint(place.map_or(0, |pack| u64::from(pack) + 1));
        let expected = if place == end.0 { end.1 } else { 0 };
        w.zigzag(i64::from(offset) - i64::from(expected));
        end = end_of(segment);
        w.varint(segment.packs.len() as u64);
        let mut last = 0;
        for (pack, live) in &segment.packs {
            w.zigzag(i64::from(*pack) - last);
            w.varint(*live);
            last = i64::from(*pack);
        }
    }
}
