//! Contexts and snapshots that begin as another snapshot: forks, and reverts to an older state. Both share the
//! packs of that snapshot, so they cost one put, whatever its size.
//!
//! ```text
//! the store's time ─► the snapshot is not forgotten ─► a new snapshot with its tree ─► put if absent
//!                                                                   │
//!          landed more than a grace period after that time: once more, on top ◄┘
//! ```
//!
//! A pack is kept while a snapshot that needs it is not forgotten, and for one grace period after that. So the new
//! snapshot has to land within a grace period of a time before which the other one was not forgotten yet.

use std::sync::Arc;

use crate::commit::{Attempts, LATE_ATTEMPTS, written_after, written_here};
use crate::error::Error;
use crate::format::{
    Changes, ContextName, Kind, LineageId, PackUse, RecycleRules, Snapshot, StoreKey, joined,
};
use crate::report::SyncReport;
use crate::store::{At, Head, HeadKey, Store};
use crate::tree::{Differences, Tree};

/// How many heads a fork or a revert is tried on.
const ATTEMPTS: u32 = 10;

/// A snapshot whose tree another one takes over.
pub(crate) struct Source {
    pub(crate) head: Head,
    /// The time by which the other one must land, by the store's clock.
    pub(crate) land_by: i64,
}

impl Source {
    /// Returns the packs for a snapshot after `on`, which needs no time for the packs that count there.
    fn packs(&self, on: Option<&Head>) -> Vec<PackUse> {
        let counts = |pack: &PackUse| {
            on.is_some_and(|on| {
                on.snapshot.packs.iter().any(|p| p.id == pack.id) && !on.late_packs().contains(&pack.id)
            })
        };
        let land_by = |pack: &PackUse| (!counts(pack)).then_some(self.land_by);
        let packs = self.head.snapshot.packs.iter();
        packs.map(|pack| PackUse { land_by: land_by(pack), ..*pack }).collect()
    }
}

/// Whether a snapshot landed too late for some of its packs to count.
fn is_late(made: &Head) -> bool {
    !made.late_packs().is_empty()
}

impl Store {
    /// Makes a new context that begins as a snapshot of another one: its head, or the one that `at` names as in
    /// [`Store::snapshot`]. It has no history of its own yet, no recycle rules until a push brings some, and
    /// remembers what it was forked from. No content is sent or read.
    ///
    /// # Errors
    /// [`Error::ContextExists`] if there is a context with the new name, even if another process has just taken it;
    /// [`Error::NoContext`] or [`Error::NoSnapshot`] if there is nothing to fork.
    pub async fn fork_context(
        &self,
        from: &ContextName,
        at: impl Into<At>,
        to: &ContextName,
    ) -> Result<Arc<Snapshot>, Error> {
        let at = at.into();
        let taken = || Error::ContextExists { name: to.clone() };
        let mut attempts = Attempts::new(self, to).at_most(ATTEMPTS);
        loop {
            let (source, last) = tokio::try_join!(self.to_take_over(from, &at), self.find_head(to))?;
            let last = match last {
                Some(last) => Some(self.head_after_move(to, last).await?),
                None => None,
            };
            if last.as_ref().is_some_and(Head::is_live) {
                return Err(taken());
            }
            let fork = self.fork(&source, to, last.as_ref().map(|last| &last.key))?;
            match self.commit_bare(fork, last.as_ref().map(|last| &last.key)).await? {
                Some(made) if is_late(&made) => return self.fork_again(from, &source, made).await,
                Some(made) => return Ok(made.snapshot),
                None => attempts.beaten().await?,
            }
        }
    }

    /// Finds the snapshot to take over.
    ///
    /// # Errors
    /// Those of [`Store::snapshot`]; [`Error::Corrupt`] if the snapshot landed too late for its packs to count.
    pub(crate) async fn to_take_over(&self, name: &ContextName, at: &At) -> Result<Source, Error> {
        let land_by = self.land_by_now().await?;
        let head = self.find_snapshot(name, at).await?;
        // A collection may have deleted what does not count, and its writer has not committed it again.
        if is_late(&head) {
            let (context, number) = (name.clone(), head.key.number);
            return Err(Error::Corrupt {
                key: StoreKey::Snapshot { context, number }.path().to_string(),
                what: "it landed too late, and some of its data may be deleted; `ctxsync check` says what"
                    .to_owned(),
            });
        }
        Ok(Source { head, land_by })
    }

    fn fork(&self, source: &Source, to: &ContextName, last: Option<&HeadKey>) -> Result<Snapshot, Error> {
        let of = &*source.head.snapshot;
        let fork = Snapshot {
            // If the name was used before, the numbers continue, so that no number is ever used twice.
            number: last.map_or(1, |last| last.number + 1),
            context: to.clone(),
            lineage: LineageId(self.random()?),
            parent: None,
            kind: Kind::Normal,
            created: self.env().now(),
            session: String::new(),
            nonce: self.random()?,
            // No push to the fork has asked for anything to be recycled.
            recycle: RecycleRules::default(),
            changes: Changes::default(),
            extensions: written_here(),
            packs: source.packs(None),
            ..of.clone()
        };
        Ok(fork.with_ancestors(joined(&[], of, true)))
    }

    /// Commits the same tree again on a fork that landed too late. If its source is forgotten by now, the fork is
    /// deleted.
    async fn fork_again(
        &self,
        from: &ContextName,
        source: &Source,
        mut made: Head,
    ) -> Result<Arc<Snapshot>, Error> {
        let to = made.snapshot.context.clone();
        let number = At::Number(source.head.key.number);
        for _ in 0..LATE_ATTEMPTS {
            let source = match self.to_take_over(from, &number).await {
                Ok(source) => source,
                Err(error) => {
                    self.delete_context(&to).await?;
                    return Err(error);
                }
            };
            let again = Snapshot {
                number: made.key.number + 1,
                parent: Some(made.digest),
                nonce: self.random()?,
                packs: source.packs(Some(&made)),
                ..(*made.snapshot).clone()
            };
            match self.commit_bare(again, Some(&made.key)).await? {
                Some(again) if is_late(&again) => made = again,
                Some(again) => return Ok(again.snapshot),
                // Somebody works in it already, and sends what does not count. The fork is what was committed here.
                None => return Ok(made.snapshot),
            }
        }
        Err(Error::TooLate { name: to, number: made.key.number })
    }

    /// Commits the tree of an older snapshot, which `at` names as in [`Store::snapshot`], on top of the head. The
    /// history stays. If the head has the same tree, nothing is committed.
    ///
    /// # Errors
    /// [`Error::NoContext`] or [`Error::NoSnapshot`] if there is no such snapshot, [`Error::Beaten`] if other writers
    /// kept winning.
    pub async fn revert_context(
        &self,
        name: &ContextName,
        at: impl Into<At>,
        session: &str,
        dry_run: bool,
    ) -> Result<SyncReport, Error> {
        let mut attempts = Attempts::new(self, name).at_most(ATTEMPTS);
        // What counts from the head changes with each commit, and what is reverted to does not.
        let mut at = at.into();
        loop {
            let source = self.to_take_over(name, &at).await?;
            at = At::Number(source.head.key.number);
            let on = self.require_head(name).await?;
            let changes = self.count_changes(&on.snapshot, &source.head.snapshot).await?;
            let report = SyncReport {
                snapshot: Some(on.key.number),
                added: changes.added,
                changed: changes.changed,
                deleted: changes.deleted,
                total_bytes: source.head.snapshot.totals.bytes,
                ..SyncReport::default()
            };
            // A head that landed too late has the tree, and lacks some of its content.
            if dry_run || changes == Changes::default() && on.late_packs().is_empty() {
                return Ok(report);
            }
            let again = Snapshot {
                number: on.key.number + 1,
                lineage: on.snapshot.lineage,
                parent: Some(on.digest),
                created: self.env().now(),
                session: session.to_owned(),
                nonce: self.random()?,
                policy: on.snapshot.policy,
                recycle: on.snapshot.recycle.clone(),
                changes,
                extensions: written_after(&on.snapshot),
                packs: source.packs(Some(&on)),
                ..(*source.head.snapshot).clone()
            };
            match self.commit_bare(again, Some(&on.key)).await? {
                Some(made) if is_late(&made) => attempts.late(made.key.number)?,
                Some(made) => {
                    let (snapshot, parent) = (Some(made.key.number), Some(on.key.number));
                    return Ok(SyncReport { snapshot, parent, ..report });
                }
                None => attempts.beaten().await?,
            }
        }
    }

    /// Counts the paths at which the second tree differs from the first.
    async fn count_changes(&self, first: &Snapshot, second: &Snapshot) -> Result<Changes, Error> {
        let tree = |snapshot| Tree { store: self, snapshot, cache: None };
        let mut differences = Differences::between(Some(&tree(first)), &tree(second));
        let mut changes = Changes::default();
        while let Some(difference) = differences.next().await? {
            let is_there =
                |entry: &Option<_>| entry.as_ref().is_some_and(|e: &crate::format::TreeEntry| !e.recycled);
            match (is_there(&difference.left), is_there(&difference.right)) {
                (false, true) => changes.added += 1,
                (true, false) => changes.deleted += 1,
                _ => changes.changed += 1,
            }
        }
        Ok(changes)
    }
}
