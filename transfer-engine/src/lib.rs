//! Syncs a directory with a context in an object store.
//!
//! ```text
//!             scan      cut, hash, compress       put
//!   mount  ─────────►  chunks ─► blocks ─► packs ─────►  store
//!     ▲                                                   │
//!     └──────── rename ◄─ staging ◄─ verify ◄─ ranges ◄───┘
//!
//!   base ─┐
//!   mount ┼─► plan (policy-core) ─► tree ─► snapshot, by one put-if-absent
//!   head ─┘
//! ```
//!
//! A [`Store`] uses any [`ObjectStore`](object_store::ObjectStore); a [`Mount`] connects one of its contexts
//! with a directory, by a policy. [`Mount::push`] and [`Mount::pull`] work in one direction, [`Mount::sync`]
//! in both. Events go to a [`Monitor`]; the result is a [`SyncReport`].
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use policy_core::SyncPolicy;
//! use transfer_engine::{ContextSync, Env, Mount, Silent, Store, SyncOptions};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let (here, there, state) = (dir.path().join("here"), dir.path().join("there"), dir.path().join("state"));
//! # std::fs::create_dir(&here)?;
//! let objects = Arc::new(object_store::memory::InMemory::new());
//! let store = Store::new(objects, "memory:", Env::real());
//! store.init(Duration::from_secs(86_400)).await?;
//!
//! // One machine saves its workspace ...
//! std::fs::write(here.join("notes.txt"), "remember me")?;
//! let context = "user-42".parse::<transfer_engine::ContextName>()?;
//! let sync = ContextSync::new(context.clone(), &here, SyncPolicy::default());
//! let options = SyncOptions { create: true, ..SyncOptions::default() };
//! let report = Mount::open(&store, sync, &state)?.push(&options, &Silent).await?;
//! assert_eq!((report.added, report.snapshot), (1, Some(2)));
//!
//! // ... and another one finds it.
//! let sync = ContextSync::new(context, &there, SyncPolicy::default());
//! Mount::open(&store, sync, &state)?.pull(&SyncOptions::default(), &Silent).await?;
//! assert_eq!(std::fs::read_to_string(there.join("notes.txt"))?, "remember me");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! What has no default is passed to `new` or `open`. Everything else is a method `with_...`, or a public field: options are
//! plain values, of which [`Default`] is what most want.
//!
//! The library reads neither the environment nor the home directory, and prints nothing.

pub mod format;

mod buffers;
mod changes;
mod check;
mod collect;
mod commit;
mod conflict_copies;
mod contexts;
mod copying;
mod count;
mod diff;
mod download;
mod edit;
mod effect;
mod env;
mod error;
mod extract;
mod failure;
mod following;
mod forks;
#[cfg(all(feature = "archives", any(test, fuzzing)))]
pub mod hostile;
mod local;
mod log;
mod lost;
mod merge;
mod mixed;
mod monitor;
mod mount;
mod moves;
mod options;
mod own_places;
mod packing;
mod plan;
mod purge;
mod quiesce;
mod read_data;
pub mod recycle;
mod repair;
mod report;
mod service;
mod session;
mod state;
mod stats;
mod status;
mod store;
mod tags;
mod tree;
mod upload;
mod usage;

// Crates whose types are in the signatures here. `SyncOptions::deadline` has tokio's `Instant`.
#[doc(no_inline)]
pub use {bytes, object_store, policy_core, tokio};

pub use check::{
    CheckMonitor, CheckOptions, CheckReport, CheckedContext, CheckedSnapshot, Damage, DamagedFile, MOST_FILES,
};
pub use collect::{
    CollectMonitor, CollectOptions, CollectReport, Forgotten, Kept, LostPack, Unreadable, Why,
};
pub use contexts::Context;
pub use copying::{CopiedContext, CopyMonitor, CopyOptions, CopyReport, NotCopied};
pub use diff::{DiffDir, DiffOptions, DiffReport, DifferenceKind, PathDifference, SnapshotPart};

pub use env::{BootId, Clock, Env, FileFaults, Random, Spawn};
pub use error::{Error, Lack};
pub use extract::{ExtractError, ExtractLimits};
pub use failure::{Cause, ErrorKind};
pub use format::{ContextName, TagName};
pub use log::{LogOptions, LogRow, Origins};
pub use merge::MergeOptions;
pub use monitor::{Action, Monitor, PathEvent, PathProblem, Phase, Progress, Side, Silent};
pub use mount::{ContextPart, ContextSync, Mount, mount_scope, was_synced_with};
pub use options::{Gathering, SyncOptions};
pub use own_places::OwnPlaces;
pub use policy_core::{KeptFor, MaxDelete, NamePattern, Retention, RetentionRules};
pub use purge::{PurgeOptions, Purged, PurgedTag, StillHeld};
pub use quiesce::Quiesce;
pub use read_data::ReadData;
pub use repair::{Fate, RepairMonitor, RepairOptions, RepairReport, Repaired};
pub use report::{Direction, SyncReport};
pub use service::{ContextService, FileInfo, FileKind, WriteOptions};
pub use session::{
    Arrival, ContextInfo, ContextStatusData, ContextSyncResult, CreateSessionParams, DeleteResult,
    MountResult, ReleaseOptions, Released, RunningSession, Session, SessionContext, SessionMonitor,
    SyncParams, delete,
};
pub use stats::{AlivePacks, ContextStats, StoreStats};
pub use status::{TaskState, TaskStatus, TaskType, status};
pub use store::{At, Store};
pub use usage::Usage;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    /// Embedders run syncs on a runtime with several threads.
    #[test]
    fn syncs_can_be_spawned() {
        fn is_send<T: Send>(_: T) {}
        fn check(mount: &mut Mount, store: &Store, snapshot: &format::Snapshot, entry: &format::TreeEntry) {
            let (options, root) = (SyncOptions::default(), policy_core::TreePath::root());
            is_send(mount.push(&options, &Silent));
            is_send(mount.pull(&options, &Silent));
            is_send(mount.sync(&options, &Silent));
            is_send(store.contexts());
            let collect = CollectOptions::default();
            is_send(store.collect(&collect, &Silent));
            is_send(store.copy_to(store, &CopyOptions::default(), &Silent));
            is_send(store.rename_context(&snapshot.context, &snapshot.context));
            is_send(store.fork_context(&snapshot.context, None, &snapshot.context));
            is_send(store.stats(&[]));
            is_send(store.list_contexts());
            let diff = DiffOptions::default();
            is_send(store.diff(snapshot, snapshot, &diff, |_| ()));
            let sync = ContextSync::new(snapshot.context.clone(), "/", policy_core::SyncPolicy::default());
            let dir = DiffDir { sync: &sync, state_dir: std::path::Path::new("/"), own_files: &[] };
            is_send(store.diff_dir(snapshot, dir, &diff, &Silent, |_| ()));
            let merge = MergeOptions::default();
            is_send(store.merge_context(&snapshot.context, None, &snapshot.context, &merge, &Silent));
            is_send(store.revert_context(&snapshot.context, 1, "", false));
            let service = ContextService::new(store);
            let (name, path) = (&snapshot.context, &entry.path);
            is_send(service.get(name, true));
            is_send(service.list());
            is_send(service.update(name, name));
            is_send(service.clear(name));
            is_send(service.list_files(name, path));
            is_send(service.read_file(name, path, 0..1, |_| Ok(())));
            is_send(service.write_file(name, path, &b""[..], &WriteOptions::default()));
            is_send(service.delete_files(name, &[], true));
            is_send(store.log(&snapshot.context));
            is_send(store.each_snapshot(&snapshot.context, |_| ()));
            is_send(store.log_with(&snapshot.context, &LogOptions::default(), |_| ()));
            is_send(recycle::due(store, name, 0, |_| ()));
            is_send(recycle::recycle(store, name, 0, &options, &Silent));
            is_send(store.entries(snapshot, &root, |_| ()));
            is_send(store.read_file(entry, 0..1, |_| Ok(())));
            is_send(store.reader(entry, 0..1));
            is_send(store.restore(snapshot, std::path::Path::new("/"), &[], &options, &Silent));
        }
        let _ = check;
    }
}
