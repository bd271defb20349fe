//! When snapshots landed.

use std::sync::Arc;

use object_store::{ObjectStore, ObjectStoreExt};
use transfer_engine::format::{Snapshot, StoreKey};

/// Returns when an object landed, by the store's clock, in seconds since 1970.
///
/// # Errors
/// The message of the store's error.
pub async fn landed(objects: &Arc<dyn ObjectStore>, key: &StoreKey) -> Result<i64, String> {
    Ok(objects.head(&key.path()).await.map_err(|e| e.to_string())?.last_modified.timestamp())
}

/// Whether a snapshot landed so late that its packs do not count.
pub fn is_late(snapshot: &Snapshot, landed: i64) -> bool {
    snapshot.packs.iter().any(|p| p.land_by.is_some_and(|by| landed >= by))
}
