//! The commit: one put-if-absent. Whatever the put answers, the object that is under the key afterwards
//! decides. The steps of every commit are here too: prepare a snapshot, put it, check whether it landed in
//! time, and retry on a newer head.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use policy_core::Digest;
use tokio::time::Instant;

use crate::error::Error;
use crate::format::{ContextName, MAX_SNAPSHOT_LEN, Snapshot, StoreKey};
use crate::store::{Head, HeadKey, Store, bare_tag, unusable};

/// How often the put of a commit is repeated if its answer is unclear and the object is missing. If the store
/// does not answer at all, the store's own retries wait for it.
const ATTEMPTS: u32 = 5;

/// How many heads a change is tried on before it is given up.
const HEADS: u32 = 100;
/// The longest wait of a writer that lost a race doubles up to this attempt, and halves again after it.
const SPREAD: u32 = 8;
/// The range of the unit of these waits.
const UNIT: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(1);
/// No wait is longer, because a push may have a deadline.
const MOST: Duration = Duration::from_secs(5);
/// A change is given up after this many commits that landed too late.
pub(crate) const LATE_ATTEMPTS: u32 = 3;

/// Counts the attempts of one change of a context.
pub(crate) struct Attempts<'a> {
    store: &'a Store,
    name: &'a ContextName,
    made: u32,
    most: u32,
    late: u32,
    /// When the current attempt began.
    began: Instant,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(store: &'a Store, name: &'a ContextName) -> Self {
        Self { store, name, made: 0, most: HEADS, late: 0, began: Instant::now() }
    }

    /// Sets the maximum number of attempts.
    pub(crate) fn at_most(self, most: u32) -> Self {
        Self { most, ..self }
    }

    /// Begins the first attempt anew, after work that is not repeated.
    pub(crate) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Returns the number of failed attempts.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// Whether a commit of this change landed too late.
    pub(crate) fn was_late(&self) -> bool {
        self.late > 0
    }

    /// Counts a failed attempt.
    ///
    /// # Errors
    /// [`Error::Beaten`] if there were too many.
    pub(crate) fn again(&mut self) -> Result<(), Error> {
        self.made += 1;
        if self.made >= self.most {
            return Err(Error::Beaten { name: self.name.clone(), attempts: self.made });
        }
        Ok(())
    }

    /// Counts an attempt in which another writer was first, and waits a random time.
    ///
    /// First, writers spread out: the longest wait doubles with each attempt, in units of the time that the
    /// last one took. Then it halves with each attempt, so that a writer that has lost many races comes
    /// before those that just began.
    ///
    /// # Errors
    /// Those of [`Attempts::again`].
    pub(crate) async fn beaten(&mut self) -> Result<(), Error> {
        self.again()?;
        tracing::debug!("another writer was first; the changes are planned on the new head");
        let unit = self.began.elapsed().clamp(*UNIT.start(), *UNIT.end());
        self.store.wait_up_to(longest_wait(self.made, unit)).await?;
        self.began = Instant::now();
        Ok(())
    }

    /// Counts a commit with this number that landed too late.
    ///
    /// # Errors
    /// [`Error::TooLate`] if there were too many.
    pub(crate) fn late(&mut self, number: u64) -> Result<(), Error> {
        self.late += 1;
        if self.late == LATE_ATTEMPTS {
            return Err(Error::TooLate { name: self.name.clone(), number });
        }
        Ok(())
    }
}

/// Returns the longest wait after this many lost races.
fn longest_wait(lost: u32, unit: Duration) -> Duration {
    let doubled = if lost <= SPREAD { lost } else { (2 * SPREAD).saturating_sub(lost).max(1) };
    (unit * (1 << doubled) / 4).min(MOST)
}

/// A snapshot that is about to be committed.
pub(crate) struct Prepared {
    snapshot: Snapshot,
    bytes: Bytes,
    digest: Digest,
    /// The time, by the store's clock, by which it has to land because of its packs.
    land_by: Option<i64>,
}

impl Prepared {
    /// Encodes a snapshot.
    ///
    /// # Errors
    /// [`Error::Format`] if it is too large to be stored.
    pub(crate) fn of(snapshot: Snapshot) -> Result<Self, Error> {
        let key = StoreKey::Snapshot { context: snapshot.context.clone(), number: snapshot.number }.path();
        let encoded = snapshot.encode().map_err(|e| unusable(key, e))?;
        let land_by = snapshot.packs.iter().filter_map(|p| p.land_by).min();
        Ok(Self { snapshot, bytes: encoded.bytes, digest: encoded.digest, land_by })
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the length of the encoded snapshot, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The result of publishing a snapshot.
pub(crate) enum Published {
    /// The snapshot is the head.
    Ours(Head),
    /// Another writer's snapshot is the head.
    Theirs,
    /// The snapshot is the head, but landed too late for its packs to count.
    Late(Head),
}

/// The result of a commit's put.
pub(crate) enum Committed {
    /// The snapshot is in the store, under this key.
    Ours(HeadKey),
    /// Another writer's snapshot is under the key.
    Theirs,
}

/// Returns the extensions of snapshots that this program writes.
pub(crate) fn written_here() -> Vec<(u64, Bytes)> {
    Snapshot::written_by(concat!("ctxsync ", env!("CARGO_PKG_VERSION")))
}

/// Returns the extensions of a successor of `parent` that this program writes.
pub(crate) fn written_after(parent: &Snapshot) -> Vec<(u64, Bytes)> {
    let mut all = written_here();
    all.extend(parent.inherited());
    all
}

impl Store {
    /// Commits a snapshot whose packs are in the store, and which comes after `on`.
    pub(crate) async fn publish(&self, prepared: Prepared, on: Option<&HeadKey>) -> Result<Published, Error> {
        let Prepared { snapshot, bytes, digest, land_by } = prepared;
        // Without new packs, it can't be late.
        let by = Some(land_by.unwrap_or(i64::MAX));
        let committed = self.commit_by(&snapshot.context, snapshot.number, bytes.clone(), digest, by).await?;
        let Committed::Ours(key) = committed else { return Ok(Published::Theirs) };
        if !self.is_first_use(&snapshot.context, &key, on).await? {
            return Ok(Published::Theirs);
        }
        let is_late = land_by.is_some_and(|by| key.landed >= by);
        let head = Head { key, digest, snapshot: Arc::new(snapshot), bytes };
        Ok(if is_late { Published::Late(head) } else { Published::Ours(head) })
    }

    /// Puts a snapshot below the head of a live context, under a number that was left out.
    pub(crate) async fn publish_below(&self, prepared: Prepared) -> Result<Published, Error> {
        let Prepared { snapshot, bytes, digest, land_by } = prepared;
        // If the context is deleted meanwhile, a collection forgets this one as well.
        match self.commit(&snapshot.context, snapshot.number, bytes.clone(), digest).await? {
            Committed::Theirs => Ok(Published::Theirs),
            Committed::Ours(key) => {
                let is_late = land_by.is_some_and(|by| key.landed >= by);
                let head = Head { key, digest, snapshot: Arc::new(snapshot), bytes };
                Ok(if is_late { Published::Late(head) } else { Published::Ours(head) })
            }
        }
    }

    /// Commits a snapshot for which no pack was put, and which comes after `on`; `None` if another writer was
    /// first. The time of landing in the result is exact, because later steps may have to land within some time
    /// of it.
    pub(crate) async fn commit_bare(
        &self,
        snapshot: Snapshot,
        on: Option<&HeadKey>,
    ) -> Result<Option<Head>, Error> {
        let Prepared { snapshot, bytes, digest, .. } = Prepared::of(snapshot)?;
        match self.commit(&snapshot.context, snapshot.number, bytes.clone(), digest).await? {
            Committed::Ours(key) if self.is_first_use(&snapshot.context, &key, on).await? => {
                Ok(Some(Head { key, digest, snapshot: Arc::new(snapshot), bytes }))
            }
            _ => Ok(None),
        }
    }

    /// Whether a snapshot that was just put is the first one of its number. If its writer slept, the context may have
    /// been deleted meanwhile, and its numbers may be free again: then the put succeeds, and nobody sees the snapshot.
    ///
    /// Only numbers below a deletion are freed, a grace period after what was there was erased. The deletion stays: a
    /// snapshot above this one that landed more than a grace period earlier. Its number can't have been freed within a
    /// grace period of the time at which `on`, the snapshot before it, landed: then nothing has to be asked.
    async fn is_first_use(
        &self,
        name: &ContextName,
        key: &HeadKey,
        on: Option<&HeadKey>,
    ) -> Result<bool, Error> {
        let grace = i64::try_from(self.meta().await?.grace_seconds).unwrap_or(i64::MAX);
        if on.is_some_and(|on| key.landed < on.landed.saturating_add(grace)) {
            return Ok(true);
        }
        let mut is_there = false;
        let is_older = |other: &HeadKey| other.landed.saturating_add(grace) < key.landed;
        let mut newest = std::pin::pin!(self.snapshots_from(name, key.number));
        while let Some(found) = newest.try_next().await? {
            if found.number > key.number && is_older(&found) {
                tracing::debug!(
                    number = key.number,
                    "the context was deleted meanwhile, and its numbers are free again"
                );
                return Ok(false);
            }
            is_there |= found.number == key.number && found.size > 0;
        }
        Ok(is_there)
    }

    /// Waits a random time before a failed request is repeated, longer with each attempt.
    pub(crate) async fn back_off(&self, attempts: u32) -> Result<(), Error> {
        self.wait_up_to(Duration::from_millis(20 << attempts.min(6))).await
    }

    /// Waits a random time.
    async fn wait_up_to(&self, longest: Duration) -> Result<(), Error> {
        let part = f64::from(u32::from_le_bytes(self.random()?)) / f64::from(u32::MAX);
        tokio::time::sleep(longest.mul_f64(part)).await;
        Ok(())
    }

    /// Puts a snapshot: the commit. Whatever the answer, the object that is under the key afterwards decides.
    ///
    /// The time of landing in the result is exact.
    pub(crate) async fn commit(
        &self,
        name: &ContextName,
        number: u64,
        bytes: Bytes,
        digest: Digest,
    ) -> Result<Committed, Error> {
        self.commit_by(name, number, bytes, digest, None).await
    }

    /// The same for a snapshot that has to land by a time of the store's clock. If the answer shows that it
    /// landed well before, no request is sent for the exact time.
    async fn commit_by(
        &self,
        name: &ContextName,
        number: u64,
        bytes: Bytes,
        digest: Digest,
        land_by: Option<i64>,
    ) -> Result<Committed, Error> {
        let key = StoreKey::Snapshot { context: name.clone(), number }.path();
        let mut wait = Duration::from_millis(100);
        let mut attempts = 0;
        loop {
            attempts += 1;
            // The put's answer does not show which store it went to, so the store's id is checked too.
            let (put, there) = tokio::join!(self.put_new(&key, vec![bytes.clone()]), self.confirm());
            match there {
                Ok(_) => {}
                Err(Error::Store { source, .. }) => {
                    return Err(Error::CommitUnknown { name: name.clone(), number, source });
                }
                Err(gone) => return Err(gone),
            }
            let answer = match put {
                Ok(put) => {
                    if let (Some(by), Some((_, landed)), Some(tag)) = (land_by, put.landed, &put.e_tag)
                        && self.believes(landed).await?
                        && landed.saturating_add(self.spare().await?) < by
                    {
                        let (size, e_tag) = (bytes.len() as u64, Some(bare_tag(tag)));
                        return Ok(Committed::Ours(HeadKey { number, size, e_tag, landed }));
                    }
                    // Only the store's clock says when it landed.
                    match self.stat(&key).await {
                        Ok(meta) => return Ok(Committed::Ours(HeadKey::new(number, &meta))),
                        Err(Error::Store { source, .. }) => source,
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => e,
            };
            // An error says little: `AlreadyExists` may be reported for a put that landed, and for one that
            // stored nothing.
            let last = match self.get(&key, MAX_SNAPSHOT_LEN as u64).await {
                Ok((found, meta)) => {
                    return Ok(match Snapshot::decode(&found) {
                        Ok((_, theirs)) if theirs == digest => {
                            tracing::debug!(%answer, "the commit has landed, whatever was answered");
                            Committed::Ours(HeadKey::new(number, &meta))
                        }
                        _ => Committed::Theirs,
                    });
                }
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {
                    if !is_worth_retrying(&answer) {
                        return Err(Error::store("write", &key, answer));
                    }
                    None
                }
                Err(Error::Store { source, .. }) => Some(source),
                Err(e) => return Err(e),
            };
            if attempts == ATTEMPTS {
                return Err(match last {
                    None => Error::store("write", &key, answer),
                    Some(source) => Error::CommitUnknown { name: name.clone(), number, source },
                });
            }
            tracing::debug!(%answer, "the commit has not landed, or may not have; it is put again");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// Returns how much of the grace period is reserved for clock errors, in seconds.
    async fn spare(&self) -> Result<i64, Error> {
        Ok(i64::try_from(self.meta().await?.grace_seconds / 4).unwrap_or(i64::MAX))
    }
}

/// Whether the store did not permit a request.
pub(crate) fn is_denied(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
    )
}

/// Whether the error may pass when the request is retried.
pub(crate) fn is_worth_retrying(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    if is_of_disk(error) {
        return false;
    }
    matches!(
        error,
        E::Generic { .. }
            | E::AlreadyExists { .. }
            | E::Precondition { .. }
            | E::NotFound { .. }
            | E::JoinError { .. }
    )
}

/// Whether the error means that a disk is full or not writable.
fn is_of_disk(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind as K;
            return matches!(
                error.kind(),
                K::StorageFull
                    | K::QuotaExceeded
                    | K::FileTooLarge
                    | K::ReadOnlyFilesystem
                    | K::PermissionDenied
            );
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_lost_many_races_waits_no_longer_than_who_lost_one() {
        let waits = |unit| {
            (1..=HEADS)
                .map(|lost| longest_wait(lost, Duration::from_millis(unit)).as_millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(20)[..9], [10, 20, 40, 80, 160, 320, 640, 1280, 640]);
        assert!(waits(20)[14..].iter().all(|wait| *wait == 10));
        assert!(waits(1000).iter().all(|wait| *wait <= 5000));
    }
}
