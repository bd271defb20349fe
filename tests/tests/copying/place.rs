//! Two stores, what is in them, and what is done to them.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctxsync_tests::clock::{Clocked, HandClock};
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use transfer_engine::format::{PackId, Snapshot, StoreKey, TreeEntry};
use transfer_engine::{
    CheckOptions, CollectOptions, ContextName, ContextService, CopiedContext, CopyMonitor, CopyOptions,
    CopyReport, Env, Gathering, Monitor, NotCopied, ReadData, Retention, Silent, Store, WriteOptions,
};

/// The grace period of the stores, in seconds.
pub(crate) const GRACE: i64 = 86_400;

/// A store, and a clock that its objects and its users share.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) clock: HandClock,
}

impl Place {
    pub(crate) fn new(clock: &HandClock) -> Self {
        Self { objects: Clocked::new(Arc::new(InMemory::new()), clock), clock: clock.clone() }
    }

    pub(crate) async fn made(clock: &HandClock) -> Self {
        let place = Self::new(clock);
        place.store().init(Duration::from_secs(GRACE.unsigned_abs())).await.unwrap();
        place
    }

    /// Returns the store as a process sees it that has just begun.
    pub(crate) fn store(&self) -> Store {
        let env = Env::real().with_clock(Arc::new(self.clock.clone()));
        Store::new(Arc::clone(&self.objects), "test:", env)
    }

    /// Returns the same store behind something.
    pub(crate) fn behind(&self, objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, clock: self.clock.clone() }
    }

    pub(crate) async fn write(&self, context: &str, path: &str, content: &[u8]) -> u64 {
        let store = self.store();
        let service = ContextService::new(&store);
        // Also under a name from which a context has moved.
        if store.head(&name(context)).await.is_err() {
            store.create_context(&name(context)).await.unwrap();
        }
        let path: TreePath = path.parse().unwrap();
        let report = service.write_file(&name(context), &path, content, &WriteOptions::default()).await;
        report.unwrap().snapshot.unwrap()
    }

    pub(crate) async fn collect(&self, options: CollectOptions) {
        let report = self.store().collect(&options, &Silent).await.unwrap();
        assert_eq!((report.unreadable, report.packs_lost), (0, 0));
    }

    /// Expects that a check finds nothing wrong.
    pub(crate) async fn is_whole(&self) {
        let CopyOptions { concurrency, memory, .. } = CopyOptions::default();
        let (contexts, read_data) = (Vec::new(), ReadData::All);
        let options = CheckOptions { contexts, read_data, concurrency, memory };
        let report = self.store().check(&options, &Silent).await.unwrap();
        assert_eq!((report.damaged_contexts, report.damaged_packs), (0, 0), "{report:?}");
    }

    /// Returns the keys of all packs.
    pub(crate) async fn packs(&self) -> Vec<String> {
        let listed: Vec<_> = self.objects.list(Some(&"packs".into())).try_collect().await.unwrap();
        listed.into_iter().map(|meta| meta.location.to_string()).collect()
    }

    pub(crate) async fn delete(&self, pack: PackId) {
        self.objects.delete(&StoreKey::Pack(pack).path()).await.unwrap();
    }
}

pub(crate) fn name(text: &str) -> ContextName {
    text.parse().unwrap()
}

/// What a snapshot holds: its number, what it says of itself, and all files with their bytes.
pub(crate) type Content = (u64, String, Vec<(TreeEntry, Vec<u8>)>);

/// Returns everything that can be read in a store, context by context.
pub(crate) async fn content(place: &Place) -> BTreeMap<ContextName, Vec<Content>> {
    let store = place.store();
    let mut all = BTreeMap::new();
    for name in store.contexts().await.unwrap() {
        let mut snapshots = Vec::new();
        for snapshot in store.log(&name).await.unwrap() {
            snapshots.push(content_of(&store, &snapshot).await);
        }
        all.insert(name, snapshots);
    }
    all
}

pub(crate) async fn content_of(store: &Store, snapshot: &Snapshot) -> Content {
    let mut entries = Vec::new();
    store.entries(snapshot, &TreePath::root(), |entry| entries.push(entry)).await.unwrap();
    let mut read = Vec::new();
    for entry in entries {
        let mut bytes = Vec::new();
        let each = |part: bytes::Bytes| {
            bytes.extend_from_slice(&part);
            Ok(())
        };
        if !entry.recycled && !entry.entry.is_dir() {
            store.read_file(&entry, 0..u64::MAX, each).await.unwrap();
        }
        // Where its bytes are differs from store to store.
        read.push((TreeEntry { chunks: Vec::new(), ..entry }, bytes));
    }
    let Snapshot { lineage, kind, created, session, nonce, policy, recycle, totals, changes, .. } = snapshot;
    let said = format!(
        "{lineage} {kind:?} {created:?} {session} {nonce:?} {policy:?} {recycle:?} {totals:?} {changes:?} {} {:?}",
        snapshot.partial,
        snapshot.writer()
    );
    (snapshot.number, said, read)
}

/// What a copy told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) copied: Mutex<Vec<CopiedContext>>,
    not_copied: Mutex<Vec<(String, Vec<u64>, String)>>,
}

impl Monitor for Told {}

impl CopyMonitor for Told {
    fn copied(&self, copied: &CopiedContext) {
        self.copied.lock().unwrap().push(copied.clone());
    }

    fn not_copied(&self, not: &NotCopied) {
        let told = (not.context.to_string(), not.snapshots.clone(), not.error.to_string());
        self.not_copied.lock().unwrap().push(told);
    }
}

impl Told {
    pub(crate) fn not_copied(&self) -> Vec<(String, Vec<u64>, String)> {
        self.not_copied.lock().unwrap().clone()
    }
}

pub(crate) async fn copy(src: &Place, dst: &Place) -> CopyReport {
    let told = Told::default();
    let report = src.store().copy_to(&dst.store(), &CopyOptions::default(), &told).await.unwrap();
    assert!(!report.is_incomplete(), "{:?}", told.not_copied());
    report
}

/// Makes a history with renamed, deleted and forgotten parts, with packs of several sizes, and with segments in packs.
pub(crate) async fn make_history(place: &Place, random: &mut Random, steps: usize) {
    let names = ["a", "b/c", "d"];
    for step in 0..steps {
        place.clock.pass(60);
        let context = names[random.below(names.len())];
        match random.below(20) {
            0 if step > 3 => drop(place.store().delete_context(&name(context)).await),
            1 => drop(place.store().rename_context(&name(context), &name(&format!("{context}-new"))).await),
            2 => {
                let last = NonZeroU64::new(1 + random.below(4) as u64);
                let retention = Retention { last, ..Retention::default() };
                let gathering = Gathering { many: 4, ..Gathering::default() };
                place
                    .collect(CollectOptions {
                        retention: retention.into(),
                        gathering,
                        ..CollectOptions::default()
                    })
                    .await;
                place.clock.pass(GRACE * random.below(2) as i64 * 2);
            }
            3 => {
                for file in 0..40 {
                    let len = random.below(200);
                    place.write(context, &format!("many/{file}"), &random.bytes(len)).await;
                }
            }
            4 => {
                let len = random.below(2 << 20);
                place.write(context, "long", &random.bytes(len)).await;
            }
            _ => {
                let (path, len) = (format!("{}/{}", random.below(4), random.below(9)), random.below(3000));
                place.write(context, &path, &random.bytes(len)).await;
            }
        }
    }
}
