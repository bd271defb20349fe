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

/// When all clocks of tests begin, in seconds since 1970.
const BEGIN: i64 = 1_700_000_000;

/// A clock that stands still until it is told to go on. Copies are the same clock.
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

    /// Lets so many seconds pass.
    pub fn pass(&self, secs: i64) {
        self.0.fetch_add(secs, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp { secs: self.secs(), nanos: 0 }
    }
}

/// A layer in which objects are as old as a [`HandClock`] says.
#[derive(Debug, Clone)]
pub struct Clocked {
    inner: Arc<dyn ObjectStore>,
    clock: HandClock,
    put: Arc<Mutex<HashMap<Path, i64>>>,
    /// How far ahead the time is that the answers of puts tell; `None` where they tell none.
    answers: Option<i64>,
}

impl Clocked {
    /// Puts the layer round a store.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: &HandClock) -> Arc<Self> {
        Arc::new(Self { inner, clock: clock.clone(), put: Arc::default(), answers: None })
    }

    /// The same, with answers that tell the store's time, which is so many seconds ahead of that of the
    /// objects.
    pub fn answering(inner: Arc<dyn ObjectStore>, clock: &HandClock, ahead: i64) -> Arc<Self> {
        Arc::new(Self { inner, clock: clock.clone(), put: Arc::default(), answers: Some(ahead) })
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secs) = put.get(&meta.location) {
            meta.last_modified = (UNIX_EPOCH + Duration::from_secs(secs.unsigned_abs())).into();
        }
        meta
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
            let secs = self.clock.secs().saturating_add(ahead).unsigned_abs();
            result.extensions.insert::<SystemTime>(UNIX_EPOCH + Duration::from_secs(secs));
        }
        self.put.lock().unwrap_or_else(PoisonError::into_inner).insert(location.clone(), self.clock.secs());
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
