//! Makes requests fail, by script or by seed.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result, UploadPart, coalesce_ranges,
};
use tokio::time::sleep;

use super::fault::{Fault, InjectedFault, cut_short};
use super::{Operation, Rule, lazily};

/// A fault that befell a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injection {
    /// The kind of request.
    pub operation: Operation,
    /// The object, or the prefix of a listing.
    pub key: Path,
    /// What went wrong.
    pub fault: Fault,
}

struct State {
    rules: Vec<Rule>,
    random: u64,
    crashed: bool,
    injections: Vec<Injection>,
    /// The keys put through this layer, oldest first.
    put: Vec<Path>,
}

/// A layer in which requests fail as rules say.
///
/// Rules are asked in the order in which they were added, and the first that fits decides. All choices come
/// from one seed, so that the same calls in the same order meet the same faults. Copies share everything.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    plan: Plan,
}

#[derive(Clone)]
struct Plan(Arc<Mutex<State>>);

impl Faulty {
    /// Makes a layer without a fault.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Self {
        let state = State {
            rules: Vec::new(),
            random: seed,
            crashed: false,
            injections: Vec::new(),
            put: Vec::new(),
        };
        Self { inner, plan: Plan(Arc::new(Mutex::new(state))) }
    }

    /// Adds a rule after those that are there.
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

    /// Ends a crash; the rules stay as they are.
    pub fn revive(&self) {
        self.plan.lock().crashed = false;
    }

    /// Says whether a crash is in force.
    pub fn is_crashed(&self) -> bool {
        self.plan.lock().crashed
    }

    /// Returns the faults so far, in their order; requests that fail after a crash are not among them.
    pub fn injections(&self) -> Vec<Injection> {
        self.plan.lock().injections.clone()
    }
}

/// What a request has to do about the fault that was chosen for it.
struct Doom {
    fault: Option<Fault>,
    error: InjectedFault,
}

impl Doom {
    /// Returns the error of a request that must not take effect.
    fn before(&self) -> Result<()> {
        let error = self.error.clone();
        match self.fault {
            None | Some(Fault::FailAfter | Fault::CrashAfter | Fault::Delay(_)) => Ok(()),
            Some(Fault::Denied) => Err(error.denied()),
            Some(_) => Err(error.generic()),
        }
    }

    /// Replaces the result of a request that took effect: success or refusal, its reply was lost.
    fn after<T>(&self, result: Result<T>) -> Result<T> {
        match self.fault {
            Some(Fault::FailAfter | Fault::CrashAfter) => Err(self.error.clone().generic()),
            _ => result,
        }
    }
}

impl Plan {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses a fault, and waits where that is the fault.
    async fn choose(&self, operation: Operation, key: &Path) -> Result<Doom> {
        let doom = self.decide(operation, key)?;
        if let Some(Fault::Delay(time)) = doom.fault {
            sleep(time).await;
        }
        Ok(doom)
    }

    fn decide(&self, operation: Operation, key: &Path) -> Result<Doom> {
        let error = InjectedFault { operation, key: key.clone() };
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.crashed {
            return Err(error.generic());
        }
        let State { rules, random, .. } = state;
        let fault = rules.iter_mut().find_map(|rule| rule.befalls(operation, key, || unit(random)));
        if let Some(fault) = fault {
            state.crashed = matches!(fault, Fault::CrashBefore | Fault::CrashAfter);
            state.injections.push(Injection { operation, key: key.clone(), fault });
        }
        Ok(Doom { fault, error })
    }

    fn was_put(&self, key: &Path) {
        let mut state = self.lock();
        state.put.retain(|other| other != key);
        state.put.push(key.clone());
    }

    fn newest(&self, count: usize) -> Vec<Path> {
        self.lock().put.iter().rev().take(count).cloned().collect()
    }

    fn listing(
        &self,
        prefix: Option<&Path>,
        inner: impl FnOnce() -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (plan, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        lazily(async move {
            let doom = match plan.choose(Operation::List, &prefix).await {
                Ok(doom) => doom,
                Err(error) => return stream::iter([Err(error)]).boxed(),
            };
            let one = |item: ObjectMeta, _: u64| (1, Some(item));
            match doom.fault {
                Some(Fault::StaleList(count)) => {
                    let hidden = plan.newest(count);
                    inner()
                        .try_filter(move |meta| futures::future::ready(!hidden.contains(&meta.location)))
                        .boxed()
                }
                Some(Fault::Truncate(keep)) => cut_short(inner(), keep, one, None),
                Some(Fault::Break(keep)) => cut_short(inner(), keep, one, Some(doom.error)),
                None | Some(Fault::Delay(_)) => inner(),
                // A listing has no effect, so that before and after are the same.
                Some(Fault::Denied) => stream::iter([Err(doom.error.denied())]).boxed(),
                Some(_) => stream::iter([Err(doom.error.generic())]).boxed(),
            }
        })
    }
}

/// Returns the next number in [0, 1), by SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

fn cut_piece(piece: Bytes, left: u64) -> (u64, Option<Bytes>) {
    let used = left.min(piece.len() as u64);
    (used, Some(piece.slice(..usize::try_from(used).unwrap_or(usize::MAX))))
}

fn flip(body: BoxStream<'static, Result<Bytes>>, at: u64) -> BoxStream<'static, Result<Bytes>> {
    let mut passed = 0_u64;
    let flipped = body.map_ok(move |piece| {
        let begin = passed;
        passed += piece.len() as u64;
        if !(begin..passed).contains(&at) {
            return piece;
        }
        let mut piece = BytesMut::from(piece);
        if let Some(byte) = usize::try_from(at - begin).ok().and_then(|index| piece.get_mut(index)) {
            *byte ^= 1;
        }
        piece.freeze()
    });
    flipped.boxed()
}

fn spoil(
    result: GetResult,
    change: impl FnOnce(BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>>,
) -> GetResult {
    let (meta, range, attributes, extensions) =
        (result.meta.clone(), result.range.clone(), result.attributes.clone(), result.extensions.clone());
    let payload = GetResultPayload::Stream(change(result.into_stream()));
    GetResult { payload, meta, range, attributes, extensions }
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
            Some(Fault::Truncate(_) | Fault::Break(_) | Fault::FlipBit(_)) if operation == Operation::Get => {
            }
            _ => doom.before()?,
        }
        let result = doom.after(self.inner.get_opts(location, options).await)?;
        Ok(match doom.fault {
            Some(Fault::Truncate(keep)) => spoil(result, |body| cut_short(body, keep, cut_piece, None)),
            Some(Fault::Break(keep)) => {
                spoil(result, |body| cut_short(body, keep, cut_piece, Some(doom.error)))
            }
            Some(Fault::FlipBit(at)) => {
                let length = (result.range.end - result.range.start).max(1);
                spoil(result, |body| flip(body, at % length))
            }
            _ => result,
        })
    }

    /// Reads each run of ranges by a request of its own, as an S3 client does, so that each can fail.
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let read = |range: Range<u64>| async move {
            let options = GetOptions::new().with_range(Some(range));
            let result = self.get_opts(location, options).await?;
            let promised = result.range.end - result.range.start;
            let body = result.bytes().await?;
            // `coalesce_ranges` cuts pieces out of what it gets, and would panic on less.
            if (body.len() as u64) < promised {
                let error = InjectedFault { operation: Operation::Get, key: location.clone() };
                return Err(error.generic());
            }
            Ok(body)
        };
        coalesce_ranges(ranges, read, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    /// Lets each key meet its own fault; the keys before one that fails are deleted.
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
