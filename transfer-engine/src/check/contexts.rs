//! Checking the snapshots of one context.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};
use policy_core::TreePath;

use super::packs::Packs;
use super::segments::{Segment, Segments};
use super::survey::Row;
use super::{CheckOptions, CheckedContext, CheckedSnapshot, Damage, DamagedFile, MOST_FILES, fault, key_of};
use crate::error::Error;
use crate::format::{ContextName, Kind, LineageId, Snapshot, StoreKey};
use crate::store::{Head, Store};

/// Snapshots of a context that are read ahead: each may be large.
const AHEAD: usize = 2;
/// Packs of a snapshot that are looked at together.
const PACKS: usize = 64;

/// Checks contexts, which share packs and segments.
pub(super) struct Checker<'a> {
    store: &'a Store,
    packs: &'a Packs<'a>,
    segments: Segments<'a>,
}

/// What is found of a context, as it is found.
struct Found {
    context: CheckedContext,
    /// The lowest number that is listed, of a snapshot or a mark.
    lowest: u64,
    /// The lineage of its newest snapshot that can be read.
    lineage: Option<LineageId>,
    files: BTreeMap<TreePath, DamagedFile>,
}

/// The snapshot after the one that is being checked.
struct Successor {
    head: Head,
    /// Whether what is checked next is what the listing shows right below it.
    adjoins: bool,
}

impl<'a> Checker<'a> {
    pub(super) fn new(store: &'a Store, packs: &'a Packs<'a>, options: &CheckOptions) -> Self {
        Self { store, packs, segments: Segments::new(packs, options.read_data.clone()) }
    }

    /// Checks what a listing shows of a context, the newest number first, and its tags if it has some.
    pub(super) async fn context(
        &self,
        name: ContextName,
        rows: Vec<Row>,
        has_tags: bool,
    ) -> Result<CheckedContext, Error> {
        let mut found = Found::new(&name, rows.last().map_or(0, |row| row.number));
        let newest = rows.iter().find(|row| row.size.is_some()).map(|row| row.number);
        let mut read = stream::iter(rows)
            .map(|row| {
                let name = &name;
                async move { (row, self.read(name, row).await) }.boxed()
            })
            .buffered(AHEAD);
        let mut successor: Option<Successor> = None;
        while let Some((row, read)) = read.next().await {
            let is_head = Some(row.number) == newest;
            match read? {
                Read::Forgotten => {
                    if let Some(successor) = &mut successor {
                        successor.adjoins = false;
                    }
                }
                Read::Damaged(what) => {
                    found.unreadable(row.number, is_head, what);
                    successor = None;
                }
                Read::Whole(head) => {
                    if let Some(successor) = successor.take() {
                        found.links(&successor, &head);
                    }
                    found.context.ended |= is_head && !head.is_live();
                    // Below a deletion nothing is needed, and a collection may be about to delete what is left.
                    if head.snapshot.kind == (Kind::Terminal { moved_to: None }) {
                        break;
                    }
                    if head.snapshot.kind == Kind::Normal && !found.context.ended {
                        found.lineage.get_or_insert(head.snapshot.lineage);
                        self.snapshot(&head, is_head, &mut found).await?;
                    }
                    successor = Some(Successor { head: *head, adjoins: true });
                }
            }
        }
        drop(read);
        if let Some(successor) = successor {
            found.begins(&successor.head);
        }
        if let (Some(lineage), true) = (found.lineage, has_tags) {
            self.store.check_tags(lineage, &mut found.context).await?;
        }
        Ok(found.end())
    }

    /// Reads a snapshot, if it is one that has to be there.
    async fn read(&self, name: &ContextName, row: Row) -> Result<Read, Error> {
        let Some(size) = row.size else { return Ok(Read::Forgotten) };
        if row.gone {
            return Ok(Read::Forgotten);
        }
        // This takes no permit: while the snapshot before it is checked, nobody polls this, and it would keep the permit.
        let read = match size {
            0 => Err("it is empty, and not marked as forgotten".to_owned()),
            _ => match self.store.read_snapshot(name, row.number).await {
                Ok(head) => Ok(head),
                Err(error) => Err(fault(self.store, error).await?),
            },
        };
        match read {
            Ok(head) => Ok(Read::Whole(Box::new(head))),
            Err(_) if self.is_forgotten(name, row.number).await? => Ok(Read::Forgotten),
            Err(what) => Ok(Read::Damaged(what)),
        }
    }

    /// Whether a snapshot is marked as forgotten by now, or its context was collected as a whole.
    async fn is_forgotten(&self, name: &ContextName, number: u64) -> Result<bool, Error> {
        Ok(self.store.is_gone(name, number).await? || self.store.listing(name).await?.is_empty())
    }

    /// Checks what a snapshot refers to.
    async fn snapshot(&self, head: &Head, is_head: bool, found: &mut Found) -> Result<(), Error> {
        let snapshot = &*head.snapshot;
        let mut what = None;
        let mut packs = stream::iter(snapshot.packs.clone())
            .map(|told| async move { (told, self.packs.check(&told).await) }.boxed())
            .buffer_unordered(PACKS);
        while let Some((told, pack)) = packs.next().await {
            what = what.or(pack?.differs_from(&told));
        }
        drop(packs);
        let segments = self.segments.check(head).await?;
        for (told, segment) in snapshot.segments.iter().zip(&segments) {
            what = what.or_else(|| segment.differs_from(told, snapshot));
        }
        // Reading the files that match a pattern finds damage as well, so this comes after it.
        let mut damaged_packs = self.packs.damaged_of(&snapshot.packs);
        let is_damaged = what.is_some()
            || !damaged_packs.is_empty()
            || segments.iter().any(|s| s.fault.is_some() || !s.files.is_empty());
        // A collection may have deleted what a snapshot needed, once that was forgotten.
        if is_damaged && self.is_forgotten(&snapshot.context, snapshot.number).await? {
            return Ok(());
        }
        let damaged_files = found.files(snapshot, &segments);
        found.context.damaged_packs.append(&mut damaged_packs);
        let (number, created) = (snapshot.number, Some(snapshot.created));
        found.context.snapshots.push(CheckedSnapshot { number, is_head, created, damaged_files, what });
        Ok(())
    }
}

/// What became of reading a snapshot.
enum Read {
    Whole(Box<Head>),
    /// It need not be there.
    Forgotten,
    Damaged(String),
}

impl Found {
    fn new(name: &ContextName, lowest: u64) -> Self {
        let context = CheckedContext {
            name: name.clone(),
            ended: false,
            snapshots: Vec::new(),
            files: Vec::new(),
            damage: Vec::new(),
            odd: Vec::new(),
            lost_parents: BTreeSet::new(),
            damaged_packs: BTreeSet::new(),
        };
        Self { context, lowest, lineage: None, files: BTreeMap::new() }
    }

    fn key(&self, number: u64) -> String {
        StoreKey::Snapshot { context: self.context.name.clone(), number }.path().to_string()
    }

    /// Notes a snapshot that can't be read.
    fn unreadable(&mut self, number: u64, is_head: bool, what: String) {
        self.context.damage.push(Damage { key: self.key(number), what: what.clone() });
        let what = Some(what);
        self.context.snapshots.push(CheckedSnapshot {
            number,
            is_head,
            created: None,
            damaged_files: 0,
            what,
        });
    }

    /// Notes where two snapshots that should follow each other do not.
    fn links(&mut self, successor: &Successor, head: &Head) {
        let after = &successor.head.snapshot;
        let Some(parent) = after.parent else { return };
        if !successor.adjoins || after.lineage != head.snapshot.lineage || parent == head.digest {
            return;
        }
        // A copy of a store may fill in later what the source had lost at first; both have one parent then.
        let is_copy = after.copied_from().is_some() || head.snapshot.copied_from().is_some();
        if is_copy && head.snapshot.parent == Some(parent) {
            return;
        }
        let number = after.number - 1;
        let what = if number == head.snapshot.number {
            format!("it is not the snapshot that {} names as its parent", self.key(after.number))
        } else {
            format!("it is not in the store, and {} names it as its parent", self.key(after.number))
        };
        self.lost_parent(number, what);
    }

    fn lost_parent(&mut self, number: u64, what: String) {
        self.context.damage.push(Damage { key: self.key(number), what });
        self.context.lost_parents.insert(number);
    }

    /// Notes if nothing is left of the snapshot before the oldest one, not even the mark that it is forgotten.
    fn begins(&mut self, oldest: &Head) {
        let (number, snapshot) = (oldest.snapshot.number, &oldest.snapshot);
        if snapshot.parent.is_some() && number == self.lowest && number > 1 {
            let what = format!("it is not in the store, and {} names it as its parent", self.key(number));
            self.lost_parent(number - 1, what);
        }
    }

    /// Notes the damaged files of a snapshot, and returns how many they are.
    fn files(&mut self, snapshot: &Snapshot, segments: &[Arc<Segment>]) -> u64 {
        let mut count = 0;
        for (told, segment) in snapshot.segments.iter().zip(segments) {
            if let Some(cause) = &segment.fault {
                count += u64::from(told.entries);
                self.file(snapshot, &told.first, u64::from(told.entries), cause);
            }
            count += segment.files.len() as u64;
            for (path, cause) in &segment.files {
                self.file(snapshot, path, 0, cause);
            }
        }
        count
    }

    fn file(&mut self, snapshot: &Snapshot, path: &TreePath, unnamed: u64, cause: &Damage) {
        let (number, session) = (snapshot.number, &snapshot.session);
        if let Some(known) = self.files.get_mut(path) {
            (known.oldest, known.session) = (number, session.clone());
            known.unnamed = known.unnamed.max(unnamed);
        } else if self.files.len() < MOST_FILES {
            let (path, session, cause) = (path.clone(), session.clone(), cause.clone());
            let file = DamagedFile { path, unnamed, newest: number, oldest: number, session, cause };
            self.files.insert(file.path.clone(), file);
        }
    }

    fn end(mut self) -> CheckedContext {
        self.context.files = self.files.into_values().collect();
        let causes: BTreeSet<&str> = self.context.files.iter().map(|file| file.cause.key.as_str()).collect();
        let others = self.context.damaged_packs.iter().map(|id| key_of(*id));
        let what = "something in it is damaged that no file needs".to_owned();
        let others = others.filter(|key| !causes.contains(key.as_str()));
        let others: Vec<_> = others.map(|key| Damage { key, what: what.clone() }).collect();
        self.context.damage.extend(others);
        self.context
    }
}
