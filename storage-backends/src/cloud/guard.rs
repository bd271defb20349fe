//! Corrects the errors of a cloud store: removes secrets, and tells a missing bucket from a missing object.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::error::{BucketMissing, NoCredentials, find};

/// Values that must not be printed. `Debug` shows only how many there are.
#[derive(Clone)]
pub(crate) struct Secrets(Arc<[String]>);

/// Replaces an error that contained a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cleaned(String);

/// Codes of answers with status 400, which say that credentials are no longer valid.
const EXPIRED: [&str; 2] = ["ExpiredToken", "TokenRefreshRequired"];

/// Shorter values would also be found, and removed, in ordinary words.
const SHORTEST_SECRET: usize = 6;

impl Secrets {
    pub(crate) fn new(values: Vec<String>) -> Self {
        let mut values: Vec<_> = values.into_iter().filter(|value| value.len() >= SHORTEST_SECRET).collect();
        // If one value contains another, the longer one is replaced first, so that nothing of it remains.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values.into())
    }

    fn shows(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret.as_str()))
    }

    fn blot(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    /// Returns the error unchanged if it shows no secret, otherwise one of the same kind without the secret.
    pub(crate) fn clean(&self, error: Error) -> Error {
        if self.0.is_empty() {
            return error;
        }
        let mut texts = vec![format!("{error:?}")];
        let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        if !texts.iter().any(|text| self.shows(text)) {
            return error;
        }
        let said = |source: Box<dyn StdError + Send + Sync>| {
            Box::new(Cleaned(self.blot(&source.to_string()))) as Box<dyn StdError + Send + Sync>
        };
        match error {
            Error::NotFound { path, source } => {
                Error::NotFound { path: self.blot(&path), source: said(source) }
            }
            Error::AlreadyExists { path, source } => {
                Error::AlreadyExists { path: self.blot(&path), source: said(source) }
            }
            Error::Precondition { path, source } => {
                Error::Precondition { path: self.blot(&path), source: said(source) }
            }
            Error::NotModified { path, source } => {
                Error::NotModified { path: self.blot(&path), source: said(source) }
            }
            Error::PermissionDenied { path, source } => {
                Error::PermissionDenied { path: self.blot(&path), source: said(source) }
            }
            Error::Unauthenticated { path, source } => {
                Error::Unauthenticated { path: self.blot(&path), source: said(source) }
            }
            Error::NotSupported { source } => Error::NotSupported { source: said(source) },
            Error::Generic { store, source } => Error::Generic { store, source: said(source) },
            other => {
                Error::Generic { store: "cloud", source: Box::new(Cleaned(self.blot(&other.to_string()))) }
            }
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// A store whose errors are cleaned. `Display` and `Debug` show only its URL.
#[derive(Clone)]
pub(crate) struct Guarded {
    inner: Arc<dyn ObjectStore>,
    judge: Judge,
}

#[derive(Clone)]
struct Judge {
    url: Arc<str>,
    secrets: Secrets,
}

impl Judge {
    /// Cleans an error of a request for one object.
    fn object(&self, error: Error) -> Error {
        // The answers of the three clouds to a request for an object in a missing bucket.
        let codes = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];
        self.judge(error, |text| codes.iter().any(|code| text.contains(code)))
    }

    /// Cleans an error of a listing. A listing answers `NotFound` only if there is no bucket.
    fn listing(&self, error: Error) -> Error {
        match error {
            Error::NotFound { source, .. } => self.missing(source),
            other => self.judge(other, |text| status(text) == Some(404) || text.contains("NoSuchBucket")),
        }
    }

    /// Gives an error its proper kind. `object_store` sets the kind by the status of most requests, but a
    /// failed listing, deletion of many keys or start of an upload is `Generic`, with the status only in the
    /// text.
    fn judge(&self, error: Error, is_missing: impl Fn(&str) -> bool) -> Error {
        let (Error::NotFound { source, .. } | Error::Generic { source, .. }) = &error else {
            return self.secrets.clean(error);
        };
        let text = source.to_string();
        let path = String::new();
        let is_stranger =
            find::<NoCredentials>(&error).is_some() || EXPIRED.iter().any(|code| text.contains(code));
        let error = match error {
            Error::NotFound { source, .. } | Error::Generic { source, .. } if is_missing(&text) => {
                return self.missing(source);
            }
            Error::Generic { source, .. } if status(&text) == Some(403) || text.contains("AccessDenied") => {
                Error::PermissionDenied { path, source }
            }
            Error::Generic { source, .. } if status(&text) == Some(401) || is_stranger => {
                Error::Unauthenticated { path, source }
            }
            other => other,
        };
        self.secrets.clean(error)
    }

    fn missing(&self, source: Box<dyn StdError + Send + Sync>) -> Error {
        let text = self.secrets.blot(&source.to_string());
        let missing = BucketMissing {
            url: self.url.to_string(),
            source: io::Error::new(io::ErrorKind::NotFound, Cleaned(text)),
        };
        Error::Generic { store: "cloud", source: Box::new(missing) }
    }
}

/// Reads the status of an answer from the text of an error: `object_store`'s type for it is private.
fn status(text: &str) -> Option<u16> {
    let (_, after) = text.split_once("non-2xx status code: ")?;
    after.get(..3)?.parse().ok()
}

impl Guarded {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, url: String, secrets: Secrets) -> Self {
        Self { inner, judge: Judge { url: url.into(), secrets } }
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.judge.url)
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.judge.url)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Guarded {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).map_err(|e| self.judge.object(e)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, opts).await;
        let inner = upload.map_err(|e| self.judge.object(e))?;
        Ok(Box::new(GuardedUpload { inner, judge: self.judge.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.inner.get_opts(location, options).await.map_err(|e| self.judge.object(e))?;
        if let GetResultPayload::Stream(body) = result.payload {
            let judge = self.judge.clone();
            let body = body.map(move |chunk| chunk.map_err(|e| judge.object(e)));
            result.payload = GetResultPayload::Stream(body.boxed());
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await.map_err(|e| self.judge.object(e))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let judge = self.judge.clone();
        self.inner.delete_stream(locations).map(move |item| item.map_err(|e| judge.object(e))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let judge = self.judge.clone();
        self.inner.list(prefix).map(move |item| item.map_err(|e| judge.listing(e))).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let judge = self.judge.clone();
        let items = self.inner.list_with_offset(prefix, offset);
        items.map(move |item| item.map_err(|e| judge.listing(e))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await.map_err(|e| self.judge.listing(e))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await.map_err(|e| self.judge.object(e))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await.map_err(|e| self.judge.object(e))
    }
}

struct GuardedUpload {
    inner: Box<dyn MultipartUpload>,
    judge: Judge,
}

impl fmt::Debug for GuardedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedUpload({})", self.judge.url)
    }
}

#[async_trait]
impl MultipartUpload for GuardedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let judge = self.judge.clone();
        Box::pin(self.inner.put_part(data).map_err(move |e| judge.object(e)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await.map_err(|e| self.judge.object(e))
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await.map_err(|e| self.judge.object(e))
    }
}
