//! How much is stored, for which contexts, and what of it is shared.

use std::collections::HashMap;

use futures::StreamExt;

use crate::error::Error;
use crate::format::{ContextName, PackId, PackUse, StoreKey, packs_prefix};
use crate::store::Store;

/// The figures of one context. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct StoreStats {
    /// The contexts that were asked for, sorted by name.
    pub contexts: Vec<ContextStats>,
    /// All packs of the store.
    pub packs: u64,
    /// What they take.
    pub packs_size: u64,
    /// What packs take that no snapshot needs. A collection deletes them after the grace period.
    pub unused: u64,
    /// How much of the packs is needed.
    pub alive: AlivePacks,
}

/// The numbers of packs, by how many of their bytes are needed. The snapshot that needs most of a pack counts: several
/// together may need more of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlivePacks {
    /// Needed as a whole, but for its list of contents.
    pub full: u64,
    /// Needed by half or more.
    pub over_half: u64,
    /// Needed by less than half.
    pub under_half: u64,
    /// Needed by no snapshot.
    pub unused: u64,
}

impl AlivePacks {
    fn count(&mut self, needed: Option<&Needed>) {
        let counter = match needed.map(|Needed { pack, .. }| pack) {
            None => &mut self.unused,
            Some(pack) if pack.live.saturating_add(pack.footer_len.into()) >= pack.size => &mut self.full,
            Some(pack) if pack.live.saturating_mul(2) >= pack.size => &mut self.over_half,
            Some(_) => &mut self.under_half,
        };
        *counter += 1;
    }
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
    /// As the snapshot uses it that uses most of it.
    pack: PackUse,
    /// The first context that needs it.
    first: usize,
    shared: bool,
}

impl Store {
    /// Counts what contexts and the store take: those of these names, or all. Reads all snapshots of all contexts, and
    /// lists all packs.
    ///
    /// # Errors
    /// [`Error::NoContext`] if one of the names is not that of a context; those of reading the store, also if a snapshot
    /// is damaged.
    pub async fn stats(&self, names: &[ContextName]) -> Result<StoreStats, Error> {
        let mut damaged = None;
        let stats = self.stats_but(names, |_, error| damaged = damaged.take().or(Some(error))).await?;
        damaged.map_or(Ok(stats), Err)
    }

    /// Does what [`Store::stats`] does for all contexts but those with damaged snapshots: these go to `damaged`, with what
    /// is wrong with them. What only they need counts as needed by nobody.
    ///
    /// # Errors
    /// [`Error::NoContext`] if one of the names is not that of a context; those of reading the store.
    pub async fn stats_but(
        &self,
        names: &[ContextName],
        mut damaged: impl FnMut(ContextName, Error) + Send,
    ) -> Result<StoreStats, Error> {
        let mut skipped = Vec::new();
        let all = self.list_contexts_but(|name, error| skipped.push((name, error))).await?;
        let all: Vec<ContextName> = all.into_iter().map(|context| context.name).collect();
        let is_asked = |name: &ContextName| names.is_empty() || names.contains(name);
        let is_known =
            |name: &ContextName| all.contains(name) || skipped.iter().any(|(other, _)| other == name);
        for name in names.iter().filter(|name| !is_known(name)) {
            self.require_head(name).await?;
        }
        let mut needed: HashMap<PackId, Needed> = HashMap::new();
        let mut counted: Vec<ContextStats> = Vec::new();
        let mut reading = std::pin::pin!(
            futures::stream::iter(all)
                .map(|name| async move { (name.clone(), self.stats_of(name).await) })
                .buffered(16)
        );
        while let Some((name, read)) = reading.next().await {
            let (stats, packs) = match read {
                Ok(Some(read)) => read,
                // It was deleted meanwhile.
                Ok(None) => continue,
                Err(error) if error.is_of_object() => {
                    skipped.push((name, error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let at = counted.len();
            counted.push(stats);
            for (id, pack) in packs {
                let known = needed.entry(id).or_insert(Needed { pack, first: at, shared: false });
                known.shared |= known.first != at;
                known.pack.live = known.pack.live.max(pack.live);
            }
        }
        for pack in needed.values().filter(|pack| !pack.shared) {
            counted[pack.first].own += pack.pack.size;
        }
        let mut stats = StoreStats::default();
        let prefix = packs_prefix();
        let mut listed = self.list_all(&prefix);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            let Some(StoreKey::Pack(id)) = StoreKey::parse(&meta.location) else { continue };
            stats.packs += 1;
            stats.packs_size += meta.size;
            let needed = needed.get(&id);
            stats.unused += if needed.is_some() { 0 } else { meta.size };
            stats.alive.count(needed);
        }
        counted.retain(|context| is_asked(&context.context));
        skipped.into_iter().filter(|(name, _)| is_asked(name)).for_each(|(name, error)| damaged(name, error));
        Ok(StoreStats { contexts: counted, ..stats })
    }

    /// Counts what a context takes, and returns its packs as the snapshots use them that use most; `None` if it is gone.
    async fn stats_of(
        &self,
        name: ContextName,
    ) -> Result<Option<(ContextStats, HashMap<PackId, PackUse>)>, Error> {
        let mut packs: HashMap<PackId, PackUse> = HashMap::new();
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
            for pack in &snapshot.packs {
                let most = packs.entry(pack.id).or_insert(*pack);
                most.live = most.live.max(pack.live);
            }
        };
        match self.each_snapshot(&name, each).await {
            Ok(()) => {}
            Err(Error::NoContext { .. } | Error::Moved { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        stats.packs = packs.len() as u64;
        stats.packs_size = packs.values().map(|pack| pack.size).sum();
        Ok(Some((stats, packs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_counted_by_how_much_of_them_is_needed() {
        let mut alive = AlivePacks::default();
        for live in [152, 151, 100, 99, 0] {
            let pack = PackUse { id: PackId([1; 16]), size: 200, footer_len: 48, live, land_by: None };
            alive.count(Some(&Needed { pack, first: 0, shared: false }));
        }
        alive.count(None);
        assert_eq!(alive, AlivePacks { full: 1, over_half: 2, under_half: 2, unused: 1 });
    }
}
