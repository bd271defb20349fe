//! A store: its description, its clock, and its counters.

mod at;
mod damaged;
mod heads;
mod objects;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use tokio::sync::OnceCell;

use crate::env::Env;
use crate::error::Error;
use crate::format::{FormatError, PackBuilder, PackId, StoreId, StoreKey, StoreMeta, contexts_prefix};
use crate::usage::{Meter, Usage};

pub use self::at::At;
pub(crate) use self::heads::{Head, HeadKey, LIST_PAGE, bare_tag};
pub(crate) use self::objects::{MAX_RANGE, RangeRead};

/// A store. Cheap to clone; clones share their counters.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    in_order: bool,
}

struct Inner {
    objects: Arc<dyn ObjectStore>,
    location: String,
    /// The directory of a local store.
    place: OnceLock<PathBuf>,
    env: Env,
    meter: Meter,
    meta: OnceCell<StoreMeta>,
    /// The store's id, once an object has told it.
    id: OnceLock<StoreId>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("location", &self.inner.location).finish_non_exhaustive()
    }
}

impl Store {
    /// Returns a store on `objects`, without a request. `location` is its URL for messages, without secrets;
    /// the local state is kept under this name.
    pub fn new(objects: Arc<dyn ObjectStore>, location: impl Into<String>, env: Env) -> Self {
        let inner = Inner {
            objects,
            location: location.into(),
            place: OnceLock::new(),
            env,
            meter: Meter::default(),
            meta: OnceCell::new(),
            id: OnceLock::new(),
        };
        Self { inner: Arc::new(inner), in_order: false }
    }

    /// Declares that each listing of the objects gives all keys in the order of their bytes. Then the first
    /// key is enough to find a head. Otherwise the first thousand keys are read: for an object store, that
    /// costs the same, for a directory it costs more.
    #[must_use]
    pub fn listed_in_order(self) -> Self {
        Self { in_order: true, ..self }
    }

    /// Declares that the objects are in this directory, which then never takes part in a sync. It may be
    /// anywhere, even in a mount. Only the first call counts.
    #[must_use]
    pub fn in_directory(self, dir: impl Into<PathBuf>) -> Self {
        let _ = self.inner.place.set(dir.into());
        self
    }

    /// Returns the directory that contains the objects, if the store is local.
    pub(crate) fn place(&self) -> Option<&std::path::Path> {
        self.inner.place.get().map(PathBuf::as_path)
    }

    /// Returns the store's URL.
    pub fn location(&self) -> &str {
        &self.inner.location
    }

    /// Returns the number of requests and bytes so far.
    pub fn usage(&self) -> Usage {
        self.inner.meter.usage()
    }

    /// Counts bytes that a request sends.
    pub(crate) fn sent(&self, bytes: u64) {
        self.inner.meter.sent(bytes);
    }

    /// Returns the objects for one request, and counts it.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        self.inner.meter.request();
        &self.inner.objects
    }

    /// Lists all keys below a prefix. `ObjectStore::list` suits callers that stop after the first keys: in the cloud, its
    /// first page is short.
    pub(crate) fn list_all(&self, prefix: &Path) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        // The prefix itself sorts before all keys below it.
        self.objects().list_with_offset(Some(prefix), prefix)
    }

    pub(crate) fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Whether the store exists.
    pub async fn exists(&self) -> Result<bool, Error> {
        match self.meta().await {
            Ok(_) => Ok(true),
            Err(Error::NoStore { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Creates the store if it does not exist, and returns its description. An existing store is left as it
    /// is.
    ///
    /// The caller has checked that put-if-absent works: a store that ignores it loses commits.
    pub async fn init(&self, grace: Duration) -> Result<StoreMeta, Error> {
        let id: [u8; 16] = self.random()?;
        let meta = StoreMeta {
            store_id: StoreId(id),
            grace_seconds: grace.as_secs(),
            created: self.env().now().secs,
        };
        let key = StoreKey::Meta.path();
        // A store that lost its description must not get another id, which would cut it off from its contexts.
        let prefix = contexts_prefix();
        let listed = self.objects().list_with_delimiter(Some(&prefix)).await;
        let has_contexts = !listed.map_err(|e| Error::store("list", &prefix, e))?.common_prefixes.is_empty();
        if has_contexts {
            return match self.meta().await {
                Err(Error::NoStore { .. }) => Err(undescribed()),
                meta => meta,
            };
        }
        let put = self.put_new(&key, vec![Bytes::from(meta.encode())]).await;
        if put.is_ok() {
            self.assume_meta(meta.clone());
            return Ok(meta);
        }
        // The answer to the put may be wrong. The object under the key decides.
        match (self.meta().await, put) {
            (Err(Error::NoStore { .. }), Err(e)) => Err(Error::store("write", &key, e)),
            (meta, _) => meta,
        }
    }

    /// Returns the store's description, which is read only once.
    pub(crate) async fn meta(&self) -> Result<StoreMeta, Error> {
        let meta = self.inner.meta.get_or_try_init(|| self.read_meta());
        meta.await.cloned()
    }

    async fn read_meta(&self) -> Result<StoreMeta, Error> {
        Ok(self.read_meta_at().await?.0)
    }

    /// Reads the description, and returns the time of the answer if it has one.
    async fn read_meta_at(&self) -> Result<(StoreMeta, Option<SystemTime>), Error> {
        let key = StoreKey::Meta.path();
        let (bytes, told) = match self.get_at(&key, 1 << 16).await {
            Ok((bytes, _, told)) => (bytes, told),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {
                let location = self.inner.location.clone();
                // A store that never existed can be created; one that existed has vanished.
                return Err(match self.inner.id.get() {
                    None => Error::NoStore { location },
                    Some(_) => Error::StoreGone { location },
                });
            }
            Err(e) => return Err(e),
        };
        let meta =
            StoreMeta::decode(&bytes).map_err(|source| Error::Format { key: key.to_string(), source })?;
        self.expect_id(meta.store_id)?;
        Ok((meta, told))
    }

    /// Reads the description again, and fails if it is not that of the same store. Between two requests, a
    /// disk may be unmounted, or a bucket replaced.
    pub(crate) async fn confirm(&self) -> Result<StoreMeta, Error> {
        match self.inner.meta.initialized() {
            true => self.read_meta().await,
            false => self.meta().await,
        }
    }

    /// Fails if `id` is not the store's id. The first id counts as the store's.
    pub(crate) fn expect_id(&self, id: StoreId) -> Result<(), Error> {
        match *self.inner.id.get_or_init(|| id) == id {
            true => Ok(()),
            false => Err(Error::OtherStore { location: self.inner.location.clone() }),
        }
    }

    /// Sets the description that is known from an earlier sync, to save a request.
    pub(crate) fn assume_meta(&self, meta: StoreMeta) {
        let _ = self.expect_id(meta.store_id);
        // If the description was already read, that one is newer and stays.
        let _ = self.inner.meta.set(meta);
    }

    pub(crate) fn is_listed_in_order(&self) -> bool {
        self.in_order
    }

    /// Whether the time in an answer can be trusted. A proxy may have set it, so it must agree with this
    /// machine's clock.
    pub(crate) async fn believes(&self, told: i64) -> Result<bool, Error> {
        Ok(told.abs_diff(self.env().now().secs) <= self.meta().await?.grace_seconds / 8)
    }

    /// Returns the time by the store's clock, in seconds since 1970, and the id of an empty pack that was put
    /// to find it out. Nothing refers to that pack.
    pub(crate) async fn time(&self) -> Result<(i64, PackId), Error> {
        let pack = PackBuilder::new(PackId(self.random()?)).finish();
        let key = StoreKey::Pack(pack.id).path();
        let put = self.put_new(&key, pack.parts).await;
        // Whatever the answer to the put was: an object under this key is this one.
        match (self.stat(&key).await, put) {
            (Ok(found), _) => Ok((found.last_modified.timestamp(), pack.id)),
            (Err(_), Err(e)) => Err(Error::store("write", &key, e)),
            (Err(e), Ok(_)) => Err(e),
        }
    }

    /// Returns the time by which a snapshot must land that takes over the packs of another one, which is then
    /// found not to be forgotten. Also confirms that this is the same store.
    pub(crate) async fn land_by_now(&self) -> Result<i64, Error> {
        let (meta, told) = self.read_meta_at().await?;
        self.assume_meta(meta.clone());
        let grace = i64::try_from(meta.grace_seconds).unwrap_or(i64::MAX);
        let since_1970 = told.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        // Two seconds for rounding. A time from an answer leaves a quarter of the grace period for the errors of
        // clocks (docs/design/007).
        if let Some(told) = since_1970.and_then(|time| i64::try_from(time.as_secs()).ok()?.checked_sub(2))
            && self.believes(told).await?
        {
            return Ok(told.saturating_add(grace - grace / 4));
        }
        let (now, probe) = self.time().await?;
        // Nothing refers to the probe; a collection deletes what is left of it.
        let _ = self.delete(&StoreKey::Pack(probe).path()).await;
        Ok(now.saturating_add(grace))
    }

    /// Returns the time for files that are pushed after `head`, by the store's clock. `seen` is the time of a
    /// pack that this push has put, if there is one.
    ///
    /// A request for the time is sent only if recycling needs it. Otherwise this machine's time is returned,
    /// but never one before the head.
    pub(crate) async fn upload_time(
        &self,
        head: &Head,
        recycles: bool,
        seen: Option<i64>,
    ) -> Result<i64, Error> {
        match seen {
            Some(time) => Ok(time),
            None if recycles => Ok(self.time().await?.0),
            None => Ok(self.env().now().secs.max(head.key.landed)),
        }
    }

    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], Error> {
        self.env().random().map_err(|e| Error::local("take random bytes from", "the kernel", e))
    }
}

/// Returns the error for an object that can't be decoded.
pub(crate) fn unusable(key: impl ToString, source: FormatError) -> Error {
    Error::Format { key: key.to_string(), source }
}

/// Returns the error for a store that has contexts and lost its description.
pub(crate) fn undescribed() -> Error {
    let what = "it is not in the store, although contexts are".to_owned();
    Error::Corrupt { key: StoreKey::Meta.path().to_string(), what }
}
