//! A new head for one context.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use policy_core::TreePath;

use super::{Fate, RepairMonitor, RepairOptions, Repaired};
use crate::check::{Damage, DamagedParts};
use crate::commit::{Attempts, Prepared, Published, written_after};
use crate::error::Error;
use crate::format::{
    Changes, ChunkId, ChunkRef, ContextName, LineageId, Snapshot, Totals, TreeEntry, joined,
};
use crate::monitor::Silent;
use crate::packing::{Chunks, PackSink};
use crate::store::{Head, Store};
use crate::tree::{Resolved, SegmentSink, Tree, TreeUpdate};

/// The snapshot whose tree the new head gets, and what it succeeds.
struct Source {
    /// The head's number, also if it can't be read.
    newest: u64,
    /// The snapshot that is mended: the head, or else the newest one that can be read.
    of: Head,
    parts: DamagedParts,
    /// For each part of the tree that can't be read, the entries that an older snapshot has there.
    older: BTreeMap<usize, Vec<TreeEntry>>,
}

/// A new tree, as far as it is made.
struct Mending<'a> {
    store: &'a Store,
    source: &'a Source,
    elsewhere: HashMap<ChunkId, Vec<ChunkRef>>,
    monitor: &'a dyn RepairMonitor,
    repaired: Repaired,
    update: TreeUpdate<'a>,
    sink: PackSink,
}

impl Source {
    fn is_head(&self) -> bool {
        self.of.key.number == self.newest
    }

    /// Whether names may be lost, so that no machine's base may be compared with the new head.
    fn begins_anew(&self) -> bool {
        !self.is_head() || !self.parts.segments.is_empty()
    }
}

impl Store {
    /// Gives a context a new head if its head is damaged.
    pub(super) async fn mend(
        &self,
        name: &ContextName,
        options: &RepairOptions,
        monitor: &dyn RepairMonitor,
    ) -> Result<Repaired, Error> {
        let mut attempts = Attempts::new(self, name).at_most(10);
        loop {
            let Some(source) = self.source(name, options).await? else {
                let what = "none of its snapshots can be read".to_owned();
                return Ok(Repaired { beyond: Some(what), ..Repaired::default() });
            };
            let is_whole = source.parts.packs.is_empty() && source.parts.segments.is_empty();
            if source.is_head() && is_whole && source.parts.files.is_empty() {
                return Ok(Repaired::default());
            }
            let (repaired, prepared) = self.make(&source, options, monitor).await?;
            let Some(prepared) = prepared else { return Ok(repaired) };
            match self.publish(prepared, source.is_head().then_some(&source.of.key)).await? {
                Published::Ours(head) => {
                    return Ok(Repaired { snapshot: Some(head.key.number), ..repaired });
                }
                Published::Theirs => attempts.beaten().await?,
                Published::Late(head) => attempts.late(head.key.number)?,
            }
        }
    }

    /// Finds the snapshot to mend; `None` if none can be read.
    async fn source(&self, name: &ContextName, options: &RepairOptions) -> Result<Option<Source>, Error> {
        let listed = self.listing(name).await?;
        let live = listed.iter().rev().filter(|(_, l)| l.gone.is_none() && l.snapshot.is_some());
        let numbers: Vec<u64> = live.map(|(number, _)| *number).collect();
        let mut readable = None;
        for (at, number) in numbers.iter().enumerate() {
            match self.read_snapshot(name, *number).await {
                Ok(head) => {
                    readable = Some((at, head));
                    break;
                }
                Err(error) if error.is_of_object() && !error.is_of_later_format() => {}
                Err(error) => return Err(error),
            }
        }
        let (Some((at, of)), Some(newest)) = (readable, numbers.first()) else { return Ok(None) };
        if !of.is_live() {
            return Err(self.missing(name, Some(&of)));
        }
        let RepairOptions { read_data, concurrency, memory, .. } = options;
        let parts = self.damaged_parts(&of, read_data.clone(), *concurrency, *memory).await?;
        let older = self.older(name, &of, &parts, &numbers[at + 1..]).await?;
        Ok(Some(Source { newest: *newest, of, parts, older }))
    }

    /// Reads the parts of a tree that can't be read from older snapshots, each from the newest that has it.
    async fn older(
        &self,
        name: &ContextName,
        head: &Head,
        parts: &DamagedParts,
        numbers: &[u64],
    ) -> Result<BTreeMap<usize, Vec<TreeEntry>>, Error> {
        let mut found = BTreeMap::new();
        for number in numbers {
            let missing: Vec<usize> =
                parts.segments.keys().copied().filter(|i| !found.contains_key(i)).collect();
            if missing.is_empty() {
                break;
            }
            let older = match self.read_snapshot(name, *number).await {
                Ok(older) if older.is_live() && older.snapshot.lineage == head.snapshot.lineage => older,
                Ok(_) => break,
                Err(error) if error.is_of_object() => continue,
                Err(error) => return Err(error),
            };
            for index in missing {
                match self.between(&older, range_of(&head.snapshot, index)).await {
                    Ok(entries) => drop(found.insert(index, entries)),
                    Err(error) if error.is_of_object() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Returns the entries of a snapshot from one path up to another.
    async fn between(
        &self,
        head: &Head,
        (first, end): (TreePath, Option<TreePath>),
    ) -> Result<Vec<TreeEntry>, Error> {
        let tree = Tree { store: self, snapshot: &head.snapshot, cache: None };
        let segments = &head.snapshot.segments;
        let from = segments.partition_point(|s| s.first <= first).saturating_sub(1);
        let to = end.as_ref().map_or(segments.len(), |end| segments.partition_point(|s| s.first < *end));
        let is_between =
            |entry: &TreeEntry| entry.path >= first && end.as_ref().is_none_or(|e| entry.path < *e);
        let mut entries = Vec::new();
        let mut read = std::pin::pin!(tree.segments(from..to.max(from)));
        while let Some((_, more)) = read.try_next().await? {
            entries.extend(more.into_iter().filter(is_between));
        }
        Ok(entries)
    }

    /// Makes the new head; no snapshot in a dry run.
    async fn make(
        &self,
        source: &Source,
        options: &RepairOptions,
        monitor: &dyn RepairMonitor,
    ) -> Result<(Repaired, Option<Prepared>), Error> {
        let wanted = self.wanted(source).await?;
        let elsewhere =
            self.elsewhere(&wanted, &source.parts.packs, Some(&|what| monitor.warning(what))).await?;
        let chunks = Arc::new(Chunks::default());
        let sink = PackSink::unhurried(self, chunks, options.memory, options.concurrency.get());
        // A tree with nothing in it that may refer to the packs of the source.
        let empty = Snapshot {
            segments: Vec::new(),
            inline: Bytes::new(),
            totals: Totals::default(),
            ..(*source.of.snapshot).clone()
        };
        let tree = Tree { store: self, snapshot: &empty, cache: None };
        let late = source.of.late_packs();
        let update = TreeUpdate::new(tree.clone()).without(late).out_of(source.parts.packs.iter().copied());
        let repaired = Repaired {
            head_damaged: true,
            from: (!source.is_head()).then_some(source.of.key.number),
            begins_anew: source.begins_anew(),
            ..Repaired::default()
        };
        let mut mending = Mending { store: self, source, elsewhere, monitor, repaired, update, sink };
        mending.all(options.dry_run).await?;
        let Mending { mut repaired, update, mut sink, .. } = mending;
        if options.dry_run {
            return Ok((repaired, None));
        }
        let updated = update.finish(&mut sink).await?;
        // A part of an older tree need not fit the parts round it.
        for path in &updated.blocked {
            repaired.left_out += 1;
            let (key, what) = (path.to_string(), "another path is in its way".to_owned());
            monitor.file(&source.of.snapshot.context, path, Fate::LeftOut, &Damage { key, what });
        }
        sink.flush(&Silent).await?;
        let listed = updated.list(&tree, &sink)?;
        let mut snapshot = Snapshot {
            number: source.newest + 1,
            parent: Some(source.of.digest),
            created: self.env().now(),
            session: "repair".to_owned(),
            nonce: self.random()?,
            totals: updated.totals,
            changes: Changes { added: 0, changed: repaired.healed, deleted: repaired.left_out },
            extensions: written_after(&source.of.snapshot),
            packs: listed.packs,
            segments: listed.segments,
            inline: listed.inline,
            ..empty.clone()
        };
        if source.begins_anew() {
            snapshot.lineage = LineageId(self.random()?);
            let ancestors = joined(&[], &source.of.snapshot, false);
            snapshot = snapshot.with_ancestors(ancestors);
        }
        if !source.is_head() {
            snapshot.parent = None;
            self.take_over(&mut snapshot, source).await?;
        }
        Ok((repaired, Some(Prepared::of(snapshot)?)))
    }

    /// Notes by which time a snapshot has to land that takes over packs of one that is not its parent. That one is not
    /// forgotten at a time that the store tells before.
    async fn take_over(&self, snapshot: &mut Snapshot, source: &Source) -> Result<(), Error> {
        let land_by = self.land_by_now().await?;
        let of = &source.of;
        let number = i64::try_from(of.key.number).unwrap_or(i64::MAX);
        if self.is_gone(&of.snapshot.context, of.key.number).await? {
            return Err(Error::NoSnapshot { name: of.snapshot.context.clone(), number });
        }
        for pack in &mut snapshot.packs {
            pack.land_by.get_or_insert(land_by);
        }
        Ok(())
    }

    /// Returns the chunks that have to be looked for elsewhere.
    async fn wanted(&self, source: &Source) -> Result<HashSet<ChunkId>, Error> {
        let mut wanted = HashSet::new();
        let tree = Tree { store: self, snapshot: &source.of.snapshot, cache: None };
        let indexes =
            (0..source.of.snapshot.segments.len()).filter(|i| !source.parts.segments.contains_key(i));
        let mut segments = std::pin::pin!(tree.segments(indexes.collect::<Vec<_>>()));
        while let Some((_, entries)) = segments.try_next().await? {
            let damaged = entries.iter().filter(|entry| source.parts.files.contains_key(&entry.path));
            wanted.extend(damaged.flat_map(|file| &file.chunks).map(|chunk| chunk.id));
        }
        let older = source.older.values().flatten();
        wanted.extend(older.flat_map(|entry| &entry.chunks).map(|chunk| chunk.id));
        Ok(wanted)
    }
}

impl Mending<'_> {
    /// Goes through the source's tree.
    async fn all(&mut self, dry_run: bool) -> Result<(), Error> {
        let source = self.source;
        let snapshot = &source.of.snapshot;
        for index in 0..snapshot.segments.len() {
            if let Some(cause) = source.parts.segments.get(&index) {
                self.part(index, cause, dry_run).await?;
                continue;
            }
            let tree = Tree { store: self.store, snapshot, cache: None };
            for entry in tree.segment(index).await? {
                match source.parts.files.get(&entry.path) {
                    None => self.put(entry, dry_run).await?,
                    Some(cause) => self.file(entry, Fate::Healed, cause, dry_run).await?,
                }
            }
        }
        Ok(())
    }

    /// Deals with a part of the tree that can't be read.
    async fn part(&mut self, index: usize, cause: &Damage, dry_run: bool) -> Result<(), Error> {
        let told = &self.source.of.snapshot.segments[index];
        let Some(entries) = self.source.older.get(&index) else {
            self.repaired.unnamed += u64::from(told.entries);
            return Ok(());
        };
        for entry in entries.clone() {
            match entry.chunks.is_empty() {
                true => self.put(entry, dry_run).await?,
                false => self.file(entry, Fate::FromOlder, cause, dry_run).await?,
            }
        }
        Ok(())
    }

    /// Puts a file whose chunks are all copied, or leaves it out.
    async fn file(
        &mut self,
        file: TreeEntry,
        fate: Fate,
        cause: &Damage,
        dry_run: bool,
    ) -> Result<(), Error> {
        let found = self.chunks(&file, dry_run).await?;
        let (fate, count) = match &found {
            Some(_) if fate == Fate::FromOlder => (fate, &mut self.repaired.from_older),
            Some(_) => (fate, &mut self.repaired.healed),
            None => (Fate::LeftOut, &mut self.repaired.left_out),
        };
        *count += 1;
        let context = &self.source.of.snapshot.context;
        self.monitor.file(context, &file.path, fate, cause);
        let entry = match found {
            Some(chunks) => TreeEntry { chunks, ..file },
            None => file.lost(),
        };
        self.put(entry, dry_run).await
    }

    /// Returns where the chunks of a file are from now on; `None` if one of them can't be had. In a dry run they are
    /// read, and stay where they are.
    async fn chunks(&mut self, file: &TreeEntry, dry_run: bool) -> Result<Option<Vec<ChunkRef>>, Error> {
        let mut chunks = Vec::with_capacity(file.chunks.len());
        for chunk in &file.chunks {
            let others = self.elsewhere.get(&chunk.id).into_iter().flatten();
            let mut found = None;
            for place in std::iter::once(chunk).chain(others) {
                let copied = match dry_run {
                    true => self.store.chunk(place).await.map(|_| *place),
                    false => self.sink.copy(place).await,
                };
                match copied {
                    Ok(copied) => {
                        found = Some(copied);
                        break;
                    }
                    Err(error) if error.is_of_object() => {}
                    Err(error) => return Err(error),
                }
            }
            match found {
                Some(found) => chunks.push(found),
                None => return Ok(None),
            }
        }
        Ok(Some(chunks))
    }

    async fn put(&mut self, entry: TreeEntry, dry_run: bool) -> Result<(), Error> {
        match dry_run {
            true => Ok(()),
            false => self.update.apply(Resolved::Put(entry), &mut self.sink).await,
        }
    }
}

/// Returns the path at which a segment begins, and that at which the next one does.
fn range_of(snapshot: &Snapshot, index: usize) -> (TreePath, Option<TreePath>) {
    let first = snapshot.segments[index].first.clone();
    (first, snapshot.segments.get(index + 1).map(|next| next.first.clone()))
}
