//! Everything that can be set, each value with where it came from.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use policy_core::ConflictPolicy;
use storage_backends::StoreUrl;
use transfer_engine::{MaxDelete, SyncOptions};

use super::Dirs;
use crate::args::{Color, Conflict};
use crate::errors::Failure;
use crate::extract_limits::Limits;
use crate::metrics;
use crate::owner::Owner;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An option on the command line.
    Flag,
    /// An environment variable.
    Variable(String),
    /// A profile of the config file.
    Profile(String),
    /// The top of the config file.
    File,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("option"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::File => f.write_str("config file"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value with its origin.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) store: Setting<StoreUrl>,
    /// Settings of the backend; a later one of the same name wins.
    pub(crate) store_options: Vec<(String, String, Origin)>,
    pub(crate) config: Setting<Option<PathBuf>>,
    pub(crate) profile: Option<String>,
    /// Where the profile was named, unless in the file itself.
    pub(crate) profile_origin: Option<Origin>,
    pub(crate) state_dir: Setting<PathBuf>,
    pub(crate) policy: Setting<Option<PathBuf>>,
    pub(crate) dry_run: Setting<bool>,
    pub(crate) checksum: Setting<bool>,
    pub(crate) conflict: Setting<Option<Conflict>>,
    pub(crate) max_delete: Setting<Option<MaxDelete>>,
    pub(crate) allow_empty_mount: Setting<bool>,
    pub(crate) one_file_system: Setting<bool>,
    pub(crate) strict: Setting<bool>,
    pub(crate) max_upload: Setting<Option<u64>>,
    pub(crate) extract_limits: Setting<Limits>,
    pub(crate) chown: Setting<Option<Owner>>,
    pub(crate) concurrency: Setting<NonZeroUsize>,
    pub(crate) bwlimit: Setting<Option<NonZeroU64>>,
    pub(crate) memory: Setting<u64>,
    pub(crate) retry_time: Setting<Duration>,
    pub(crate) retries: Setting<Option<usize>>,
    pub(crate) timeout: Setting<Duration>,
    pub(crate) kill_after: Setting<Duration>,
    pub(crate) release_timeout: Setting<Option<Duration>>,
    pub(crate) metrics_file: Setting<Option<PathBuf>>,
    pub(crate) json: Setting<bool>,
    pub(crate) quiet: Setting<bool>,
    pub(crate) verbose: Setting<u8>,
    pub(crate) no_progress: Setting<bool>,
    pub(crate) color: Setting<Color>,
    pub(crate) log_file: Setting<Option<PathBuf>>,
    /// Where `--only` came from, whose variable holds several.
    pub(crate) only_origin: Origin,
    /// Where `--mounts` came from, likewise.
    pub(crate) mounts_origin: Origin,
    pub(crate) dirs: Dirs,
}

impl Settings {
    /// Returns the files that the program writes beside its work, which never take part in it.
    pub(crate) fn own_files(&self) -> Vec<PathBuf> {
        let metrics = self.metrics_file.value.iter().flat_map(|file| [file.clone(), metrics::new_name(file)]);
        metrics.chain(self.log_file.value.clone()).collect()
    }

    /// Returns the options of a sync.
    ///
    /// # Errors
    /// Files can't be given to somebody else by who is not root.
    pub(crate) fn sync_options(&self) -> Result<SyncOptions, Failure> {
        if self.chown.value.is_some() && !rustix::process::geteuid().is_root() {
            return Err(Failure::usage(format!("--chown ({}) needs root", self.chown.origin))
                .hint("without it, files belong to the user who runs ctxsync"));
        }
        Ok(SyncOptions {
            dry_run: self.dry_run.value,
            checksum: self.checksum.value,
            conflict: self.conflict.value.map(|how| match how {
                Conflict::KeepBoth => ConflictPolicy::KeepBoth,
                Conflict::PreferLocal => ConflictPolicy::PreferLocal,
                Conflict::PreferRemote => ConflictPolicy::PreferRemote,
                Conflict::Fail => ConflictPolicy::Fail,
            }),
            max_delete: self.max_delete.value,
            allow_empty_mount: self.allow_empty_mount.value,
            one_file_system: self.one_file_system.value,
            strict: self.strict.value,
            max_upload: self.max_upload.value,
            extract: self.extract_limits.value.0.clone(),
            concurrency: self.concurrency.value,
            memory: self.memory.value,
            owner: self.chown.value.as_ref().map(Owner::ids),
            own_files: self.own_files(),
            ..SyncOptions::default()
        })
    }
}
