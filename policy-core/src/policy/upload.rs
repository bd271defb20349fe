//! UploadPolicy: when and how local changes go to the store.

use serde::{Deserialize, Serialize};

/// When and how local changes go to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct UploadPolicy {
    /// Whether uploads happen by themselves; otherwise only a manual sync, or a release that asks for it,
    /// uploads.
    pub auto_upload: bool,
    /// When an upload happens by itself.
    pub upload_strategy: UploadStrategy,
    /// How files are laid out in the store.
    pub upload_mode: UploadMode,
    /// Path prefixes, read as white list paths, that [`UploadMode::Archive`] stores as
    /// [`UploadMode::File`] does.
    pub archive_exclude_paths: Vec<String>,
    /// What SDKs of the guide send beside the strategy. It is kept and has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u32>,
}

impl Default for UploadPolicy {
    fn default() -> Self {
        Self {
            auto_upload: true,
            upload_strategy: UploadStrategy::default(),
            upload_mode: UploadMode::default(),
            archive_exclude_paths: Vec::new(),
            period: None,
        }
    }
}

/// When an upload happens by itself. Each of them uploads at the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UploadStrategy {
    /// Release uploads and waits for the commit; only then are the resources free.
    #[default]
    UploadBeforeResourceRelease,
    /// Checkpoints at a fixed interval during the session as well.
    UploadPeriodically {
        /// The seconds from one checkpoint to the next; at least 1.
        seconds: u32,
    },
    /// A checkpoint whenever the mount was changed and has then been quiet for a while.
    UploadOnChange {
        /// The quiet time in milliseconds; at least 1.
        #[serde(rename = "debounceMs")]
        debounce_ms: u32,
    },
}

/// How files are laid out in the store. The two may be mixed and switched at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UploadMode {
    /// A file can be fetched on its own at the cost of about its own size.
    #[default]
    File,
    /// Small files are compressed together in blocks: smaller on the wire and in the store.
    Archive,
}
