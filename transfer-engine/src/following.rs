//! A mount follows its context to a new name.

use crate::error::Error;
use crate::format::{ContextName, Snapshot};
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

    /// Goes on from what the mount knows of the context under a former name, if it knows nothing yet under this one.
    pub(crate) async fn recognize(&self) -> Result<(), Error> {
        if self.was_synced()? {
            return Ok(());
        }
        for former in self.state.others(&self.files)? {
            // What can't be read is of no use, and in nobody's way.
            if matches!(former.header(), Ok(Some(_)))
                && self.take_over(&former, &self.files, &self.context).await?
            {
                tracing::info!(
                    "the mount was synced with the context under a former name, and goes on from there"
                );
                break;
            }
        }
        Ok(())
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
        // The note of a sync without a flush is of snapshots under the former name.
        if from.is_unflushed()? {
            if from.in_doubt()?.is_some() {
                return Ok(false);
            }
            let dir = MountDir::open(&self.path, self.store.env());
            self.flush(&dir.map_err(|e| Error::local("open the mount", &self.path, e))?).await?;
        }
        let renamed = BaseHeader {
            lineage: copy.snapshot.lineage,
            head: copy.key.clone(),
            digest: copy.digest,
            ..header
        };
        into.take_base(from, &renamed)?;
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
