//! ExtractPolicy: what becomes of archives that are downloaded.

use serde::{Deserialize, Serialize};

/// What becomes of archives that are downloaded.
///
/// A policy without this part extracts nothing; one that gives it, even empty, extracts by these defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtractPolicy {
    /// Whether archives are extracted.
    pub extract: bool,
    /// Whether the archive is removed locally once every member is in place.
    pub delete_src_file: bool,
    /// Whether the members go into the archive's own folder; otherwise into a new one beside it, named
    /// after the archive.
    pub extract_to_current_folder: bool,
    /// Where archives are extracted, read as white list paths; `""` is everywhere.
    pub paths: Vec<String>,
}

impl Default for ExtractPolicy {
    fn default() -> Self {
        Self {
            extract: true,
            delete_src_file: true,
            extract_to_current_folder: false,
            paths: vec![String::new()],
        }
    }
}
