//! Tags: names for single snapshots, which collections keep.
//!
//! A tag is one object, put if absent. It never changes: who wants the name for another snapshot deletes the tag first.
//!
//! Two processes meet without a lock: one tags a snapshot, another one marks it as forgotten. So **a mark does not count
//! while there is a tag that landed before it**, or up to a quarter of the grace period later. A tag that lands after
//! that does not count itself, and its writer finds the mark and takes the tag back. Before a tag is deleted, a mark that
//! does not count because of it is deleted: otherwise the mark would be older than what it says. `docs/collecting.md`
//! explains why no pack is lost.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};

use crate::commit::{is_denied, is_worth_retrying};
use crate::error::Error;
use crate::format::{ContextName, LineageId, MAX_TAG_LEN, StoreKey, Tag, TagName};
use crate::store::{At, Head, HeadKey, Store, unusable};

/// How many tags are read at once.
const AT_ONCE: usize = 16;
/// How often the put of a tag is tried.
const ATTEMPTS: u32 = 5;

/// What a listing shows for one snapshot number of a context.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// The snapshot; without bytes, it is a tombstone.
    pub(crate) snapshot: Option<HeadKey>,
    /// When the snapshot was marked as forgotten, by the store's clock, in seconds since 1970.
    pub(crate) gone: Option<i64>,
}

impl Listed {
    /// Whether the snapshot is forgotten, or erased.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_some() || self.is_erased()
    }

    fn is_erased(&self) -> bool {
        self.snapshot.as_ref().is_none_or(|key| key.size == 0)
    }
}

/// What a listing shows of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedTag {
    pub(crate) lineage: LineageId,
    pub(crate) name: TagName,
    /// When it landed, by the store's clock, in seconds since 1970.
    pub(crate) landed: i64,
}

/// A tag, and the number of its snapshot or why it can't be read.
pub(crate) type Read = (ListedTag, Result<u64, Error>);

/// Whether a tag that landed at `tag` outdoes a mark that landed at `mark`.
pub(crate) fn outdoes(tag: i64, mark: i64, grace: i64) -> bool {
    tag <= mark.saturating_add(grace / 4)
}

impl Store {
    /// Tags a snapshot: collections keep it then, whatever the retention says. Returns its number. A snapshot may have
    /// several tags.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], also if the snapshot was forgotten meanwhile; [`Error::TagElsewhere`] if another snapshot
    /// has the tag; [`Error::NoContext`].
    pub async fn tag(&self, name: &ContextName, at: impl Into<At>, tag: &TagName) -> Result<u64, Error> {
        let found = self.find_snapshot(name, &at.into()).await?;
        let (number, lineage) = (found.key.number, found.snapshot.lineage);
        let missing =
            || Error::NoSnapshot { name: name.clone(), number: i64::try_from(number).unwrap_or(i64::MAX) };
        // It may be of a context of this name that was deleted, and not be marked yet.
        if self.require_head(name).await?.snapshot.lineage != lineage {
            return Err(missing());
        }
        let (found, landed) = self.put_tag(name, lineage, tag, number).await?;
        if found != number {
            return Err(Error::TagElsewhere { name: name.clone(), tag: tag.clone(), number: found });
        }
        let is_there = match self.mark_of(name, number).await? {
            // In a context that was deleted long ago, nothing is left of the mark and of the snapshot.
            None => self.is_stored(name, number).await?,
            // It was forgotten between the two looks, or the context was renamed or deleted.
            Some(mark) if outdoes(landed, mark, self.grace().await?) => match self.require_head(name).await {
                Ok(head) => head.snapshot.lineage == lineage,
                Err(Error::NoContext { .. } | Error::Moved { .. }) => false,
                Err(e) => return Err(e),
            },
            Some(_) => false,
        };
        if is_there {
            return Ok(number);
        }
        self.delete_tags(name, |listed, _| listed.lineage == lineage && listed.name == *tag).await?;
        // The mark did not count if the tag was in time, and is gone with the tag.
        self.mark_gone(name, number).await?;
        self.require_head(name).await?;
        Err(missing())
    }

    /// Returns when a snapshot was marked as forgotten.
    async fn mark_of(&self, name: &ContextName, number: u64) -> Result<Option<i64>, Error> {
        match self.stat(&StoreKey::Gone { context: name.clone(), number }.path()).await {
            Ok(mark) => Ok(Some(mark.last_modified.timestamp())),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether a snapshot is in the store, and not erased.
    async fn is_stored(&self, name: &ContextName, number: u64) -> Result<bool, Error> {
        match self.stat(&StoreKey::Snapshot { context: name.clone(), number }.path()).await {
            Ok(found) => Ok(found.size > 0),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Deletes a tag; returns the number of its snapshot, which is `None` if the tag is damaged. With `at`, it has to be
    /// that snapshot.
    ///
    /// # Errors
    /// [`Error::NoTag`]; [`Error::TagElsewhere`] if it is on another snapshot; [`Error::NoContext`].
    pub async fn untag(
        &self,
        name: &ContextName,
        tag: &TagName,
        at: impl Into<At>,
    ) -> Result<Option<u64>, Error> {
        let at = at.into();
        let head = self.newest_of(name).await?;
        let lineage = head.snapshot.lineage;
        let number = match self.tag_of(&head, tag).await {
            Ok((number, _)) => Some(number),
            // A damaged tag can be deleted as well.
            Err(Error::Format { .. } | Error::Corrupt { .. }) if at == At::Head => None,
            Err(e) => return Err(e),
        };
        let expected = match at {
            At::Head | At::Tag(_) => number,
            At::Number(number) => Some(number),
            At::Back(back) => head.key.number.checked_sub(back),
        };
        if let Some(number) = number
            && expected != Some(number)
        {
            return Err(Error::TagElsewhere { name: name.clone(), tag: tag.clone(), number });
        }
        let (listed, tags) = self.raw_listing(name).await?;
        if let Some(tag) = tags.iter().find(|t| t.lineage == lineage && t.name == *tag) {
            self.delete_tag(name, tag, number.and_then(|n| Some((n, listed.get(&n)?)))).await?;
        }
        Ok(number)
    }

    /// Returns the tags of a context, by the numbers of their snapshots. Damaged ones are left out.
    pub async fn tags(&self, name: &ContextName) -> Result<BTreeMap<u64, Vec<TagName>>, Error> {
        let (_, listed) = self.raw_listing(name).await?;
        let mut tags: BTreeMap<u64, Vec<TagName>> = BTreeMap::new();
        for (tag, number) in self.read_tags(name, listed).await {
            match number {
                Ok(number) => tags.entry(number).or_default().push(tag.name),
                Err(e) if e.is_of_object() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(tags)
    }

    /// Returns the number of the snapshot with a tag, and when the tag landed.
    pub(crate) async fn tag_of(&self, head: &Head, tag: &TagName) -> Result<(u64, i64), Error> {
        let name = &head.snapshot.context;
        match self.read_tag(name, head.snapshot.lineage, tag).await {
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {
                Err(Error::NoTag { name: name.clone(), tag: tag.clone() })
            }
            read => read,
        }
    }

    /// Puts a tag; returns the number of the snapshot that has the tag now, and when the tag landed.
    pub(crate) async fn put_tag(
        &self,
        name: &ContextName,
        lineage: LineageId,
        tag: &TagName,
        number: u64,
    ) -> Result<(u64, i64), Error> {
        let (context, store_id) = (name.clone(), self.meta().await?.store_id);
        let bytes = Tag { store_id, context: context.clone(), lineage, name: tag.clone(), number }.encode();
        let key = StoreKey::Tag { context, lineage, name: tag.clone() }.path();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let put = self.put_new(&key, vec![bytes.clone()]).await;
            // Whatever was answered: the object under the key decides.
            match (self.read_tag(name, lineage, tag).await, put) {
                (Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }), Err(answer)) => {
                    if attempts == ATTEMPTS || !is_worth_retrying(&answer) {
                        return Err(Error::store("write", &key, answer));
                    }
                    self.back_off(attempts).await?;
                }
                (read, _) => return read,
            }
        }
    }

    /// Reads a tag; returns the number of its snapshot, and when it landed.
    async fn read_tag(
        &self,
        name: &ContextName,
        lineage: LineageId,
        tag: &TagName,
    ) -> Result<(u64, i64), Error> {
        let key = StoreKey::Tag { context: name.clone(), lineage, name: tag.clone() }.path();
        let mut again = true;
        loop {
            let (bytes, meta) = self.get(&key, MAX_TAG_LEN as u64).await?;
            match Tag::decode(&bytes) {
                // A bit may have been flipped on the way.
                Err(source) if source.is_retryable() && std::mem::take(&mut again) => {}
                Err(source) => return Err(unusable(key, source)),
                Ok(found) => {
                    self.expect_id(found.store_id)?;
                    if (&found.context, found.lineage, &found.name) != (name, lineage, tag) {
                        let what = format!("it says that it is tag {} of {}", found.name, found.context);
                        return Err(Error::Corrupt { key: key.to_string(), what });
                    }
                    return Ok((found.number, meta.last_modified.timestamp()));
                }
            }
        }
    }

    /// Reads the tags that a listing showed.
    pub(crate) async fn read_tags(&self, name: &ContextName, listed: Vec<ListedTag>) -> Vec<Read> {
        stream::iter(listed)
            .map(|tag| async move {
                let number = self.read_tag(name, tag.lineage, &tag.name).await.map(|(number, _)| number);
                (tag, number)
            })
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    /// Takes the marks that do not count because of a tag out of a listing.
    pub(crate) async fn without_void_marks(
        &self,
        name: &ContextName,
        listed: &mut BTreeMap<u64, Listed>,
        mut tags: Vec<ListedTag>,
    ) -> Result<(), Error> {
        let marks = listed.values().filter(|listed| !listed.is_erased()).filter_map(|listed| listed.gone);
        let (Some(newest), false) = (marks.max(), tags.is_empty()) else { return Ok(()) };
        let grace = self.grace().await?;
        tags.retain(|tag| outdoes(tag.landed, newest, grace));
        for (tag, number) in self.read_tags(name, tags).await {
            match number {
                Ok(number) => void(listed, &tag, number, grace),
                Err(e) if e.is_of_object() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Deletes the tags that `which` chooses by what a listing shows and by the number, which is `None` for a damaged
    /// tag. This comes before their snapshots are marked as forgotten.
    pub(crate) async fn delete_tags(
        &self,
        name: &ContextName,
        which: impl Fn(&ListedTag, Option<u64>) -> bool,
    ) -> Result<(), Error> {
        let (listed, tags) = self.raw_listing(name).await?;
        for (tag, number) in self.read_tags(name, tags).await {
            let number = match number {
                Ok(number) => Some(number),
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => continue,
                Err(e) if e.is_of_later_format() => continue,
                Err(e) if e.is_of_object() => None,
                Err(e) => return Err(e),
            };
            if which(&tag, number) {
                self.delete_tag(name, &tag, number.and_then(|n| Some((n, listed.get(&n)?)))).await?;
            }
        }
        Ok(())
    }

    /// Deletes the tags of snapshots that are about to be forgotten. Without permission to delete they stay, and the
    /// marks of their snapshots do not count until a collection has forgotten these as well.
    pub(crate) async fn forget_tags(
        &self,
        name: &ContextName,
        which: impl Fn(u64) -> bool,
    ) -> Result<(), Error> {
        match self.delete_tags(name, |_, number| number.is_some_and(&which)).await {
            Err(Error::Store { source, .. }) if is_denied(&source) => Ok(()),
            deleted => deleted,
        }
    }

    /// Deletes a tag, and before that the mark that did not count because of it. If the snapshot is forgotten after all,
    /// it gets a new mark, with a grace period of its own: until now it could be read.
    pub(crate) async fn delete_tag(
        &self,
        name: &ContextName,
        tag: &ListedTag,
        on: Option<(u64, &Listed)>,
    ) -> Result<(), Error> {
        if let Some((number, listed)) = on
            && let (Some(mark), false) = (listed.gone, listed.is_erased())
            && outdoes(tag.landed, mark, self.grace().await?)
        {
            self.delete(&StoreKey::Gone { context: name.clone(), number }.path()).await?;
        }
        let (context, lineage) = (name.clone(), tag.lineage);
        self.delete(&StoreKey::Tag { context, lineage, name: tag.name.clone() }.path()).await
    }

    /// Returns the grace period, in seconds.
    pub(crate) async fn grace(&self) -> Result<i64, Error> {
        Ok(i64::try_from(self.meta().await?.grace_seconds).unwrap_or(i64::MAX))
    }
}

/// Takes the mark of the snapshot with a tag out of a listing, if it does not count because of the tag. An erased
/// snapshot stays forgotten.
pub(crate) fn void(listed: &mut BTreeMap<u64, Listed>, tag: &ListedTag, number: u64, grace: i64) {
    if let Some(listed) = listed.get_mut(&number)
        && !listed.is_erased()
        && listed.gone.is_some_and(|mark| outdoes(tag.landed, mark, grace))
    {
        listed.gone = None;
    }
}
