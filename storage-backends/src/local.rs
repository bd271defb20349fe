//! A directory as a store. If the directory is missing, requests are retried, as for a server that does not
//! answer.
//!
//! A missing directory must not be read as empty, nor be created again: its disk may be unmounted, or the
//! server of its share may be down.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tokio::task::spawn_blocking;

use crate::patience::Patience;

/// A missing directory rarely comes back by itself, so the user should soon hear of it.
const LONGEST: Duration = Duration::from_secs(15);

/// A local store that fails if its directory is missing.
#[derive(Clone)]
pub(crate) struct Local<S> {
    inner: Arc<S>,
    root: Arc<PathBuf>,
    patience: Patience,
}

/// The directory is missing.
#[derive(Debug, thiserror::Error)]
#[error("the store's directory {root} is gone; is its disk mounted?")]
struct Gone {
    root: String,
    source: io::Error,
}

impl<S: ObjectStore> Local<S> {
    /// Checks for the directory `root`, in which `inner` keeps its objects.
    pub(crate) fn new(inner: S, root: PathBuf, patience: Patience) -> Self {
        Self { inner: Arc::new(inner), root: Arc::new(root), patience }
    }

    /// Fails if the directory is missing.
    async fn look(&self) -> Result<()> {
        let root = Arc::clone(&self.root);
        spawn_blocking(move || match std::fs::metadata(&*root) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(io::Error::from(ErrorKind::NotADirectory)),
            Err(source) => Err(source),
        })
        .await?
        .map_err(|source| {
            let root = self.root.to_string_lossy().escape_debug().to_string();
            Error::Generic { store: "LocalFileSystem", source: Gone { root, source }.into() }
        })
    }

    /// Runs `act`, and retries it while it fails with an error that may pass.
    async fn patiently<T, F: Future<Output = Result<T>>>(&self, act: impl Fn() -> F) -> Result<T> {
        let mut trial = self.patience.begin();
        trial.at_most(LONGEST);
        loop {
            let done = match self.look().await {
                Ok(()) => act().await,
                Err(gone) => Err(gone),
            };
            match done {
                Err(error) if may_pass(&error) => {
                    if !trial.again(&Cause(&error)).await {
                        return Err(error);
                    }
                }
                done => {
                    self.patience.answered();
                    return done;
                }
            }
        }
    }
}

/// Whether the error may pass, because the directory or the server of its share may come back.
fn may_pass(error: &Error) -> bool {
    if crate::error::find::<Gone>(error).is_some_and(|gone| gone.source.kind() != ErrorKind::PermissionDenied)
    {
        return true;
    }
    crate::error::find::<io::Error>(error).is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::NotConnected
                | ErrorKind::StaleNetworkFileHandle
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
                | ErrorKind::TimedOut
        )
    })
}

/// Displays the innermost cause of an error.
struct Cause<'a>(&'a Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (crate::error::find::<Gone>(self.0), crate::error::find::<io::Error>(self.0)) {
            (Some(gone), _) => gone.fmt(f),
            (None, Some(error)) => error.fmt(f),
            (None, None) => self.0.fmt(f),
        }
    }
}

impl<S: fmt::Display> fmt::Display for Local<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<S: fmt::Debug> fmt::Debug for Local<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Local").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectStore + Clone> ObjectStore for Local<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.patiently(|| self.inner.put_opts(location, payload.clone(), opts.clone())).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.patiently(|| self.inner.put_multipart_opts(location, opts.clone())).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.patiently(|| self.inner.get_opts(location, options.clone())).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.patiently(|| self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let begin = async move {
            this.patiently(|| async { Ok(()) }).await.map(|()| this.inner.delete_stream(locations))
        };
        stream::once(begin).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let begin = async move {
            this.patiently(|| async { Ok(()) }).await.map(|()| this.inner.list(prefix.as_ref()))
        };
        stream::once(begin).try_flatten().boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix, offset) = (self.clone(), prefix.cloned(), offset.clone());
        let begin = async move {
            let there = this.patiently(|| async { Ok(()) }).await;
            there.map(|()| this.inner.list_with_offset(prefix.as_ref(), &offset))
        };
        stream::once(begin).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.patiently(|| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.patiently(|| self.inner.copy_opts(from, to, options.clone())).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.patiently(|| self.inner.rename_opts(from, to, options.clone())).await
    }
}
