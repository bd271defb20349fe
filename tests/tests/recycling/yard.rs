//! Machines and a store with one clock that the test sets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ctxsync_tests::clock::{Clocked, HandClock};
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use policy_core::TreePath;
use transfer_engine::format::TreeEntry;
use transfer_engine::recycle::{Due, Recycled, due, recycle};
use transfer_engine::{Env, Error, Silent, SyncOptions};

pub(crate) const DAY: i64 = 86_400;
pub(crate) const ONE_DAY: &str = r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day"}}"#;

/// A world in which the store and all machines share a clock that the test sets.
pub(crate) struct Yard {
    pub(crate) world: World,
    pub(crate) clock: HandClock,
}

impl Yard {
    pub(crate) async fn new() -> Self {
        let clock = HandClock::default();
        // After the timestamps of all files, so that their stats can be trusted.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        clock.pass(now.cast_signed() - clock.secs() + DAY);
        let objects = Clocked::new(Arc::new(InMemory::new()), &clock);
        Self { world: World::over(objects).await, clock }
    }

    pub(crate) fn machine(&self, name: &str, policy: &str) -> Machine {
        let mut machine = self.world.machine(name).with_policy(policy);
        machine.env = Env::real().with_clock(Arc::new(self.clock.clone()));
        machine
    }

    pub(crate) fn days(&self, days: i64) {
        self.clock.pass(days * DAY);
    }

    /// Returns the files of the head, each with whether it is recycled.
    pub(crate) async fn files(&self) -> BTreeMap<String, bool> {
        let head = self.world.head().await;
        let mut files = BTreeMap::new();
        let each = |e: TreeEntry| {
            files.insert(e.path.to_string(), e.recycled);
        };
        self.world.store().entries(&head, &TreePath::root(), each).await.unwrap();
        files
    }

    /// Returns the numbers of the snapshots that are not forgotten, newest first.
    pub(crate) async fn log(&self) -> Vec<u64> {
        self.world.store().log(&context()).await.unwrap().iter().map(|s| s.number).collect()
    }

    pub(crate) async fn recycle(&self) -> Result<Recycled, Error> {
        let options = SyncOptions::default();
        recycle(&self.world.store(), &context(), self.clock.secs(), &options, &Silent).await
    }

    pub(crate) async fn due(&self) -> (Due, Vec<(String, bool)>) {
        let mut files = Vec::new();
        let each = |f: &transfer_engine::recycle::DueFile<'_>| files.push((f.path.to_string(), f.is_expired));
        let due = due(&self.world.store(), &context(), self.clock.secs(), each).await.unwrap();
        (due, files)
    }
}

pub(crate) fn gone(files: &[&str], there: &[&str]) -> BTreeMap<String, bool> {
    let gone = files.iter().map(|f| ((*f).to_owned(), true));
    gone.chain(there.iter().map(|f| ((*f).to_owned(), false))).collect()
}

/// A machine whose file `old` was recycled when it pushed `new`.
pub(crate) async fn recycled() -> (Yard, Machine) {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("old", Random::new(1).bytes(300_000));
    a.push().await.clean();
    yard.days(1);
    a.mount.write("new", "x");
    let report = a.push().await.clean().clone();
    assert_eq!((report.snapshot, report.parent, report.added, report.recycled), (Some(4), Some(2), 1, 1));
    assert_eq!(yard.files().await, gone(&["old"], &["new"]));
    (yard, a)
}

/// Whether the content is in a pack of the store. It must not compress.
pub(crate) async fn holds(yard: &Yard, content: &[u8]) -> bool {
    let objects = &yard.world.objects;
    let packs: Vec<_> = objects.list(Some(&"packs".into())).try_collect().await.unwrap();
    for pack in packs {
        let bytes = objects.get(&pack.location).await.unwrap().bytes().await.unwrap();
        if bytes.windows(32).any(|part| part == &content[..32]) {
            return true;
        }
    }
    false
}
