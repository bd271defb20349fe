//! Renames a context, and completes renames that another process has started.
//!
//! ```text
//!   from:  1 ... h    h+1 "moved to `to`"                           1 ... h are marked as gone, h last (*)
//!   to:                              c "taken for `from`"   c+h     c+1 ... c+h-1
//!                     ─────────────────────────────────── time ──────────────────────────────────►
//! ```
//!
//! The terminal snapshot of the old name says that the context is renamed. The **claim** takes the first free
//! number of the new name, and is not a live snapshot either. The copy of the head makes the new name live;
//! the rest of the history follows below it. Every key is determined by the numbers `h` and `c`, and every
//! put is put-if-absent, so any number of processes may work on one rename, in any order. See
//! `docs/design/004-moving-a-context.md`.
//!
//! (*) If the old name was deleted before, that deletion and what is below it stay as they are.

mod copy;
mod tags;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use policy_core::Digest;

use crate::commit::{Attempts, LATE_ATTEMPTS, is_denied, is_worth_retrying, written_after, written_here};
use crate::error::Error;
use crate::format::{ContextName, Kind, LineageId, PackId, PackUse, Snapshot, StoreKey, sha256};
use crate::store::{Head, HeadKey, Store};

/// How often a rename is retried because of what other processes do meanwhile.
const ATTEMPTS: u32 = 20;
/// How many marks are put at once.
const AT_ONCE: usize = 16;
/// How many snapshots are read ahead, and how many copies are put at once. Each may be large.
const AHEAD: usize = 4;

/// The result of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finish {
    /// The context has the new name, and its old snapshots are marked as forgotten.
    Moved,
    /// The new name belongs to another context, so the old name stays.
    Undone,
}

/// A running rename.
struct Move<'a> {
    store: &'a Store,
    from: &'a ContextName,
    to: &'a ContextName,
    /// The terminal snapshot of the old name.
    last: &'a Head,
    /// The head before the terminal snapshot.
    source: Head,
    /// The lineage of the context under its new name.
    lineage: LineageId,
}

impl Store {
    /// Renames a context, and returns its head under the new name. The history is copied; the numbers
    /// continue from those of the new name. No packs are sent.
    ///
    /// If the rename was already started, here or elsewhere, it is completed.
    ///
    /// # Errors
    /// [`Error::ContextExists`] if the new name is in use, even if another process has just taken it; then
    /// the context keeps its old name. [`Error::NoContext`]. [`Error::Moved`] if it was renamed to another
    /// name.
    pub async fn rename_context(
        &self,
        from: &ContextName,
        to: &ContextName,
    ) -> Result<std::sync::Arc<Snapshot>, Error> {
        self.meta().await?;
        let taken = || Error::ContextExists { name: to.clone() };
        if from == to {
            return Err(taken());
        }
        let mut attempts = Attempts::new(self, from).at_most(ATTEMPTS);
        loop {
            let Some(head) = self.find_head(from).await? else { return Err(self.missing(from, None)) };
            if head.moved_to() == Some(to) {
                return match self.finish_move(from, &head, to).await? {
                    Finish::Moved => self.head(to).await,
                    Finish::Undone => Err(taken()),
                };
            }
            let head = self.head_after_move(from, head).await?;
            if !head.is_live() {
                return Err(self.missing(from, Some(&head)));
            }
            let there = match self.find_head(to).await? {
                Some(there) => Some(self.head_after_move(to, there).await?),
                None => None,
            };
            if there.is_some_and(|there| there.is_live()) {
                return Err(taken());
            }
            let last = head.ended(Kind::Terminal { moved_to: Some(to.clone()) }, self)?;
            match self.commit_bare(last, Some(&head.key)).await? {
                Some(_) => attempts.again()?,
                None => attempts.beaten().await?,
            }
        }
    }

    /// If the head is a terminal snapshot or a claim of a rename, completes the rename, and returns the head
    /// afterwards.
    pub(crate) async fn head_after_move(&self, name: &ContextName, head: Head) -> Result<Head, Error> {
        Ok(self.after_move(name, head).await?.0)
    }

    /// The same. Also returns whether the name was left by a rename that is complete: then that head stays the head
    /// until the name is used again, and nothing has to be done any more.
    pub(crate) async fn after_move(&self, name: &ContextName, head: Head) -> Result<(Head, bool), Error> {
        let finished = match (head.moved_to(), head.claimed_for()) {
            (Some(to), _) => match self.finish_move(name, &head, to).await {
                Ok(Finish::Moved) => return Ok((head, true)),
                Ok(Finish::Undone) => true,
                // A process without write permission only reports the new name; another process completes the
                // rename.
                Err(Error::Store { source, .. }) if is_denied(&source) => false,
                Err(e) => return Err(e),
            },
            (None, Some(from)) => match self.find_head(from).await? {
                Some(last) if last.moved_to() == Some(name) => {
                    self.finish_move(from, &last, name).await?;
                    true
                }
                // The rename can't be completed any more.
                _ => false,
            },
            (None, None) => false,
        };
        if !finished {
            return Ok((head, false));
        }
        Ok((self.find_head(name).await?.unwrap_or(head), false))
    }

    /// Returns the error for a context of this name that is not live.
    pub(crate) fn missing(&self, name: &ContextName, head: Option<&Head>) -> Error {
        match head.and_then(Head::moved_to) {
            Some(to) => Error::Moved { name: name.clone(), to: to.clone() },
            None => Error::NoContext { name: name.clone(), location: self.location().to_owned() },
        }
    }

    /// Completes a rename. The future is boxed because it is recursive: one rename may have to complete
    /// another.
    fn finish_move<'a>(
        &'a self,
        from: &'a ContextName,
        last: &'a Head,
        to: &'a ContextName,
    ) -> BoxFuture<'a, Result<Finish, Error>> {
        let finish = async move {
            let before = last.key.number.saturating_sub(1);
            let all = self.list_snapshots(from).await?;
            if !all.contains(&(before, false)) {
                let rest = self.rest_of_life(from, before).await?;
                return match rest.is_empty() {
                    true => Ok(Finish::Moved),
                    false => self.forget_rest(from, last, to, &rest).await,
                };
            }
            let source = self.read_snapshot(from, before).await?;
            let lineage = lineage_of(&source.digest, to);
            Move { store: self, from, to, last, source, lineage }.finish().await
        };
        finish.boxed()
    }

    /// Returns the numbers below this one that are not forgotten, down to the last deletion of the name.
    ///
    /// That deletion is never marked: collections free the numbers below it, and what a slow process puts there
    /// afterwards can only be told from a part of a history by the deletion above it.
    async fn rest_of_life(&self, name: &ContextName, below: u64) -> Result<Vec<u64>, Error> {
        let all = self.list_snapshots(name).await?;
        let numbers = all.into_iter().filter(|(number, gone)| *number < below && !gone);
        let mut read = std::pin::pin!(
            stream::iter(numbers)
                .map(|(number, _)| async move { (number, self.read_snapshot(name, number).await) })
                .buffered(AHEAD)
        );
        let mut rest = Vec::new();
        while let Some((number, read)) = read.next().await {
            match read {
                Ok(read) if read.snapshot.kind == (Kind::Terminal { moved_to: None }) => break,
                Ok(_) => rest.push(number),
                // It was erased meanwhile; or it is damaged, and might be the deletion.
                Err(e) if e.is_of_object() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(rest)
    }

    async fn is_forgotten(&self, name: &ContextName, number: u64) -> Result<bool, Error> {
        let all = self.list_snapshots(name).await?;
        Ok(all.iter().find(|(n, _)| *n == number).is_none_or(|(_, gone)| *gone))
    }
}

impl Move<'_> {
    async fn finish(&self) -> Result<Finish, Error> {
        let mut attempts = Attempts::new(self.store, self.to).at_most(ATTEMPTS);
        loop {
            let there = self.store.find_head(self.to).await?;
            match there {
                Some(claim) if self.is_ours(&claim) && claim.claimed_for().is_some() => {
                    if self.store.is_forgotten(self.from, self.source.key.number).await? {
                        return Ok(Finish::Moved);
                    }
                    self.copy_head(&claim).await?;
                }
                Some(head) if self.is_ours(&head) && head.is_live() && self.is_late(&head) => {
                    self.renew(&head, attempts.made()).await?;
                }
                Some(head) if self.is_ours(&head) => {
                    return self.complete(&head).await;
                }
                Some(head) if head.is_live() => {
                    if self.was_there(&head).await? {
                        return self.complete(&head).await;
                    }
                    if self.undo().await? {
                        return Ok(Finish::Undone);
                    }
                    // Another process has completed or undone the rename.
                    let last = self.store.find_head(self.from).await?;
                    if last.is_none_or(|last| last.digest != self.last.digest) {
                        return Ok(Finish::Undone);
                    }
                }
                Some(other) if other.claimed_for().is_some() => {
                    let after = self.store.head_after_move(self.to, other.clone()).await?;
                    if after.digest == other.digest {
                        self.claim(Some(&other)).await?;
                    }
                }
                free => self.claim(free.as_ref()).await?,
            }
            // The first two rounds are normal even if no other process is involved.
            if attempts.made() < 2 {
                attempts.again()?;
            } else {
                attempts.beaten().await?;
            }
        }
    }

    /// Whether a snapshot of the new name belongs to the renamed context.
    fn is_ours(&self, head: &Head) -> bool {
        head.snapshot.lineage == self.lineage
    }

    /// Whether a snapshot landed too late for packs that count in its source.
    fn is_late(&self, head: &Head) -> bool {
        let late = self.source.late_packs();
        head.late_packs().iter().any(|id| !late.contains(id))
    }

    /// Whether the context was live under the new name before, and another context is now.
    async fn was_there(&self, head: &Head) -> Result<bool, Error> {
        let older = self.store.list_snapshots(self.to).await?;
        let older = older.into_iter().map(|(number, _)| number).filter(|n| *n < head.key.number);
        let found = stream::iter(older)
            .map(|number| self.store.read_snapshot(self.to, number))
            .buffered(AT_ONCE)
            // A tombstone says nothing.
            .filter_map(|read| async move { read.ok() })
            .any(|found| async move { self.is_ours(&found) });
        Ok(found.await)
    }

    /// Takes the first free number of the new name.
    async fn claim(&self, there: Option<&Head>) -> Result<(), Error> {
        let claim = Snapshot {
            number: there.map_or(1, |head| head.key.number + 1),
            context: self.to.clone(),
            lineage: self.lineage,
            parent: None,
            ..self.source.ended(Kind::Terminal { moved_to: Some(self.from.clone()) }, self.store)?
        };
        // If another process was first, the next round will see it.
        self.store.commit_bare(claim, there.map(|head| &head.key)).await.map(drop)
    }

    /// Makes the new name live, with a copy of the head.
    async fn copy_head(&self, claim: &Head) -> Result<(), Error> {
        let Some(copy) = self.copies(claim).await?.head().await? else { return Ok(()) };
        let number = claim.key.number + self.source.key.number;
        self.store.commit(self.to, number, copy.bytes, copy.digest).await.map(drop)
    }

    /// Commits the same tree again, because the copy landed too late for its packs. The source still exists,
    /// so nothing is lost.
    async fn renew(&self, head: &Head, attempts: u32) -> Result<(), Error> {
        if attempts > LATE_ATTEMPTS + 1 {
            return Err(Error::TooLate { name: self.to.clone(), number: head.key.number });
        }
        if self.store.is_forgotten(self.from, self.source.key.number).await? {
            return Ok(());
        }
        let again = self.taken_over(&head.key, self.to, self.lineage, head.digest).await?;
        self.store.commit_bare(again, Some(&head.key)).await.map(drop)
    }

    /// Lets the context continue under its old name; returns whether it does.
    async fn undo(&self) -> Result<bool, Error> {
        let mut on = self.last.clone();
        for _ in 0..LATE_ATTEMPTS {
            let again = self.taken_over(&on.key, self.from, self.source.snapshot.lineage, on.digest).await?;
            let Some(head) = self.store.commit_bare(again, Some(&on.key)).await? else { return Ok(false) };
            if !self.is_late(&head) {
                return Ok(true);
            }
            on = head;
        }
        Err(Error::TooLate { name: self.from.clone(), number: on.key.number })
    }

    /// Returns a snapshot with the source's tree that succeeds `on`. The source was found not to be forgotten
    /// after `on` had landed, so that time counts.
    async fn taken_over(
        &self,
        on: &HeadKey,
        name: &ContextName,
        lineage: LineageId,
        parent: Digest,
    ) -> Result<Snapshot, Error> {
        let land_by = self.store.land_by(on.landed).await?;
        let (source, late) = (&*self.source.snapshot, self.source.late_packs());
        Ok(Snapshot {
            number: on.number + 1,
            context: name.clone(),
            lineage,
            parent: Some(parent),
            created: self.store.env().now(),
            nonce: self.store.random()?,
            changes: Default::default(),
            extensions: written_after(source),
            packs: source.packs.iter().map(|p| taken_over(p, &late, Some(land_by))).collect(),
            ..source.clone()
        })
    }

    /// Copies the rest of the history, and marks the old snapshots as forgotten. The source is marked last,
    /// because its mark says that the rename is complete.
    async fn complete(&self, head: &Head) -> Result<Finish, Error> {
        // If the context was deleted under the new name meanwhile, its history is not needed.
        let claim = match head.is_live() {
            true => self.store.find_claim(head, self.lineage).await?,
            false => None,
        };
        // A collection keeps what has a tag, so the tags come before the copies.
        let (to, number) = ((self.to, self.lineage), claim.as_ref().map(|claim| claim.key.number));
        self.store.move_tags(self.from, self.source.snapshot.lineage, to, number).await?;
        if let Some(claim) = claim {
            self.copies(&claim).await?.below_head().await?;
        }
        let source = self.source.key.number;
        let older = self.store.rest_of_life(self.from, source).await?;
        stream::iter(older)
            .map(|number| self.forget(number))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.forget(source).await?;
        Ok(Finish::Moved)
    }

    async fn forget(&self, number: u64) -> Result<(), Error> {
        self.store.mark_gone(self.from, number).await
    }
}

impl Store {
    /// Finds the claim of a rename below the head of the new name. The lineage is that of the context there.
    async fn find_claim(&self, head: &Head, lineage: LineageId) -> Result<Option<Head>, Error> {
        let name = &head.snapshot.context;
        let all = self.list_snapshots(name).await?;
        let below = all.into_iter().map(|(number, _)| number).filter(|n| *n < head.key.number);
        let mut below = std::pin::pin!(
            stream::iter(below).map(|number| self.read_snapshot(name, number)).buffered(AT_ONCE)
        );
        while let Some(found) = below.next().await {
            match found {
                Ok(found) if found.snapshot.lineage == lineage && found.claimed_for().is_some() => {
                    return Ok(Some(found));
                }
                // A tombstone: the snapshot was forgotten under the new name.
                Ok(_) => {}
                Err(e) if e.is_of_object() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Marks a snapshot as forgotten.
    pub(crate) async fn mark_gone(&self, name: &ContextName, number: u64) -> Result<(), Error> {
        let key = StoreKey::Gone { context: name.clone(), number }.path();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Err(answer) = self.put_new(&key, Vec::new()).await else { return Ok(()) };
            // The answer may have been lost, and `AlreadyExists` may be wrong.
            match self.stat(&key).await {
                Ok(_) => return Ok(()),
                Err(_) if attempts < 5 && is_worth_retrying(&answer) => self.back_off(attempts).await?,
                Err(_) => return Err(Error::store("write", &key, answer)),
            }
        }
    }

    /// Returns the time by which a snapshot must land that refers to the packs of another one. At `checked`,
    /// in seconds since 1970 by the store's clock, or later, the other one was found not to be forgotten.
    pub(crate) async fn land_by(&self, checked: i64) -> Result<i64, Error> {
        let grace = i64::try_from(self.meta().await?.grace_seconds).unwrap_or(i64::MAX);
        Ok(checked.saturating_add(grace))
    }
}

impl Head {
    /// Returns the name to which the context was renamed.
    pub(crate) fn moved_to(&self) -> Option<&ContextName> {
        match &self.snapshot.kind {
            Kind::Terminal { moved_to } if self.snapshot.parent.is_some() => moved_to.as_ref(),
            _ => None,
        }
    }

    /// Returns the context for which this name was claimed by a running rename.
    pub(crate) fn claimed_for(&self) -> Option<&ContextName> {
        match &self.snapshot.kind {
            Kind::Terminal { moved_to } if self.snapshot.parent.is_none() => moved_to.as_ref(),
            _ => None,
        }
    }

    /// Returns the snapshot that succeeds this one and ends its context.
    pub(crate) fn ended(&self, kind: Kind, store: &Store) -> Result<Snapshot, Error> {
        Ok(Snapshot {
            number: self.key.number + 1,
            parent: Some(self.digest),
            kind,
            created: store.env().now(),
            nonce: store.random()?,
            totals: Default::default(),
            changes: Default::default(),
            partial: false,
            extensions: written_here(),
            packs: Vec::new(),
            segments: Vec::new(),
            inline: bytes::Bytes::new(),
            ..(*self.snapshot).clone()
        })
    }
}

/// Returns a pack's entry for the copy. If the pack did not count in the original, which landed too late, it
/// does not count in the copy either, which lands even later.
fn taken_over(pack: &PackUse, late: &[PackId], land_by: Option<i64>) -> PackUse {
    if late.contains(&pack.id) { *pack } else { PackUse { land_by, ..*pack } }
}

/// Returns the lineage of a renamed context. It is the same for every process that completes the rename, and
/// differs from that of any other rename.
fn lineage_of(source: &Digest, to: &ContextName) -> LineageId {
    let digest = sha256(&[b"moved ".as_slice(), &source.0, to.as_str().as_bytes()].concat());
    let mut id = [0; 16];
    id.copy_from_slice(&digest.0[..16]);
    LineageId(id)
}
