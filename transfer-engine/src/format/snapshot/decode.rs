//! Decodes a snapshot: as a whole or not at all.

use bytes::Bytes;
use policy_core::{Digest, Timestamp, TreePath};

use super::super::error::{FormatError, Part, at_most, check_version};
use super::super::wire::Reader;
use super::super::{ContextName, LineageId, MAX_FOOTER_LEN, PackId, StoreId};
use super::{
    Changes, Kind, MAGIC, MAX_EXTENSIONS, MAX_EXTENSIONS_LEN, MAX_FIRST_PATHS, MAX_INLINE, MAX_PATH_LEN,
    MAX_RULES, MAX_SEGMENT_ENTRIES, MAX_SEGMENT_LEN, MAX_SESSION_LEN, MAX_SNAPSHOT_LEN, PackUse, Place,
    RecycleRules, SegmentRef, Snapshot, Totals, VERSION, check_extensions, end_of, flag, identity,
};

/// Decodes the bytes. The caller checks that the values are consistent.
pub(super) fn decode(bytes: &Bytes) -> Result<(Snapshot, Digest), FormatError> {
    at_most(Part::Snapshot, "a length", bytes.len() as u64, MAX_SNAPSHOT_LEN as u64)?;
    let mut r = Reader::new(Part::Snapshot, bytes);
    if r.array()? != MAGIC {
        return Err(r.invalid("no snapshot begins like this"));
    }
    let version = r.u8()?;
    let Some(end) = r.remaining().checked_sub(32) else {
        return Err(FormatError::Truncated { part: Part::Snapshot, offset: bytes.len() as u64 });
    };
    let body_len = bytes.len() - 32;
    let digest = Digest(Reader::new(Part::Snapshot, &bytes[body_len..]).array()?);
    if identity(&bytes[..body_len]) != digest {
        return Err(FormatError::Corrupt { part: Part::Snapshot });
    }
    check_version(Part::Snapshot, version.into(), VERSION.into())?;
    let mut r = Reader::at(Part::Snapshot, r.take(end)?, 5);
    let mut snapshot = header(&mut r)?;
    snapshot.packs = packs(&mut r)?;
    snapshot.segments = segments(&mut r)?;
    let inline = r.blob("a length of embedded segments", MAX_INLINE)?;
    snapshot.inline = bytes.slice_ref(inline);
    r.finish()?;
    Ok((snapshot, digest))
}

fn header(r: &mut Reader<'_>) -> Result<Snapshot, FormatError> {
    let flags = r.u8()?;
    if flags & !flag::ALL != 0 || flags & (flag::TERMINAL | flag::MOVED) == flag::MOVED {
        return Err(r.invalid(format!("the flags {flags:#x}")));
    }
    let number = r.varint()?;
    let store_id = StoreId(r.array()?);
    let context = name(r)?;
    let lineage = LineageId(r.array()?);
    let parent = if flags & flag::PARENT != 0 { Some(Digest(r.array()?)) } else { None };
    let moved_to = if flags & flag::MOVED != 0 { Some(name(r)?) } else { None };
    let kind = if flags & flag::TERMINAL != 0 { Kind::Terminal { moved_to } } else { Kind::Normal };
    let created = Timestamp { secs: r.zigzag()?, nanos: r.u32()? };
    let session = r.blob("a session length", MAX_SESSION_LEN)?;
    let session = str::from_utf8(session).map_err(|_| r.invalid("a session that is not UTF-8"))?.to_owned();
    let nonce = r.array()?;
    let policy = Digest(r.array()?);
    let recycle = recycle(r)?;
    let totals = Totals { files: r.varint()?, dirs: r.varint()?, symlinks: r.varint()?, bytes: r.varint()? };
    let changes = Changes { added: r.varint()?, changed: r.varint()?, deleted: r.varint()? };
    let extensions = extensions(r)?;
    Ok(Snapshot {
        number,
        store_id,
        context,
        lineage,
        parent,
        kind,
        created,
        session,
        nonce,
        policy,
        recycle,
        totals,
        changes,
        partial: flags & flag::PARTIAL != 0,
        extensions,
        packs: Vec::new(),
        segments: Vec::new(),
        inline: Bytes::new(),
    })
}

fn name(r: &mut Reader<'_>) -> Result<ContextName, FormatError> {
    let name = r.blob("a name length", 128)?;
    let name = str::from_utf8(name).map_err(|_| r.invalid("a name that is not UTF-8"))?;
    ContextName::new(name).map_err(|e| r.invalid(e.to_string()))
}

fn path(r: &mut Reader<'_>) -> Result<TreePath, FormatError> {
    let path = r.blob("a path length", MAX_PATH_LEN)?;
    TreePath::new(path).map_err(|e| r.invalid(e.to_string()))
}

fn recycle(r: &mut Reader<'_>) -> Result<RecycleRules, FormatError> {
    let days = r.varint_max("a lifecycle", u64::from(u16::MAX) + 1)?;
    let lifecycle_days = days.checked_sub(1).map(|days| days as u16);
    let count = r.count("a number of recycle rules", 1)?;
    at_most(Part::Snapshot, "a number of recycle rules", count as u64, MAX_RULES as u64)?;
    let paths = (0..count).map(|_| path(r)).collect::<Result<_, _>>()?;
    Ok(RecycleRules { lifecycle_days, paths })
}

fn extensions(r: &mut Reader<'_>) -> Result<Vec<(u64, Bytes)>, FormatError> {
    let count = r.count("a number of extensions", 2)?;
    at_most(Part::Snapshot, "a number of extensions", count as u64, MAX_EXTENSIONS as u64)?;
    let field = |_| {
        let tag = r.varint()?;
        Ok((tag, Bytes::copy_from_slice(r.blob("an extension length", MAX_EXTENSIONS_LEN)?)))
    };
    let extensions: Vec<_> = (0..count).map(field).collect::<Result<_, FormatError>>()?;
    // The check comes first, because an unknown extension that readers must know may change the meaning of
    // the rest.
    check_extensions(&extensions)?;
    Ok(extensions)
}

fn packs(r: &mut Reader<'_>) -> Result<Vec<PackUse>, FormatError> {
    let count = r.count("a number of packs", 19)?;
    let mut packs = Vec::with_capacity(count);
    let mut last = 0i64;
    for _ in 0..count {
        let id = PackId(r.array()?);
        let size = r.varint()?;
        let footer = r.varint_max("a footer length", u64::from(MAX_FOOTER_LEN) << 1 | 1)?;
        let live = r.varint()?;
        let land_by = if footer & 1 != 0 {
            last = last.wrapping_add(r.zigzag()?);
            Some(last)
        } else {
            None
        };
        packs.push(PackUse { id, size, footer_len: (footer >> 1) as u32, live, land_by });
    }
    Ok(packs)
}

fn segments(r: &mut Reader<'_>) -> Result<Vec<SegmentRef>, FormatError> {
    let count = r.count("a number of segments", 39)?;
    let mut segments = Vec::with_capacity(count);
    let mut path = Vec::new();
    let mut path_bytes = 0;
    let mut end = (None, 0u32);
    for _ in 0..count {
        let shared = r.varint_max("a shared path length", path.len() as u64)? as usize;
        path.truncate(shared);
        path.extend_from_slice(r.blob("a path length", MAX_PATH_LEN.saturating_sub(shared))?);
        path_bytes += path.len() as u64;
        at_most(Part::Snapshot, "a length of all first paths", path_bytes, MAX_FIRST_PATHS)?;
        let first = TreePath::new(path.as_slice()).map_err(|e| r.invalid(e.to_string()))?;
        let entries = r.varint32("a number of entries", MAX_SEGMENT_ENTRIES as u32)?;
        let digest = Digest(r.array()?);
        let len = r.varint32("a segment length", MAX_SEGMENT_LEN as u32)?;
        let pack = r.varint_max("a pack", u64::from(u32::MAX))?.checked_sub(1).map(|pack| pack as u32);
        let expected = if pack == end.0 { end.1 } else { 0 };
        let offset = i64::from(expected).checked_add(r.zigzag()?).and_then(|v| u32::try_from(v).ok());
        let Some(offset) = offset else {
            return Err(r.invalid("an offset that is no 32-bit number"));
        };
        let place = pack.map_or(Place::Inline { offset }, |pack| Place::Pack { pack, offset });
        let packs = segment_packs(r)?;
        let segment = SegmentRef { first, entries, digest, len, place, packs };
        end = end_of(&segment);
        segments.push(segment);
    }
    Ok(segments)
}

fn segment_packs(r: &mut Reader<'_>) -> Result<Vec<(u32, u64)>, FormatError> {
    let count = r.count("a number of packs", 2)?;
    let mut packs = Vec::with_capacity(count);
    let mut last = 0i64;
    for _ in 0..count {
        last = last.wrapping_add(r.zigzag()?);
        let Ok(pack) = u32::try_from(last) else {
            return Err(r.invalid(format!("a pack with the number {last}")));
        };
        packs.push((pack, r.varint()?));
    }
    Ok(packs)
}
