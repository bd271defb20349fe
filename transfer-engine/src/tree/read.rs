//! Reads the segments of a snapshot.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use policy_core::TreePath;

use super::budget::{Budget, Room};
use crate::error::Error;
use crate::format::{
    FormatError, PackId, Part, Place, SegmentRef, Snapshot, StoreKey, TreeEntry, claimed_memory,
    decode_segment, memory_of,
};
use crate::state::Cache;
use crate::store::Store;

/// Adjacent segments are fetched together, up to this many bytes.
const MAX_FETCH: u64 = 4 << 20;
/// How many fetches run at once, and how many segments are unpacked at once.
const AHEAD: usize = 4;
/// How many bytes of segments may be fetched and not yet unpacked. A longer segment is fetched alone.
const FETCHED: u32 = AHEAD as u32 * MAX_FETCH as u32;
/// How much memory may be taken by segments that are being unpacked or wait to be consumed, in bytes. A
/// segment that claims more is unpacked alone.
const UNPACKED: u32 = 64 << 20;

/// The tree of one snapshot.
#[derive(Clone)]
pub(crate) struct Tree<'a> {
    pub(crate) store: &'a Store,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) cache: Option<&'a Cache>,
}

/// A tree that borrows nothing.
#[derive(Clone)]
pub(crate) struct OwnTree {
    pub(crate) store: Store,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) cache: Cache,
}

/// The tree from which a stream of segments is read.
trait Source: Clone + Send + Sync {
    fn tree(&self) -> Tree<'_>;
}

impl Source for Tree<'_> {
    fn tree(&self) -> Tree<'_> {
        self.clone()
    }
}

impl Source for OwnTree {
    fn tree(&self) -> Tree<'_> {
        Tree { store: &self.store, snapshot: &self.snapshot, cache: Some(&self.cache) }
    }
}

/// Segments that are fetched with one request, or without any.
struct Fetch {
    segments: Range<usize>,
    from: From,
}

enum From {
    /// From the snapshot or the cache, with their length in bytes.
    Here {
        len: u32,
    },
    Pack {
        id: PackId,
        start: u64,
        end: u64,
    },
}

impl From {
    /// Returns the number of bytes to read, apart from the snapshot.
    fn len(&self) -> u64 {
        match self {
            From::Here { len } => u64::from(*len),
            From::Pack { start, end, .. } => end - start,
        }
    }
}

/// A segment as stored.
struct Found {
    index: usize,
    bytes: Bytes,
    /// Whether it was in the cache, which may have wrong bytes.
    cached: bool,
    /// Shared by all segments of one request.
    room: Arc<Room>,
}

impl OwnTree {
    /// Reads segments in ascending order, ahead of the caller. The first reads are small, so that the caller
    /// can start soon.
    pub(crate) fn segments(
        self,
        indexes: Vec<usize>,
    ) -> impl Stream<Item = Result<(usize, Vec<TreeEntry>), Error>> + Send + use<> {
        let fetches = self.tree().fetches(indexes, 2);
        read(self, fetches)
    }
}

/// Reads segments in order. The memory in use is limited, whatever size they claim to unpack to.
fn read<'s, S: Source + 's>(
    source: S,
    fetches: Vec<Fetch>,
) -> impl Stream<Item = Result<(usize, Vec<TreeEntry>), Error>> + Send + use<'s, S> {
    let (fetched, unpacked) = (Budget::new(FETCHED), Budget::new(UNPACKED));
    let (fetching, unpacking) = (source.clone(), source);
    futures::stream::iter(fetches)
        .then(move |fetch| {
            let fetched = fetched.clone();
            async move {
                let room = fetched.room(fetch.from.len()).await;
                (fetch, room)
            }
        })
        .map(move |(fetch, room)| {
            let source = fetching.clone();
            async move { source.tree().fetch(fetch, Arc::new(room)).await }.boxed()
        })
        .buffered(AHEAD)
        .map_ok(|found| futures::stream::iter(found.into_iter().map(Ok::<_, Error>)))
        .try_flatten()
        .and_then(move |found| {
            let unpacked = unpacked.clone();
            async move {
                let room = unpacked.room(claimed_memory(&found.bytes)).await;
                Ok((found, room))
            }
        })
        .map(move |next| {
            let source = unpacking.clone();
            async move {
                let (found, mut room) = next?;
                let index = found.index;
                let entries = source.tree().unpack(found).await?;
                room.shrink_to(memory_of(&entries));
                Ok((index, entries, room))
            }
            .boxed()
        })
        .buffered(AHEAD)
        .map_ok(|(index, entries, _room)| (index, entries))
}

impl<'a> Tree<'a> {
    /// Returns the indexes of the segments that may have `path` or something below it.
    pub(crate) fn segments_within(&self, path: &TreePath) -> Range<usize> {
        let segments = &self.snapshot.segments;
        let start = segments.partition_point(|s| s.first <= *path).saturating_sub(1);
        let end = segments.partition_point(|s| s.first <= *path || s.first.is_below(path));
        start..end
    }

    /// Reads segments in ascending order, ahead of the caller.
    pub(crate) fn segments<I: IntoIterator<Item = usize>>(
        &self,
        indexes: I,
    ) -> impl Stream<Item = Result<(usize, Vec<TreeEntry>), Error>> + Send + use<'a, I> {
        read(self.clone(), self.fetches(indexes, usize::MAX))
    }

    /// Reads one segment.
    pub(crate) async fn segment(&self, index: usize) -> Result<Vec<TreeEntry>, Error> {
        let mut segments = std::pin::pin!(self.segments(index..index + 1));
        match segments.next().await {
            Some(segment) => Ok(segment?.1),
            None => Ok(Vec::new()),
        }
    }

    /// Groups segments into requests; the first request is for at most `first` bytes.
    fn fetches(&self, indexes: impl IntoIterator<Item = usize>, first: usize) -> Vec<Fetch> {
        let mut fetches: Vec<Fetch> = Vec::new();
        for index in indexes {
            let segment = &self.snapshot.segments[index];
            let here = From::Here { len: segment.len };
            let Some((id, start)) = self.in_pack(segment) else {
                fetches.push(Fetch { segments: index..index + 1, from: here });
                continue;
            };
            let most = if fetches.len() == 1 { first } else { usize::MAX };
            if self.cache.is_some_and(|c| c.holds(&segment.digest)) {
                fetches.push(Fetch { segments: index..index + 1, from: here });
                continue;
            }
            let end = start + u64::from(segment.len);
            if let Some(Fetch { segments, from: From::Pack { id: last, start: begin, end: until } }) =
                fetches.last_mut()
                && *last == id
                && segments.end == index
                && *until == start
                && end - *begin <= MAX_FETCH
                && segments.len() < most
            {
                segments.end = index + 1;
                *until = end;
                continue;
            }
            fetches.push(Fetch { segments: index..index + 1, from: From::Pack { id, start, end } });
        }
        fetches
    }

    fn in_pack(&self, segment: &SegmentRef) -> Option<(PackId, u64)> {
        match segment.place {
            Place::Inline { .. } => None,
            Place::Pack { pack, offset } => {
                // The snapshot was checked, so the index is valid.
                Some((self.snapshot.packs.get(pack as usize)?.id, u64::from(offset)))
            }
        }
    }

    async fn fetch(&self, fetch: Fetch, room: Arc<Room>) -> Result<Vec<Found>, Error> {
        let Fetch { segments, from } = fetch;
        let (id, start, end) = match from {
            From::Pack { id, start, end } => (id, start, end),
            From::Here { .. } => {
                let index = segments.start;
                let segment = &self.snapshot.segments[index];
                let Some((id, start)) = self.in_pack(segment) else {
                    let bytes = self.snapshot.inline_segment(segment).unwrap_or_default();
                    return Ok(vec![Found { index, bytes, cached: false, room }]);
                };
                if let Some(bytes) = self.cache.and_then(|c| c.get(&segment.digest)) {
                    return Ok(vec![Found { index, bytes, cached: true, room }]);
                }
                // The cache has lost it, but the store has it.
                (id, start, start + u64::from(segment.len))
            }
        };
        let bytes = self.store.get_range(id, start, end).await?;
        let mut at = 0;
        let part = |index: usize| {
            let from = at;
            at += self.snapshot.segments[index].len as usize;
            Found { index, bytes: bytes.slice(from..at), cached: false, room: Arc::clone(&room) }
        };
        Ok(segments.map(part).collect())
    }

    async fn unpack(&self, found: Found) -> Result<Vec<TreeEntry>, Error> {
        let Found { index, mut bytes, mut cached, room: _room } = found;
        let segment = &self.snapshot.segments[index];
        let Some((id, start)) = self.in_pack(segment) else {
            let decoded = self.decode(index, bytes).await;
            return decoded.map_err(|_| {
                let (context, number) = (self.snapshot.context.clone(), self.snapshot.number);
                let key = StoreKey::Snapshot { context, number };
                let what = format!("its embedded segment {index} is damaged");
                Error::Corrupt { key: key.path().to_string(), what }
            });
        };
        let mut again = true;
        loop {
            match self.decode(index, bytes.clone()).await {
                Ok(entries) => {
                    if let Some(cache) = self.cache.filter(|_| !cached) {
                        cache.put(&segment.digest, &bytes);
                    }
                    return Ok(entries);
                }
                // The cache has the wrong bytes, but the store has the right ones.
                Err(_) if cached => cached = false,
                // A bit may have been flipped on the way, so try again.
                Err(source) if again && source.is_retryable() => {
                    tracing::debug!(error = %source, "a part of a tree is damaged; it is fetched once more");
                    again = false;
                }
                Err(source) => {
                    return Err(Error::Format { key: StoreKey::Pack(id).path().to_string(), source });
                }
            }
            bytes = self.store.get_range(id, start, start + u64::from(segment.len)).await?;
        }
    }

    async fn decode(&self, index: usize, bytes: Bytes) -> Result<Vec<TreeEntry>, FormatError> {
        let digest = self.snapshot.segments[index].digest;
        let decoded = self.store.env().blocking(move || decode_segment(&bytes, digest)).await;
        let entries = decoded.unwrap_or_else(|lost| {
            Err(FormatError::Invalid { part: Part::Segment, offset: 0, what: lost.to_string() })
        })?;
        // A segment that does not begin and end where the snapshot says would hide or duplicate paths.
        let segments = &self.snapshot.segments;
        let starts_right = entries.first().is_some_and(|e| e.path == segments[index].first);
        let ends_right = match (entries.last(), segments.get(index + 1)) {
            (Some(last), Some(next)) => last.path < next.first,
            _ => true,
        };
        if entries.len() == segments[index].entries as usize && starts_right && ends_right {
            Ok(entries)
        } else {
            Err(FormatError::Invalid {
                part: Part::Segment,
                offset: 0,
                what: "it is not the segment that its snapshot speaks of".to_owned(),
            })
        }
    }

    /// Returns the entry at a path.
    pub(crate) async fn find(&self, path: &TreePath) -> Result<Option<TreeEntry>, Error> {
        for index in self.segments_within(path) {
            if let Some(entry) = self.segment(index).await?.into_iter().find(|e| e.path == *path) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
