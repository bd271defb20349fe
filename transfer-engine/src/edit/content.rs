//! Reads the content of a file that is written to a context: cuts and hashes it, and sends what the context
//! lacks.

use std::collections::{HashMap, HashSet};
use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::FuturesOrdered;
use futures::{FutureExt, Stream, StreamExt};
use policy_core::{Timestamp, TreePath};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Edit;
use crate::env::Env;
use crate::error::Error;
use crate::format::{CHUNK_MAX, ChunkId, ChunkRef, PackId, SealedBlock, TreeEntry, cut};
use crate::packing::{Chunks, detach, seal};
use crate::store::Head;
use crate::tree::{ChunkIndex, SegmentSink, Tree};

/// How many bytes are read at once.
const STEP: usize = 4 << 20;

/// A file's content, which is in the store or on its way there.
pub(crate) struct Content {
    pub(crate) path: TreePath,
    /// The permission bits; `None` for those of the file that is replaced, or 0644.
    pub(crate) mode: Option<u16>,
    pub(crate) mtime: Timestamp,
    chunks: Vec<(ChunkId, u32)>,
    /// The positions of chunks that this edit did not send.
    known: HashMap<ChunkId, ChunkRef>,
}

impl Content {
    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.chunks.iter().map(|(_, len)| u64::from(*len)).sum()
    }

    /// Whether a file has exactly this content.
    pub(crate) fn is_that_of(&self, file: &TreeEntry) -> bool {
        file.chunks.iter().map(|c| (c.id, c.len)).eq(self.chunks.iter().copied())
    }

    /// Moves the chunks that were sent to the known ones. They may have to be copied from their packs.
    pub(super) fn unsend(&mut self, chunks: &Chunks) {
        for (id, _) in &self.chunks {
            if let Some(sent) = chunks.sent(id) {
                self.known.insert(*id, sent);
            }
        }
    }
}

impl Edit<'_> {
    /// Reads a file's content to its end, and sends what the head lacks. `old` is the file that it replaces.
    pub(crate) async fn take_in(
        &mut self,
        content: impl AsyncRead + Send + Unpin,
        path: &TreePath,
        head: &Head,
        old: Option<&TreeEntry>,
        mode: Option<u16>,
        mtime: Option<Timestamp>,
    ) -> Result<Content, Error> {
        let env = self.store.env().clone();
        let tree = Tree { store: self.store, snapshot: &head.snapshot, cache: None };
        let mut known = Known::new(tree, head, old);
        let mut taken = Content {
            path: path.clone(),
            mode,
            mtime: mtime.unwrap_or_else(|| env.now()),
            chunks: Vec::new(),
            known: HashMap::new(),
        };
        let width = env.parallelism();
        let hashing = steps(content, env.clone())
            .map(|step| {
                let env = env.clone();
                async move {
                    let chunks = step?;
                    let hash = move || chunks.into_iter().map(|c| (ChunkId::of(&c), c)).collect::<Vec<_>>();
                    env.blocking(hash).await.map_err(io::Error::from)
                }
                .boxed()
            })
            .buffered(width);
        let mut hashing = std::pin::pin!(hashing);
        let mut sealing = FuturesOrdered::new();
        let cannot_read = |e: io::Error| Error::local("read the content of", path.to_string(), e);
        let mut open = true;
        while open || !sealing.is_empty() {
            tokio::select! {
                biased;
                Some(sealed) = sealing.next(), if !sealing.is_empty() => {
                    let sealed: Result<Vec<SealedBlock>, crate::env::JobLost> = sealed;
                    for block in sealed.map_err(|e| cannot_read(e.into()))? {
                        self.add(block).await?;
                    }
                }
                step = hashing.next(), if open && sealing.len() <= width => {
                    let Some(step) = step else { open = false; continue };
                    let mut new = Vec::new();
                    let mut read = 0;
                    for (id, bytes) in step.map_err(cannot_read)? {
                        let len = bytes.len() as u32;
                        read += u64::from(len);
                        taken.chunks.push((id, len));
                        if let Some(found) = known.find(&id, len).await? {
                            taken.known.insert(id, found);
                        } else if self.chunks.claim(None, id, bytes.len(), None) {
                            new.push((id, bytes));
                        }
                    }
                    if !new.is_empty() {
                        let env = env.clone();
                        sealing.push_back(async move { env.blocking(move || detach(seal(new), read)).await });
                    }
                }
            }
        }
        Ok(taken)
    }

    /// Returns the file's entry for a snapshot that may refer to `packs` and to what this edit sends. Chunks
    /// in other packs are copied.
    pub(super) async fn place(
        &mut self,
        content: &Content,
        mode: u16,
        packs: &HashSet<PackId>,
        uploaded: i64,
    ) -> Result<TreeEntry, Error> {
        let mut placed = Vec::with_capacity(content.chunks.len());
        for (id, _) in &content.chunks {
            let known = content.known.get(id);
            let place = self.chunks.sent(id).or(known.copied().filter(|c| packs.contains(&c.block.pack)));
            let lost = || Error::Corrupt { key: id.to_string(), what: "a chunk was sent nowhere".to_owned() };
            placed.push(match place {
                Some(place) => place,
                None => self.sink.copy(known.ok_or_else(lost)?).await?,
            });
        }
        Ok(TreeEntry::file(content.path.clone(), mode, content.mtime, uploaded, placed))
    }
}

/// Reads a file and cuts it into chunks, some at a time.
fn steps(
    content: impl AsyncRead + Send + Unpin,
    env: Env,
) -> impl Stream<Item = io::Result<Vec<Bytes>>> + Send {
    let begin = Some((content, BytesMut::new()));
    futures::stream::unfold((begin, env), |(state, env)| async move {
        let (mut content, mut buffer) = state?;
        match step(&mut content, &mut buffer, &env).await {
            Ok(chunks) if chunks.is_empty() => None,
            Ok(chunks) => Some((Ok(chunks), (Some((content, buffer)), env))),
            Err(e) => Some((Err(e), (None, env))),
        }
    })
}

/// Returns the next chunks; none at the end. `rest` has the bytes that were read and not cut yet.
async fn step(
    content: &mut (impl AsyncRead + Send + Unpin),
    rest: &mut BytesMut,
    env: &Env,
) -> io::Result<Vec<Bytes>> {
    let full = STEP + CHUNK_MAX;
    // Short content must not take the memory of long content.
    let mut ended = false;
    while rest.len() < full && !ended {
        rest.reserve((full - rest.len()).min(256 << 10));
        let mut part = content.take((full - rest.len()) as u64);
        ended = part.read_buf(rest).await? == 0;
    }
    let mut uncut = std::mem::take(rest).freeze();
    let cutting = env.blocking(move || {
        let mut chunks = Vec::new();
        while let Some(len) = cut(&uncut, ended).filter(|len| *len > 0) {
            chunks.push(uncut.split_to(len));
        }
        (chunks, uncut)
    });
    let (chunks, uncut) = cutting.await?;
    rest.extend_from_slice(&uncut);
    Ok(chunks)
}

/// The chunks that the head has, as far as they are worth knowing: those of the file that is replaced; and
/// all of them, once more bytes were read than fetching the index would cost.
struct Known<'a> {
    tree: Tree<'a>,
    late: Vec<PackId>,
    /// The bytes of the tree that have to be fetched.
    cost: u64,
    seen: u64,
    index: Option<ChunkIndex>,
    read: HashSet<usize>,
    chunks: HashMap<ChunkId, ChunkRef>,
}

impl<'a> Known<'a> {
    fn new(tree: Tree<'a>, head: &Head, old: Option<&TreeEntry>) -> Self {
        let fetched = tree.snapshot.segments.iter().filter(|s| tree.snapshot.inline_segment(s).is_none());
        let cost = fetched.map(|s| u64::from(s.len)).sum();
        let (late, read) = (head.late_packs(), HashSet::new());
        let mut this = Self { tree, late, cost, seen: 0, index: None, read, chunks: HashMap::new() };
        this.add(old.into_iter());
        this
    }

    fn add<'e>(&mut self, entries: impl Iterator<Item = &'e TreeEntry>) {
        let chunks = entries.flat_map(|e| &e.chunks).filter(|c| !self.late.contains(&c.block.pack));
        self.chunks.extend(chunks.map(|c| (c.id, *c)));
    }

    /// Returns the position of a chunk of the content.
    async fn find(&mut self, id: &ChunkId, len: u32) -> Result<Option<ChunkRef>, Error> {
        self.seen += u64::from(len);
        if let Some(known) = self.chunks.get(id) {
            return Ok(Some(*known));
        }
        if self.index.is_none() && self.seen >= self.cost {
            self.index = Some(ChunkIndex::build(&self.tree, &self.late).await?);
        }
        let Some(segment) = self.index.as_ref().and_then(|index| index.segment_of(id)) else {
            return Ok(None);
        };
        if self.read.insert(segment) {
            let entries = self.tree.segment(segment).await?;
            self.add(entries.iter());
        }
        Ok(self.chunks.get(id).copied())
    }
}
