//! Stores, and machines that sync a mount with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy_core::{SyncPolicy, TreePath};
use storage_backends::{StoreOptions, StoreUrl, open};
use tokio::runtime::Runtime;
use transfer_engine::{ContextName, ContextSync, Env, Mount, Silent, Store, SyncOptions, SyncReport};

/// Where a store keeps its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// In this process's memory.
    Memory,
    /// In a directory; every object is flushed to the disk.
    Local,
}

impl Backend {
    /// Returns the backend's name in the names of benchmarks.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Local => "local",
        }
    }
}

/// An existing store, which several machines can use.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    opened: storage_backends::Opened,
    runtime: Arc<Runtime>,
}

impl Bucket {
    /// Creates an empty store; a local one in the new directory `dir`.
    pub(crate) fn create(backend: Backend, dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let url = match backend {
            Backend::Memory => "memory:".to_owned(),
            Backend::Local => dir.to_str().unwrap().to_owned(),
        };
        let url = StoreUrl::parse(&url, "/".as_ref()).unwrap();
        let mut options = StoreOptions::default();
        options.create = true;
        let bucket = Self { opened: open(&url, &options).unwrap(), runtime: Arc::new(runtime) };
        bucket.runtime.block_on(bucket.store().init(Duration::from_secs(24 * 60 * 60))).unwrap();
        bucket
    }

    /// Returns the store as a new process opens it: nothing is cached.
    fn store(&self) -> Store {
        Store::new(Arc::clone(&self.opened.store), self.opened.url.clone(), Env::real())
    }
}

/// A mount with its local state.
#[derive(Debug)]
pub(crate) struct Machine {
    bucket: Bucket,
    mount: PathBuf,
    state: PathBuf,
    policy: SyncPolicy,
    only: Vec<TreePath>,
}

impl Machine {
    /// Creates a machine that has not seen the store, with the new state directory `state`.
    pub(crate) fn new(bucket: &Bucket, mount: &Path, state: &Path) -> Self {
        fs::create_dir_all(state).unwrap();
        Self {
            bucket: bucket.clone(),
            mount: mount.to_owned(),
            state: state.to_owned(),
            policy: SyncPolicy::default(),
            only: Vec::new(),
        }
    }

    /// Returns this machine with another policy.
    pub(crate) fn with_policy(self, json: &str) -> Self {
        Self { policy: SyncPolicy::from_json(json).unwrap(), ..self }
    }

    /// Returns this machine with syncs limited to one path.
    pub(crate) fn only(self, path: TreePath) -> Self {
        Self { only: vec![path], ..self }
    }

    /// Pushes, from opening the mount to the commit, like one run of the program.
    pub(crate) fn push(&self) -> SyncReport {
        let options = SyncOptions { create: true, ..self.options() };
        self.bucket.runtime.block_on(async { self.open().push(&options, &Silent).await }).unwrap()
    }

    /// Pulls, from opening the mount to writing the base.
    pub(crate) fn pull(&self) -> SyncReport {
        let options = self.options();
        self.bucket.runtime.block_on(async { self.open().pull(&options, &Silent).await }).unwrap()
    }

    fn options(&self) -> SyncOptions {
        SyncOptions { only: self.only.clone(), ..SyncOptions::default() }
    }

    fn open(&self) -> Mount {
        let context = ContextName::new("bench").unwrap();
        let sync = ContextSync::new(context, &self.mount, self.policy.clone());
        Mount::open(&self.bucket.store(), sync, &self.state).unwrap()
    }
}
