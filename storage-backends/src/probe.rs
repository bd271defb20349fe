//! Checks whether a store keeps its promises, before anything depends on them.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::time::Instant;

use crate::error::BucketMissing;

/// What a store can do, as found by [`probe`]. Every such store has put-if-absent, since others are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The time of the probe's put, by the store's clock.
    pub store_time: SystemTime,
    /// Whether objects may be deleted. If not, nothing can be collected, and the probe's own object stays.
    pub deletes: bool,
    /// How long the first put took, including the time to connect.
    pub first_put: Duration,
    /// How long the read after that put took: about one round trip.
    pub round_trip: Duration,
}

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// A put with `If-None-Match: *` replaced an object, or was never refused.
    #[error(
        "the store ignores preconditions: it let a second writer replace an object that was to be created \
         once. Writers would overwrite each other's work there, so it is not used; choose a store that \
         honours `If-None-Match: *`"
    )]
    IgnoresPreconditions,
    /// The store answers that it does not support put-if-absent.
    #[error("the store can't create an object only where there is none, and so it is not used")]
    NoPutIfAbsent {
        /// The store's error.
        source: Error,
    },
    /// The credentials don't allow writing, or there are none.
    #[error("the store can't be written with these credentials")]
    NoWritePermission {
        /// The store's error.
        source: Error,
    },
    /// The credentials allow writing, but not reading or listing.
    #[error("the store can be written but not {action} with these credentials")]
    NoReadPermission {
        /// What is not allowed: `read` or `listed`.
        action: &'static str,
        /// The store's error.
        source: Error,
    },
    /// The bucket does not exist.
    #[error("the store's bucket does not exist")]
    Missing {
        /// The store's error.
        source: Error,
    },
    /// An object that was put is missing, differs from what was put, or is not listed.
    #[error("the store does not show what was written to it: {what}")]
    NotVisible {
        /// What is wrong.
        what: &'static str,
    },
    /// A request failed for another reason, such as the network.
    #[error("the store can't be examined: {action} failed")]
    Failed {
        /// The request that failed.
        action: &'static str,
        /// The store's error.
        source: Error,
    },
}

/// Puts one small object with a random name below `probe/`, puts it again, and reads, lists and deletes it:
/// five requests in all. Returns what the store can do, or why it can't be used.
///
/// The probe's two puts are one after the other. That the second is refused proves that the store looks at
/// conditions, but not that they hold in a race. A store that ignores conditions is always detected.
///
/// # Errors
/// A [`ProbeError`]. The object is removed in any case, if the store allows it.
pub async fn probe(store: &dyn ObjectStore) -> Result<Capabilities, ProbeError> {
    let name = random_name();
    let key = Path::from(format!("probe/{name}"));
    let outcome = examine(store, &key, &name).await;
    let mut deletes = true;
    match store.delete(&key).await {
        Ok(()) => {}
        // If the first put was refused for lack of permission, there is nothing to delete.
        Err(Error::NotFound { .. }) => {}
        Err(error) if is_denied(&error) => deletes = false,
        Err(source) if outcome.is_ok() => return Err(ProbeError::Failed { action: "a delete", source }),
        Err(_) => {}
    }
    outcome.map(|found| Capabilities { deletes, ..found })
}

async fn examine(store: &dyn ObjectStore, key: &Path, name: &str) -> Result<Capabilities, ProbeError> {
    let first = Bytes::from(format!("first {name}"));
    let second = Bytes::from(format!("second {name}"));

    let begun = Instant::now();
    match create(store, key, &first).await {
        // If an answer was lost and the put was retried, our own object causes the refusal. The read below
        // will tell.
        Ok(()) | Err(Error::AlreadyExists { .. }) => {}
        Err(source) => return Err(refused_write(source)),
    }
    let first_put = begun.elapsed();

    let accepted = match create(store, key, &second).await {
        Ok(()) => true,
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => false,
        Err(source) => return Err(refused_write(source)),
    };
    if accepted {
        return Err(ProbeError::IgnoresPreconditions);
    }

    let read = async {
        let begun = Instant::now();
        let result = store.get(key).await?;
        let store_time = SystemTime::from(result.meta.last_modified);
        Ok((store_time, result.bytes().await?, begun.elapsed()))
    };
    // Both run at the same time, as neither changes anything.
    let parent = Path::from("probe");
    let (read, listing) = tokio::join!(read, store.list(Some(&parent)).try_collect::<Vec<_>>());
    let (store_time, body, round_trip) = read.map_err(|source| refused_read("read", "a read", source))?;
    if body == second {
        return Err(ProbeError::IgnoresPreconditions);
    }
    if body != first {
        return Err(ProbeError::NotVisible { what: "an object reads back as other bytes than were put" });
    }

    let listing = listing.map_err(|source| refused_read("listed", "a listing", source))?;
    if !listing.iter().any(|meta| meta.location == *key) {
        return Err(ProbeError::NotVisible { what: "an object that was put is not in the listing" });
    }
    Ok(Capabilities { store_time, deletes: true, first_put, round_trip })
}

/// Checks with one put whether the store can be written, and waits for nothing else. Other problems are left
/// for later requests to find.
///
/// The object is deleted again. If deletion is not allowed, the next call finds the object there, which
/// proves as much.
///
/// # Errors
/// [`ProbeError::NoWritePermission`].
pub async fn writable(store: &Arc<dyn ObjectStore>) -> Result<(), ProbeError> {
    let key = Path::from("probe/writable");
    match create(store, &key, &Bytes::new()).await {
        Ok(()) => {
            let store = Arc::clone(store);
            // The caller need not wait for the deletion.
            tokio::spawn(async move { store.delete(&key).await });
            Ok(())
        }
        Err(source) if is_denied(&source) => Err(ProbeError::NoWritePermission { source }),
        Err(_) => Ok(()),
    }
}

async fn create(store: &dyn ObjectStore, key: &Path, body: &Bytes) -> Result<(), Error> {
    let options = PutOptions::from(PutMode::Create);
    store.put_opts(key, body.clone().into(), options).await.map(drop)
}

fn refused_write(source: Error) -> ProbeError {
    match source {
        source if BucketMissing::find(&source).is_some() => ProbeError::Missing { source },
        source @ Error::NotFound { .. } => ProbeError::Missing { source },
        source @ (Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
            ProbeError::NoPutIfAbsent { source }
        }
        source if is_denied(&source) => ProbeError::NoWritePermission { source },
        source => ProbeError::Failed { action: "a put", source },
    }
}

fn refused_read(allowed: &'static str, action: &'static str, source: Error) -> ProbeError {
    match source {
        Error::NotFound { .. } => ProbeError::NotVisible { what: "an object that was put is not there" },
        source if is_denied(&source) => ProbeError::NoReadPermission { action: allowed, source },
        source => ProbeError::Failed { action, source },
    }
}

/// Whether credentials are missing or insufficient, or a local directory is not writable.
fn is_denied(error: &Error) -> bool {
    if matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) {
        return true;
    }
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            );
        }
        next = error.source();
    }
    false
}

/// Returns 32 hexadecimal digits from the kernel: the clone of a machine must not choose the same name.
fn random_name() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // A clash only fails a probe; no content of the store depends on the name.
        bytes = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos())
            .to_be_bytes();
    }
    bytes.iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}
