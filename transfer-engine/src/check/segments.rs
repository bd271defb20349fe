//! Whether the segments of trees can be read, and which files of them can.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use policy_core::{Digest, Node, TreePath};

use super::packs::Packs;
use super::{Damage, fault, key_of};
use crate::error::Error;
use crate::format::{PackId, Place, SegmentRef, Snapshot, StoreKey, TreeEntry};
use crate::read_data::ReadData;
use crate::store::Head;
use crate::tree::Tree;

/// What a segment is found to be.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Why it can't be read.
    pub(super) fault: Option<Damage>,
    /// The packs that its chunks lie in.
    packs: BTreeSet<PackId>,
    /// Its files that can't be read whole.
    pub(super) files: Vec<(TreePath, Damage)>,
}

/// What tells one segment from another: its digest, how many entries and which first path a snapshot tells of it, and
/// where it lies, since a copy may be whole where another is lost.
type Key = (Digest, u32, TreePath, Option<(PackId, u32)>);

/// The segments of a store, each of which is checked once.
pub(super) struct Segments<'a> {
    packs: &'a Packs<'a>,
    read: ReadData,
    checked: Mutex<HashMap<Key, Arc<Segment>>>,
}

impl Segment {
    /// Says which pack a segment needs that its snapshot does not list with it.
    pub(super) fn differs_from(&self, told: &SegmentRef, snapshot: &Snapshot) -> Option<String> {
        if self.fault.is_some() {
            return None;
        }
        let listed: BTreeSet<PackId> =
            told.packs.iter().filter_map(|(pack, _)| Some(snapshot.packs.get(*pack as usize)?.id)).collect();
        let missing = self.packs.difference(&listed).next()?;
        Some(format!("it does not say that the files from `{}` on are in {}", told.first, key_of(*missing)))
    }
}

impl<'a> Segments<'a> {
    pub(super) fn new(packs: &'a Packs<'a>, read: ReadData) -> Self {
        Self { packs, read, checked: Mutex::default() }
    }

    /// Checks the segments of a snapshot whose packs are checked.
    pub(super) async fn check(&self, head: &Head) -> Result<Vec<Arc<Segment>>, Error> {
        let (store, snapshot) = (self.packs.store, &*head.snapshot);
        let mut found: Vec<Option<Arc<Segment>>> = {
            let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
            snapshot.segments.iter().map(|told| checked.get(&key(told, snapshot)).cloned()).collect()
        };
        let new: Vec<usize> = (0..found.len()).filter(|index| found[*index].is_none()).collect();
        let tree = Tree { store, snapshot, cache: None };
        let mut left = &new[..];
        while !left.is_empty() {
            let read = self.read(&tree, left, &mut found).await?;
            left = &left[read..];
            // A stream of segments ends with the first that can't be read, and may have lost some after it.
            if let Some((index, rest)) = left.split_first() {
                let told = &snapshot.segments[*index];
                let segment = match tree.segment(*index).await {
                    Ok(entries) => self.judge(&entries).await?,
                    Err(error) => {
                        let what = fault(store, error).await?;
                        let damage = Damage { key: place_of(told, snapshot), what };
                        Segment { fault: Some(damage), ..Segment::default() }
                    }
                };
                found[*index] = Some(self.note(told, snapshot, segment));
                left = rest;
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Checks segments until one can't be read, and returns how many it were.
    async fn read(
        &self,
        tree: &Tree<'_>,
        wanted: &[usize],
        found: &mut [Option<Arc<Segment>>],
    ) -> Result<usize, Error> {
        let mut segments = pin!(tree.segments(wanted.iter().copied()));
        let mut read = 0;
        while let Some(Ok((index, entries))) = segments.next().await {
            let segment = self.judge(&entries).await?;
            found[index] = Some(self.note(&tree.snapshot.segments[index], tree.snapshot, segment));
            read += 1;
        }
        Ok(read)
    }

    async fn judge(&self, entries: &[TreeEntry]) -> Result<Segment, Error> {
        if let ReadData::Paths(wanted) = &self.read {
            let is_wanted = |entry: &&TreeEntry| {
                use std::os::unix::ffi::OsStrExt;
                wanted.is_match(std::ffi::OsStr::from_bytes(entry.path.as_bytes()))
            };
            self.packs.read_entries(entries.iter().filter(is_wanted)).await?;
        }
        let packs = entries.iter().flat_map(|entry| &entry.chunks).map(|chunk| chunk.block.pack).collect();
        let files = entries.iter().filter(|entry| matches!(entry.entry.node, Node::File { .. }));
        let damaged = files.filter_map(|file| {
            let cause = file.chunks.iter().find_map(|chunk| self.packs.fault_of(chunk))?;
            Some((file.path.clone(), cause))
        });
        Ok(Segment { fault: None, packs, files: damaged.collect() })
    }

    fn note(&self, told: &SegmentRef, snapshot: &Snapshot, segment: Segment) -> Arc<Segment> {
        let segment = Arc::new(segment);
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.insert(key(told, snapshot), Arc::clone(&segment));
        segment
    }
}

fn key(told: &SegmentRef, snapshot: &Snapshot) -> Key {
    let place = match told.place {
        Place::Inline { .. } => None,
        Place::Pack { pack, offset } => snapshot.packs.get(pack as usize).map(|pack| (pack.id, offset)),
    };
    (told.digest, told.entries, told.first.clone(), place)
}

/// Returns the key of the object that a segment lies in.
fn place_of(told: &SegmentRef, snapshot: &Snapshot) -> String {
    match key(told, snapshot).3 {
        Some((pack, _)) => key_of(pack),
        None => {
            let (context, number) = (snapshot.context.clone(), snapshot.number);
            StoreKey::Snapshot { context, number }.path().to_string()
        }
    }
}
