//! Counts requests, and can note each.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use super::counts::{Counts, Outcome, Request};
use super::{Operation, coalesced, lazily, pages, starts_page};

#[derive(Default)]
struct State {
    counts: Counts,
    requests: Option<Vec<Request>>,
}

/// A layer that counts requests, and notes each if asked to.
///
/// Clones share the counts.
#[derive(Clone)]
pub struct Recording {
    inner: Arc<dyn ObjectStore>,
    log: Log,
}

#[derive(Clone)]
struct Log(Arc<Mutex<State>>);

impl Recording {
    /// Counts requests and notes each of them, which takes memory as long as the layer lives.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        let state = State { requests: Some(Vec::new()), ..State::default() };
        Self { inner, log: Log(Arc::new(Mutex::new(state))) }
    }

    /// Counts requests only.
    pub fn counting(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, log: Log(Arc::default()) }
    }

    /// Returns the current counts.
    pub fn counts(&self) -> Counts {
        self.log.lock().counts
    }

    /// Returns the notes so far in the order in which the requests began; empty if only counts are kept.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().requests.clone().unwrap_or_default()
    }

    /// Clears all counts and notes.
    pub fn clear(&self) {
        let mut state = self.log.lock();
        state.counts = Counts::default();
        if let Some(requests) = &mut state.requests {
            requests.clear();
        }
    }
}

/// The index of a note in the log, used to add later how the request ended.
#[derive(Clone, Copy)]
struct Note(Option<usize>);

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The counts are consistent after each statement, so a poisoned lock is harmless.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, operation: Operation, key: &Path, create: bool, bytes: u64) -> Note {
        let mut state = self.lock();
        let counts = &mut state.counts;
        match operation {
            Operation::Put => counts.puts += 1,
            Operation::Get => counts.gets += 1,
            Operation::Head => counts.heads += 1,
            Operation::List => counts.lists += 1,
            Operation::Delete => counts.deletes += 1,
            Operation::Copy => counts.copies += 1,
            Operation::Rename => {
                counts.copies += 1;
                counts.deletes += 1;
            }
            Operation::StartUpload | Operation::Part | Operation::CompleteUpload | Operation::AbortUpload => {
                counts.parts += 1
            }
        }
        counts.bytes_sent += bytes;
        Self::note(&mut state, operation, key, create, bytes)
    }

    fn note(state: &mut State, operation: Operation, key: &Path, create: bool, bytes: u64) -> Note {
        let Some(requests) = &mut state.requests else { return Note(None) };
        requests.push(Request { operation, key: key.clone(), create, bytes, outcome: Outcome::Pending });
        Note(Some(requests.len() - 1))
    }

    fn end(&self, note: Note, ok: bool, received: u64) {
        let mut state = self.lock();
        state.counts.bytes_received += received;
        let place = note.0.and_then(|index| state.requests.as_mut()?.get_mut(index));
        if let Some(request) = place {
            request.bytes += received;
            request.outcome = if ok { Outcome::Done } else { Outcome::Failed };
        }
    }

    fn ended<T>(&self, note: Note, result: Result<T>) -> Result<T> {
        self.end(note, result.is_ok(), 0);
        result
    }

    fn delete_key(&self, index: usize, key: &Path) {
        let mut state = self.lock();
        state.counts.deleted_keys += 1;
        if index == 0 || starts_page(index) {
            state.counts.deletes += 1;
        }
        Self::note(&mut state, Operation::Delete, key, false, 0);
    }

    fn listing(
        &self,
        prefix: Option<&Path>,
        inner: impl FnOnce() -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let log = self.clone();
        let prefix = prefix.cloned().unwrap_or_default();
        lazily(async move {
            let mut note = log.begin(Operation::List, &prefix, false, 0);
            let mut index = 0;
            let items = inner().inspect(move |item| {
                if item.is_ok() && starts_page(index) {
                    note = log.begin(Operation::List, &prefix, false, 0);
                }
                index += 1;
                log.end(note, item.is_ok(), 0);
            });
            items.boxed()
        })
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording({})", self.inner)
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording({:?})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Recording {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = opts.mode == PutMode::Create;
        let note = self.log.begin(Operation::Put, location, create, payload.content_length() as u64);
        self.log.ended(note, self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let note = self.log.begin(Operation::StartUpload, location, false, 0);
        let inner = self.log.ended(note, self.inner.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(RecordedUpload { inner, key: location.clone(), log: self.log.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let note = self.log.begin(operation, location, false, 0);
        let result = self.inner.get_opts(location, options).await;
        let promised = match &result {
            Ok(found) if operation == Operation::Get => found.range.end - found.range.start,
            _ => 0,
        };
        self.log.end(note, result.is_ok(), promised);
        result
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let requested = coalesced(ranges);
        let notes: Vec<_> =
            requested.iter().map(|_| self.log.begin(Operation::Get, location, false, 0)).collect();
        let result = self.inner.get_ranges(location, ranges).await;
        for (note, range) in notes.into_iter().zip(requested) {
            self.log.end(note, result.is_ok(), if result.is_ok() { range.end - range.start } else { 0 });
        }
        result
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let log = self.log.clone();
        let mut index = 0;
        let locations = locations.inspect(move |location| {
            if let Ok(location) = location {
                log.delete_key(index, location);
                index += 1;
            }
        });
        self.inner.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, below) = (self.inner.clone(), prefix.cloned());
        self.log.listing(prefix, move || inner.list(below.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, below, offset) = (self.inner.clone(), prefix.cloned(), offset.clone());
        self.log.listing(prefix, move || inner.list_with_offset(below.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = prefix.cloned().unwrap_or_default();
        let note = self.log.begin(Operation::List, &key, false, 0);
        let result = self.log.ended(note, self.inner.list_with_delimiter(prefix).await)?;
        for _ in 1..pages(result.objects.len() + result.common_prefixes.len()) {
            let note = self.log.begin(Operation::List, &key, false, 0);
            self.log.end(note, true, 0);
        }
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let note = self.log.begin(Operation::Copy, to, false, 0);
        self.log.ended(note, self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let note = self.log.begin(Operation::Rename, to, false, 0);
        self.log.ended(note, self.inner.rename_opts(from, to, options).await)
    }
}

struct RecordedUpload {
    inner: Box<dyn MultipartUpload>,
    key: Path,
    log: Log,
}

impl fmt::Debug for RecordedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordedUpload({})", self.key)
    }
}

#[async_trait]
impl MultipartUpload for RecordedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let note = self.log.begin(Operation::Part, &self.key, false, data.content_length() as u64);
        let (log, part) = (self.log.clone(), self.inner.put_part(data));
        Box::pin(async move { log.ended(note, part.await) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let note = self.log.begin(Operation::CompleteUpload, &self.key, false, 0);
        self.log.ended(note, self.inner.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        let note = self.log.begin(Operation::AbortUpload, &self.key, false, 0);
        self.log.ended(note, self.inner.abort().await)
    }
}
