//! All settings, each with its origin.

use std::ffi::OsString;
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
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

/// Where a value comes from.
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
    /// The default.
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

/// All settings, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `None` if no store is named and there is no directory for the default one.
    pub(crate) store: Setting<Option<StoreUrl>>,
    /// Settings of the backend. If a name occurs twice, the later value counts.
    pub(crate) store_options: Vec<(String, String, Origin)>,
    /// The same for the destination of a copy.
    pub(crate) dst_options: Vec<(String, String, Origin)>,
    pub(crate) config: Setting<Option<PathBuf>>,
    pub(crate) profile: Option<String>,
    /// Where the profile was named; `None` if in the config file itself.
    pub(crate) profile_origin: Option<Origin>,
    /// `None` if none is named and there is no directory for the default one.
    pub(crate) state_dir: Setting<Option<PathBuf>>,
    pub(crate) policy: Setting<Option<PathBuf>>,
    /// Patterns of what is left out, besides those of the policy.
    pub(crate) exclude: Setting<Vec<String>>,
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
    pub(crate) safety_scan: Setting<Duration>,
    pub(crate) quiesce: Setting<Option<OsString>>,
    pub(crate) resume: Setting<Option<OsString>>,
    pub(crate) quiesce_timeout: Setting<Duration>,
    pub(crate) json: Setting<bool>,
    pub(crate) quiet: Setting<bool>,
    pub(crate) verbose: Setting<u8>,
    pub(crate) no_progress: Setting<bool>,
    pub(crate) no_pager: Setting<bool>,
    pub(crate) color: Setting<Color>,
    pub(crate) utc: Setting<bool>,
    pub(crate) bytes: Setting<bool>,
    pub(crate) log_file: Setting<Option<PathBuf>>,
    /// Where `--only` comes from. Its variable may have several values.
    pub(crate) only_origin: Origin,
    /// Where `--mounts` comes from. Its variable may have several values.
    pub(crate) mounts_origin: Origin,
    /// Where `--require` comes from. Its variable may have several values.
    pub(crate) require_origin: Origin,
    pub(crate) dirs: Dirs,
}

impl Settings {
    /// Returns the files that the program writes besides its normal work; they never take part in a sync.
    pub(crate) fn own_files(&self) -> Vec<PathBuf> {
        let metrics = self.metrics_file.value.iter().flat_map(|file| [file.clone(), metrics::new_name(file)]);
        metrics.chain(self.log_file.value.clone()).collect()
    }

    /// Returns the store.
    ///
    /// # Errors
    /// No store is named, and there is no directory for the default one.
    pub(crate) fn store(&self) -> Result<&StoreUrl, Failure> {
        self.store.value.as_ref().ok_or_else(|| {
            Failure::usage("there is no place for the embedded store: neither HOME nor XDG_DATA_HOME is set")
                .hint("name a store with --store")
        })
    }

    /// Returns the directory that has the state of the mounts.
    ///
    /// # Errors
    /// No directory is named, and there is no home directory.
    pub(crate) fn state_dir(&self) -> Result<&Path, Failure> {
        self.state_dir.value.as_deref().ok_or_else(|| {
            Failure::usage("there is no place for local state: neither HOME nor XDG_STATE_HOME is set")
                .hint("name a directory with --state-dir")
        })
    }

    /// Returns the options of a sync.
    ///
    /// # Errors
    /// `--chown` is given, but the user is not root.
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
