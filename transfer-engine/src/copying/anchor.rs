//! What has landed and is in no copy yet. A first copy may take longer than the grace period, or be killed and run again
//! days later: so the destination gets a context whose snapshots list the packs that were put, and nothing else. It
//! keeps them from being collected, and a later run recognizes them there.

use std::collections::HashSet;

use super::holders::HolderId;
use super::packs::Packs;
use crate::commit::{Attempts, Prepared, Published, written_here};
use crate::error::Error;
use crate::format::{ContextName, LineageId, PackId, PackUse, Snapshot, StoreId, StoreKey};
use crate::store::{Head, Store};

/// What the names of anchors begin with; the id of the source follows.
const PREFIX: &str = "copying/";

/// The anchor of the copies from one store.
pub(super) struct Anchor {
    name: ContextName,
    /// Its newest snapshot that this run knows of.
    holder: Option<HolderId>,
    /// How many bytes it lists.
    bytes: u64,
}

/// Whether a context is an anchor, which is no user's.
pub(super) fn is_anchor(name: &ContextName) -> bool {
    name.as_str().strip_prefix(PREFIX).is_some_and(|id| id.parse::<StoreId>().is_ok())
}

impl Anchor {
    /// Finds what an earlier run has left, and offers its packs.
    pub(super) async fn find(
        dst: &Store,
        source: StoreId,
        packs: &mut Packs<'_>,
        dry_run: bool,
    ) -> Result<Self, Error> {
        let name = ContextName::new(format!("{PREFIX}{source}"))
            .map_err(|e| Error::Corrupt { key: StoreKey::Meta.path().to_string(), what: e.to_string() })?;
        let mut this = Self { name, holder: None, bytes: 0 };
        let Some(head) = this.head(dst).await? else { return Ok(this) };
        // It is looked at once more after a time of the store is known, for it may have been deleted meanwhile.
        let seen = if dry_run { (0, tokio::time::Instant::now()) } else { packs.holders.now().await? };
        if this.head(dst).await?.is_some_and(|again| again.digest == head.digest) {
            let holder = packs.holders.add(&this.name, head.key.number, seen);
            packs.offer(&head, holder);
            this.bytes = listed_bytes(&head);
            this.holder = Some(holder);
        }
        Ok(this)
    }

    /// Returns its newest snapshot, if the context is live.
    async fn head(&self, dst: &Store) -> Result<Option<Head>, Error> {
        Ok(dst.find_head(&self.name).await?.filter(Head::is_live))
    }

    /// Whether what was put should be listed now: after so many bytes, of which one needs more the longer the list is,
    /// or a quarter of the grace period.
    pub(super) fn is_due(&self, packs: &Packs<'_>, every: u64) -> bool {
        let (bytes, since) = packs.pending();
        let waits = since.is_some_and(|since| since.elapsed().as_secs() >= packs.holders.grace() / 4);
        bytes > 0 && (waits || bytes >= every.max(self.bytes / 16))
    }

    /// Lists what was put.
    pub(super) async fn save(&mut self, dst: &Store, packs: &mut Packs<'_>) -> Result<(), Error> {
        let name = self.name.clone();
        let mut attempts = Attempts::new(dst, &name).at_most(10);
        loop {
            let pending = packs.pending_packs();
            if pending.is_empty() {
                return Ok(());
            }
            let seen = packs.holders.now().await?;
            let last = dst.find_head(&self.name).await?;
            let next = self.next(dst, last.as_ref(), pending, &packs.held_elsewhere(self.holder)).await?;
            match dst.publish(Prepared::of(next)?, last.as_ref().map(|last| &last.key)).await? {
                Published::Ours(head) => {
                    let holder = packs.holders.add(&self.name, head.key.number, seen);
                    packs.note_listed(&head.snapshot.packs, holder);
                    self.bytes = listed_bytes(&head);
                    self.holder = Some(holder);
                    return Ok(());
                }
                Published::Theirs => attempts.beaten().await?,
                // What it lists anew is put again when it is needed.
                Published::Late(head) => {
                    packs.note_late(&head);
                    attempts.again()?;
                }
            }
        }
    }

    /// Returns the anchor's next snapshot: what the last one lists and no copy does, and what was put since.
    async fn next(
        &self,
        dst: &Store,
        last: Option<&Head>,
        pending: Vec<PackUse>,
        copied: &HashSet<PackId>,
    ) -> Result<Snapshot, Error> {
        let live = last.filter(|last| last.is_live());
        let late = live.map(Head::late_packs).unwrap_or_default();
        let is_kept = |pack: &&PackUse| !copied.contains(&pack.id) && !late.contains(&pack.id);
        let kept = live.into_iter().flat_map(|live| live.snapshot.packs.iter().filter(is_kept));
        let mut packs: Vec<PackUse> = kept.map(|pack| PackUse { land_by: None, ..*pack }).collect();
        packs.extend(pending);
        let lineage = match live {
            Some(live) => live.snapshot.lineage,
            None => LineageId(dst.random()?),
        };
        Ok(Snapshot {
            number: last.map_or(0, |last| last.key.number).saturating_add(1),
            parent: live.map(|live| live.digest),
            created: dst.env().now(),
            nonce: dst.random()?,
            extensions: written_here(),
            packs,
            ..Snapshot::empty(dst.meta().await?.store_id, self.name.clone(), lineage)
        })
    }

    /// Deletes the context, unless it lists what another run may go on with: `everything` says that this one has
    /// copied all contexts.
    pub(super) async fn finish(&self, dst: &Store, packs: &Packs<'_>, everything: bool) -> Result<(), Error> {
        let Some(head) = self.head(dst).await? else { return Ok(()) };
        let copied = packs.held_elsewhere(self.holder);
        if everything || head.snapshot.packs.iter().all(|pack| copied.contains(&pack.id)) {
            match dst.delete_context(&self.name).await {
                // Another run was quicker.
                Err(Error::NoContext { .. }) => {}
                deleted => return deleted,
            }
        }
        Ok(())
    }
}

fn listed_bytes(head: &Head) -> u64 {
    head.snapshot.packs.iter().map(|pack| pack.size).sum()
}
