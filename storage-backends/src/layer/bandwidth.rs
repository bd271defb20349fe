//! Limits the bytes per second in each direction.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::time::{Instant, sleep_until};

/// How much unused time may be caught up on. Timers are late by a millisecond or so, and each small piece
/// would lose that time otherwise.
const CATCH_UP: Duration = Duration::from_millis(50);

/// A layer that limits the bytes of objects per second in each direction. All requests share the limit.
///
/// The body of a request can't be slowed down here. So a put waits until its bytes fit, and is then sent at
/// full speed. Bodies that are read are slowed piece by piece.
#[derive(Clone)]
pub struct Bandwidth {
    inner: Arc<dyn ObjectStore>,
    up: Option<Bucket>,
    down: Option<Bucket>,
}

impl Bandwidth {
    /// Sets the limits for sending and receiving, in bytes per second; `None` means no limit.
    pub fn new(inner: Arc<dyn ObjectStore>, up: Option<NonZeroU64>, down: Option<NonZeroU64>) -> Self {
        Self { inner, up: up.map(Bucket::new), down: down.map(Bucket::new) }
    }
}

/// The time at which the next byte fits, shared by all requests.
#[derive(Clone)]
struct Bucket {
    rate: NonZeroU64,
    next: Arc<Mutex<Option<Instant>>>,
}

impl Bucket {
    fn new(rate: NonZeroU64) -> Self {
        Self { rate, next: Arc::default() }
    }

    /// Waits until this many bytes fit.
    async fn take(&self, bytes: u64) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
            let start = next.map_or(now, |next| next.max(earliest));
            let until = start + Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
            *next = Some(until);
            Turn { bucket: self, start, until }
        };
        sleep_until(turn.until).await;
    }
}

/// A reserved period of the connection. If it is given up, others may use what is left of it.
struct Turn<'a> {
    bucket: &'a Bucket,
    start: Instant,
    until: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let left = self.until.saturating_duration_since(self.start.max(Instant::now()));
        if !left.is_zero() {
            let mut next = self.bucket.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next = next.and_then(|next| next.checked_sub(left));
        }
    }
}

async fn take(bucket: Option<&Bucket>, bytes: u64) {
    if let Some(bucket) = bucket {
        bucket.take(bytes).await;
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bandwidth({})", self.inner)
    }
}

impl fmt::Debug for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bandwidth({:?})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Bandwidth {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        take(self.up.as_ref(), payload.content_length() as u64).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(SlowUpload { inner, up: self.up.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let mut result = self.inner.get_opts(location, options).await?;
        let Some(down) = self.down.clone().filter(|_| !head) else { return Ok(result) };
        let (meta, range, attributes, extensions) =
            (result.meta.clone(), result.range.clone(), result.attributes.clone(), result.extensions.clone());
        let body = result.into_stream().then(move |piece| {
            let down = down.clone();
            async move {
                if let Ok(piece) = &piece {
                    down.take(piece.len() as u64).await;
                }
                piece
            }
        });
        let payload = GetResultPayload::Stream(body.boxed());
        result = GetResult { payload, meta, range, attributes, extensions };
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let pieces = self.inner.get_ranges(location, ranges).await?;
        take(self.down.as_ref(), pieces.iter().map(|piece| piece.len() as u64).sum()).await;
        Ok(pieces)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

struct SlowUpload {
    inner: Box<dyn MultipartUpload>,
    up: Option<Bucket>,
}

impl fmt::Debug for SlowUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlowUpload({:?})", self.inner)
    }
}

#[async_trait]
impl MultipartUpload for SlowUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (up, bytes) = (self.up.clone(), data.content_length() as u64);
        let part = self.inner.put_part(data);
        Box::pin(async move {
            take(up.as_ref(), bytes).await;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
