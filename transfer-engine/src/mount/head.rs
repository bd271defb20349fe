//! The head of a mount's context, and whether the base is one for it.

use super::Mount;
use crate::error::Error;
use crate::format::Ancestor;
use crate::monitor::{Monitor, Phase};
use crate::state::BaseHeader;
use crate::store::{At, Head, HeadKey};
use crate::tree::Tree;

/// The snapshot at which a mount stays, and the head at the time when it was looked for. After that nothing more is asked
/// of the context, which may be renamed or deleted.
#[derive(Debug)]
pub(super) struct Stay {
    head: Head,
    at: Head,
}

impl Mount {
    /// Returns the newest snapshot, after a rename that has to be completed, and the header of the base.
    pub(crate) async fn find_newest(
        &self,
        monitor: &dyn Monitor,
    ) -> Result<(Option<Head>, Option<BaseHeader>), Error> {
        let (key, header) = self.find_head(monitor).await?;
        let Some(key) = key else { return Ok((None, header)) };
        let head = self.load_head(header.as_ref(), &key).await?;
        Ok((Some(self.store.head_after_move(&self.context, head).await?), header))
    }

    /// Finds the head of a context that exists, and the base, if there is one.
    pub(crate) async fn find_live_head(
        &self,
        monitor: &dyn Monitor,
    ) -> Result<(Head, Option<BaseHeader>), Error> {
        if let Some(stay) = self.stay.get() {
            return Ok((stay.head.clone(), self.files.header()?));
        }
        let (head, header) = self.find_newest(monitor).await?;
        match head {
            Some(head) if head.is_live() => Ok((head, header)),
            head => {
                self.store.meta().await?;
                Err(self.store.missing(&self.context, head.as_ref()))
            }
        }
    }

    /// Returns the snapshot that is pulled: the head, or the one at which the mount stays.
    pub(crate) async fn pulled(&self, head: Head) -> Result<Head, Error> {
        if self.at == At::Head {
            return Ok(head);
        }
        if let Some(stay) = self.stay.get() {
            return Ok(stay.at.clone());
        }
        let at = self.store.find_snapshot(&self.context, &self.at).await?;
        if at.snapshot.lineage != head.snapshot.lineage {
            // The context was deleted and made again in between.
            let number = i64::try_from(at.key.number).unwrap_or(i64::MAX);
            return Err(Error::NoSnapshot { name: self.context.clone(), number });
        }
        self.cache().put(&at.digest, &at.bytes);
        Ok(self.stay.get_or_init(|| Stay { head, at }).at.clone())
    }

    /// Returns the base if it is one for a pull of this snapshot. To a mount that stays at it, that is as if it was the
    /// head: so its base never goes back, and a later sync with the head goes on from there.
    ///
    /// # Errors
    /// [`Error::NewerMount`] if the mount had a newer one already. What it has of that would look like local changes
    /// once a pull back was interrupted.
    pub(crate) fn base_to_pull(
        &self,
        header: Option<BaseHeader>,
        pulled: &Head,
        monitor: &dyn Monitor,
    ) -> Result<Option<BaseHeader>, Error> {
        if self.at == At::Head {
            return Ok(header);
        }
        match header.as_ref().map(|header| header.head.number) {
            Some(has) if has > pulled.key.number => Err(Error::NewerMount {
                context: self.context.clone(),
                mount: self.path.clone(),
                has,
                wanted: pulled.key.number,
            }),
            _ => self.check_base(header, pulled, monitor),
        }
    }

    /// Finds the head, and decides about the next base of an interrupted commit.
    ///
    /// Returns the key of the newest snapshot and the base's header, if it is one for this head.
    pub(crate) async fn find_head(
        &self,
        monitor: &dyn Monitor,
    ) -> Result<(Option<HeadKey>, Option<BaseHeader>), Error> {
        monitor.phase(Phase::Opening);
        let mut header = self.files.header()?;
        let key = match &header {
            Some(header) => {
                // Whatever is there must be of the store that the mount was synced with.
                self.store.expect_id(header.store.store_id)?;
                let key = self.store.find_head_key(&self.context).await?;
                if key.is_none() {
                    // It may be the context that is gone, or the store.
                    self.store.confirm().await?;
                }
                key
            }
            // Nothing is remembered of the store: its description is asked for at the same time.
            None => {
                let (key, meta) = tokio::join!(self.store.find_head_key(&self.context), self.store.meta());
                let key = key?;
                if key.is_none() {
                    meta?;
                }
                key
            }
        };
        if self.files.has_next_base()? {
            header = self.resolve_next_base(key.as_ref()).await?.or(header);
        }
        let Some(key) = key else {
            if header.is_some() {
                monitor.warning(
                    "the context that this mount was synced with no longer exists; nothing is deleted",
                );
            }
            return Ok((None, None));
        };
        Ok((Some(key), header))
    }

    /// Adopts the next base if its commit turns out to have landed, and drops it if not.
    async fn resolve_next_base(&self, key: Option<&HeadKey>) -> Result<Option<BaseHeader>, Error> {
        let Some(next) = self.files.next_header()? else {
            self.files.drop_next()?;
            return Ok(None);
        };
        let number = next.head.number;
        let Some(key) = key.filter(|key| key.number >= number) else {
            tracing::debug!(number, "an interrupted commit has not landed");
            self.files.drop_next()?;
            return Ok(None);
        };
        let landed = match self.store.read_snapshot(&self.context, number).await {
            Ok(found) => (found.digest == next.digest).then_some(found.key),
            // Collected in the meantime: the one after it still names its parent.
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. } | Error::Format { .. })
                if key.number > number =>
            {
                match self.store.read_snapshot(&self.context, number + 1).await {
                    Ok(after) => (after.snapshot.parent == Some(next.digest)).then(|| next.head.clone()),
                    Err(
                        Error::Store { source: object_store::Error::NotFound { .. }, .. }
                        | Error::Format { .. },
                    ) => None,
                    // That it could not be read says nothing of what landed.
                    Err(e) => return Err(e),
                }
            }
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => None,
            Err(e) => return Err(e),
        };
        match landed {
            Some(head) => {
                tracing::debug!(number, "an interrupted commit has landed");
                let header = BaseHeader { head, ..next };
                self.files.adopt_next(&header, self.files.is_unflushed()?)?;
                Ok(Some(header))
            }
            None => {
                tracing::debug!(number, "an interrupted commit has not landed");
                self.files.drop_next()?;
                Ok(None)
            }
        }
    }

    /// Whether the listing shows the very head that the base was written for.
    pub(crate) fn is_same_head(header: Option<&BaseHeader>, key: &HeadKey) -> bool {
        header.is_some_and(|h| h.head.is_same(key))
    }

    /// Loads the head: from the cache if it is known to be the one that is there, else from the store.
    pub(crate) async fn load_head(&self, header: Option<&BaseHeader>, key: &HeadKey) -> Result<Head, Error> {
        let cache = self.cache();
        if let Some(header) = header.filter(|h| Self::is_same_head(Some(h), key))
            && let Some(bytes) = cache.get(&header.digest)
            && let Ok(head) = self.store.check_snapshot(&self.context, key.number, bytes, key.clone())
            && head.digest == header.digest
        {
            return Ok(head);
        }
        let head = match self.store.read_head(&self.context, key.clone()).await {
            Ok(head) => head,
            Err(error) => return Err(self.store.damaged_head(&self.context, key.number, error).await),
        };
        cache.put(&head.digest, &head.bytes);
        Ok(head)
    }

    /// Whether the head has the part that the mount has.
    ///
    /// # Errors
    /// [`Error::NotADirectory`] if something else is in its place.
    pub(crate) async fn has_part(&self, head: &Head, header: Option<&BaseHeader>) -> Result<bool, Error> {
        // If the base says all that there is to say of the head, nothing has to be read.
        let is_known = header.is_some_and(|h| h.agrees && h.head.is_same(&head.key));
        if self.part.is_whole() || is_known {
            return Ok(true);
        }
        let cache = self.cache();
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: Some(&cache) };
        tree.has_directory(self.part.path()).await
    }

    /// Drops a base that is none for this head: of another life of the context, or from its future.
    pub(crate) fn check_base(
        &self,
        header: Option<BaseHeader>,
        head: &Head,
        monitor: &dyn Monitor,
    ) -> Result<Option<BaseHeader>, Error> {
        let Some(header) = header else { return Ok(None) };
        if header.store.store_id != head.snapshot.store_id {
            return Err(Error::OtherStore { location: self.store.location().to_owned() });
        }
        // The store shows a snapshot of the very store that is remembered: its description is the same, too.
        self.store.assume_meta(header.store.clone());
        let was_this = |of: &Ancestor| of.lineage == header.lineage && of.context == self.context;
        let problem =
            if header.lineage != head.snapshot.lineage && head.snapshot.ancestors().iter().any(was_this) {
                "the context was repaired, or made anew from its own snapshots, since the last sync"
            } else if header.lineage != head.snapshot.lineage {
                "the context was deleted since the last sync, and is a new one now"
            } else if header.head.number > head.key.number {
                "the context is in an older state than at the last sync"
            } else if header.head.number == head.key.number && header.digest != head.digest {
                "the context's history was changed since the last sync"
            } else {
                return Ok(Some(header));
            };
        monitor.warning(&format!("{problem}; the mount is treated as new, and nothing is deleted"));
        Ok(None)
    }

    /// Returns the header of a base for this head.
    pub(crate) async fn header_of(&self, head: &Head, agrees: bool) -> Result<BaseHeader, Error> {
        Ok(BaseHeader {
            store: self.store.meta().await?,
            lineage: head.snapshot.lineage,
            head: head.key.clone(),
            digest: head.digest,
            scope: self.scope_digest(),
            part: self.part.digest(),
            agrees,
            rows: 0,
            held: 0,
            bytes: 0,
        })
    }
}
