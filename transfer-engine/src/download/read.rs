//! Reads files of a snapshot without a mount.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use policy_core::{Node, TreePath};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::error::Error;
use crate::format::{ChunkId, ChunkRef, Snapshot, StoreKey, TreeEntry, open_block};
use crate::store::Store;
use crate::tree::Tree;

/// How many blocks are fetched ahead of the reader.
const AHEAD: usize = 4;

impl Store {
    /// Calls `each` for every entry at or below `within`, in tree order. Directories are listed if they are
    /// empty or their mode is not 0755; all others are implied.
    pub async fn entries(
        &self,
        snapshot: &Snapshot,
        within: &TreePath,
        mut each: impl FnMut(TreeEntry),
    ) -> Result<(), Error> {
        let tree = Tree { store: self, snapshot, cache: None };
        let mut segments = std::pin::pin!(tree.segments(tree.segments_within(within)));
        while let Some((_, entries)) = segments.try_next().await? {
            entries.into_iter().filter(|e| e.path.is_within(within)).for_each(&mut each);
        }
        Ok(())
    }

    /// Returns the entry at a path.
    ///
    /// # Errors
    /// [`Error::NoPath`] if there is none, or only an implied directory; [`Error::Recycled`] if the file was
    /// recycled.
    pub async fn entry(&self, snapshot: &Snapshot, path: &TreePath) -> Result<TreeEntry, Error> {
        let tree = Tree { store: self, snapshot, cache: None };
        match tree.find(path).await? {
            Some(entry) if entry.recycled => Err(tree.recycled(path)),
            Some(entry) => Ok(entry),
            None => Err(tree.no_path(path)),
        }
    }

    /// Passes the bytes `range` of a file to `sink`, in order and verified. Bytes beyond the file's end are
    /// left out.
    pub async fn read_file(
        &self,
        file: &TreeEntry,
        range: Range<u64>,
        mut sink: impl FnMut(Bytes) -> io::Result<()>,
    ) -> Result<(), Error> {
        let wanted = parts(file, range)?;
        let mut parts = futures::stream::iter(wanted)
            .map(|(chunk, part)| async move { Ok::<_, Error>(self.chunk(&chunk).await?.slice(part)) })
            .buffered(AHEAD);
        while let Some(bytes) = parts.try_next().await? {
            sink(bytes).map_err(|e| Error::local("write the content of", file.path.to_string(), e))?;
        }
        Ok(())
    }

    /// Returns a reader of the bytes `range` of a file, which are verified before they are read. Bytes beyond the file's
    /// end are left out. An error of the reader has an [`Error`] inside.
    ///
    /// # Errors
    /// [`Error::Local`] if the entry is not a file.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// use tokio::io::AsyncReadExt;
    /// # use transfer_engine::{ContextService, Env, Store, WriteOptions};
    ///
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let store = Store::new(Arc::new(object_store::memory::InMemory::new()), "memory:", Env::real());
    /// # store.init(Duration::from_secs(86_400)).await?;
    /// # let (name, path) = ("user-42".parse()?, "notes.txt".parse()?);
    /// # store.create_context(&name).await?;
    /// # ContextService::new(&store).write_file(&name, &path, &b"remember me"[..], &WriteOptions::default()).await?;
    /// let snapshot = store.head(&name).await?;
    /// let entry = store.entry(&snapshot, &path).await?;
    /// let mut text = String::new();
    /// store.reader(&entry, 0..u64::MAX)?.read_to_string(&mut text).await?;
    /// assert_eq!(text, "remember me");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn reader(
        &self,
        file: &TreeEntry,
        range: Range<u64>,
    ) -> Result<impl AsyncRead + Send + Unpin + use<>, Error> {
        let store = self.clone();
        let parts =
            futures::stream::iter(parts(file, range)?)
                .map(move |(chunk, part)| {
                    let store = store.clone();
                    async move {
                        store.chunk(&chunk).await.map(|bytes| bytes.slice(part)).map_err(io::Error::other)
                    }
                })
                .buffered(AHEAD);
        Ok(StreamReader::new(Box::pin(parts)))
    }

    /// Fetches and verifies one chunk, and tries once more if it is wrong.
    pub(crate) async fn chunk(&self, chunk: &ChunkRef) -> Result<Bytes, Error> {
        let block = chunk.block;
        let (start, end) = (u64::from(block.offset), u64::from(block.offset) + u64::from(block.stored_len));
        for _ in 0..2 {
            let stored = self.get_range(block.pack, start, end).await?;
            let chunk = *chunk;
            let opened = self.env().blocking(move || {
                let raw = Bytes::from(open_block(block.codec, block.raw_len, &stored).ok()?);
                let from = chunk.offset as usize;
                let bytes = raw
                    .get(from..from + chunk.len as usize)
                    .is_some()
                    .then(|| raw.slice(from..from + chunk.len as usize))?;
                (ChunkId::of(&bytes) == chunk.id).then_some(bytes)
            });
            if let Ok(Some(bytes)) = opened.await {
                return Ok(bytes);
            }
        }
        let key = StoreKey::Pack(block.pack).path().to_string();
        Err(Error::Corrupt { key, what: format!("the block at byte {start} does not hold what it should") })
    }
}

/// Returns the chunks with the bytes `range` of a file, and which bytes of each that are.
fn parts(file: &TreeEntry, range: Range<u64>) -> Result<Vec<(ChunkRef, Range<usize>)>, Error> {
    if !matches!(file.entry.node, Node::File { .. }) {
        return Err(Error::local("read", file.path.to_string(), io::Error::other("it is no file")));
    }
    let mut at = 0;
    let part = |chunk: &ChunkRef| {
        let (start, end) = (at, at + u64::from(chunk.len));
        at = end;
        let (from, to) = (range.start.max(start), range.end.min(end));
        (from < to).then(|| (*chunk, (from - start) as usize..(to - start) as usize))
    };
    Ok(file.chunks.iter().filter_map(part).collect())
}
