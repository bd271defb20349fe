//! Listings whose first page is short, for callers that need only the first key.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::{DELIMITER, Path};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// How many keys the first page has. With headers, the answer stays below 2 KB.
const FIRST: usize = 2;

/// A store whose [`ObjectStore::list`] requests a short first page, and full pages after it. The engine often needs only
/// the newest key of a context, which sorts first; a full page has a thousand keys and some hundred KB. A caller that
/// reads the whole listing saves a request with [`ObjectStore::list_with_offset`], which requests full pages only.
pub(super) struct ShortFirst<S>(Arc<S>);

impl<S> ShortFirst<S> {
    pub(super) fn new(store: S) -> Self {
        Self(Arc::new(store))
    }
}

/// The next page of a listing.
enum Next {
    First,
    After(String),
    None,
}

impl<S: PaginatedListStore> ShortFirst<S> {
    async fn page(
        store: Arc<S>,
        prefix: Option<String>,
        next: Next,
    ) -> Result<Option<(Vec<Result<ObjectMeta>>, Next)>> {
        let (max_keys, page_token) = match next {
            Next::First => (Some(FIRST), None),
            Next::After(token) => (None, Some(token)),
            Next::None => return Ok(None),
        };
        let options = PaginatedListOptions { max_keys, page_token, ..PaginatedListOptions::default() };
        let page = store.list_paginated(prefix.as_deref(), options).await?;
        let next = page.page_token.map_or(Next::None, Next::After);
        Ok(Some((page.result.objects.into_iter().map(Ok).collect(), next)))
    }
}

impl<S: fmt::Display> fmt::Display for ShortFirst<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: fmt::Debug> fmt::Debug for ShortFirst<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectStore + PaginatedListStore> ObjectStore for ShortFirst<S> {
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = Arc::clone(&self.0);
        let prefix = prefix.filter(|prefix| !prefix.is_root()).map(|prefix| format!("{prefix}{DELIMITER}"));
        let pages = stream::try_unfold(Next::First, move |next| {
            let (store, prefix) = (Arc::clone(&store), prefix.clone());
            Self::page(store, prefix, next)
        });
        pages.map_ok(stream::iter).try_flatten().boxed()
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}
