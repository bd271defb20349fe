//! A store with a clock that a test sets.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use policy_core::Timestamp;
use transfer_engine::Clock;

/// The time at which each [`HandClock`] begins, in seconds since 1970.
const BEGIN: i64 = 1_700_000_000;

/// A clock that moves only when a test says so. Copies share the time.
#[derive(Debug, Clone)]
pub struct HandClock(Arc<AtomicI64>);

impl Default for HandClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(BEGIN)))
    }
}

impl HandClock {
    /// Returns the time in seconds since 1970.
    pub fn secs(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Advances the clock by `secs` seconds.
    pub fn pass(&self, secs: i64) {
        self.0.fetch_add(secs, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp { secs: self.secs(), nanos: 0 }
    }
}

/// A layer that gives objects the timestamps of a clock such as a [`HandClock`].
#[derive(Clone)]
pub struct Clocked {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    put: Arc<Mutex<HashMap<Path, i64>>>,
    /// How many seconds the store's time in the answers to puts is ahead of the clock; `None` for answers
    /// without a time.
    answers: Option<i64>,
}

impl Clocked {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: &(impl Clock + Clone + 'static)) -> Arc<Self> {
        Arc::new(Self { inner, clock: Arc::new(clock.clone()), put: Arc::default(), answers: None })
    }

    /// As [`new`](Self::new), but the answers to puts have the store's time, `ahead` seconds after the
    /// objects' timestamps.
    pub fn answering(inner: Arc<dyn ObjectStore>, clock: &HandClock, ahead: i64) -> Arc<Self> {
        Arc::new(Self { inner, clock: Arc::new(clock.clone()), put: Arc::default(), answers: Some(ahead) })
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secs) = put.get(&meta.location) {
            meta.last_modified = (UNIX_EPOCH + Duration::from_secs(secs.unsigned_abs())).into();
        }
        meta
    }
}

impl fmt::Debug for Clocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Clocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clocked({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Clocked {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let mut result = self.inner.put_opts(location, payload, opts).await?;
        if let Some(ahead) = self.answers {
            let secs = self.clock.now().secs.saturating_add(ahead).unsigned_abs();
            result.extensions.insert::<SystemTime>(UNIX_EPOCH + Duration::from_secs(secs));
        }
        self.put
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(location.clone(), self.clock.now().secs);
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.inner.get_opts(location, options).await?;
        result.meta = self.dated(result.meta);
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        self.inner.list(prefix).map_ok(move |meta| this.dated(meta)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(|meta| self.dated(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
