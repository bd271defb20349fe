//! A store: its objects, its contexts and their snapshots.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use policy_core::Digest;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::buffers::Buffers;
use crate::env::Env;
use crate::error::Error;
use crate::format::{
    ContextName, FormatError, Kind, MAX_SNAPSHOT_LEN, PackBuilder, PackId, Snapshot, StoreId, StoreKey,
    StoreMeta, TagName, context_prefix, contexts_prefix,
};
use crate::usage::{Meter, Usage};

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

/// Which snapshot of a context is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The head.
    Head,
    /// The one with this number.
    Number(u64),
    /// The one that many before the head.
    Back(u64),
    /// The one with this tag.
    Tag(TagName),
}

impl From<i64> for At {
    fn from(at: i64) -> Self {
        Some(at).into()
    }
}

impl From<Option<i64>> for At {
    fn from(at: Option<i64>) -> Self {
        match at {
            None => Self::Head,
            Some(at) => u64::try_from(at).map_or(Self::Back(at.unsigned_abs()), Self::Number),
        }
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Head => Ok(()),
            Self::Number(number) => write!(f, "@{number}"),
            Self::Back(back) => write!(f, "@-{back}"),
            Self::Tag(tag) => write!(f, "@{tag}"),
        }
    }
}

/// The newest snapshot of a context, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadKey {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) e_tag: Option<String>,
    /// When the snapshot landed, by the store's clock, in seconds since 1970.
    pub(crate) landed: i64,
}

impl HeadKey {
    pub(crate) fn new(number: u64, meta: &ObjectMeta) -> Self {
        Self {
            number,
            size: meta.size,
            e_tag: meta.e_tag.as_deref().map(bare_tag),
            landed: meta.last_modified.timestamp(),
        }
    }

    /// Whether both are the same object. Only one of them may have the exact time of landing.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.e_tag.is_some()
            && (self.number, self.size, &self.e_tag) == (other.number, other.size, &other.e_tag)
    }
}

/// Returns the tag without quotes: some stores quote it in one kind of answer and not in another.
pub(crate) fn bare_tag(tag: &str) -> String {
    tag.trim_matches('"').to_owned()
}

/// The answer to a put.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) e_tag: Option<String>,
    /// The earliest and the latest time at which the object can have landed, in seconds since 1970, by the
    /// clock of the server that answered; `None` if the answer has no time.
    pub(crate) landed: Option<(i64, i64)>,
}

/// A snapshot with its identity and its key.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) key: HeadKey,
    pub(crate) digest: Digest,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) bytes: Bytes,
}

impl Head {
    pub(crate) fn is_live(&self) -> bool {
        self.snapshot.kind == Kind::Normal
    }

    /// Returns the packs that count as absent, because the snapshot landed after the time from which a
    /// collector may have found them unused.
    pub(crate) fn late_packs(&self) -> Vec<PackId> {
        let landed = self.key.landed;
        self.snapshot
            .packs
            .iter()
            .filter(|p| p.land_by.is_some_and(|by| landed >= by))
            .map(|p| p.id)
            .collect()
    }
}

/// A range of at least this many bytes is read into a reusable buffer, unless it is larger than the buffer.
const LONG_RANGE: u64 = 1 << 20;
/// The most bytes of a range that a read plans.
pub(crate) const MAX_RANGE: u64 = 8 << 20;

/// The number of keys on a page of a listing, in all object stores.
pub(crate) const LIST_PAGE: usize = 1000;

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

    /// Returns the newest snapshot of a context.
    pub async fn head(&self, name: &ContextName) -> Result<Arc<Snapshot>, Error> {
        Ok(self.require_head(name).await?.snapshot)
    }

    /// Returns a snapshot. For a number, `at` may also be given as `Some(number)`: negative, it counts back from the
    /// head, and `None` is the head.
    pub async fn snapshot(&self, name: &ContextName, at: impl Into<At>) -> Result<Arc<Snapshot>, Error> {
        Ok(self.find_snapshot(name, &at.into()).await?.snapshot)
    }

    /// The same, with the snapshot's key and digest. It was not forgotten when it was looked for.
    pub(crate) async fn find_snapshot(&self, name: &ContextName, at: &At) -> Result<Head, Error> {
        let missing = |number: i64| Error::NoSnapshot { name: name.clone(), number };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let head = self.require_head(name).await?;
        let (number, asked) = match at {
            At::Head => return Ok(head),
            At::Number(number) => (*number, signed(*number)),
            At::Back(back) => {
                let asked = -signed(*back);
                (head.key.number.checked_sub(*back).ok_or_else(|| missing(asked))?, asked)
            }
            At::Tag(tag) => {
                let (number, _) = self.tag_of(&head, tag).await?;
                (number, signed(number))
            }
        };
        if number == head.key.number {
            return Ok(head);
        }
        if self.is_gone(name, number).await? {
            return Err(missing(asked));
        }
        match self.read_snapshot(name, number).await {
            Ok(found) if found.is_live() => Ok(found),
            // A terminal snapshot is not a state of the context.
            Ok(_) => Err(missing(asked)),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Err(missing(asked)),
            Err(e) => Err(e),
        }
    }

    /// Whether a snapshot is forgotten.
    pub(crate) async fn is_gone(&self, name: &ContextName, number: u64) -> Result<bool, Error> {
        match self.stat(&StoreKey::Gone { context: name.clone(), number }.path()).await {
            // It may have a tag, which outdoes the mark.
            Ok(_) => Ok(!self.list_snapshots(name).await?.contains(&(number, false))),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Returns the head of a context that exists.
    pub(crate) async fn require_head(&self, name: &ContextName) -> Result<Head, Error> {
        let head = match self.find_head(name).await? {
            Some(head) => Some(self.head_after_move(name, head).await?),
            None => None,
        };
        match head {
            Some(head) if head.is_live() => Ok(head),
            head => {
                // The message depends on whether only the context is missing, or the whole store.
                self.confirm().await?;
                Err(self.missing(name, head.as_ref()))
            }
        }
    }

    /// Returns the newest snapshot, even if it is terminal.
    pub(crate) async fn find_head(&self, name: &ContextName) -> Result<Option<Head>, Error> {
        match self.find_head_key(name).await? {
            Some(key) => Ok(Some(self.read_head(name, key).await?)),
            None => Ok(None),
        }
    }

    pub(crate) fn is_listed_in_order(&self) -> bool {
        self.in_order
    }

    /// Returns the key of the newest snapshot with one request, however long the history is.
    pub(crate) async fn find_head_key(&self, name: &ContextName) -> Result<Option<HeadKey>, Error> {
        let prefix = context_prefix(name);
        let mut listed = self.objects().list(Some(&prefix));
        let mut newest: Option<HeadKey> = None;
        let (mut count, mut ascending, mut last) = (0, true, None);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
            if let Some(StoreKey::Snapshot { number, .. }) = StoreKey::parse(&meta.location)
                && newest.as_ref().is_none_or(|n| n.number < number)
            {
                newest = Some(HeadKey::new(number, &meta));
                if self.in_order {
                    break;
                }
            }
            count += 1;
            ascending &= last.as_ref().is_none_or(|l| *l < meta.location);
            last = Some(meta.location);
            // Object stores list in order, so the newest key is on the first page. In a plain directory it
            // may not be.
            if count == LIST_PAGE && ascending {
                break;
            }
        }
        Ok(newest)
    }

    pub(crate) async fn read_head(&self, name: &ContextName, key: HeadKey) -> Result<Head, Error> {
        let mut head = self.read_snapshot(name, key.number).await?;
        head.key = key;
        Ok(head)
    }

    /// Reads and verifies one snapshot.
    pub(crate) async fn read_snapshot(&self, name: &ContextName, number: u64) -> Result<Head, Error> {
        let key = StoreKey::Snapshot { context: name.clone(), number }.path();
        // A snapshot can't prove that it belongs to this store: someone may have copied it from another one.
        let id_known = async {
            match self.inner.id.get() {
                Some(_) => Ok(()),
                None => self.meta().await.map(drop),
            }
        };
        let ((bytes, meta), ()) = tokio::try_join!(self.get(&key, MAX_SNAPSHOT_LEN as u64), id_known)?;
        match self.check_snapshot(name, number, bytes, HeadKey::new(number, &meta)) {
            // A bit may have been flipped on the way, so try again.
            Err(Error::Format { source, .. }) if source.is_retryable() && meta.size > 0 => {}
            other => return other,
        }
        let (bytes, meta) = self.get(&key, MAX_SNAPSHOT_LEN as u64).await?;
        self.check_snapshot(name, number, bytes, HeadKey::new(number, &meta))
    }

    pub(crate) fn check_snapshot(
        &self,
        name: &ContextName,
        number: u64,
        bytes: Bytes,
        key: HeadKey,
    ) -> Result<Head, Error> {
        let shown = || StoreKey::Snapshot { context: name.clone(), number }.path().to_string();
        let (snapshot, digest) =
            Snapshot::decode(&bytes).map_err(|source| Error::Format { key: shown(), source })?;
        if snapshot.number != number || snapshot.context != *name {
            return Err(Error::Corrupt {
                key: shown(),
                what: format!("it says that it is snapshot {} of {}", snapshot.number, snapshot.context),
            });
        }
        self.expect_id(snapshot.store_id)?;
        Ok(Head { key, digest, snapshot: Arc::new(snapshot), bytes })
    }

    /// Puts an object that must not exist yet.
    pub(crate) async fn put_new(&self, key: &Path, parts: Vec<Bytes>) -> object_store::Result<Put> {
        let payload = PutPayload::from_iter(parts);
        self.inner.meter.sent(payload.content_length() as u64);
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        let asked = Instant::now();
        let answer = self.objects().put_opts(key, payload, options).await?;
        let told = answer.extensions.get::<SystemTime>();
        let since_1970 = told.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        // The answer's time is in whole seconds and rounded down, as are the times of objects.
        let took = i64::try_from(asked.elapsed().as_secs()).unwrap_or(i64::MAX).saturating_add(2);
        let landed = since_1970.and_then(|time| {
            let answered = i64::try_from(time.as_secs()).ok()?;
            Some((answered.checked_sub(took)?, answered.checked_add(1)?))
        });
        Ok(Put { e_tag: answer.e_tag, landed })
    }

    /// Whether the time in an answer can be trusted. A proxy may have set it, so it must agree with this
    /// machine's clock.
    pub(crate) async fn believes(&self, told: i64) -> Result<bool, Error> {
        Ok(told.abs_diff(self.env().now().secs) <= self.meta().await?.grace_seconds / 8)
    }

    /// Reads an object of at most `limit` bytes.
    pub(crate) async fn get(&self, key: &Path, limit: u64) -> Result<(Bytes, ObjectMeta), Error> {
        let (bytes, meta, _) = self.get_at(key, limit).await?;
        Ok((bytes, meta))
    }

    /// The same, with the time of the answer if it has one.
    async fn get_at(&self, key: &Path, limit: u64) -> Result<(Bytes, ObjectMeta, Option<SystemTime>), Error> {
        let result = async {
            let found = self.objects().get_opts(key, GetOptions::default()).await?;
            let (meta, told) = (found.meta.clone(), found.extensions.get::<SystemTime>().copied());
            if meta.size > limit {
                return Ok((None, meta, told));
            }
            Ok((Some(found.bytes().await?), meta, told))
        };
        match result.await {
            Ok((Some(bytes), meta, told)) => {
                self.inner.meter.received(bytes.len() as u64);
                Ok((bytes, meta, told))
            }
            Ok((None, meta, _)) => Err(Error::Corrupt {
                key: key.to_string(),
                what: format!("it has {} bytes, and {limit} is the limit", meta.size),
            }),
            Err(e) => Err(Error::store("read", key, e)),
        }
    }

    /// Reads bytes `start..end` of a pack.
    pub(crate) async fn get_range(&self, pack: PackId, start: u64, end: u64) -> Result<Bytes, Error> {
        self.get_range_into(None, pack, start, end).await
    }

    /// The same, into one of the buffers if the range is long.
    pub(crate) async fn get_range_into(
        &self,
        buffers: Option<&Buffers>,
        pack: PackId,
        start: u64,
        end: u64,
    ) -> Result<Bytes, Error> {
        let key = StoreKey::Pack(pack).path();
        let mut bytes = self.read_range(&key, start..end, buffers).await;
        if bytes.as_ref().is_ok_and(|b| b.len() as u64 != end - start) {
            // The answer may have been truncated.
            bytes = self.read_range(&key, start..end, buffers).await;
        }
        let bytes = bytes.map_err(|e| Error::store("read", &key, e))?;
        self.inner.meter.received(bytes.len() as u64);
        if bytes.len() as u64 != end - start {
            return Err(Error::Corrupt {
                key: key.to_string(),
                what: format!("it ends at byte {}, and should hold byte {end}", start + bytes.len() as u64),
            });
        }
        Ok(bytes)
    }

    /// Reads a range; the result may be shorter, or somewhat longer.
    async fn read_range(
        &self,
        key: &Path,
        range: Range<u64>,
        buffers: Option<&Buffers>,
    ) -> object_store::Result<Bytes> {
        let wanted = range.end - range.start;
        let options = GetOptions { range: Some(range.into()), ..Default::default() };
        let found = self.objects().get_opts(key, options).await?;
        let Some(buffers) = buffers.filter(|_| (LONG_RANGE..=MAX_RANGE).contains(&wanted)) else {
            return found.bytes().await;
        };
        let mut buffer = buffers.take();
        match found.payload {
            GetResultPayload::File(mut file, _) => {
                let read = move || {
                    file.seek(SeekFrom::Start(found.range.start))?;
                    file.take(wanted).read_to_end(&mut buffer)?;
                    Ok(buffer)
                };
                let read = self.env().blocking(read).await.unwrap_or_else(|lost| Err(lost.into()));
                buffer = read.map_err(|e: io::Error| object_store::Error::Generic {
                    store: "LocalFileSystem",
                    source: e.into(),
                })?;
            }
            GetResultPayload::Stream(mut pieces) => {
                while let Some(piece) = pieces.try_next().await?
                    && buffer.len() as u64 <= wanted
                {
                    buffer.extend_from_slice(&piece);
                }
            }
        }
        Ok(buffers.share(buffer))
    }

    pub(crate) async fn stat(&self, key: &Path) -> Result<ObjectMeta, Error> {
        self.objects().head(key).await.map_err(|e| Error::store("stat", key, e))
    }

    /// Deletes an object. An object that does not exist is no error.
    pub(crate) async fn delete(&self, key: &Path) -> Result<(), Error> {
        match self.objects().delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(Error::store("delete", key, e)),
        }
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
