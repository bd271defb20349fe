//! Layers: stores that wrap another store, each with one purpose.
//!
//! ```text
//! caller -> Recording -> Faulty -> Latency -> Bandwidth -> any store
//! ```
//! They can be combined in any order; an outer layer sees the results of the inner one. Requests are counted
//! as an S3 server would see them: one per 1000 keys of a listing, one per 1000 keys of a deletion, and one
//! for ranges that are less than a MiB apart.

use std::fmt;
use std::ops::Range;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::{OBJECT_STORE_COALESCE_DEFAULT, Result};

mod bandwidth;
mod counts;
mod fault;
mod faulty;
mod latency;
mod plan;
mod recording;
mod rule;
mod spoil;

pub use bandwidth::Bandwidth;
pub use counts::{Counts, Outcome, Request};
pub use fault::{Fault, InjectedFault};
pub use faulty::Faulty;
pub use latency::Latency;
pub use plan::Injection;
pub use recording::Recording;
pub use rule::Rule;

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Stores an object, conditionally or not.
    Put,
    /// Reads an object or a range of it.
    Get,
    /// Asks for an object's size and time.
    Head,
    /// Reads a page of a listing.
    List,
    /// Removes one or many objects.
    Delete,
    /// Copies an object inside the store.
    Copy,
    /// Renames an object, which most stores do by a copy and a deletion.
    Rename,
    /// Begins an upload in parts.
    StartUpload,
    /// Sends a part.
    Part,
    /// Makes an object of the parts sent.
    CompleteUpload,
    /// Aborts an upload in parts.
    AbortUpload,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Rename => "rename",
            Self::StartUpload => "start upload",
            Self::Part => "part",
            Self::CompleteUpload => "complete upload",
            Self::AbortUpload => "abort upload",
        })
    }
}

/// How many keys an S3 server puts on one page of a listing, or takes in one deletion.
pub(crate) const PAGE: usize = 1000;

/// Whether the item with this index, from 0, is the first of a page other than the first page.
pub(crate) fn starts_page(index: usize) -> bool {
    index > 0 && index.is_multiple_of(PAGE)
}

/// Returns how many pages hold this many items; no items also take one page.
pub(crate) fn pages(items: usize) -> usize {
    items.div_ceil(PAGE).max(1)
}

/// Returns the ranges that are actually requested, in order: ranges that are close together become one.
pub(crate) fn coalesced(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start.saturating_sub(last.end) <= OBJECT_STORE_COALESCE_DEFAULT => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Runs `begin` when the stream is first polled, and never if it is not polled.
pub(crate) fn lazily<T: Send + 'static>(
    begin: impl Future<Output = BoxStream<'static, Result<T>>> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    stream::once(begin).flatten().boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_ranges_are_one_request() {
        let mib = OBJECT_STORE_COALESCE_DEFAULT;
        assert_eq!(coalesced(&[]), []);
        let near = 0..20;
        assert_eq!(coalesced(&[10..20, 0..5]), [near]);
        assert_eq!(coalesced(&[0..5, 6 + mib..7 + mib]), [0..5, 6 + mib..7 + mib]);
        let all = 0..7 + mib;
        assert_eq!(coalesced(&[0..5, 5 + mib..7 + mib, 1..3]), [all]);
    }

    #[test]
    fn pages_are_counted_as_s3_does() {
        assert_eq!([0, 1, 1000, 1001, 2000].map(pages), [1, 1, 1, 2, 2]);
    }
}
