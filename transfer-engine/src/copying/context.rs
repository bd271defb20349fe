//! Copying one context.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use policy_core::Digest;

use super::holders::HolderId;
use super::meeting::{Below, Meeting, Missing};
use super::tree::{Before, Lists, copy_tree};
use super::{CopiedContext, Run, is_damage};
use crate::commit::{Attempts, LATE_ATTEMPTS, Prepared, Published, written_after};
use crate::error::Error;
use crate::format::{ContextName, Kind, LineageId, PackUse, Snapshot};
use crate::packing::{Chunks, PackSink};
use crate::store::{Head, Store};

/// Snapshots of the source that are read ahead, so that the packs that they need are brought at once.
const AHEAD: usize = 64;
/// So many bytes of packs are enough to be brought at once.
const ENOUGH: u64 = 64 << 20;

/// The copy that the next one follows.
struct Last {
    before: Before,
    holder: HolderId,
}

/// Where a copy goes.
#[derive(Clone, Copy)]
enum Goes {
    /// On top, after this number, which is the newest in the destination.
    After(u64),
    /// Between others. It gets the parent that the copy after it names, since that one can't name it.
    Between { parent: Option<Digest> },
}

/// What became of a snapshot.
enum Made {
    Copied(Box<Last>),
    /// It can't be copied, or was forgotten meanwhile.
    Skipped,
    /// Another writer has taken its number.
    Beaten,
}

impl Run<'_> {
    /// Copies what is missing of a context; `None` if it is not live.
    pub(super) async fn context(&mut self, name: &ContextName) -> Result<Option<CopiedContext>, Error> {
        let before = self.report;
        let mut newest = None;
        let mut attempts = Attempts::new(self.sides.dst, name).at_most(20);
        loop {
            let Some(head) = self.source_head(name).await? else { return Ok(None) };
            let mut meeting = self.sides.meet(name, &head).await?;
            let tags = std::mem::take(&mut meeting.tags);
            let is_complete = meeting.after.is_empty() && meeting.between.is_empty();
            if is_complete || self.copy_missing(name, &head, meeting, &mut newest).await? {
                self.tags(name, &head, tags).await?;
                let report = &self.report;
                return Ok(Some(CopiedContext {
                    context: name.clone(),
                    snapshots: report.snapshots - before.snapshots,
                    newest,
                    packs: report.packs - before.packs,
                    bytes: report.bytes - before.bytes,
                    tags: report.tags - before.tags,
                }));
            }
            attempts.beaten().await?;
        }
    }

    async fn source_head(&self, name: &ContextName) -> Result<Option<Head>, Error> {
        let src = self.sides.src;
        let Some(head) = src.find_head(name).await? else { return Ok(None) };
        let head = if self.sides.dry_run { head } else { src.head_after_move(name, head).await? };
        Ok(Some(head).filter(Head::is_live))
    }

    /// Copies what is missing; false if another writer was met.
    async fn copy_missing(
        &mut self,
        name: &ContextName,
        head: &Head,
        meeting: Meeting,
        made: &mut Option<u64>,
    ) -> Result<bool, Error> {
        let Meeting { met, mut newest, after, between, listed, .. } = meeting;
        let lineage = head.snapshot.lineage;
        let mut last = match met {
            Some((copy, original)) => Some(self.learn(name, copy, original).await?),
            None => None,
        };
        let mut between = VecDeque::from(between);
        while let Some(missing) = between.pop_front() {
            let Some((_, original)) = self.read(name, missing, lineage).await? else { continue };
            let before = match self.sides.below(name, missing, &listed).await? {
                Below::Copy(copy) => Some(self.learn(name, *copy, None).await?),
                Below::Nothing => None,
                Below::OtherNumbers => continue,
            };
            let parent = self.sides.parent_of_next(name, missing, &listed).await?;
            let needed = self.packs.unknown(&original.snapshot);
            self.bring(needed).await?;
            if self.sides.dry_run {
                self.count(missing.to, made);
            } else if let Made::Copied(_) =
                self.snapshot(&original, missing.to, before.as_ref(), Goes::Between { parent }).await?
            {
                self.count(missing.to, made);
            }
        }
        let mut after = VecDeque::from(after);
        // A copy that landed too late moves all numbers that follow.
        let mut shift = 0;
        while !after.is_empty() {
            for (missing, original) in self.group(name, lineage, &mut after).await? {
                let to = missing.to.saturating_add(shift);
                if self.sides.dry_run {
                    self.count(to, made);
                    continue;
                }
                match self.snapshot(&original, to, last.as_ref(), Goes::After(newest)).await? {
                    Made::Copied(copy) => {
                        newest = copy.before.copy.key.number;
                        shift += newest.saturating_sub(to);
                        self.count(newest, made);
                        last = Some(*copy);
                    }
                    Made::Skipped => {}
                    Made::Beaten => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Learns which packs the destination has, from a copy and its original.
    async fn learn(
        &mut self,
        name: &ContextName,
        copy: Head,
        original: Option<Arc<Snapshot>>,
    ) -> Result<Last, Error> {
        // In a dry run nothing can be forgotten between now and a commit.
        let seen = match self.sides.dry_run {
            true => (0, tokio::time::Instant::now()),
            false => self.packs.holders.now().await?,
        };
        let holder = self.packs.holders.add(name, copy.key.number, seen);
        match &original {
            Some(original) => self.packs.pair(original, &copy, holder),
            None => self.packs.offer(&copy, holder),
        }
        Ok(Last { before: Before { original, copy }, holder })
    }

    /// Reads the next snapshots, until enough packs are missing for them to be brought at once, and brings these.
    async fn group(
        &mut self,
        name: &ContextName,
        lineage: LineageId,
        after: &mut VecDeque<Missing>,
    ) -> Result<Vec<(Missing, Head)>, Error> {
        let (mut group, mut wanted, mut bytes, mut held) = (Vec::new(), Vec::new(), 0, 0);
        let mut met = HashSet::new();
        while group.len() < AHEAD && bytes < ENOUGH && held < self.options.memory / 16 {
            let Some(missing) = after.pop_front() else { break };
            let Some((missing, original)) = self.read(name, missing, lineage).await? else { continue };
            for pack in self.packs.unknown(&original.snapshot) {
                if met.insert(pack.id) {
                    bytes += pack.size;
                    wanted.push(pack);
                }
            }
            held += original.bytes.len() as u64;
            group.push((missing, original));
        }
        self.bring(wanted).await?;
        Ok(group)
    }

    /// Counts a snapshot that was copied, under this number.
    fn count(&mut self, number: u64, made: &mut Option<u64>) {
        self.report.snapshots += 1;
        *made = (*made).max(Some(number));
    }

    /// Reads a snapshot of the source; `None` if it can't be read, is forgotten, or is no state of this context.
    async fn read(
        &mut self,
        name: &ContextName,
        missing: Missing,
        lineage: LineageId,
    ) -> Result<Option<(Missing, Head)>, Error> {
        let original = match self.sides.src.read_snapshot(name, missing.number).await {
            Ok(original) => original,
            Err(error) if is_damage(&error) => {
                self.note_failed(name, missing.number, error).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let belongs = original.snapshot.lineage == lineage && original.snapshot.kind == Kind::Normal;
        Ok(belongs.then_some((missing, original)))
    }

    /// Notes that a snapshot can't be copied, unless the source has forgotten it meanwhile.
    async fn note_failed(&mut self, name: &ContextName, number: u64, error: Error) -> Result<(), Error> {
        let src = self.sides.src;
        src.confirm().await?;
        if src.is_gone(name, number).await? {
            return Ok(());
        }
        self.failed.entry(error.to_string()).or_insert_with(|| (Vec::new(), error)).0.push(number);
        Ok(())
    }

    /// Copies one snapshot to this number, or to a later one if it lands too late.
    async fn snapshot(
        &mut self,
        original: &Head,
        to: u64,
        last: Option<&Last>,
        goes: Goes,
    ) -> Result<Made, Error> {
        let name = original.snapshot.context.clone();
        let dst = self.sides.dst;
        let (mut to, mut goes) = (to, goes);
        let mut parent = match goes {
            Goes::After(_) => last.map(|last| last.before.copy.digest),
            Goes::Between { parent } => parent,
        };
        for _ in 0..LATE_ATTEMPTS {
            let seen = self.packs.holders.now().await?;
            let Some(lists) = self.tree(original, last).await? else { return Ok(Made::Skipped) };
            let copy = self.copy_of(original, to, parent, lists).await?;
            let published = match goes {
                Goes::After(_) => {
                    let on = last.map(|last| &last.before.copy.key);
                    dst.publish(Prepared::of(copy)?, on).await?
                }
                Goes::Between { .. } => dst.publish_below(Prepared::of(copy)?).await?,
            };
            match published {
                Published::Ours(copy) => {
                    let holder = self.packs.holders.add(&name, copy.key.number, seen);
                    self.packs.note_listed(&copy.snapshot.packs, holder);
                    if let Goes::After(newest) = goes {
                        self.look_for_others(&name, newest, &copy).await?;
                    }
                    let original = Some(Arc::clone(&original.snapshot));
                    return Ok(Made::Copied(Box::new(Last { before: Before { original, copy }, holder })));
                }
                Published::Theirs => return Ok(Made::Beaten),
                Published::Late(copy) => {
                    self.packs.note_late(&copy);
                    // Only at the end can it be made once more.
                    if matches!(goes, Goes::Between { .. }) {
                        break;
                    }
                    (to, goes, parent) = (to.saturating_add(1), Goes::After(to), Some(copy.digest));
                }
            }
        }
        Err(Error::TooLate { name, number: to })
    }

    /// Makes the tree of a copy, and brings what it needs; `None` if that can't be had.
    async fn tree(&mut self, original: &Head, last: Option<&Last>) -> Result<Option<Lists>, Error> {
        let (name, number) = (&original.snapshot.context, original.key.number);
        let before = last.map(|last| (&last.before.copy, last.holder));
        loop {
            let wanted = self.packs.unknown(&original.snapshot);
            self.bring(wanted).await?;
            self.save_if_due().await?;
            if let Some(damage) = self.packs.damage(&original.snapshot) {
                self.note_failed(name, number, damage).await?;
                return Ok(None);
            }
            // What a snapshot held that was forgotten meanwhile is brought again.
            let Some(usable) = self.packs.usable(&original.snapshot, before).await? else { continue };
            let mut sink = self.sink();
            let (src, before) = (self.sides.src, last.map(|last| &last.before));
            let made = copy_tree(src, &original.snapshot, (&self.packs, &usable), before, &mut sink).await;
            return match made {
                Ok(lists) => Ok(Some(lists)),
                Err(error) if is_damage(&error) => {
                    self.note_failed(name, number, error).await?;
                    Ok(None)
                }
                Err(error) => Err(error),
            };
        }
    }

    /// Returns a sink for new segments.
    fn sink(&self) -> PackSink {
        let (memory, concurrency) = (self.options.memory / 4, self.options.concurrency.get());
        PackSink::unhurried(self.sides.dst, Arc::<Chunks>::default(), memory, concurrency)
    }

    async fn copy_of(
        &self,
        original: &Head,
        to: u64,
        parent: Option<Digest>,
        lists: Lists,
    ) -> Result<Snapshot, Error> {
        let snapshot = &*original.snapshot;
        let copy = Snapshot {
            number: to,
            store_id: self.sides.dst.meta().await?.store_id,
            // The destination may have nothing of what the original names.
            parent,
            packs: lists.packs,
            segments: lists.segments,
            inline: lists.inline,
            ..snapshot.clone()
        };
        Ok(copy.marked_copied(self.sides.src_id, original.key.number))
    }

    /// Looks whether somebody else has committed below a copy that left numbers out: their snapshot must not be lost
    /// from sight, so it becomes the head.
    async fn look_for_others(&self, name: &ContextName, newest: u64, copy: &Head) -> Result<(), Error> {
        let dst = self.sides.dst;
        if copy.key.number == newest.saturating_add(1) {
            return Ok(());
        }
        let listed = dst.list_snapshots(name).await?;
        let between = |number: &u64| (newest + 1..copy.key.number).contains(number);
        let Some((number, _)) = listed.into_iter().find(|(number, _)| between(number)) else { return Ok(()) };
        let other = dst.read_snapshot(name, number).await?;
        give_way(dst, copy, &other).await?;
        Err(Error::Diverged { name: name.clone(), number, location: dst.location().to_owned() })
    }
}

/// Commits the tree of another writer's snapshot once more, on top of the copy.
async fn give_way(dst: &Store, copy: &Head, other: &Head) -> Result<(), Error> {
    let land_by = dst.land_by_now().await?;
    let other = dst.read_snapshot(&other.snapshot.context, other.key.number).await?;
    let late = other.late_packs();
    let pack = |pack: &PackUse| match late.contains(&pack.id) {
        true => *pack,
        false => PackUse { land_by: Some(land_by), ..*pack },
    };
    let again = Snapshot {
        number: copy.key.number.saturating_add(1),
        parent: Some(copy.digest),
        created: dst.env().now(),
        nonce: dst.random()?,
        changes: Default::default(),
        extensions: written_after(&other.snapshot),
        packs: other.snapshot.packs.iter().map(pack).collect(),
        ..(*other.snapshot).clone()
    };
    // If somebody has gone on from the copy already, that is theirs to keep.
    dst.commit_bare(again, Some(&copy.key)).await.map(drop)
}
