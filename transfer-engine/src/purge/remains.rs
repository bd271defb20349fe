//! What snapshots that were erased may have left: parts of packs that no snapshot needs any more.
//!
//! A pack is kept as a whole, as long as one of its chunks is needed. Nothing tells which file another one of its chunks
//! was of, once all snapshots with that file are erased.

use std::collections::{BTreeSet, HashSet};
use std::pin::pin;

use futures::TryStreamExt;

use crate::error::Error;
use crate::format::{ChunkId, Footer, LineageId, PackId};
use crate::packing::chunks_of;
use crate::store::Store;
use crate::tree::Tree;

/// The packs of some contexts, and what is needed of them.
#[derive(Default)]
pub(super) struct Remains {
    pub(super) packs: BTreeSet<PackId>,
    needed: HashSet<ChunkId>,
}

impl Remains {
    /// Whether something may be in a pack that was of an erased snapshot.
    pub(super) fn may_be_in(&self, id: PackId, footer: &Footer) -> bool {
        self.packs.contains(&id) && chunks_of(id, footer).any(|chunk| !self.needed.contains(&chunk.id))
    }
}

impl Store {
    /// Returns what snapshots need that are not forgotten, in all contexts that have to do with one of these lineages.
    /// Others never shared a pack with them.
    pub(super) async fn remains(&self, lineages: &HashSet<LineageId>) -> Result<Remains, Error> {
        let (mut remains, mut met) = (Remains::default(), HashSet::new());
        for name in self.names().await? {
            let mut is_head = true;
            for number in self.live_numbers(&name).await? {
                let Some(head) = self.read_if_there(&name, number).await? else { continue };
                let snapshot = &*head.snapshot;
                let is_one = || snapshot.contained().iter().any(|one| lineages.contains(&one.lineage));
                if std::mem::take(&mut is_head) && (!head.is_live() || !is_one()) {
                    break;
                }
                remains.packs.extend(snapshot.packs.iter().map(|pack| pack.id));
                // Most segments are those of the snapshot before.
                let all = 0..snapshot.segments.len();
                let new: Vec<usize> = all.filter(|at| met.insert(snapshot.segments[*at].digest)).collect();
                let tree = Tree { store: self, snapshot, cache: None };
                let mut segments = pin!(tree.segments(new));
                while let Some((_, entries)) = segments.try_next().await? {
                    let chunks = entries.iter().flat_map(|entry| &entry.chunks);
                    remains.needed.extend(chunks.map(|chunk| chunk.id));
                }
            }
        }
        Ok(remains)
    }
}
