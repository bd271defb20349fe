//! Reading, putting and deleting objects.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, GetResultPayload, ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::buffers::Buffers;
use crate::error::{Error, chain};
use crate::format::{PackId, StoreKey};

use super::Store;

/// The answer to a put.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) e_tag: Option<String>,
    /// The earliest and the latest time at which the object can have landed, in seconds since 1970, by the
    /// clock of the server that answered; `None` if the answer has no time.
    pub(crate) landed: Option<(i64, i64)>,
}

/// A range of at least this many bytes is read into a reusable buffer, unless it is larger than the buffer.
const LONG_RANGE: u64 = 1 << 20;
/// The most bytes of a range that a read plans.
pub(crate) const MAX_RANGE: u64 = 8 << 20;

/// Returns an answer that counts its bytes while they arrive.
fn counted(found: GetResult, passed: &Arc<AtomicU64>) -> GetResult {
    let payload = match found.payload {
        GetResultPayload::Stream(pieces) => {
            let passed = Arc::clone(passed);
            passed.store(0, Ordering::Relaxed);
            let count = move |piece: &Bytes| {
                passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
            };
            GetResultPayload::Stream(pieces.inspect_ok(count).boxed())
        }
        // A file of this machine is there at once.
        file @ GetResultPayload::File(..) => file,
    };
    GetResult { payload, ..found }
}

/// How a range is read.
#[derive(Clone, Copy, Default)]
pub(crate) struct RangeRead<'a> {
    /// A long range is read into one of these.
    pub(crate) buffers: Option<&'a Buffers>,
    /// Counts how many bytes have arrived.
    pub(crate) passed: Option<&'a Arc<AtomicU64>>,
    /// Ends the reading early.
    pub(crate) stop: Option<&'a CancellationToken>,
}

impl RangeRead<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(CancellationToken::is_cancelled)
    }

    /// Waits for `work`; `None` if the reading is stopped meanwhile.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.stop {
            Some(stop) => stop.run_until_cancelled(work).await,
            None => Some(work.await),
        }
    }
}

impl Store {
    /// Puts an object that must not exist yet.
    pub(crate) async fn put_new(&self, key: &Path, parts: Vec<Bytes>) -> object_store::Result<Put> {
        self.put_counted(key, parts, None).await
    }

    /// The same. If the store is one of `storage-backends` that is reached over HTTP, it counts in `taken` how many bytes
    /// of the object its connection has taken.
    pub(crate) async fn put_counted(
        &self,
        key: &Path,
        parts: Vec<Bytes>,
        taken: Option<Arc<AtomicU64>>,
    ) -> object_store::Result<Put> {
        let payload = PutPayload::from_iter(parts);
        self.inner.meter.sent(payload.content_length() as u64);
        let mut options = PutOptions { mode: PutMode::Create, ..Default::default() };
        if let Some(taken) = taken {
            options.extensions.insert(taken);
        }
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

    /// Reads an object of at most `limit` bytes.
    pub(crate) async fn get(&self, key: &Path, limit: u64) -> Result<(Bytes, ObjectMeta), Error> {
        let (bytes, meta, _) = self.get_at(key, limit).await?;
        Ok((bytes, meta))
    }

    /// The same, with the time of the answer if it has one.
    pub(super) async fn get_at(
        &self,
        key: &Path,
        limit: u64,
    ) -> Result<(Bytes, ObjectMeta, Option<SystemTime>), Error> {
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
        self.get_range_as(RangeRead::default(), pack, start, end).await
    }

    /// The same, in this way. If it is stopped, the result is what has arrived by then, and may be too short.
    pub(crate) async fn get_range_as(
        &self,
        how: RangeRead<'_>,
        pack: PackId,
        start: u64,
        end: u64,
    ) -> Result<Bytes, Error> {
        // No store answers a request for nothing.
        if start >= end {
            return Ok(Bytes::new());
        }
        let key = StoreKey::Pack(pack).path();
        let mut bytes = self.read_range(&key, start..end, how).await;
        if bytes.as_ref().is_ok_and(|b| b.len() as u64 != end - start) && !how.is_stopped() {
            // The answer may have been truncated.
            bytes = self.read_range(&key, start..end, how).await;
        }
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(e) => return Err(self.range_error(&key, end, e).await),
        };
        self.inner.meter.received(bytes.len() as u64);
        if bytes.len() as u64 != end - start && !how.is_stopped() {
            return Err(too_short(&key, start + bytes.len() as u64, end));
        }
        Ok(bytes)
    }

    /// Returns the error of a range that could not be read. If the object ends before the range begins, each store
    /// says so in other words (S3 with 416), and none of them means that the object is damaged. Its size does.
    async fn range_error(&self, key: &Path, end: u64, error: object_store::Error) -> Error {
        let error = Error::store("read", key, error);
        // All stores speak of the range then. After another error, a further request would only take time.
        if !chain(&error).to_lowercase().contains("range") {
            return error;
        }
        match self.stat(key).await {
            Ok(found) if found.size < end => too_short(key, found.size, end),
            Err(gone @ Error::Store { source: object_store::Error::NotFound { .. }, .. }) => gone,
            _ => error,
        }
    }

    /// Reads a range; the result may be shorter, or somewhat longer.
    async fn read_range(
        &self,
        key: &Path,
        range: Range<u64>,
        how: RangeRead<'_>,
    ) -> object_store::Result<Bytes> {
        let wanted = range.end - range.start;
        let options = GetOptions { range: Some(range.into()), ..Default::default() };
        let Some(found) = how.unless_stopped(self.objects().get_opts(key, options)).await else {
            return Ok(Bytes::new());
        };
        let mut found = found?;
        if let Some(passed) = how.passed {
            found = counted(found, passed);
        }
        let Some(buffers) = how.buffers.filter(|_| (LONG_RANGE..=MAX_RANGE).contains(&wanted)) else {
            return how.unless_stopped(found.bytes()).await.unwrap_or_else(|| Ok(Bytes::new()));
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
                while let Some(piece) = how.unless_stopped(pieces.try_next()).await
                    && let Some(piece) = piece?
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
}

/// Returns the error for an object that ends before what refers to it.
fn too_short(key: &Path, size: u64, end: u64) -> Error {
    Error::Corrupt {
        key: key.to_string(),
        what: format!("it ends at byte {size}, and should hold byte {end}"),
    }
}
