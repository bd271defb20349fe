//! Turns a [`StoreUrl`] into an object store.

use std::fmt;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use crate::error::OpenError;
use crate::local::Local;
use crate::options::StoreOptions;
use crate::patience::Patience;
use crate::prefix::below;
use crate::sorted::Sorted;
use crate::url::{Address, Backend, StoreUrl};
#[cfg(feature = "cloud")]
use crate::{cloud, url::Cloud};

/// An opened store. `Debug` shows only its URL.
#[derive(Clone)]
#[non_exhaustive]
pub struct Opened {
    /// The store. Its keys are relative to the URL's prefix, and its listings are in the order of the keys'
    /// bytes.
    pub store: Arc<dyn ObjectStore>,
    /// The store's URL, without secrets.
    pub url: String,
    /// The kind of backend.
    pub backend: Backend,
    /// The directory of a local store.
    pub local_dir: Option<PathBuf>,
    /// How long failed requests are retried.
    pub patience: Patience,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({})", self.url)
    }
}

/// Opens the store at `url`, without sending a request.
///
/// - The result of a put to a cloud store has a `SystemTime` among its extensions: the store's time of the
///   answer.
/// - S3 puts are conditional by `If-None-Match`. Their payloads are not signed if TLS protects them, or if
///   they stay on this machine.
/// - A local store flushes what it writes. `memory:` is a new and empty store each time.
/// - Errors of a cloud store contain no secrets, and have the kind that the status of the answer implies. If
///   the bucket is missing, the error is not `NotFound`, which would mean a missing object (see
///   [`crate::BucketMissing`]). Only a HEAD can't tell the two apart, because its answer has no body.
///
/// # Errors
/// An [`OpenError`]. Whether the store can be reached and written is checked by [`crate::probe`].
pub fn open(url: &StoreUrl, options: &StoreOptions) -> Result<Opened, OpenError> {
    let patience = options.patience();
    let store = match url.address() {
        Address::Local(dir) => open_local(url, dir, options, &patience)?,
        Address::Memory(prefix) => {
            no_settings(options, "memory")?;
            below(InMemory::new(), prefix)
        }
        Address::Cloud { cloud, bucket, prefix } => match cloud {
            #[cfg(feature = "aws")]
            Cloud::S3 => cloud::s3::open(url.to_string(), bucket, prefix, options, &patience)?,
            #[cfg(feature = "gcp")]
            Cloud::Gcs => cloud::gcs::open(url.to_string(), bucket, prefix, options, &patience)?,
            #[cfg(feature = "azure")]
            Cloud::Azure => cloud::azure::open(url.to_string(), bucket, prefix, options, &patience)?,
            #[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure")))]
            cloud => {
                let _ = (bucket, prefix);
                return Err(OpenError::NotBuilt { url: url.to_string(), cloud: *cloud });
            }
        },
    };
    let local_dir = url.local_dir().map(FsPath::to_owned);
    Ok(Opened { store, url: url.to_string(), backend: url.backend(), local_dir, patience })
}

fn no_settings(options: &StoreOptions, scheme: &'static str) -> Result<(), OpenError> {
    match options.settings.first() {
        Some((key, _)) => Err(OpenError::UnknownOption { key: key.clone(), scheme, nearest: None }),
        None => Ok(()),
    }
}

fn open_local(
    url: &StoreUrl,
    dir: &FsPath,
    options: &StoreOptions,
    patience: &Patience,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    no_settings(options, "local")?;
    let unusable = |source| OpenError::Directory { url: url.to_string(), source };
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(OpenError::NotADirectory { url: url.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !options.create {
                return Err(OpenError::Missing { url: url.to_string() });
            }
            std::fs::create_dir_all(dir).map_err(unusable)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(OpenError::NotADirectory { url: url.to_string() });
        }
        Err(error) => return Err(unusable(error)),
    }
    let root = dir.canonicalize().map_err(unusable)?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(|e| unusable(io::Error::other(e)))?;
    // Every listing would have to walk the empty directories that deletions leave.
    let store = store.with_fsync(options.fsync).with_automatic_cleanup(true);
    Ok(Arc::new(Local::new(Sorted::new(store, root.clone()), root, patience.clone())))
}
