//! A store whose requests can be held.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

type Held = Box<dyn Fn(&Path) -> bool + Send + Sync>;

/// A layer that holds reads and writes until it is opened.
#[derive(Clone)]
pub(crate) struct Gate {
    inner: Arc<dyn ObjectStore>,
    held: Arc<Mutex<Option<Held>>>,
    changed: watch::Sender<u64>,
    /// The number of requests that wait.
    waiting: watch::Sender<u64>,
}

impl Gate {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, held: Arc::default(), changed: watch::channel(0).0, waiting: watch::channel(0).0 }
    }

    /// Holds requests for these keys from now on.
    pub(crate) fn hold(&self, held: impl Fn(&Path) -> bool + Send + Sync + 'static) {
        *self.held.lock().unwrap() = Some(Box::new(held));
    }

    /// Holds all requests for packs.
    pub(crate) fn hold_packs(&self) {
        self.hold(|key| key.as_ref().starts_with("packs/"));
    }

    /// Lets all requests pass.
    pub(crate) fn open(&self) {
        *self.held.lock().unwrap() = None;
        self.changed.send_modify(|n| *n += 1);
    }

    /// Waits until a request waits.
    pub(crate) async fn somebody_waits(&self) {
        self.waiting.subscribe().wait_for(|n| *n > 0).await.unwrap();
    }

    async fn pass(&self, key: &Path) {
        struct Waits<'a>(&'a watch::Sender<u64>);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|n| *n -= 1);
            }
        }
        let is_held = || self.held.lock().unwrap().as_ref().is_some_and(|held| held(key));
        let mut changed = self.changed.subscribe();
        if !is_held() {
            return;
        }
        self.waiting.send_modify(|n| *n += 1);
        let _waits = Waits(&self.waiting);
        while is_held() {
            changed.changed().await.unwrap();
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({})", self.inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.pass(location).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass(location).await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
