//! Lost packs: a snapshot refers to them, but they are missing in the store.

use futures::{StreamExt, stream};

use crate::error::Error;
use crate::format::{PackId, StoreKey};
use crate::store::{Head, Store};

/// How many packs a push checks, each with a request beside that of its commit.
const AMONG_MANY: usize = 4;
/// How many packs a push checks if they are local files.
const AMONG_FILES: usize = 256;
/// How many checks run at once.
const AT_ONCE: usize = 16;

impl Store {
    /// Returns which of a snapshot's packs are lost, as far as it checks. It checks all of a few packs; of
    /// many it checks some adjacent ones, from a random position. A check that fails now is left to a later
    /// push.
    pub(crate) async fn lost_packs(&self, head: &Head) -> Vec<PackId> {
        // Packs that landed too late count as absent anyway.
        let late = head.late_packs();
        let packs: Vec<_> = head.snapshot.packs.iter().filter(|pack| !late.contains(&pack.id)).collect();
        let most = if self.place().is_some() { AMONG_FILES } else { AMONG_MANY };
        let drawn = self.random::<4>().map_or(0, u32::from_le_bytes) as usize;
        let begin = if packs.len() > most { drawn % packs.len() } else { 0 };
        let looked_at = packs.iter().cycle().skip(begin).take(most.min(packs.len()));
        stream::iter(looked_at.map(|pack| pack.id).collect::<Vec<_>>())
            .map(|id| async move {
                let found = self.stat(&StoreKey::Pack(id).path()).await;
                matches!(found, Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }))
                    .then_some(id)
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }
}
