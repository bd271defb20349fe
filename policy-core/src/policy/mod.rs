//! What a user asks for: the policies of one mount, as the wire format carries them.

mod bw_list;
pub(crate) mod check;
mod conflict;
mod delete;
mod download;
mod error;
mod extract;
mod lifecycle;
mod mapping;
pub(crate) mod read;
mod recycle;
mod schema;
mod shape;
mod upload;
pub(crate) mod value;

use serde::Serialize;

pub use bw_list::{BwList, WhiteList};
pub use conflict::ConflictPolicy;
pub use delete::DeletePolicy;
pub use download::{DownloadPolicy, DownloadStrategy};
pub use error::{FaultKind, PathReason, PolicyError, PolicyFault};
pub use extract::ExtractPolicy;
pub use lifecycle::Lifecycle;
pub use mapping::MappingPolicy;
pub use recycle::RecyclePolicy;
pub use upload::{UploadMode, UploadPolicy, UploadStrategy};

/// Everything that says how one mount is synced.
///
/// A value that was read by [`from_json`](Self::from_json) or [`from_toml`](Self::from_toml) is whole: its
/// names, types, numbers, paths, expressions and patterns are valid. One that was put together in code is
/// checked by [`Scope::new`](crate::Scope::new). So is a part that was deserialized alone, which takes only the
/// names of the wire format.
///
/// ```
/// use policy_core::SyncPolicy;
///
/// let policy = SyncPolicy::from_json(r#"{"delete_policy": {"sync_local_file": false}}"#)?;
/// assert!(!policy.delete_policy.sync_local_file);
/// assert!(policy.upload_policy.auto_upload);
/// assert_eq!(SyncPolicy::from_json(&policy.to_json())?, policy);
/// # Ok::<(), policy_core::PolicyError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncPolicy {
    /// When and how local changes go to the store.
    pub upload_policy: UploadPolicy,
    /// When the store's files come to the mount.
    pub download_policy: DownloadPolicy,
    /// What a deletion in the mount means for the context.
    pub delete_policy: DeletePolicy,
    /// What becomes of archives that are downloaded; without it nothing is extracted.
    pub extract_policy: Option<ExtractPolicy>,
    /// What the context forgets by itself, and when.
    pub recycle_policy: RecyclePolicy,
    /// Which paths take part.
    pub bw_list: BwList,
    /// Another name of the mount in the paths of this policy.
    pub mapping_policy: MappingPolicy,
    /// What happens to a path that both sides changed.
    pub conflict_policy: ConflictPolicy,
}

impl SyncPolicy {
    /// Returns the normalised form: every field, canonical names, indented.
    pub fn to_json(&self) -> String {
        // Neither maps with odd keys nor failing writers are involved: there is no error to report.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Returns one line that is equal exactly for equal policies, as the input of a digest.
    pub fn digest_input(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the JSON Schema (draft 2020-12) of what [`from_json`](Self::from_json) accepts, indented.
    ///
    /// Two things are beyond a schema and checked by the reader alone: whether an expression or a pattern is
    /// well formed, and that a key stands only once.
    pub fn json_schema() -> String {
        serde_json::to_string_pretty(&schema::schema()).unwrap_or_default()
    }
}
