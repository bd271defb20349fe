//! A store on a clock that the test sets, and what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use transfer_engine::format::{PackId, Snapshot, StoreKey, TreeEntry};
use transfer_engine::{
    CheckOptions, CollectOptions, ContextName, ContextService, CopyOptions, Env, ReadData, Silent, Store,
    WriteOptions,
};

use crate::clock::{Clocked, HandClock};

/// The grace period of the stores, in seconds.
pub const GRACE: i64 = 86_400;

/// A store, and a clock that its objects and its users share.
#[derive(Clone)]
pub struct Place {
    /// The objects.
    pub objects: Arc<dyn ObjectStore>,
    /// The clock.
    pub clock: HandClock,
}

impl Place {
    /// Returns a place without a store yet.
    pub fn new(clock: &HandClock) -> Self {
        Self { objects: Clocked::new(Arc::new(InMemory::new()), clock), clock: clock.clone() }
    }

    /// Returns a place with an empty store.
    pub async fn made(clock: &HandClock) -> Self {
        let place = Self::new(clock);
        place.store().init(Duration::from_secs(GRACE.unsigned_abs())).await.unwrap();
        place
    }

    /// Returns the store as a process sees it that has just begun.
    pub fn store(&self) -> Store {
        let env = Env::real().with_clock(Arc::new(self.clock.clone()));
        Store::new(Arc::clone(&self.objects), "test:", env)
    }

    /// Returns the same store behind something.
    pub fn behind(&self, objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, clock: self.clock.clone() }
    }

    /// Writes a file of a context, which is created where it is missing; returns the snapshot's number.
    pub async fn write(&self, context: &str, path: &str, content: &[u8]) -> u64 {
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

    /// Collects garbage, and expects that nothing is unreadable or lost.
    pub async fn collect(&self, options: CollectOptions) {
        let report = self.store().collect(&options, &Silent).await.unwrap();
        assert_eq!((report.unreadable, report.packs_lost), (0, 0));
    }

    /// Expects that a check finds nothing wrong.
    pub async fn is_whole(&self) {
        let CopyOptions { concurrency, memory, .. } = CopyOptions::default();
        let (contexts, read_data) = (Vec::new(), ReadData::All);
        let options = CheckOptions { contexts, read_data, concurrency, memory };
        let report = self.store().check(&options, &Silent).await.unwrap();
        assert_eq!((report.damaged_contexts, report.damaged_packs), (0, 0), "{report:?}");
    }

    /// Returns the keys of all packs.
    pub async fn packs(&self) -> Vec<String> {
        let listed: Vec<_> = self.objects.list(Some(&"packs".into())).try_collect().await.unwrap();
        listed.into_iter().map(|meta| meta.location.to_string()).collect()
    }

    /// Deletes a pack.
    pub async fn delete(&self, pack: PackId) {
        self.objects.delete(&StoreKey::Pack(pack).path()).await.unwrap();
    }
}

/// Parses a context's name.
pub fn name(text: &str) -> ContextName {
    text.parse().unwrap()
}

/// What a snapshot holds: its number, what it says of itself, and all files with their bytes.
pub type Content = (u64, String, Vec<(TreeEntry, Vec<u8>)>);

/// Returns everything that can be read in a store, context by context.
pub async fn content(place: &Place) -> BTreeMap<ContextName, Vec<Content>> {
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

/// Returns everything that can be read of a snapshot.
pub async fn content_of(store: &Store, snapshot: &Snapshot) -> Content {
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
