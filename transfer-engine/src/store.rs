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
    StoreMeta, context_prefix,
};
use crate::usage::{Meter, Usage};

/// A place that holds contexts. Cheap to clone; clones share their counts.
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
    /// The store's id, once something has told it.
    id: OnceLock<StoreId>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("location", &self.inner.location).finish_non_exhaustive()
    }
}

/// The newest snapshot of a context, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadKey {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) e_tag: Option<String>,
    /// When it landed, by the store's clock, in seconds since 1970.
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

    /// Whether both stand for the same object. When it landed may be known exactly to one of them only.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.e_tag.is_some()
            && (self.number, self.size, &self.e_tag) == (other.number, other.size, &other.e_tag)
    }
}

/// Some stores quote the tag in one kind of answer and not in another.
pub(crate) fn bare_tag(tag: &str) -> String {
    tag.trim_matches('"').to_owned()
}

/// What the answer to a put tells.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) e_tag: Option<String>,
    /// The earliest and the latest time, by the clock of who answered, at which the object can have landed, in
    /// seconds since 1970; `None` where the answer has no time.
    pub(crate) landed: Option<(i64, i64)>,
}

/// A snapshot with its identity and where it was found.
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

    /// Returns the packs that are to be treated as absent: the snapshot landed after the time from which a
    /// collector may have judged them unused.
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

/// A range of this many bytes goes into a buffer that is used again, unless it is of more than they hold.
const LONG_RANGE: u64 = 1 << 20;
/// The most bytes of a range that is planned.
pub(crate) const MAX_RANGE: u64 = 8 << 20;

/// The keys of a page of a listing, as all object stores give it.
const LIST_PAGE: usize = 1000;

impl Store {
    /// Returns a store on `objects`, without a request. `location` is its address for messages, without
    /// secrets; local state is kept under it.
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

    /// Says that each listing of the objects gives all keys in the order of their bytes. Then a head is found
    /// by the first key of one; otherwise by the first thousand, which cost an object store no more, but a
    /// directory does.
    #[must_use]
    pub fn listed_in_order(self) -> Self {
        Self { in_order: true, ..self }
    }

    /// Says that the objects lie in this directory, which then takes part in no sync. It may be anywhere, also in a
    /// mount. The first to say so counts.
    #[must_use]
    pub fn in_directory(self, dir: impl Into<PathBuf>) -> Self {
        let _ = self.inner.place.set(dir.into());
        self
    }

    /// Returns the directory in which the objects lie, if they do in one.
    pub(crate) fn place(&self) -> Option<&std::path::Path> {
        self.inner.place.get().map(PathBuf::as_path)
    }

    /// Returns the store's address.
    pub fn location(&self) -> &str {
        &self.inner.location
    }

    /// Returns how much was asked of the store so far.
    pub fn usage(&self) -> Usage {
        self.inner.meter.usage()
    }

    /// Returns the objects for one request, which is counted.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        self.inner.meter.request();
        &self.inner.objects
    }

    pub(crate) fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Whether there is a store.
    pub async fn exists(&self) -> Result<bool, Error> {
        match self.meta().await {
            Ok(_) => Ok(true),
            Err(Error::NoStore { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes the store where it is missing, and returns its description; one that is there stays as it is.
    ///
    /// The caller has made sure that the place honours put-if-absent: a store that ignores it loses commits.
    pub async fn init(&self, grace: Duration) -> Result<StoreMeta, Error> {
        let id: [u8; 16] = self.random()?;
        let meta = StoreMeta {
            store_id: StoreId(id),
            grace_seconds: grace.as_secs(),
            created: self.env().now().secs,
        };
        let key = StoreKey::Meta.path();
        let put = self.put_new(&key, vec![Bytes::from(meta.encode())]).await;
        if put.is_ok() {
            self.assume_meta(meta.clone());
            return Ok(meta);
        }
        // An answer that says otherwise may be wrong: what stands there now is what counts.
        match (self.meta().await, put) {
            (Err(Error::NoStore { .. }), Err(e)) => Err(Error::store("write", &key, e)),
            (meta, _) => meta,
        }
    }

    /// Returns the store's description; asks for it once.
    pub(crate) async fn meta(&self) -> Result<StoreMeta, Error> {
        let meta = self.inner.meta.get_or_try_init(|| self.read_meta());
        meta.await.cloned()
    }

    async fn read_meta(&self) -> Result<StoreMeta, Error> {
        let key = StoreKey::Meta.path();
        let bytes = match self.get(&key, 1 << 16).await {
            Ok((bytes, _)) => bytes,
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {
                let location = self.inner.location.clone();
                // What is missing from the begin on can be made; what was there can't be.
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
        Ok(meta)
    }

    /// Reads the description again, and expects it to be that of the store that was there before. Between two requests
    /// a disk may be unmounted, or a bucket exchanged.
    pub(crate) async fn confirm(&self) -> Result<StoreMeta, Error> {
        match self.inner.meta.initialized() {
            true => self.read_meta().await,
            false => self.meta().await,
        }
    }

    /// Expects whatever tells the store's id to tell the same; the first to do so is believed.
    pub(crate) fn expect_id(&self, id: StoreId) -> Result<(), Error> {
        match *self.inner.id.get_or_init(|| id) == id {
            true => Ok(()),
            false => Err(Error::OtherStore { location: self.inner.location.clone() }),
        }
    }

    /// Takes the description as known from an earlier sync, to save its request.
    pub(crate) fn assume_meta(&self, meta: StoreMeta) {
        let _ = self.expect_id(meta.store_id);
        // Already asked for: then that answer is the newer one.
        let _ = self.inner.meta.set(meta);
    }

    /// Returns the newest snapshot of a context.
    pub async fn head(&self, name: &ContextName) -> Result<Arc<Snapshot>, Error> {
        Ok(self.require_head(name).await?.snapshot)
    }

    /// Returns a snapshot: the head, the one of a number, or, with a negative number, one before the head.
    pub async fn snapshot(&self, name: &ContextName, at: Option<i64>) -> Result<Arc<Snapshot>, Error> {
        let Some(at) = at else { return self.head(name).await };
        let missing = || Error::NoSnapshot { name: name.clone(), number: at };
        let head = self.require_head(name).await?;
        let number = match u64::try_from(at) {
            Ok(number) => number,
            Err(_) => head.key.number.checked_sub(at.unsigned_abs()).ok_or_else(missing)?,
        };
        if number == head.key.number {
            return Ok(head.snapshot);
        }
        let gone = StoreKey::Gone { context: name.clone(), number }.path();
        match self.stat(&gone).await {
            Ok(_) => return Err(missing()),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {}
            Err(e) => return Err(e),
        }
        match self.read_snapshot(name, number).await {
            Ok(found) if found.is_live() => Ok(found.snapshot),
            // An end of the context is no state of it.
            Ok(_) => Err(missing()),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Err(missing()),
            Err(e) => Err(e),
        }
    }

    /// Returns the head of a live context.
    pub(crate) async fn require_head(&self, name: &ContextName) -> Result<Head, Error> {
        let head = match self.find_head(name).await? {
            Some(head) => Some(self.settled(name, head).await?),
            None => None,
        };
        match head {
            Some(head) if head.is_live() => Ok(head),
            head => {
                // Whether it is the context that is missing or the whole store makes another message.
                self.confirm().await?;
                Err(self.missing(name, head.as_ref()))
            }
        }
    }

    /// Returns the newest snapshot, terminal ones as well.
    pub(crate) async fn find_head(&self, name: &ContextName) -> Result<Option<Head>, Error> {
        match self.find_head_key(name).await? {
            Some(key) => Ok(Some(self.read_head(name, key).await?)),
            None => Ok(None),
        }
    }

    /// Returns the key of the newest snapshot: one request, whatever the length of the history.
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
            // Object stores list in order, so the newest is in the first page. A bare directory does not.
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

    /// Reads and checks one snapshot.
    pub(crate) async fn read_snapshot(&self, name: &ContextName, number: u64) -> Result<Head, Error> {
        let key = StoreKey::Snapshot { context: name.clone(), number }.path();
        // A snapshot can't vouch for itself: another store's may lie here.
        let id_known = async {
            match self.inner.id.get() {
                Some(_) => Ok(()),
                None => self.meta().await.map(drop),
            }
        };
        let ((bytes, meta), ()) = tokio::try_join!(self.get(&key, MAX_SNAPSHOT_LEN as u64), id_known)?;
        match self.check_snapshot(name, number, bytes, HeadKey::new(number, &meta)) {
            // A bit may have flipped on the way: once more.
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

    /// Puts an object that must not be there yet.
    pub(crate) async fn put_new(&self, key: &Path, parts: Vec<Bytes>) -> object_store::Result<Put> {
        let payload = PutPayload::from_iter(parts);
        self.inner.meter.sent(payload.content_length() as u64);
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        let asked = Instant::now();
        let answer = self.objects().put_opts(key, payload, options).await?;
        let told = answer.extensions.get::<SystemTime>();
        let since_1970 = told.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        // The answer's time is in whole seconds, rounded down as times of objects are.
        let took = i64::try_from(asked.elapsed().as_secs()).unwrap_or(i64::MAX).saturating_add(2);
        let landed = since_1970.and_then(|time| {
            let answered = i64::try_from(time.as_secs()).ok()?;
            Some((answered.checked_sub(took)?, answered.checked_add(1)?))
        });
        Ok(Put { e_tag: answer.e_tag, landed })
    }

    /// Whether a time that an answer told can be believed: a proxy may have put its own there, so two clocks
    /// have to agree.
    pub(crate) async fn believes(&self, told: i64) -> Result<bool, Error> {
        Ok(told.abs_diff(self.env().now().secs) <= self.meta().await?.grace_seconds / 8)
    }

    /// Reads an object of at most `limit` bytes.
    pub(crate) async fn get(&self, key: &Path, limit: u64) -> Result<(Bytes, ObjectMeta), Error> {
        let result = async {
            let found = self.objects().get_opts(key, GetOptions::default()).await?;
            let meta = found.meta.clone();
            if meta.size > limit {
                return Ok((None, meta));
            }
            Ok((Some(found.bytes().await?), meta))
        };
        match result.await {
            Ok((Some(bytes), meta)) => {
                self.inner.meter.received(bytes.len() as u64);
                Ok((bytes, meta))
            }
            Ok((None, meta)) => Err(Error::Corrupt {
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

    /// The same, into one of the buffers where many bytes are wanted.
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
            // Cut short on the way, perhaps.
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

    /// Reads a range; fewer bytes may have come, or some more.
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

    /// Deletes an object; one that is not there is deleted.
    pub(crate) async fn delete(&self, key: &Path) -> Result<(), Error> {
        match self.objects().delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(Error::store("delete", key, e)),
        }
    }

    /// Returns the store's time, in seconds since 1970: that of an object just put, a pack with nothing in
    /// it, whose id is returned as well. Nothing refers to it.
    pub(crate) async fn time(&self) -> Result<(i64, PackId), Error> {
        let pack = PackBuilder::new(PackId(self.random()?)).finish();
        let key = StoreKey::Pack(pack.id).path();
        let put = self.put_new(&key, pack.parts).await;
        // Whatever became of the put: if it is there, it is this one.
        match (self.stat(&key).await, put) {
            (Ok(found), _) => Ok((found.last_modified.timestamp(), pack.id)),
            (Err(_), Err(e)) => Err(Error::store("write", &key, e)),
            (Err(e), Ok(_)) => Err(e),
        }
    }

    /// Returns the store's time at which something is uploaded that follows `head`. `seen` is the time of a
    /// pack that was put for it, if one was.
    ///
    /// Asks for the time only where recycling makes use of it; else it is this machine's, but never before the
    /// head.
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

/// Describes an object that can't be decoded.
pub(crate) fn unusable(key: impl ToString, source: FormatError) -> Error {
    Error::Format { key: key.to_string(), source }
}
