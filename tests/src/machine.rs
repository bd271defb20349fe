//! Machines that share a store and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use policy_core::{SyncPolicy, TreePath};
use storage_backends::layer::Faulty;
use tempfile::TempDir;
use transfer_engine::format::Snapshot;
use transfer_engine::{ContextName, ContextSync, Env, Error, Mount, Store, SyncOptions, SyncReport};

use crate::notes::{Noted, Notes};
use crate::tree::{Tree, unlock};

/// The name of the context that all machines of a world work on.
pub const CONTEXT: &str = "work";

/// A store, and a directory with machines in it, which is deleted when the world is dropped.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    env: Env,
    /// The store.
    pub objects: Arc<dyn ObjectStore>,
}

impl World {
    /// Creates a world with a store in memory.
    pub async fn memory() -> Self {
        Self::over(Arc::new(InMemory::new())).await
    }

    /// Creates a world that does not wait for a disk, if the system has `/dev/shm`.
    pub async fn quick() -> Self {
        Self::made(quick_dir(), Arc::new(InMemory::new()), Env::real()).await
    }

    /// Creates a world that does not wait for a disk, with this store and with machines of this kind.
    pub async fn simulated(objects: Arc<dyn ObjectStore>, env: Env) -> Self {
        Self::made(quick_dir(), objects, env).await
    }

    /// Creates a world with a store in a directory.
    pub async fn local() -> Self {
        let dir = new_dir();
        let place = dir.path().join("store");
        std::fs::create_dir(&place).unwrap();
        let objects = Arc::new(LocalFileSystem::new_with_prefix(&place).unwrap());
        Self::made(dir, objects, Env::real()).await
    }

    /// Creates a world with the store that `fill` writes into a directory.
    pub fn stored(fill: impl FnOnce(&Tree)) -> Self {
        let dir = new_dir();
        let place = Tree(dir.path().join("store"));
        std::fs::create_dir(&place.0).unwrap();
        fill(&place);
        let objects = Arc::new(LocalFileSystem::new_with_prefix(&place.0).unwrap());
        Self { dir, objects, env: Env::real() }
    }

    /// Creates a world with this store.
    pub async fn over(objects: Arc<dyn ObjectStore>) -> Self {
        Self::made(new_dir(), objects, Env::real()).await
    }

    async fn made(dir: TempDir, objects: Arc<dyn ObjectStore>, env: Env) -> Self {
        let world = Self { dir, objects, env };
        world.store().init(Duration::from_secs(86_400)).await.unwrap();
        world
    }

    /// Returns the store as a new process sees it.
    pub fn store(&self) -> Store {
        Store::new(Arc::clone(&self.objects), "test:", self.env.clone())
    }

    /// Returns the directory with the machines in it.
    pub fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// Returns the head of the context.
    pub async fn head(&self) -> Arc<Snapshot> {
        self.store().head(&context()).await.unwrap()
    }

    /// Returns a machine with an empty mount.
    pub fn machine(&self, name: &str) -> Machine {
        let root = self.root().join(name);
        let mount = Tree(root.join("mount"));
        std::fs::create_dir_all(&mount.0).unwrap();
        Machine {
            state: root.join("state"),
            mount,
            context: context(),
            objects: Arc::clone(&self.objects),
            part: TreePath::root(),
            policy: SyncPolicy::default(),
            env: self.env.clone(),
            options: SyncOptions { create: true, ..SyncOptions::default() },
        }
    }

    /// Returns a directory outside of all mounts, which must not change.
    pub fn outside(&self) -> Tree {
        let path = self.root().join("outside");
        std::fs::create_dir_all(&path).unwrap();
        Tree(path)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        unlock(self.dir.path());
    }
}

fn new_dir() -> TempDir {
    new_dir_in(&std::env::temp_dir())
}

/// Returns a directory in memory, if the system has one.
fn quick_dir() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { new_dir_in(shm) } else { new_dir() }
}

fn new_dir_in(place: &Path) -> TempDir {
    tempfile::Builder::new().prefix("ctxsync-test-").tempdir_in(place).unwrap()
}

/// Returns the context's name.
pub fn context() -> ContextName {
    ContextName::new(CONTEXT).unwrap()
}

/// A machine. Each call opens the store and the mount, as a new process would.
#[derive(Clone)]
pub struct Machine {
    /// Its state directory.
    pub state: PathBuf,
    /// Its mount.
    pub mount: Tree,
    /// The name of the context that it works on.
    pub context: ContextName,
    /// How it reaches the store.
    pub objects: Arc<dyn ObjectStore>,
    /// The directory of the context that its mount has; the root stands for the whole context.
    pub part: TreePath,
    /// Its policy.
    pub policy: SyncPolicy,
    /// Its clock, randomness and file system.
    pub env: Env,
    /// The options of its syncs.
    pub options: SyncOptions,
}

/// How a sync ended.
#[derive(Debug)]
pub struct Ended {
    /// The report, or the error.
    pub result: Result<SyncReport, Error>,
    /// What it reported to its monitor.
    pub noted: Noted,
}

impl Ended {
    /// Returns the report of a sync that succeeded.
    #[track_caller]
    pub fn report(&self) -> &SyncReport {
        match &self.result {
            Ok(report) => report,
            Err(e) => panic!("{e}: {e:?}; {:?}", self.noted),
        }
    }

    /// Fails unless the sync succeeded without any problem, conflict or deletion that is held back.
    #[track_caller]
    pub fn clean(&self) -> &SyncReport {
        let report = self.report();
        assert!(!report.is_incomplete() && self.noted.problems.is_empty(), "{report:?} {:?}", self.noted);
        assert_eq!((report.conflicts, report.held_back), (0, 0), "{:?}", self.noted);
        report
    }

    /// Returns the error of a sync that failed.
    #[track_caller]
    pub fn error(&self) -> &Error {
        match &self.result {
            Ok(report) => panic!("should have failed: {report:?} {:?}", self.noted),
            Err(e) => e,
        }
    }

    /// Whether a warning contains `words`.
    pub fn warned(&self, words: &str) -> bool {
        self.noted.warnings.iter().any(|w| w.contains(words))
    }
}

impl Machine {
    /// Returns this machine with another policy.
    #[must_use]
    pub fn with_policy(mut self, json: &str) -> Self {
        self.policy = SyncPolicy::from_json(json).unwrap();
        self
    }

    /// Returns the store as this machine reaches it.
    pub fn store(&self) -> Store {
        Store::new(Arc::clone(&self.objects), "test:", self.env.clone())
    }

    /// Returns this machine with a mount of a directory of the context.
    #[must_use]
    pub fn of_part(mut self, part: &str) -> Self {
        self.part = part.parse().unwrap();
        self
    }

    /// Returns what the mount is opened by.
    pub fn context_sync(&self) -> ContextSync {
        let sync = ContextSync::new(self.context.clone(), &self.mount.0, self.policy.clone());
        sync.with_part(self.part.clone())
    }

    /// Opens the mount.
    pub fn open(&self) -> Result<Mount, Error> {
        Mount::open(&self.store(), self.context_sync(), &self.state)
    }

    /// Pushes.
    pub async fn push(&self) -> Ended {
        let notes = Notes::default();
        let result = match self.open() {
            Ok(mut mount) => mount.push(&self.options, &notes).await,
            Err(e) => Err(e),
        };
        Ended { result, noted: notes.noted() }
    }

    /// Pushes until a request crashes the machine, and returns whether one did. The process is gone then, in the middle
    /// of the request, and must not handle the error: the push is dropped.
    pub async fn push_until_crashed(&self, faulty: &Faulty) -> bool {
        let mut mount = self.open().unwrap();
        let notes = Notes::default();
        let crashed = async {
            while !faulty.is_crashed() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = crashed => true,
            _ = mount.push(&self.options, &notes) => false,
        }
    }

    /// Pushes on another thread, for layers that call this while another push waits.
    pub async fn push_elsewhere(self) -> Ended {
        let push = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(self.push())
        };
        tokio::task::spawn_blocking(push).await.unwrap()
    }

    /// Pulls.
    pub async fn pull(&self) -> Ended {
        let notes = Notes::default();
        let result = match self.open() {
            Ok(mut mount) => mount.pull(&self.options, &notes).await,
            Err(e) => Err(e),
        };
        Ended { result, noted: notes.noted() }
    }

    /// Pulls, then pushes.
    pub async fn sync(&self) -> Ended {
        let notes = Notes::default();
        let result = match self.open() {
            Ok(mut mount) => mount.sync(&self.options, &notes).await,
            Err(e) => Err(e),
        };
        Ended { result, noted: notes.noted() }
    }

    /// Returns the file of the state with this name, in any directory.
    pub fn state_file(&self, name: &str) -> Option<PathBuf> {
        let found = walkdir::WalkDir::new(&self.state).into_iter().flatten();
        found.map(walkdir::DirEntry::into_path).find(|path| path.file_name().is_some_and(|n| n == name))
    }

    /// Returns the file with the base as of now.
    #[track_caller]
    pub fn base_file(&self) -> PathBuf {
        self.state_file("base.recent").or_else(|| self.state_file("base")).unwrap()
    }

    /// Deletes all state, as if the machine's disk had been lost.
    pub fn lose_state(&self) {
        std::fs::remove_dir_all(&self.state).unwrap();
    }
}

/// Creates two machines that agree on what `before` created. The first one then pushes what `change` does.
pub async fn changed(before: fn(&Tree), change: fn(&Tree)) -> (World, Machine, Machine) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    before(&a.mount);
    a.mount.write("other", "x");
    a.push().await.clean();
    b.pull().await.clean();
    change(&a.mount);
    a.push().await.clean();
    (world, a, b)
}
