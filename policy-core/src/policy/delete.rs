//! DeletePolicy: what a deletion in the mount means for the context.

use serde::{Deserialize, Serialize};

/// What a deletion in the mount means for the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeletePolicy {
    /// Whether a local deletion is pushed. Otherwise the context keeps the path, and the next pull restores it.
    pub sync_local_file: bool,
    /// The share of the files known to the mount, 0 to 100 percent, above which an upload holds its
    /// deletions back.
    pub max_delete_percent: Option<u8>,
}

impl Default for DeletePolicy {
    fn default() -> Self {
        Self { sync_local_file: true, max_delete_percent: None }
    }
}
