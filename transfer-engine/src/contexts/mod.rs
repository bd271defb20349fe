//! The contexts of a store: lists, creates and deletes them, and reads their history.

mod context;
mod heads;
mod history;
mod pages;
mod parts;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use crate::commit::{Attempts, written_here};
use crate::error::Error;
use crate::format::{
    ContextName, Kind, LineageId, Snapshot, StoreKey, context_prefix, contexts_prefix, parse_context_prefix,
};
use crate::store::{Head, HeadKey, Store};
use crate::tags::{Listed, ListedTag};

pub use context::Context;
pub(crate) use history::{DamagedSnapshot, History};
pub(crate) use parts::ListedContext;

impl Store {
    /// Returns all names that are or were in use, unsorted.
    pub(crate) async fn names(&self) -> Result<Vec<ContextName>, Error> {
        let prefix = contexts_prefix();
        let listed = self.objects().list_with_delimiter(Some(&prefix)).await;
        let listed = listed.map_err(|e| Error::store("list", &prefix, e))?;
        Ok(listed.common_prefixes.iter().filter_map(parse_context_prefix).collect())
    }

    /// Creates an empty context.
    ///
    /// # Errors
    /// [`Error::ContextExists`] if there is one with this name, even if another machine has just created it.
    pub async fn create_context(&self, name: &ContextName) -> Result<Arc<Snapshot>, Error> {
        match self.create_anew(name, true).await? {
            (head, true) => Ok(head.snapshot),
            (_, false) => Err(Error::ContextExists { name: name.clone() }),
        }
    }

    /// Creates a context if it is missing, and returns whether it was. A renamed context is not created again
    /// under its old name, because users of the old name have to learn of the new one.
    pub(crate) async fn create(&self, name: &ContextName) -> Result<(Head, bool), Error> {
        self.create_anew(name, false).await
    }

    async fn create_anew(&self, name: &ContextName, though_moved: bool) -> Result<(Head, bool), Error> {
        for _ in 0..10 {
            // Nothing is created if the store itself has vanished.
            let (head, meta) = tokio::try_join!(self.find_head(name), self.confirm())?;
            let last = match head {
                Some(head) => Some(self.head_after_move(name, head).await?),
                None => None,
            };
            let number = match &last {
                Some(head) if head.is_live() => return Ok((head.clone(), false)),
                Some(head) if head.moved_to().is_some() && !though_moved => {
                    return Err(self.missing(name, Some(head)));
                }
                // If the name was used before, the numbers continue, so that no number is ever used twice.
                Some(head) => head.key.number + 1,
                None => 1,
            };
            let snapshot = Snapshot {
                number,
                created: self.env().now(),
                nonce: self.random()?,
                extensions: written_here(),
                ..Snapshot::empty(meta.store_id, name.clone(), LineageId(self.random()?))
            };
            if let Some(head) = self.commit_bare(snapshot, last.as_ref().map(|head| &head.key)).await? {
                return Ok((head, true));
            }
        }
        Err(Error::Beaten { name: name.clone(), attempts: 10 })
    }

    /// Deletes a context: a terminal snapshot is committed, and the snapshots before it are marked as
    /// forgotten. The data stays until it is collected. A context whose head is damaged can be deleted as well.
    pub async fn delete_context(&self, name: &ContextName) -> Result<(), Error> {
        self.delete_life(name, None).await.map(drop)
    }

    /// Deletes a context if it still is the one of this lineage, and returns whether it was: another one may have its
    /// name by now.
    pub async fn delete_context_of(&self, name: &ContextName, lineage: LineageId) -> Result<bool, Error> {
        match self.delete_life(name, Some(lineage)).await {
            Err(Error::NoContext { .. } | Error::Moved { .. }) => Ok(false),
            deleted => deleted,
        }
    }

    async fn delete_life(&self, name: &ContextName, lineage: Option<LineageId>) -> Result<bool, Error> {
        self.meta().await?;
        let mut attempts = Attempts::new(self, name).at_most(10);
        loop {
            let (deletion, key) = self.deletion(name).await?;
            if lineage.is_some_and(|lineage| lineage != deletion.lineage) {
                return Ok(false);
            }
            let Some(last) = self.commit_bare(deletion, Some(&key)).await? else {
                attempts.beaten().await?;
                continue;
            };
            self.forget_tags(name, |number| number < last.key.number).await?;
            for (number, listed) in self.listing(name).await?.into_iter().rev() {
                if number < last.key.number && listed.gone.is_none() {
                    self.mark_gone(name, number).await?;
                }
            }
            return Ok(true);
        }
    }

    /// Makes the snapshot that deletes a context; returns it with the key of the one before.
    async fn deletion(&self, name: &ContextName) -> Result<(Snapshot, HeadKey), Error> {
        let kind = Kind::Terminal { moved_to: None };
        let error = match self.require_head(name).await {
            Ok(head) => return Ok((head.ended(kind, self)?, head.key)),
            Err(error @ Error::DamagedHead { .. }) if !error.is_of_later_format() => error,
            Err(error) => return Err(error),
        };
        let Some(key) = self.find_head_key(name).await? else { return Err(error) };
        let deletion = match self.newest_readable(name).await? {
            Some(last) => last.ended(kind, self)?,
            None => Snapshot {
                kind,
                created: self.env().now(),
                nonce: self.random()?,
                extensions: written_here(),
                ..Snapshot::empty(self.meta().await?.store_id, name.clone(), LineageId(self.random()?))
            },
        };
        // What the head is, and so the digest that would name it, is not known.
        Ok((Snapshot { number: key.number + 1, parent: None, ..deletion }, key))
    }

    /// Returns the numbers of all snapshots, newest first, and whether each is forgotten.
    pub(crate) async fn list_snapshots(&self, name: &ContextName) -> Result<Vec<(u64, bool)>, Error> {
        let listed = self.listing(name).await?;
        Ok(listed.into_iter().rev().map(|(number, listed)| (number, listed.is_gone())).collect())
    }

    /// Lists the snapshots of a context with this number or a higher one.
    pub(crate) fn snapshots_from<'a>(
        &'a self,
        name: &ContextName,
        lowest: u64,
    ) -> impl futures::Stream<Item = Result<HeadKey, Error>> + Send + 'a {
        let prefix = context_prefix(name);
        let in_order = self.is_listed_in_order();
        let keys = self.objects().list(Some(&prefix)).map(move |listed| match listed {
            Ok(meta) => Ok(match StoreKey::parse(&meta.location) {
                Some(StoreKey::Snapshot { number, .. }) => Some(HeadKey::new(number, &meta)),
                _ => None,
            }),
            Err(e) => Err(Error::store("list", &prefix, e)),
        });
        let keys = keys.try_filter_map(|key| std::future::ready(Ok(key)));
        // The newest come first.
        let keys = keys.try_take_while(move |key| std::future::ready(Ok(!in_order || key.number >= lowest)));
        keys.try_filter(move |key| std::future::ready(key.number >= lowest))
    }

    /// Lists a context's snapshots and their marks, by number. Marks that do not count because of a tag are left out.
    pub(crate) async fn listing(&self, name: &ContextName) -> Result<BTreeMap<u64, Listed>, Error> {
        let (mut listed, tags) = self.raw_listing(name).await?;
        self.without_void_marks(name, &mut listed, tags).await?;
        Ok(listed)
    }

    /// Lists a context's snapshots and their marks, by number, and its tags.
    pub(crate) async fn raw_listing(&self, name: &ContextName) -> Result<RawListing, Error> {
        let (prefix, mut found) = (context_prefix(name), RawListing::default());
        let mut listed = self.list_all(&prefix);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            if let Some(key) = StoreKey::parse(&meta.location) {
                note(&mut found, key, &meta);
            }
        }
        Ok(found)
    }
}

/// What a listing shows of a context: its snapshots and their marks, by number, and its tags.
pub(crate) type RawListing = (BTreeMap<u64, Listed>, Vec<ListedTag>);

/// Adds one of a context's keys to its listing.
fn note((found, tags): &mut RawListing, key: StoreKey, meta: &ObjectMeta) {
    let landed = meta.last_modified.timestamp();
    match key {
        StoreKey::Snapshot { number, .. } => {
            found.entry(number).or_default().snapshot = Some(HeadKey::new(number, meta));
        }
        StoreKey::Gone { number, .. } => found.entry(number).or_default().gone = Some(landed),
        StoreKey::Tag { lineage, name, .. } => tags.push(ListedTag { lineage, name, landed }),
        StoreKey::Meta | StoreKey::Index | StoreKey::Pack(_) => {}
    }
}
