//! Everything that listings show of each context, with requests by pages and not by contexts.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::pages::{Part, divide};
use super::{RawListing, note};
use crate::error::Error;
use crate::format::{ContextName, StoreKey, contexts_prefix, end_of_context};
use crate::store::{LIST_PAGE, Store};

/// How many parts are listed ahead. Each takes the memory of a page, or of the longest history in it.
const AHEAD: usize = 4;

/// A context with what a listing shows of it.
pub(crate) type ListedContext = (ContextName, RawListing);

impl Store {
    /// Lists all contexts in the order of their keys, in parts. Known contexts, each with the number of its keys, say how
    /// to divide the listing; they need not be complete. The store must list in order.
    ///
    /// # Errors
    /// [`Error::BadListing`] if a listing is not in order.
    pub(crate) fn raw_listings(
        &self,
        known: impl Iterator<Item = (ContextName, u64)>,
    ) -> BoxStream<'_, Result<ListedContext, Error>> {
        let known = known.map(|(name, keys)| (end_of_context(&name), keys)).collect();
        // No name begins with a lower character. The listing is another request than one from the start, so that a
        // cache has no answer to it.
        let start = contexts_prefix().join("-");
        let parts = stream::iter(divide(known, start)).map(|part| self.raw_part(part)).buffered(AHEAD);
        parts.map_ok(|found| stream::iter(found.into_iter().map(Ok))).try_flatten().boxed()
    }

    async fn raw_part(&self, Part { mut after, until }: Part) -> Result<Vec<ListedContext>, Error> {
        let mut found: Vec<ListedContext> = Vec::new();
        loop {
            let page = self.keys_after(after.as_ref()).await?;
            let is_full = page.len() == LIST_PAGE;
            for meta in page {
                if let Some(after) = after.as_ref().filter(|after| **after >= meta.location) {
                    return Err(self.unordered(after, &meta.location));
                }
                if until.as_ref().is_some_and(|until| meta.location > *until) {
                    return Ok(found);
                }
                if let Some(key) = StoreKey::parse(&meta.location)
                    && let Some(context) = key.context()
                {
                    if found.last().is_none_or(|(last, _)| last != context) {
                        found.push((context.clone(), RawListing::default()));
                    }
                    if let Some((_, listing)) = found.last_mut() {
                        note(listing, key, &meta);
                    }
                }
                after = Some(meta.location);
            }
            if !is_full {
                return Ok(found);
            }
        }
    }

    fn unordered(&self, before: &Path, after: &Path) -> Error {
        let what = format!("{after} comes after {before}");
        Error::BadListing { location: self.location().to_owned(), what }
    }
}
