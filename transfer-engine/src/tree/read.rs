//! Reading the segments of a snapshot.

use std::ops::Range;

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use policy_core::TreePath;

use crate::error::Error;
use crate::format::{PackId, Place, SegmentRef, Snapshot, StoreKey, TreeEntry, decode_segment};
use crate::state::Cache;
use crate::store::Store;

/// Segments that lie together are fetched together, up to this many bytes.
const MAX_FETCH: u64 = 4 << 20;
/// Fetches under way at once.
const AHEAD: usize = 4;

/// The tree of one snapshot.
#[derive(Clone)]
pub(crate) struct Tree<'a> {
    pub(crate) store: &'a Store,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) cache: Option<&'a Cache>,
}

/// Segments that one request brings, or that need none.
struct Fetch {
    segments: Range<usize>,
    from: From,
}

enum From {
    Here,
    Pack { id: PackId, start: u64, end: u64 },
}

impl<'a> Tree<'a> {
    /// Returns the indexes of the segments that may hold `path` or something below it.
    pub(crate) fn segments_within(&self, path: &TreePath) -> Range<usize> {
        let segments = &self.snapshot.segments;
        let start = segments.partition_point(|s| s.first <= *path).saturating_sub(1);
        let end = segments.partition_point(|s| s.first <= *path || s.first.is_below(path));
        start..end
    }

    /// Reads segments, in ascending order, ahead of who takes them.
    pub(crate) fn segments<I: IntoIterator<Item = usize>>(
        &self,
        indexes: I,
    ) -> impl Stream<Item = Result<(usize, Vec<TreeEntry>), Error>> + Send + use<'a, I> {
        let tree = self.clone();
        let fetches = self.fetches(indexes);
        futures::stream::iter(fetches)
            .map(move |fetch| {
                let tree = tree.clone();
                async move { tree.fetch(fetch).await }.boxed()
            })
            .buffered(AHEAD)
            .map_ok(|segments| futures::stream::iter(segments.into_iter().map(Ok)))
            .try_flatten()
    }

    /// Reads one segment.
    pub(crate) async fn segment(&self, index: usize) -> Result<Vec<TreeEntry>, Error> {
        let mut segments = std::pin::pin!(self.segments(index..index + 1));
        match segments.next().await {
            Some(segment) => Ok(segment?.1),
            None => Ok(Vec::new()),
        }
    }

    fn fetches(&self, indexes: impl IntoIterator<Item = usize>) -> Vec<Fetch> {
        let mut fetches: Vec<Fetch> = Vec::new();
        for index in indexes {
            let segment = &self.snapshot.segments[index];
            let Some((id, start)) = self.in_pack(segment) else {
                fetches.push(Fetch { segments: index..index + 1, from: From::Here });
                continue;
            };
            if self.cache.is_some_and(|c| c.holds(&segment.digest)) {
                fetches.push(Fetch { segments: index..index + 1, from: From::Here });
                continue;
            }
            let end = start + u64::from(segment.len);
            if let Some(Fetch { segments, from: From::Pack { id: last, start: first, end: until } }) =
                fetches.last_mut()
                && *last == id
                && segments.end == index
                && *until == start
                && end - *first <= MAX_FETCH
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
                // An index out of bounds does not pass the snapshot's own check.
                Some((self.snapshot.packs.get(pack as usize)?.id, u64::from(offset)))
            }
        }
    }

    async fn fetch(&self, fetch: Fetch) -> Result<Vec<(usize, Vec<TreeEntry>)>, Error> {
        let (id, start, end) = match fetch.from {
            From::Here => {
                let index = fetch.segments.start;
                let segment = &self.snapshot.segments[index];
                let bytes = match segment.place {
                    Place::Inline { .. } => self.snapshot.inline_segment(segment),
                    Place::Pack { .. } => self.cache.and_then(|c| c.get(&segment.digest)),
                };
                if let Some(bytes) = bytes
                    && let Ok(entries) = self.decode(index, bytes).await
                {
                    return Ok(vec![(index, entries)]);
                }
                // The cache lost it or holds something else: the store has it.
                match self.in_pack(segment) {
                    Some((id, start)) => (id, start, start + u64::from(segment.len)),
                    None => {
                        let key = StoreKey::Snapshot {
                            context: self.snapshot.context.clone(),
                            number: self.snapshot.number,
                        };
                        let what = format!("its embedded segment {index} is damaged");
                        return Err(Error::Corrupt { key: key.path().to_string(), what });
                    }
                }
            }
            From::Pack { id, start, end } => (id, start, end),
        };
        match self.fetch_from(id, start, end, fetch.segments.clone()).await {
            // A bit may have flipped on the way: once more.
            Err(Error::Format { source, .. }) if source.is_retryable() => {
                self.fetch_from(id, start, end, fetch.segments).await
            }
            other => other,
        }
    }

    async fn fetch_from(
        &self,
        id: PackId,
        start: u64,
        end: u64,
        segments: Range<usize>,
    ) -> Result<Vec<(usize, Vec<TreeEntry>)>, Error> {
        let bytes = self.store.get_range(id, start, end).await?;
        let mut decoded = Vec::with_capacity(segments.len());
        let mut at = 0;
        for index in segments {
            let segment = &self.snapshot.segments[index];
            let part = bytes.slice(at..at + segment.len as usize);
            at += segment.len as usize;
            let entries = self
                .decode(index, part.clone())
                .await
                .map_err(|source| Error::Format { key: StoreKey::Pack(id).path().to_string(), source })?;
            if let Some(cache) = self.cache {
                cache.put(&segment.digest, &part);
            }
            decoded.push((index, entries));
        }
        Ok(decoded)
    }

    async fn decode(&self, index: usize, bytes: Bytes) -> Result<Vec<TreeEntry>, crate::format::FormatError> {
        let digest = self.snapshot.segments[index].digest;
        let decoded = self.store.env().blocking(move || decode_segment(&bytes, digest)).await;
        let entries = decoded.unwrap_or_else(|lost| {
            Err(crate::format::FormatError::Invalid {
                part: crate::format::Part::Segment,
                offset: 0,
                what: lost.to_string(),
            })
        })?;
        // A segment that stands elsewhere than its snapshot says would hide or double paths.
        let segments = &self.snapshot.segments;
        let starts_right = entries.first().is_some_and(|e| e.path == segments[index].first);
        let ends_right = match (entries.last(), segments.get(index + 1)) {
            (Some(last), Some(next)) => last.path < next.first,
            _ => true,
        };
        if entries.len() == segments[index].entries as usize && starts_right && ends_right {
            Ok(entries)
        } else {
            Err(crate::format::FormatError::Invalid {
                part: crate::format::Part::Segment,
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
