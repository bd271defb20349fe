//! A store whose requests wait until a test releases them, one at a time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;

/// Waiting requests, each with the actor that sent it.
type Waiting = Arc<Mutex<Vec<(usize, oneshot::Sender<()>)>>>;

/// Holds all requests until it is told which one may go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Waiting);

impl Gate {
    /// Returns the actors with waiting requests.
    pub(crate) fn waiting(&self) -> Vec<usize> {
        let mut who: Vec<_> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(who, _)| *who).collect();
        who.sort_unstable();
        who.dedup();
        who
    }

    /// Releases one request of an actor: the `nth` of those that wait.
    pub(crate) fn release(&self, who: usize, nth: usize) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs: Vec<_> = (0..waiting.len()).filter(|at| waiting[*at].0 == who).collect();
        if !theirs.is_empty() {
            // If the actor was aborted meanwhile, nothing waits for the answer.
            let _ = waiting.remove(theirs[nth % theirs.len()]).1.send(());
        }
    }

    /// Drops the requests of an actor that is dead.
    pub(crate) fn forget(&self, who: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != who);
    }

    /// Returns the store as an actor reaches it.
    pub(crate) fn before(&self, objects: &Arc<dyn ObjectStore>, who: usize) -> Arc<dyn ObjectStore> {
        Arc::new(Gated { inner: Arc::clone(objects), gate: self.clone(), who })
    }

    async fn turn(&self, who: usize) {
        let (go, going) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((who, go));
        // The request of a dead actor never gets an answer.
        if going.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug, Clone)]
struct Gated {
    inner: Arc<dyn ObjectStore>,
    gate: Gate,
    who: usize,
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gated({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.gate.turn(self.who).await;
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
        self.gate.turn(self.who).await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |location: Result<Path>| {
            let this = this.clone();
            async move {
                let location = location?;
                this.gate.turn(this.who).await;
                this.inner.delete(&location).await.map(|()| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            this.gate.turn(this.who).await;
            Ok::<_, object_store::Error>(this.inner.list(prefix.as_ref()))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.gate.turn(self.who).await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
