//! Checks, repairs and healing pushes: what is damaged is found, what can be made whole is, and nothing is deleted.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod checks;
mod forgets;
mod heals;
mod repairs;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::random::Random;
use ctxsync_tests::repairing::repairing;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use transfer_engine::{
    CheckMonitor, CheckOptions, CheckReport, CheckedContext, ContextName, Damage, Error, Fate, ReadData,
    RepairMonitor, RepairOptions, RepairReport, Repaired,
};

pub(crate) fn options(read_data: ReadData) -> CheckOptions {
    CheckOptions { contexts: Vec::new(), read_data, concurrency: NonZeroUsize::MIN, memory: 64 << 20 }
}

/// Keeps what a check or a repair tells.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) contexts: Mutex<Vec<CheckedContext>>,
    pub(crate) files: Mutex<BTreeSet<String>>,
    pub(crate) repaired: Mutex<Vec<Repaired>>,
}

impl Told {
    pub(crate) fn files(&self) -> Vec<String> {
        self.files.lock().unwrap().iter().cloned().collect()
    }
}

impl CheckMonitor for Told {
    fn context(&self, checked: &CheckedContext) {
        self.files.lock().unwrap().extend(checked.files.iter().map(|file| file.path.to_string()));
        self.contexts.lock().unwrap().push(checked.clone());
    }
}

impl RepairMonitor for Told {
    fn file(&self, _: &ContextName, path: &TreePath, fate: Fate, _: &Damage) {
        self.files.lock().unwrap().insert(format!("{path} {fate:?}"));
    }

    fn context(&self, _: &ContextName, repaired: &Repaired) {
        self.repaired.lock().unwrap().push(repaired.clone());
    }
}

pub(crate) async fn check(world: &World, read_data: ReadData) -> (Result<CheckReport, Error>, Told) {
    let told = Told::default();
    (world.store().check(&options(read_data), &told).await, told)
}

pub(crate) async fn repair(world: &World, dry_run: bool) -> (RepairReport, Told) {
    let told = Told::default();
    (world.store().repair(&RepairOptions { dry_run, ..repairing(ReadData::All) }, &told).await.unwrap(), told)
}

/// Returns the keys of all objects below a prefix, with their lengths.
pub(crate) async fn keys(world: &World, prefix: &str) -> Vec<(Path, u64)> {
    let prefix = Path::from(prefix);
    let listed = world.objects.list(Some(&prefix)).map_ok(|meta| (meta.location, meta.size));
    listed.try_collect().await.unwrap()
}

pub(crate) async fn bytes(world: &World, key: &Path) -> Vec<u8> {
    world.objects.get(key).await.unwrap().bytes().await.unwrap().to_vec()
}

pub(crate) async fn flip(world: &World, key: &Path, at: usize) {
    let mut bytes = bytes(world, key).await;
    bytes[at] ^= 0x10;
    world.objects.put(key, bytes.into()).await.unwrap();
}

/// A context with a history: many files, then a change, then one more file; and a second context.
pub(crate) async fn with_history() -> (World, Machine) {
    let world = World::memory().await;
    let a = world.machine("a");
    for i in 0..40 {
        a.mount.write(format!("d{}/f{i}", i % 4), format!("content {i} ").repeat(20));
    }
    a.mount.write("long", Random::new(1).bytes(3 << 20));
    a.push().await.clean();
    a.mount.write("d0/f0", "changed");
    a.push().await.clean();
    a.mount.write("new", Random::new(2).bytes(5000));
    a.push().await.clean();
    (world, a)
}

/// Returns the key of the pack with most bytes, which is that of the first push.
pub(crate) async fn first_pack(world: &World) -> Path {
    keys(world, "packs").await.into_iter().max_by_key(|(_, size)| *size).unwrap().0
}
