//! A machine's way to the store: each request takes a random time, and is noted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use storage_backends::layer::Faulty;

use crate::disk::{Crashed, Disk};
use crate::outside::{Seeded, SimClock};
use crate::trace::Trace;

#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) inner: Faulty,
    pub(crate) disk: Arc<Disk>,
    pub(crate) clock: SimClock,
    pub(crate) random: Seeded,
    /// Whether the machine is gone when its connection is.
    pub(crate) dies: bool,
    pub(crate) name: Arc<str>,
    pub(crate) trace: Trace,
}

impl Wire {
    async fn begin(&self, request: &str, key: &Path) {
        self.may_be_over().await;
        self.trace.note(|| format!("    {} {request} {key}", self.name));
        let delay = [0, 0, 1, 3, 10, 40][self.random.below(6)];
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        self.clock.catch_up();
        self.disk.moment();
    }

    async fn end<T>(&self, request: &str, key: &Path, result: Result<T>) -> Result<T> {
        self.answered(request, key, result.as_ref().err().map(ToString::to_string)).await;
        result
    }

    async fn answered(&self, request: &str, key: &Path, error: Option<String>) {
        self.clock.catch_up();
        let said = error.unwrap_or_else(|| "done".to_owned());
        self.trace.note(|| format!("    {} {request} {key}: {said}", self.name));
        if self.dies && self.inner.is_crashed() {
            self.disk.die();
        }
        self.may_be_over().await;
    }

    /// A machine that is gone sends nothing, and hears of no answer. Its tasks end here, with all that they hold.
    async fn may_be_over(&self) {
        if self.disk.is_gone() {
            std::panic::resume_unwind(Box::new(Crashed));
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Wire {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let what = format!("put {} bytes", payload.content_length());
        self.begin(&what, location).await;
        let result = self.inner.put_opts(location, payload, opts).await;
        self.end(&what, location, result).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.begin("upload", location).await;
        let result = self.inner.put_multipart_opts(location, opts).await;
        self.end("upload", location, result).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head".to_owned() } else { format!("get {:?}", options.range) };
        self.begin(&what, location).await;
        let result = self.inner.get_opts(location, options).await;
        self.end(&what, location, result).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let asked = locations.then(move |location| {
            let this = this.clone();
            async move {
                let location = location?;
                this.begin("delete", &location).await;
                Ok(location)
            }
        });
        self.inner.delete_stream(asked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let key = prefix.clone().unwrap_or_default();
            this.begin("list", &key).await;
            let listed: Vec<_> = this.inner.list(prefix.as_ref()).collect().await;
            let ended = listed.iter().find_map(|item| item.as_ref().err()).map(ToString::to_string);
            this.answered("list", &key, ended).await;
            Ok::<_, object_store::Error>(futures::stream::iter(listed))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix, offset) = (self.clone(), prefix.cloned(), offset.clone());
        let listing = async move {
            this.begin("list after", &offset).await;
            let listed: Vec<_> = this.inner.list_with_offset(prefix.as_ref(), &offset).collect().await;
            let ended = listed.iter().find_map(|item| item.as_ref().err()).map(ToString::to_string);
            this.answered("list", &offset, ended).await;
            Ok::<_, object_store::Error>(futures::stream::iter(listed))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = prefix.cloned().unwrap_or_default();
        self.begin("list level", &key).await;
        let result = self.inner.list_with_delimiter(prefix).await;
        self.end("list level", &key, result).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.begin("copy", to).await;
        let result = self.inner.copy_opts(from, to, options).await;
        self.end("copy", to, result).await
    }
}
