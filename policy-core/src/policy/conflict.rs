//! ConflictPolicy: what happens to a path that both sides changed.

use serde::{Deserialize, Serialize};

/// What happens to a path that both sides changed, each in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ConflictPolicy {
    /// The local version keeps the path and the remote one is kept beside it.
    #[default]
    KeepBoth,
    /// The local version wins; the remote one stays in the history.
    PreferLocal,
    /// The remote version wins.
    PreferRemote,
    /// The sync stops; at a release it acts as [`KeepBoth`](Self::KeepBoth).
    Fail,
}
