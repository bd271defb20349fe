//! Which snapshot is the head of each context, by listings alone: their requests are by pages, not by contexts.
//!
//! Below each context the newest key comes first. So a listing of all contexts shows all heads, and what a page shows
//! of a context is enough: the next page begins behind the context with which the last one ended, however long the
//! history of that context is. Several parts of the listing are read at once.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::error::Error;
use crate::format::{ContextName, StoreKey, contexts_prefix, end_of_context};
use crate::store::{HeadKey, LIST_PAGE, Store};

/// How many pages are asked for at once.
const AT_ONCE: usize = 16;
/// About how many keys a part of the listing has. A page has somewhat more, for what is new.
const PART: u64 = 900;

/// The newest key of each context.
pub(crate) type HeadKeys = BTreeMap<ContextName, HeadKey>;

/// A part of the listing: the keys after one key, up to another one.
pub(super) struct Part {
    pub(super) after: Option<Path>,
    pub(super) until: Option<Path>,
}

/// The keys of one page, and what they say.
#[derive(Default)]
pub(super) struct Page {
    heads: HeadKeys,
    /// After which key the listing goes on, if it does.
    next: Option<Path>,
    /// Whether a key was not after the one before: then nothing follows from where a key is.
    is_unordered: bool,
}

impl Page {
    /// Notes the keys up to `until`.
    fn of(listed: Vec<ObjectMeta>, after: Option<&Path>, until: Option<&Path>) -> Self {
        let (mut page, is_full) = (Self::default(), listed.len() == LIST_PAGE);
        let (mut before, mut last_context) = (after.cloned(), None);
        for meta in listed {
            page.is_unordered |= before.as_ref().is_some_and(|before| *before >= meta.location);
            if until.is_some_and(|until| meta.location > *until) {
                return page;
            }
            let key = StoreKey::parse(&meta.location);
            if let Some(StoreKey::Snapshot { context, number }) = &key {
                note(&mut page.heads, context.clone(), HeadKey::new(*number, &meta));
            }
            last_context = key.and_then(|key| key.context().cloned());
            before = Some(meta.location);
        }
        // What else there is of a context whose head is known is passed over.
        let known = last_context.filter(|context| page.heads.contains_key(context));
        page.next = if is_full { known.as_ref().map(end_of_context).or(before) } else { None };
        page
    }
}

/// Notes a key if it is the newest of its context.
fn note(heads: &mut HeadKeys, context: ContextName, key: HeadKey) {
    match heads.get_mut(&context) {
        Some(known) if known.number >= key.number => {}
        Some(known) => *known = key,
        None => drop(heads.insert(context, key)),
    }
}

impl Store {
    /// Returns the first page of the listing of all contexts.
    pub(super) async fn first_page(&self) -> Result<Page, Error> {
        let mut page = self.page(None, None).await?;
        // If this is all, the order does not matter.
        page.is_unordered &= page.next.is_some();
        Ok(page)
    }

    /// Returns the newest key of each context. The known contexts, with their numbers, say how to divide the listing;
    /// they need not be complete.
    pub(super) async fn head_keys(
        &self,
        first: Page,
        known: impl Iterator<Item = (ContextName, u64)>,
    ) -> Result<HeadKeys, Error> {
        let Page { mut heads, next, is_unordered } = first;
        if is_unordered {
            return self.all_head_keys().await;
        }
        let Some(next) = next else { return Ok(heads) };
        let mut known: Vec<(Path, u64)> =
            known.map(|(name, keys)| (end_of_context(&name), keys.min(PART))).collect();
        if known.is_empty() {
            // They have about as many keys as those on the first page.
            let keys = (LIST_PAGE / heads.len().max(1)) as u64;
            known = self.names().await?.iter().map(|name| (end_of_context(name), keys)).collect();
        }
        let mut parts =
            stream::iter(divide(known, next)).map(|part| self.part(part)).buffer_unordered(AT_ONCE);
        while let Some(found) = parts.try_next().await? {
            let Some(found) = found else { return self.all_head_keys().await };
            found.into_iter().for_each(|(context, key)| note(&mut heads, context, key));
        }
        Ok(heads)
    }

    /// Returns the newest key of each context, with no hint how to divide the listing.
    pub(crate) async fn newest_keys(&self) -> Result<HeadKeys, Error> {
        // In a directory, a look at each context costs less than a listing of all.
        if self.place().is_some() {
            return stream::iter(self.names().await?)
                .map(|name| async move { Ok((self.find_head_key(&name).await?, name)) })
                .buffer_unordered(AT_ONCE)
                .try_filter_map(|(key, name)| async move { Ok(key.map(|key| (name, key))) })
                .try_collect()
                .await;
        }
        self.head_keys(self.first_page().await?, std::iter::empty()).await
    }

    /// Lists a part; `None` if the store does not list in order.
    async fn part(&self, Part { mut after, until }: Part) -> Result<Option<HeadKeys>, Error> {
        let mut heads = HeadKeys::new();
        loop {
            let mut page = self.page(after.as_ref(), until.as_ref()).await?;
            if page.is_unordered {
                return Ok(None);
            }
            heads.append(&mut page.heads);
            if page.next.is_none() {
                return Ok(Some(heads));
            }
            after = page.next;
        }
    }

    async fn page(&self, after: Option<&Path>, until: Option<&Path>) -> Result<Page, Error> {
        Ok(Page::of(self.keys_after(after).await?, after, until))
    }

    /// Lists a page of keys.
    pub(super) async fn keys_after(&self, after: Option<&Path>) -> Result<Vec<ObjectMeta>, Error> {
        let prefix = contexts_prefix();
        let listed = match after {
            None => self.list_all(&prefix),
            Some(after) => self.objects().list_with_offset(Some(&prefix), after),
        };
        let listed: Result<Vec<ObjectMeta>, _> = listed.take(LIST_PAGE).try_collect().await;
        listed.map_err(|e| Error::store("list", &prefix, e))
    }

    /// Returns the newest key of each context, from one listing in any order.
    async fn all_head_keys(&self) -> Result<HeadKeys, Error> {
        let (prefix, mut heads) = (contexts_prefix(), HeadKeys::new());
        let mut listed = self.list_all(&prefix);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            if let Some(StoreKey::Snapshot { context, number }) = StoreKey::parse(&meta.location) {
                note(&mut heads, context, HeadKey::new(number, &meta));
            }
        }
        Ok(heads)
    }
}

/// Divides what comes after a key into parts with about as many keys as a page has. Each known context is given by a
/// key behind it and by the number of its keys.
pub(super) fn divide(mut known: Vec<(Path, u64)>, after: Path) -> Vec<Part> {
    known.retain(|(end, _)| *end > after);
    known.sort_unstable();
    let (mut parts, mut from, mut keys) = (Vec::new(), after, 0);
    for (end, more) in known {
        keys += more;
        if keys >= PART {
            parts.push(Part { after: Some(from), until: Some(end.clone()) });
            (from, keys) = (end, 0);
        }
    }
    parts.push(Part { after: Some(from), until: None });
    parts
}
