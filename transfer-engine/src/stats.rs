//! How much is stored, for which contexts, and what of it is shared.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};

use crate::error::Error;
use crate::format::{ContextName, PackId, StoreKey, packs_prefix};
use crate::store::Store;

/// The figures of one context. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextStats {
    /// The context.
    pub context: ContextName,
    /// Its snapshots that are not forgotten.
    pub snapshots: u64,
    /// The files of its head.
    pub files: u64,
    /// The size of the head's files, as in a mount.
    pub size: u64,
    /// What the head takes in the store: compressed, and each part of it once.
    pub stored: u64,
    /// The packs that any of its snapshots needs, whole.
    pub packs: u64,
    /// What these packs take.
    pub packs_size: u64,
    /// What packs take that only this context needs: what deleting it gives back.
    pub own: u64,
}

/// The figures of a store. Sizes are in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The contexts that were asked for, sorted by name.
    pub contexts: Vec<ContextStats>,
    /// All packs of the store.
    pub packs: u64,
    /// What they take.
    pub packs_size: u64,
    /// What packs take that no snapshot needs. A collection deletes them after the grace period.
    pub unused: u64,
}

impl StoreStats {
    /// Returns the size of the files in the heads of all contexts that were asked for.
    pub fn size(&self) -> u64 {
        self.contexts.iter().map(|context| context.size).sum()
    }
}

/// Who needs a pack.
#[derive(Clone, Copy)]
struct Needed {
    size: u64,
    /// The first context that needs it.
    first: usize,
    shared: bool,
}

impl Store {
    /// Counts what contexts and the store take: those of these names, or all. Reads all snapshots of all contexts, and
    /// lists all packs.
    ///
    /// # Errors
    /// [`Error::NoContext`] if one of the names is not that of a context; those of reading the store.
    pub async fn stats(&self, names: &[ContextName]) -> Result<StoreStats, Error> {
        let all = self.contexts().await?;
        for name in names.iter().filter(|name| !all.contains(name)) {
            self.require_head(name).await?;
        }
        let mut needed: HashMap<PackId, Needed> = HashMap::new();
        let mut counted: Vec<ContextStats> = Vec::new();
        let mut reading = std::pin::pin!(
            futures::stream::iter(all).map(|name| async move { self.stats_of(name).await }).buffered(16)
        );
        while let Some(read) = reading.try_next().await? {
            // It was deleted meanwhile.
            let Some((stats, packs)) = read else { continue };
            let at = counted.len();
            counted.push(stats);
            for (id, size) in packs {
                let new = Needed { size, first: at, shared: false };
                needed.entry(id).and_modify(|known| known.shared |= known.first != at).or_insert(new);
            }
        }
        for pack in needed.values().filter(|pack| !pack.shared) {
            counted[pack.first].own += pack.size;
        }
        let mut stats = StoreStats::default();
        let prefix = packs_prefix();
        let mut listed = self.objects().list(Some(&prefix));
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            let Some(StoreKey::Pack(id)) = StoreKey::parse(&meta.location) else { continue };
            stats.packs += 1;
            stats.packs_size += meta.size;
            stats.unused += if needed.contains_key(&id) { 0 } else { meta.size };
        }
        counted.retain(|context| names.is_empty() || names.contains(&context.context));
        Ok(StoreStats { contexts: counted, ..stats })
    }

    /// Counts what a context takes, and returns its packs with their sizes; `None` if it is gone.
    async fn stats_of(
        &self,
        name: ContextName,
    ) -> Result<Option<(ContextStats, HashMap<PackId, u64>)>, Error> {
        let mut packs: HashMap<PackId, u64> = HashMap::new();
        let mut stats = ContextStats {
            context: name.clone(),
            snapshots: 0,
            files: 0,
            size: 0,
            stored: 0,
            packs: 0,
            packs_size: 0,
            own: 0,
        };
        let each = |snapshot: std::sync::Arc<crate::format::Snapshot>| {
            if stats.snapshots == 0 {
                // The newest comes first.
                stats.files = snapshot.totals.files;
                stats.size = snapshot.totals.bytes;
                stats.stored = snapshot.packs.iter().map(|pack| pack.live).sum();
            }
            stats.snapshots += 1;
            packs.extend(snapshot.packs.iter().map(|pack| (pack.id, pack.size)));
        };
        match self.each_snapshot(&name, each).await {
            Ok(()) => {}
            Err(Error::NoContext { .. } | Error::Moved { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        stats.packs = packs.len() as u64;
        stats.packs_size = packs.values().sum();
        Ok(Some((stats, packs)))
    }
}
