//! Makes a policy from a document that was checked; what the document leaves out has its default.

use serde::Deserialize;
use serde_json::Value;

use super::{
    BwList, ConflictPolicy, DeletePolicy, DownloadPolicy, ExtractPolicy, FaultKind, MappingPolicy,
    PolicyError, RecyclePolicy, SyncPolicy, UploadPolicy,
};

/// The fields of a [`SyncPolicy`], which itself is deserialized from unchecked documents.
#[derive(Default, Deserialize)]
#[serde(remote = "SyncPolicy", rename_all = "camelCase", default)]
struct Parts {
    upload_policy: UploadPolicy,
    download_policy: DownloadPolicy,
    delete_policy: DeletePolicy,
    extract_policy: Option<ExtractPolicy>,
    recycle_policy: RecyclePolicy,
    bw_list: BwList,
    mapping_policy: MappingPolicy,
    conflict_policy: ConflictPolicy,
}

/// Returns the policy of a canonical document.
///
/// # Errors
/// There are none as long as the table in `shape.rs` has the fields and choices of the types, which
/// `tests/policy_fields.rs` checks.
pub(crate) fn policy(canonical: Value) -> Result<SyncPolicy, PolicyError> {
    Parts::deserialize(canonical).map_err(|error| {
        let (format, message) = ("policy", error.to_string());
        PolicyError::one(
            "",
            FaultKind::Syntax { format, line: error.line(), column: error.column(), message },
        )
    })
}
