//! The commit: one put-if-absent, settled by what stands under the key afterwards.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use policy_core::Digest;

use crate::error::Error;
use crate::format::{ContextName, MAX_SNAPSHOT_LEN, Snapshot, StoreKey};
use crate::store::{HeadKey, Store, bare_tag};

/// How often a commit is tried whose put has no clear answer, and is not there. Waiting for
/// a store that does not answer at all is left to the store itself, which sends a request again.
const ATTEMPTS: u32 = 5;

/// How a commit's put ended.
pub(crate) enum Committed {
    /// The snapshot stands, under this key.
    Ours(HeadKey),
    /// Another writer's does.
    Theirs,
}

/// Returns the extensions of a snapshot that this program makes.
pub(crate) fn written_here() -> Vec<(u64, Bytes)> {
    Snapshot::written_by(concat!("ctxsync ", env!("CARGO_PKG_VERSION")))
}

impl Store {
    /// Puts a snapshot: the commit. Whatever the answer, what stands under the key afterwards decides.
    ///
    /// When it landed is known exactly.
    pub(crate) async fn commit(
        &self,
        name: &ContextName,
        number: u64,
        bytes: Bytes,
        digest: Digest,
    ) -> Result<Committed, Error> {
        self.commit_by(name, number, bytes, digest, None).await
    }

    /// The same for a snapshot that has to land by some time of the store's. Where the answer shows that it
    /// did, with much to spare, the exact time is not asked for.
    pub(crate) async fn commit_by(
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
            // A put says nothing of where it went.
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
                    // Only the store's own clock tells when it landed.
                    match self.stat(&key).await {
                        Ok(meta) => return Ok(Committed::Ours(HeadKey::new(number, &meta))),
                        Err(Error::Store { source, .. }) => source,
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => e,
            };
            // An error says little: a put that landed may be reported as AlreadyExists, and so may one of
            // which nothing was stored.
            let last = match self.get(&key, MAX_SNAPSHOT_LEN as u64).await {
                Ok((found, meta)) => {
                    return Ok(match Snapshot::decode(&found) {
                        Ok((_, theirs)) if theirs == digest => Committed::Ours(HeadKey::new(number, &meta)),
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
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// The part of the grace period that is left for errors of clocks, in seconds.
    async fn spare(&self) -> Result<i64, Error> {
        Ok(i64::try_from(self.meta().await?.grace_seconds / 4).unwrap_or(i64::MAX))
    }
}

/// Whether an object store's error may pass.
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

/// Whether a disk can't take what it is given: full, or not to be written.
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
