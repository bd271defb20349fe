//! RecyclePolicy: what the context forgets by itself.

use serde::{Deserialize, Serialize};

use super::Lifecycle;

/// What the context forgets by itself, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RecyclePolicy {
    /// How long a file stays after its last upload.
    pub lifecycle: Lifecycle,
    /// Where this holds, read as white list paths; `""` is everywhere.
    pub paths: Vec<String>,
}

impl Default for RecyclePolicy {
    fn default() -> Self {
        Self { lifecycle: Lifecycle::default(), paths: vec![String::new()] }
    }
}
