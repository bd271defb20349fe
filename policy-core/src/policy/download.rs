//! DownloadPolicy: when the store's files come to the mount.

use serde::{Deserialize, Serialize};

/// When the store's files come to the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DownloadPolicy {
    /// Whether files come by themselves; otherwise each is fetched when it is asked for.
    pub auto_download: bool,
    /// When the session opens.
    pub download_strategy: DownloadStrategy,
    /// Paths, read as white list paths, that must be there before a session opens. They come first.
    pub required_paths: Vec<String>,
}

impl Default for DownloadPolicy {
    fn default() -> Self {
        Self {
            auto_download: true,
            download_strategy: DownloadStrategy::default(),
            required_paths: Vec::new(),
        }
    }
}

/// When the session opens, seen from the files that come by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DownloadStrategy {
    /// At once; files arrive in the background.
    #[default]
    DownloadAsync,
    /// When every file is there.
    DownloadBeforeStart,
}
