//! Watches a mount for changes in scope.
//!
//! Without the feature `watch`, nothing is ever watched.

#[cfg(feature = "watch")]
mod events;
#[cfg(not(feature = "watch"))]
mod none;

#[cfg(feature = "watch")]
pub(super) use events::MountWatch;
#[cfg(not(feature = "watch"))]
pub(super) use none::MountWatch;

/// Why changes can't be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(feature = "watch"), expect(dead_code, reason = "nothing is watched"))]
pub(super) enum Blind {
    /// The system allows no more watches.
    #[error("the system allows no more watches (fs.inotify.max_user_watches)")]
    NoMoreWatches,
    /// Watching is not possible at all.
    #[error("{0}")]
    Unable(String),
}

/// What is at the mount's path, compared with the watched directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "watch"), expect(dead_code, reason = "nothing is watched"))]
pub(super) enum Root {
    /// The watched directory.
    There,
    /// No directory.
    Gone,
    /// Another directory, which is not watched yet.
    Exchanged,
}
