//! The newest snapshots of contexts, and older ones.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectMeta;
use policy_core::Digest;

use crate::error::Error;
use crate::format::{ContextName, Kind, MAX_SNAPSHOT_LEN, PackId, Snapshot, StoreKey, context_prefix};

use super::{At, Store};

/// The newest snapshot of a context, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadKey {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) e_tag: Option<String>,
    /// When the snapshot landed, by the store's clock, in seconds since 1970.
    pub(crate) landed: i64,
}

impl HeadKey {
    pub(crate) fn new(number: u64, meta: &ObjectMeta) -> Self {
        Self {
            number,
            size: meta.size,
            e_tag: meta.e_tag.as_deref().map(bare_tag),
            landed: meta.last_modified.timestamp(),
        }
    }

    /// Whether both are the same object. Only one of them may have the exact time of landing.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.e_tag.is_some()
            && (self.number, self.size, &self.e_tag) == (other.number, other.size, &other.e_tag)
    }
}

/// Returns the tag without quotes: some stores quote it in one kind of answer and not in another.
pub(crate) fn bare_tag(tag: &str) -> String {
    tag.trim_matches('"').to_owned()
}

/// A snapshot with its identity and its key.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) key: HeadKey,
    pub(crate) digest: Digest,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) bytes: Bytes,
}

impl Head {
    pub(crate) fn is_live(&self) -> bool {
        self.snapshot.kind == Kind::Normal
    }

    /// Returns the packs that count as absent, because the snapshot landed after the time from which a
    /// collector may have found them unused.
    pub(crate) fn late_packs(&self) -> Vec<PackId> {
        let landed = self.key.landed;
        self.snapshot
            .packs
            .iter()
            .filter(|p| p.land_by.is_some_and(|by| landed >= by))
            .map(|p| p.id)
            .collect()
    }
}

/// The number of keys on a page of a listing, in all object stores.
pub(crate) const LIST_PAGE: usize = 1000;

impl Store {
    /// Returns the newest snapshot of a context.
    pub async fn head(&self, name: &ContextName) -> Result<Arc<Snapshot>, Error> {
        Ok(self.require_head(name).await?.snapshot)
    }

    /// Returns a snapshot. For a number, `at` may also be given as `Some(number)`: negative, it counts back from the
    /// head, and `None` is the head.
    pub async fn snapshot(&self, name: &ContextName, at: impl Into<At>) -> Result<Arc<Snapshot>, Error> {
        Ok(self.find_snapshot(name, &at.into()).await?.snapshot)
    }

    /// The same, with the snapshot's key and digest. It was not forgotten when it was looked for.
    pub(crate) async fn find_snapshot(&self, name: &ContextName, at: &At) -> Result<Head, Error> {
        let missing = |number: i64| Error::NoSnapshot { name: name.clone(), number };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let head = match self.require_head(name).await {
            Ok(head) => head,
            Err(error) => return self.find_beside_head(name, at, error).await,
        };
        let (number, asked) = match at {
            At::Head => return Ok(head),
            At::Number(number) => (*number, signed(*number)),
            At::Back(back) => {
                let asked = -signed(*back);
                (head.key.number.checked_sub(*back).ok_or_else(|| missing(asked))?, asked)
            }
            At::Tag(tag) => {
                let (number, _) = self.tag_of(&head, tag).await?;
                (number, signed(number))
            }
        };
        if number == head.key.number {
            return Ok(head);
        }
        self.find_number(name, number, Some(asked)).await
    }

    /// Returns the snapshot with this number, which is not that of the head. `asked` is what an error says.
    pub(super) async fn find_number(
        &self,
        name: &ContextName,
        number: u64,
        asked: Option<i64>,
    ) -> Result<Head, Error> {
        let asked = asked.unwrap_or_else(|| i64::try_from(number).unwrap_or(i64::MAX));
        let missing = || Error::NoSnapshot { name: name.clone(), number: asked };
        if self.is_gone(name, number).await? {
            return Err(missing());
        }
        match self.read_snapshot(name, number).await {
            Ok(found) if found.is_live() => Ok(found),
            // A terminal snapshot is not a state of the context.
            Ok(_) => Err(missing()),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Err(missing()),
            Err(e) => Err(e),
        }
    }

    /// Whether a snapshot is forgotten.
    pub(crate) async fn is_gone(&self, name: &ContextName, number: u64) -> Result<bool, Error> {
        match self.stat(&StoreKey::Gone { context: name.clone(), number }.path()).await {
            // It may have a tag, which outdoes the mark.
            Ok(_) => Ok(!self.list_snapshots(name).await?.contains(&(number, false))),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Returns the head of a context that exists.
    ///
    /// # Errors
    /// [`Error::DamagedHead`], [`Error::NoContext`], [`Error::Moved`].
    pub(crate) async fn require_head(&self, name: &ContextName) -> Result<Head, Error> {
        let head = match self.find_head_key(name).await? {
            Some(key) => {
                let number = key.number;
                match self.read_head(name, key).await {
                    Ok(head) => Some(self.head_after_move(name, head).await?),
                    Err(error) => return Err(self.damaged_head(name, number, error).await),
                }
            }
            None => None,
        };
        match head {
            Some(head) if head.is_live() => Ok(head),
            head => {
                // The message depends on whether only the context is missing, or the whole store.
                self.confirm().await?;
                Err(self.missing(name, head.as_ref()))
            }
        }
    }

    /// Returns the newest snapshot, even if it is terminal.
    pub(crate) async fn find_head(&self, name: &ContextName) -> Result<Option<Head>, Error> {
        match self.find_head_key(name).await? {
            Some(key) => Ok(Some(self.read_head(name, key).await?)),
            None => Ok(None),
        }
    }

    /// Returns the key of the newest snapshot with one request, however long the history is.
    pub(crate) async fn find_head_key(&self, name: &ContextName) -> Result<Option<HeadKey>, Error> {
        let prefix = context_prefix(name);
        let mut listed = self.objects().list(Some(&prefix));
        let mut newest: Option<HeadKey> = None;
        let (mut count, mut ascending, mut last) = (0, true, None);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            if let Some(StoreKey::Snapshot { number, .. }) = StoreKey::parse(&meta.location)
                && newest.as_ref().is_none_or(|n| n.number < number)
            {
                newest = Some(HeadKey::new(number, &meta));
                if self.in_order {
                    break;
                }
            }
            count += 1;
            ascending &= last.as_ref().is_none_or(|l| *l < meta.location);
            last = Some(meta.location);
            // Object stores list in order, so the newest key is on the first page. In a plain directory it
            // may not be.
            if count == LIST_PAGE && ascending {
                break;
            }
        }
        Ok(newest)
    }

    pub(crate) async fn read_head(&self, name: &ContextName, key: HeadKey) -> Result<Head, Error> {
        let mut head = self.read_snapshot(name, key.number).await?;
        head.key = key;
        Ok(head)
    }

    /// Reads and verifies one snapshot.
    pub(crate) async fn read_snapshot(&self, name: &ContextName, number: u64) -> Result<Head, Error> {
        let key = StoreKey::Snapshot { context: name.clone(), number }.path();
        // A snapshot can't prove that it belongs to this store: someone may have copied it from another one.
        let id_known = async {
            match self.inner.id.get() {
                Some(_) => Ok(()),
                None => self.meta().await.map(drop),
            }
        };
        let ((bytes, meta), ()) = tokio::try_join!(self.get(&key, MAX_SNAPSHOT_LEN as u64), id_known)?;
        match self.check_snapshot(name, number, bytes, HeadKey::new(number, &meta)) {
            // A bit may have been flipped on the way, so try again.
            Err(Error::Format { source, .. }) if source.is_retryable() && meta.size > 0 => {}
            other => return other,
        }
        let (bytes, meta) = self.get(&key, MAX_SNAPSHOT_LEN as u64).await?;
        self.check_snapshot(name, number, bytes, HeadKey::new(number, &meta))
    }

    pub(crate) fn check_snapshot(
        &self,
        name: &ContextName,
        number: u64,
        bytes: Bytes,
        key: HeadKey,
    ) -> Result<Head, Error> {
        let shown = || StoreKey::Snapshot { context: name.clone(), number }.path().to_string();
        let (snapshot, digest) =
            Snapshot::decode(&bytes).map_err(|source| Error::Format { key: shown(), source })?;
        if snapshot.number != number || snapshot.context != *name {
            return Err(Error::Corrupt {
                key: shown(),
                what: format!("it says that it is snapshot {} of {}", snapshot.number, snapshot.context),
            });
        }
        self.expect_id(snapshot.store_id)?;
        Ok(Head { key, digest, snapshot: Arc::new(snapshot), bytes })
    }
}
