//! What has not arrived in a mount yet. That it is missing there is no difference.

use std::io;
use std::iter::Peekable;
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use policy_core::TreePath;

use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};
use crate::local::MountDir;
use crate::state::{BaseHeader, BaseRow, ContextState, Overlaid, Proof};
use crate::store::Store;
use crate::tree::{Part, PartTree, Tree};

pub(super) type KnownRows = Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>;

/// The base of a mount, with what a pull has put in place since.
pub(super) struct Known {
    pub(super) header: BaseHeader,
    pub(super) rows: KnownRows,
}

impl Known {
    /// Reads the state of a mount, which may belong to another process. `None` if there is none.
    pub(super) fn by_now(state: &ContextState, dir: &MountDir) -> Result<Option<Self>, Error> {
        let base = state.read_base()?;
        let Some((header, fresh, arrivals)) = state.read_arrivals()? else {
            return Ok(base.map(|(header, rows)| Self { header, rows: Box::new(rows) }));
        };
        let base = base.filter(|(old, _)| !fresh && old.lineage == header.lineage);
        let proof = Proof::in_mount(dir).unwrap_or(Proof::None);
        let rows = Overlaid::new(base.into_iter().flat_map(|(_, rows)| rows), arrivals, proof);
        Ok(Some(Self { header, rows: Box::new(rows) }))
    }
}

/// What a mount has pulled last.
pub(super) enum Pulled {
    /// Everything that there was, as far as known.
    All,
    /// Maybe not everything of the snapshot that it is compared with.
    PartOfThis,
    /// Maybe not everything of this snapshot.
    PartOf(Arc<Snapshot>),
}

impl Pulled {
    /// Returns what a mount with this base has pulled last, before it is compared with `snapshot`, a snapshot of the same context.
    pub(super) async fn before(
        header: Option<BaseHeader>,
        store: &Store,
        snapshot: &Snapshot,
    ) -> Result<Self, Error> {
        let may_lack = |known: &BaseHeader| !known.agrees && known.lineage == snapshot.lineage;
        let Some(BaseHeader { head, digest, .. }) = header.filter(may_lack) else { return Ok(Self::All) };
        if head.number == snapshot.number {
            return Ok(Self::PartOfThis);
        }
        match store.read_snapshot(&snapshot.context, head.number).await {
            Ok(found) if found.digest == digest => Ok(Self::PartOf(found.snapshot)),
            Err(error) if !error.is_of_object() => Err(error),
            // It is forgotten, and what it had can't be told any more.
            _ => Ok(Self::All),
        }
    }
}

/// Tells which paths have not arrived in a mount: those of the snapshot that it pulled last of which its base has no row.
pub(super) struct Pending<'a> {
    rows: Peekable<KnownRows>,
    pulled: &'a Pulled,
    segments: BoxStream<'a, Result<Vec<TreeEntry>, Error>>,
    segment: Peekable<std::vec::IntoIter<TreeEntry>>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(store: &'a Store, known: Known, pulled: &'a Pulled, part: &Part) -> Self {
        let segments = match pulled {
            Pulled::All | Pulled::PartOfThis => futures::stream::empty().boxed(),
            Pulled::PartOf(snapshot) => {
                let tree = PartTree::new(Tree { store, snapshot, cache: None }, part.clone());
                tree.segments(tree.all()).map_ok(|(_, entries)| entries).boxed()
            }
        };
        Self { rows: known.rows.peekable(), pulled, segments, segment: Vec::new().into_iter().peekable() }
    }

    /// Whether a path of the snapshot is pending, if it is not in the mount. Paths are asked for in tree order.
    pub(super) async fn has(&mut self, path: &TreePath) -> Result<bool, Error> {
        while self.rows.next_if(|row| row.as_ref().is_ok_and(|row| row.path < *path)).is_some() {}
        // A base that can't be read on says nothing of the rest.
        if self.rows.peek().is_some_and(|row| row.as_ref().map_or(true, |row| row.path == *path)) {
            return Ok(false);
        }
        match self.pulled {
            Pulled::All => Ok(false),
            Pulled::PartOfThis => Ok(true),
            Pulled::PartOf(_) => self.was_there(path).await,
        }
    }

    /// Whether the snapshot that was pulled last has a path.
    async fn was_there(&mut self, path: &TreePath) -> Result<bool, Error> {
        loop {
            while self.segment.next_if(|entry| entry.path < *path).is_some() {}
            if let Some(entry) = self.segment.peek() {
                return Ok(entry.path == *path && !entry.recycled);
            }
            match self.segments.try_next().await? {
                Some(segment) => self.segment = segment.into_iter().peekable(),
                None => return Ok(false),
            }
        }
    }
}
