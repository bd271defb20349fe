//! A mount follows its context to a new name, and its store to a new address.

use crate::error::Error;
use crate::format::{ContextName, LineageId, Snapshot, StoreId};
use crate::local::MountDir;
use crate::mount::Mount;
use crate::state::{BaseHeader, Cache, ContextState};
use crate::store::Head;

impl Mount {
    /// Continues with the context under its new name. The base is kept if the history under the new name has
    /// a copy of the base's snapshot; otherwise the mount counts as new.
    pub(crate) async fn follow(&mut self, to: &ContextName) -> Result<(), Error> {
        let dir = MountDir::open(&self.path, self.store.env()).ok();
        let arriving = self.arriving.clone();
        self.fold_arrivals(&arriving.alone().await, dir.as_ref(), None)?;
        let files = self.state.context(self.store.location(), to, self.part.digest(), self.store.env())?;
        if files.header()?.is_none() {
            self.take_over(&self.files, &files, to).await?;
        }
        self.context = to.clone();
        self.files = files;
        Ok(())
    }

    /// Goes on from what the mount knows of the context in this store at another address, if that is newer; or under a
    /// former name, if it knows nothing yet under this one.
    pub(crate) async fn recognize(&self) -> Result<(), Error> {
        // What an interrupted pull has noted is about the mount's own base.
        if self.has_arrivals()? {
            return Ok(());
        }
        let own = self.files.header()?;
        let mut others = Vec::new();
        for other in self.state.others(&self.files)? {
            // What can't be read is of no use, and in nobody's way.
            if let Ok(Some(header)) = other.header() {
                others.push((other, header));
            }
        }
        let life = match &own {
            _ if others.is_empty() => return Ok(()),
            Some(own) => Some((own.store.store_id, own.lineage)),
            None => self.life().await?,
        };
        let is_newer =
            |header: &BaseHeader| own.as_ref().is_none_or(|own| own.head.number < header.head.number);
        let same = others.iter().filter(|(_, header)| life == Some((header.store.store_id, header.lineage)));
        let newest = same.filter(|(_, header)| is_newer(header)).max_by_key(|(_, header)| header.head.number);
        if let Some((other, header)) = newest
            && self.has_snapshot_of(header).await?
            && self.inherit(other, &self.files, header).await?
        {
            tracing::info!("the mount was synced with the store at another address, and goes on from there");
            return Ok(());
        }
        if own.is_some() {
            return Ok(());
        }
        for (former, _) in others {
            if self.take_over(&former, &self.files, &self.context).await? {
                tracing::info!(
                    "the mount was synced with the context under a former name, and goes on from there"
                );
                break;
            }
        }
        Ok(())
    }

    /// Whether the store has the snapshot of a base. A copy of a store has the same id, but may have another history since.
    async fn has_snapshot_of(&self, base: &BaseHeader) -> Result<bool, Error> {
        match self.store.read_snapshot(&self.context, base.head.number).await {
            Ok(there) => Ok(there.is_live() && there.digest == base.digest),
            Err(e) if e.is_of_object() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Returns the ids of the store and of the context's life; `None` if one of them does not exist.
    async fn life(&self) -> Result<Option<(StoreId, LineageId)>, Error> {
        let Some(key) = self.store.find_head_key(&self.context).await? else { return Ok(None) };
        let head = self.load_head(None, &key).await?;
        Ok(Some((head.snapshot.store_id, head.snapshot.lineage)))
    }

    /// Makes the base of one state that of another, if the history of context `to` has a copy of the base's snapshot.
    /// Returns whether it has.
    async fn take_over(
        &self,
        from: &ContextState,
        into: &ContextState,
        to: &ContextName,
    ) -> Result<bool, Error> {
        let Some(header) = from.header()? else { return Ok(false) };
        let Some(copy) = self.copy_of(&header, &from.cache(), to).await? else { return Ok(false) };
        let renamed = BaseHeader {
            lineage: copy.snapshot.lineage,
            head: copy.key.clone(),
            digest: copy.digest,
            ..header
        };
        self.inherit(from, into, &renamed).await
    }

    /// Makes the base of one state that of another, under this header. Returns whether it could.
    async fn inherit(
        &self,
        from: &ContextState,
        into: &ContextState,
        header: &BaseHeader,
    ) -> Result<bool, Error> {
        // The note of a sync without a flush is of snapshots under the former name, or at the former address.
        if from.is_unflushed()? {
            if from.in_doubt()?.is_some() {
                return Ok(false);
            }
            let dir = MountDir::open(&self.path, self.store.env());
            self.flush(&dir.map_err(|e| Error::local("open the mount", &self.path, e))?).await?;
        }
        if into.is_unflushed()? {
            return Ok(false);
        }
        // A commit that was interrupted is of an older base.
        into.drop_next()?;
        into.take_base(from, header)?;
        Ok(true)
    }

    /// Finds the copy, under the new name, of the base's snapshot. A copy has its original's nonce, and the
    /// number of the original plus that of the claim (`docs/design/004-moving-a-context.md`).
    async fn copy_of(
        &self,
        base: &BaseHeader,
        cache: &Cache,
        to: &ContextName,
    ) -> Result<Option<Head>, Error> {
        let Some(original) = cache.get(&base.digest) else { return Ok(None) };
        let Ok((original, _)) = Snapshot::decode(&original) else { return Ok(None) };
        let mut numbers: Vec<u64> =
            self.store.list_snapshots(to).await?.into_iter().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        for claim in &numbers {
            let number = claim.saturating_add(base.head.number);
            if numbers.binary_search(&number).is_err() {
                continue;
            }
            match self.store.read_snapshot(to, number).await {
                Ok(copy) if copy.is_live() && copy.snapshot.nonce == original.nonce => return Ok(Some(copy)),
                Ok(_) => {}
                Err(e) if e.is_of_object() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}
