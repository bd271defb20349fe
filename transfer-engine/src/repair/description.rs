//! The description of a store that lost it: what it said is known from the snapshots.

use futures::TryStreamExt;
use object_store::{ObjectMeta, PutMode, PutOptions};

use crate::error::Error;
use crate::format::{Snapshot, StoreKey, StoreMeta, contexts_prefix};
use crate::store::Store;

/// Snapshots from which a store's id and grace period are taken.
const WITNESSES: usize = 32;
/// The grace period if no snapshot shows it, in seconds: a day.
const GRACE: u64 = 24 * 60 * 60;

impl Store {
    /// Writes the store's description again if it is missing or damaged although there are snapshots. Returns whether it
    /// is; in a dry run it stays as it is.
    ///
    /// # Errors
    /// [`Error::NoStore`] if there is no snapshot either; [`Error::OtherStore`] if snapshots are of several stores.
    pub(super) async fn repair_description(&self, dry_run: bool) -> Result<bool, Error> {
        let error = match self.confirm().await {
            Ok(_) => return Ok(false),
            Err(error @ (Error::NoStore { .. } | Error::Format { .. } | Error::Corrupt { .. })) => error,
            Err(error) => return Err(error),
        };
        let Some(meta) = self.description_by_snapshots().await? else { return Err(error) };
        if dry_run {
            return Ok(true);
        }
        let key = StoreKey::Meta.path();
        let is_missing = matches!(error, Error::NoStore { .. });
        let mode = if is_missing { PutMode::Create } else { PutMode::Overwrite };
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.objects().put_opts(&key, meta.encode().into(), options).await;
        put.map_err(|e| Error::store("write", &key, e))?;
        self.confirm().await?;
        Ok(true)
    }

    async fn description_by_snapshots(&self) -> Result<Option<StoreMeta>, Error> {
        let prefix = contexts_prefix();
        let mut listed = self.list_all(&prefix);
        let mut found: Option<StoreMeta> = None;
        let mut seen = 0;
        while let Some(object) = listed.try_next().await.map_err(|e| Error::store("list", &prefix, e))? {
            if object.size == 0
                || !matches!(StoreKey::parse(&object.location), Some(StoreKey::Snapshot { .. }))
            {
                continue;
            }
            let Ok((bytes, _)) = self.get(&object.location, object.size).await else { continue };
            let Ok((snapshot, _)) = Snapshot::decode(&bytes) else { continue };
            let grace = self.grace_by(&snapshot, &object).await.unwrap_or(0);
            let meta = found.get_or_insert(StoreMeta {
                store_id: snapshot.store_id,
                grace_seconds: 0,
                created: object.last_modified.timestamp(),
            });
            if meta.store_id != snapshot.store_id {
                return Err(Error::OtherStore { location: self.location().to_owned() });
            }
            meta.grace_seconds = meta.grace_seconds.max(grace);
            meta.created = meta.created.min(object.last_modified.timestamp());
            seen += 1;
            if seen == WITNESSES {
                break;
            }
        }
        Ok(found.map(|meta| match meta.grace_seconds {
            0 => StoreMeta { grace_seconds: GRACE, ..meta },
            _ => meta,
        }))
    }

    /// Returns the grace period that a snapshot shows: it notes for a new pack when the pack was put, plus that.
    async fn grace_by(&self, snapshot: &Snapshot, object: &ObjectMeta) -> Option<u64> {
        let (pack, land_by) = snapshot.packs.iter().find_map(|pack| Some((pack.id, pack.land_by?)))?;
        let put = self.stat(&StoreKey::Pack(pack).path()).await.ok()?.last_modified.timestamp();
        let put = put.min(object.last_modified.timestamp());
        u64::try_from(land_by.saturating_sub(put)).ok()
    }
}
