//! The description of a context.

use policy_core::Timestamp;

use crate::format::{ContextName, LineageId, LiveHead, Snapshot};

/// A context, as described by its newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The name, which is also the id.
    pub name: ContextName,
    /// The lineage of the context. It changes when the context is deleted and created again, or renamed.
    pub lineage: LineageId,
    /// The number of the newest snapshot.
    pub snapshot: u64,
    /// When that snapshot was made, by its writer's clock.
    pub time: Timestamp,
    /// The number of files, without directories and symbolic links.
    pub files: u64,
    /// The number of symbolic links.
    pub symlinks: u64,
    /// The total size of the files, in bytes.
    pub bytes: u64,
    /// Whether the newest snapshot is partial: the deadline came before everything was sent.
    pub partial: bool,
    /// The snapshot that the context was forked from: its context and its number.
    pub forked_from: Option<(ContextName, u64)>,
    /// The session that made the newest snapshot; empty if none did.
    pub session: String,
}

impl Context {
    /// Returns the context's id: its name.
    pub fn id(&self) -> &str {
        self.name.as_str()
    }

    /// Describes a context by what its head, the snapshot with this number, says.
    pub(super) fn of_live(name: ContextName, number: u64, head: LiveHead) -> Self {
        let LiveHead { lineage, created, files, symlinks, bytes, partial, forked_from, session } = head;
        Self {
            name,
            lineage,
            snapshot: number,
            time: created,
            files,
            symlinks,
            bytes,
            partial,
            forked_from,
            session,
        }
    }
}

impl From<&Snapshot> for Context {
    /// Describes a context by a snapshot as if that were its newest.
    fn from(snapshot: &Snapshot) -> Self {
        Self::of_live(snapshot.context.clone(), snapshot.number, LiveHead::of(snapshot))
    }
}
