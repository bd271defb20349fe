//! A part of a store, as a store.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;

/// Returns a store with the keys below `prefix`.
pub(crate) fn below<S: ObjectStore>(store: S, prefix: &Path) -> Arc<dyn ObjectStore> {
    if prefix.is_root() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix.clone())) }
}
