//! Makes requests fail, by rules and a seed.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UploadPart, coalesce_ranges,
};

use super::fault::{Fault, InjectedFault};
use super::plan::{Injection, Plan};
use super::spoil::{cut_piece, cut_short, flip, other, spoil};
use super::{Operation, Rule};

/// A layer in which requests fail according to rules.
///
/// Rules are tried in the order in which they were added; the first that matches decides. All random choices
/// come from one seed, so the same calls in the same order have the same faults. Clones share their state.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    plan: Plan,
}

impl Faulty {
    /// Makes a layer without rules.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self { inner, plan: Plan::new(seed) }
    }

    /// Adds a rule after the existing ones.
    pub fn add(&self, rule: Rule) {
        self.plan.lock().rules.push(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.plan.lock().rules.clear();
    }

    /// Makes every request fail from now on, as after [`Fault::CrashBefore`].
    pub fn crash(&self) {
        self.plan.lock().crashed = true;
    }

    /// Ends a crash; the rules do not change.
    pub fn revive(&self) {
        self.plan.lock().crashed = false;
    }

    /// Whether the layer is in a crash.
    pub fn is_crashed(&self) -> bool {
        self.plan.lock().crashed
    }

    /// Returns the injected faults in order, without the requests that failed because of an earlier crash.
    pub fn injections(&self) -> Vec<Injection> {
        self.plan.lock().injections.clone()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let doom = self.plan.choose(Operation::Put, location).await?;
        match doom.fault {
            Some(Fault::AlreadyExistsThoughAbsent) => return Err(doom.error.already_exists()),
            Some(Fault::AlreadyExistsThoughStored) => {}
            _ => doom.before()?,
        }
        let result = self.inner.put_opts(location, payload, opts).await;
        if result.is_ok() {
            self.plan.was_put(location);
        }
        match doom.fault {
            Some(Fault::AlreadyExistsThoughStored) => result.and(Err(doom.error.already_exists())),
            _ => doom.after(result),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let doom = self.plan.choose(Operation::StartUpload, location).await?;
        doom.before()?;
        let inner = doom.after(self.inner.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(FaultyUpload { inner, key: location.clone(), plan: self.plan.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let doom = self.plan.choose(operation, location).await?;
        match doom.fault {
            Some(Fault::NotFound) => return Err(doom.error.not_found()),
            Some(Fault::Truncate(_) | Fault::Break(_) | Fault::FlipBit(_) | Fault::OtherBody(_))
                if operation == Operation::Get => {}
            _ => doom.before()?,
        }
        let result = doom.after(self.inner.get_opts(location, options).await)?;
        Ok(match doom.fault {
            Some(Fault::Truncate(keep)) => spoil(result, |body| cut_short(body, keep, cut_piece, None)),
            Some(Fault::Break(keep)) => {
                spoil(result, |body| cut_short(body, keep, cut_piece, Some(doom.error)))
            }
            Some(Fault::OtherBody(text)) => spoil(result, |_| other(text)),
            Some(Fault::FlipBit(at)) => {
                let length = (result.range.end - result.range.start).max(1);
                spoil(result, |body| flip(body, at % length))
            }
            _ => result,
        })
    }

    /// Sends a request of its own for each run of ranges, as an S3 client does, so that each can fail.
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let read = |range: Range<u64>| async move {
            let options = GetOptions::new().with_range(Some(range));
            let result = self.get_opts(location, options).await?;
            let promised = result.range.end - result.range.start;
            let body = result.bytes().await?;
            // `coalesce_ranges` cuts its pieces out of the result, and would panic if it were shorter.
            if (body.len() as u64) < promised {
                let error = InjectedFault { operation: Operation::Get, key: location.clone() };
                return Err(error.generic());
            }
            Ok(body)
        };
        coalesce_ranges(ranges, read, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    /// Decides a fault for each key. The keys before one that fails are deleted.
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let doom = this.plan.choose(Operation::Delete, &location).await?;
                    doom.before()?;
                    doom.after(this.inner.delete(&location).await.map(|()| location))
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, below) = (self.inner.clone(), prefix.cloned());
        self.plan.listing(prefix, move || inner.list(below.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, below, offset) = (self.inner.clone(), prefix.cloned(), offset.clone());
        self.plan.listing(prefix, move || inner.list_with_offset(below.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let doom = self.plan.choose(Operation::List, &prefix.cloned().unwrap_or_default()).await?;
        if let Some(Fault::StaleList(count)) = doom.fault {
            let hidden = self.plan.newest(count);
            let mut result = self.inner.list_with_delimiter(prefix).await?;
            result.objects.retain(|meta| !hidden.contains(&meta.location));
            return Ok(result);
        }
        doom.before()?;
        doom.after(self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let doom = self.plan.choose(Operation::Copy, to).await?;
        doom.before()?;
        let result = self.inner.copy_opts(from, to, options).await;
        if result.is_ok() {
            self.plan.was_put(to);
        }
        doom.after(result)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let doom = self.plan.choose(Operation::Rename, to).await?;
        doom.before()?;
        doom.after(self.inner.rename_opts(from, to, options).await)
    }
}

struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    key: Path,
    plan: Plan,
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyUpload({})", self.key)
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (plan, key, part) = (self.plan.clone(), self.key.clone(), self.inner.put_part(data));
        Box::pin(async move {
            let doom = plan.choose(Operation::Part, &key).await?;
            doom.before()?;
            doom.after(part.await)
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let doom = self.plan.choose(Operation::CompleteUpload, &self.key).await?;
        doom.before()?;
        let result = self.inner.complete().await;
        if result.is_ok() {
            self.plan.was_put(&self.key);
        }
        doom.after(result)
    }

    async fn abort(&mut self) -> Result<()> {
        let doom = self.plan.choose(Operation::AbortUpload, &self.key).await?;
        doom.before()?;
        doom.after(self.inner.abort().await)
    }
}
