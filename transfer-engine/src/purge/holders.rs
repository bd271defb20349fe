//! Which snapshots have the paths, which packs hold their content, and who needs these packs.

use std::collections::{BTreeSet, HashSet};
use std::pin::pin;

use futures::{StreamExt, TryStreamExt};
use policy_core::{Digest, TreePath};

use super::remains::Remains;
use super::{Plan, PurgedTag, StillHeld, Wanted};
use crate::error::Error;
use crate::format::{ContextName, Footer, LineageId, PackId, Place, Snapshot};
use crate::packing::chunks_of;
use crate::store::{Head, Store};
use crate::tree::Tree;

/// What one snapshot has of what is purged.
#[derive(Default)]
struct Holding {
    has_paths: bool,
    needs_packs: bool,
}

/// What the history of a context has told.
struct Told {
    /// Whether all snapshots that the context ever had could be read.
    is_all: bool,
    /// The lineages that they belong to, or contain.
    lineages: HashSet<LineageId>,
}

impl Store {
    /// Finds out what has to be done to purge paths.
    pub(super) async fn plan_purge(&self, context: &ContextName, paths: &[TreePath]) -> Result<Plan, Error> {
        self.require_head(context).await?;
        let mut plan = Plan::default();
        let mut wanted = Wanted { context, paths, chunks: HashSet::new(), packs: HashSet::new() };
        let told = self.look_at_history(&mut wanted, &mut plan).await?;
        if plan.purged.paths.is_empty() {
            let path = paths.first().map(ToString::to_string).unwrap_or_default();
            let number = self.require_head(context).await?.key.number;
            return Err(Error::NoPath { path, name: context.clone(), number });
        }
        let remains = match told.is_all {
            true => Remains::default(),
            false => self.remains(&told.lineages).await?,
        };
        self.plan_packs(&wanted, &remains, &mut plan).await?;
        for name in self.names().await? {
            let mut met = HashSet::new();
            let mut is_head = true;
            for number in self.live_numbers(&name).await? {
                let Some(head) = self.read_if_there(&name, number).await? else { continue };
                if is_head && !head.is_live() {
                    break;
                }
                plan.can_tell(&head.snapshot)?;
                let has_paths = name == *context && plan.with_paths.contains(&number);
                let needs_packs = head.snapshot.packs.iter().any(|pack| plan.packs.contains(&pack.id));
                let holding = Holding { has_paths, needs_packs };
                if holding.needs_packs {
                    self.still_held(&head, &wanted, &mut plan, &mut met).await?;
                }
                plan.note(&name, &head, is_head, &holding, context);
                is_head = false;
            }
        }
        self.plan_tags(&mut plan).await?;
        Ok(plan)
    }

    /// Finds what the snapshots of the context have at the paths, also those that are forgotten and not erased yet.
    async fn look_at_history(&self, wanted: &mut Wanted<'_>, plan: &mut Plan) -> Result<Told, Error> {
        let (mut seen, mut lineages, mut read) = (HashSet::new(), HashSet::new(), 0);
        let listed = self.listing(wanted.context).await?;
        let newest = listed.last_key_value().map_or(0, |(number, _)| *number);
        for (number, object) in listed.into_iter().rev() {
            // What is erased is an object without bytes.
            if object.snapshot.as_ref().is_none_or(|key| key.size == 0) {
                continue;
            }
            let Some(head) = self.read_if_there(wanted.context, number).await? else { continue };
            match self.chunks_within(&head, wanted, plan, &mut seen).await {
                Ok(has_paths) if has_paths && !object.is_gone() => _ = plan.with_paths.insert(number),
                Ok(_) => {}
                // Nothing keeps the packs of a forgotten snapshot for ever.
                Err(error) if object.is_gone() && error.is_of_object() => continue,
                Err(error) => return Err(error),
            }
            lineages.extend(head.snapshot.contained().into_iter().map(|one| one.lineage));
            read += 1;
        }
        Ok(Told { is_all: read >= newest, lineages })
    }

    /// Takes note of the tags of the snapshots that are to be forgotten.
    async fn plan_tags(&self, plan: &mut Plan) -> Result<(), Error> {
        for (context, numbers) in &plan.purged.forgotten {
            for (number, tags) in self.tags(context).await? {
                if numbers.contains(&number) {
                    let tagged = |tag| PurgedTag { context: context.clone(), number, tag };
                    plan.purged.tags.extend(tags.into_iter().map(tagged));
                }
            }
        }
        Ok(())
    }

    /// Returns the numbers of the snapshots of a context that are not forgotten, newest first.
    pub(super) async fn live_numbers(&self, name: &ContextName) -> Result<Vec<u64>, Error> {
        let listed = self.list_snapshots(name).await?.into_iter();
        Ok(listed.filter(|(_, gone)| !gone).map(|(number, _)| number).collect())
    }

    /// Reads a snapshot; `None` if it was erased since it was listed.
    pub(super) async fn read_if_there(&self, name: &ContextName, number: u64) -> Result<Option<Head>, Error> {
        match self.read_snapshot(name, number).await {
            Ok(head) => Ok(Some(head)),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Ok(None),
            Err(error) => match self.list_snapshots(name).await?.contains(&(number, false)) {
                true => Err(error),
                false => Ok(None),
            },
        }
    }

    /// Takes note of the chunks at the paths in a snapshot; returns whether it has any of the paths.
    async fn chunks_within(
        &self,
        head: &Head,
        wanted: &mut Wanted<'_>,
        plan: &mut Plan,
        seen: &mut HashSet<(Digest, bool)>,
    ) -> Result<bool, Error> {
        let snapshot = &*head.snapshot;
        let tree = Tree { store: self, snapshot, cache: None };
        let indexes: BTreeSet<usize> =
            wanted.paths.iter().flat_map(|path| tree.segments_within(path)).collect();
        // Most segments are those of the snapshot before.
        let known = |index: &usize| seen.contains(&(snapshot.segments[*index].digest, true));
        let mut has_paths = indexes.iter().any(known);
        let unread = |index: &usize| {
            let digest = snapshot.segments[*index].digest;
            !seen.contains(&(digest, true)) && !seen.contains(&(digest, false))
        };
        let new: Vec<usize> = indexes.into_iter().filter(unread).collect();
        let mut segments = pin!(tree.segments(new));
        while let Some((index, entries)) = segments.try_next().await? {
            let mut found = false;
            for entry in entries {
                if !wanted.holds(&entry.path) {
                    continue;
                }
                found = true;
                wanted.chunks.extend(entry.chunks.iter().map(|chunk| chunk.id));
                wanted.packs.extend(entry.chunks.iter().map(|chunk| chunk.block.pack));
                plan.purged.paths.insert(entry.path);
            }
            has_paths |= found;
            seen.insert((snapshot.segments[index].digest, found));
        }
        Ok(has_paths)
    }

    /// Finds the packs that hold content of the paths, and those that may.
    async fn plan_packs(&self, wanted: &Wanted<'_>, remains: &Remains, plan: &mut Plan) -> Result<(), Error> {
        let mut footers = pin!(self.footers(&BTreeSet::new()).await?);
        while let Some((id, footer)) = footers.next().await {
            let has_content = |footer: &Footer| chunks_of(id, footer).any(|c| wanted.chunks.contains(&c.id));
            let may_have = |footer: &Footer| remains.may_be_in(id, footer);
            match footer {
                // It was deleted since it was listed.
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => continue,
                Err(error) if !error.is_of_object() => return Err(error),
                _ if wanted.packs.contains(&id) => {}
                Ok(footer) if has_content(&footer) => {}
                Ok(footer) if may_have(&footer) => plan.purged.unknown_packs += 1,
                Ok(_) => continue,
                Err(_) if remains.packs.contains(&id) => plan.purged.unknown_packs += 1,
                Err(error) => {
                    plan.unread.insert(id, error);
                    continue;
                }
            }
            plan.packs.insert(id);
        }
        plan.purged.packs = plan.packs.len() as u64;
        Ok(())
    }

    /// Takes note of the files of a snapshot that have a chunk of what is purged, at another path or in another context.
    async fn still_held(
        &self,
        head: &Head,
        wanted: &Wanted<'_>,
        plan: &mut Plan,
        met: &mut HashSet<Digest>,
    ) -> Result<(), Error> {
        let snapshot = &*head.snapshot;
        let tree = Tree { store: self, snapshot, cache: None };
        let is_new = |index: &usize| {
            let segment = &snapshot.segments[*index];
            needs(snapshot, segment, &plan.packs) && met.insert(segment.digest)
        };
        let mut is_new = is_new;
        let indexes: Vec<usize> = (0..snapshot.segments.len()).filter(&mut is_new).collect();
        let mut segments = pin!(tree.segments(indexes));
        while let Some((_, entries)) = segments.try_next().await? {
            for entry in entries {
                let is_purged = snapshot.context == *wanted.context && wanted.holds(&entry.path);
                if is_purged || !entry.chunks.iter().any(|chunk| wanted.chunks.contains(&chunk.id)) {
                    continue;
                }
                let (context, number) = (snapshot.context.clone(), snapshot.number);
                plan.purged.still_held.insert(StillHeld { context, path: entry.path, number });
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Returns an error if a snapshot needs a pack that can't say whether it has content of the paths.
    fn can_tell(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let unread = snapshot.packs.iter().find_map(|pack| self.unread.remove(&pack.id));
        unread.map_or(Ok(()), Err)
    }

    /// Takes note of what has to become of a snapshot.
    fn note(
        &mut self,
        name: &ContextName,
        head: &Head,
        is_head: bool,
        holding: &Holding,
        context: &ContextName,
    ) {
        if !holding.has_paths && !holding.needs_packs {
            return;
        }
        // The old head is forgotten as well, once there is a new one.
        self.purged.forgotten.entry(name.clone()).or_default().push(head.key.number);
        if is_head {
            self.heads.insert(name.clone());
            if name != context {
                self.purged.moved.insert(name.clone());
            }
        }
    }
}

/// Whether chunks of a segment are in one of the packs.
fn needs(snapshot: &Snapshot, segment: &crate::format::SegmentRef, packs: &BTreeSet<PackId>) -> bool {
    let is_one = |pack: u32| snapshot.packs.get(pack as usize).is_some_and(|pack| packs.contains(&pack.id));
    let place = match segment.place {
        Place::Pack { pack, .. } => is_one(pack),
        Place::Inline { .. } => false,
    };
    place || segment.packs.iter().any(|(pack, _)| is_one(*pack))
}
