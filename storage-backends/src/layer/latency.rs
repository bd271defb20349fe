//! Makes every request take longer.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::time::sleep;

use super::{PAGE, coalesced, lazily, pages, starts_page};

/// How many of a call's ranges `object_store` requests at once.
const RANGES_AT_ONCE: usize = 10;

/// A layer that waits before it passes a request on.
///
/// It uses tokio's clock: if that is paused, time passes as soon as all tasks wait.
#[derive(Clone)]
pub struct Latency {
    inner: Arc<dyn ObjectStore>,
    delay: Duration,
}

impl Latency {
    /// Waits for `delay` before each request.
    pub fn new(inner: Arc<dyn ObjectStore>, delay: Duration) -> Self {
        Self { inner, delay }
    }

    async fn wait(&self, requests: usize) {
        let times = u32::try_from(requests).unwrap_or(u32::MAX);
        sleep(self.delay.saturating_mul(times)).await;
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Latency({:?}, {})", self.delay, self.inner)
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Latency({:?}, {:?})", self.delay, self.inner)
    }
}

fn delayed(
    items: BoxStream<'static, Result<ObjectMeta>>,
    delay: Duration,
) -> BoxStream<'static, Result<ObjectMeta>> {
    lazily(async move {
        sleep(delay).await;
        let items = items.enumerate().then(move |(index, item)| async move {
            if item.is_ok() && starts_page(index) {
                sleep(delay).await;
            }
            item
        });
        items.boxed()
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Latency {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.wait(1).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.wait(1).await;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(LatentUpload { inner, delay: self.delay }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.wait(1).await;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.wait(coalesced(ranges).len().div_ceil(RANGES_AT_ONCE)).await;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let delay = self.delay;
        let locations = locations.enumerate().then(move |(index, location)| async move {
            if index.is_multiple_of(PAGE) {
                sleep(delay).await;
            }
            location
        });
        self.inner.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        delayed(self.inner.list(prefix), self.delay)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        delayed(self.inner.list_with_offset(prefix, offset), self.delay)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.wait(1).await;
        let result = self.inner.list_with_delimiter(prefix).await?;
        self.wait(pages(result.objects.len() + result.common_prefixes.len()) - 1).await;
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.wait(1).await;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.wait(2).await;
        self.inner.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct LatentUpload {
    inner: Box<dyn MultipartUpload>,
    delay: Duration,
}

#[async_trait]
impl MultipartUpload for LatentUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (delay, part) = (self.delay, self.inner.put_part(data));
        Box::pin(async move {
            sleep(delay).await;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        sleep(self.delay).await;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        sleep(self.delay).await;
        self.inner.abort().await
    }
}
