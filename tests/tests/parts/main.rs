//! A mount may be a directory of a context: `NAME:PATH`. Everything outside of it stays as it is, and all that holds for
//! mounts of whole contexts holds inside.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod cases;
mod faults;
mod guards;
mod laws;
mod opening;

use std::num::NonZeroUsize;

use ctxsync_tests::machine::{Machine, World};
use policy_core::TreePath;
use transfer_engine::format::TreeEntry;
use transfer_engine::{CheckOptions, ReadData, Silent};

/// Returns the entries of the head.
async fn entries(world: &World) -> Vec<TreeEntry> {
    let mut entries = Vec::new();
    world
        .store()
        .entries(&*world.head().await, &TreePath::root(), |entry| entries.push(entry))
        .await
        .unwrap();
    entries
}

/// Returns the paths of the head.
async fn paths_there(world: &World) -> Vec<String> {
    entries(world).await.iter().map(|entry| entry.path.to_string()).collect()
}

/// Returns the entries of the head outside of a part. Directories that lead to the part are listed only as long as they
/// are empty otherwise, so they are left out.
async fn outside(world: &World, part: &TreePath) -> Vec<TreeEntry> {
    let mut entries = entries(world).await;
    entries.retain(|entry| !entry.path.is_within(part) && !part.is_within(&entry.path));
    entries
}

/// Fails unless everything in the store is there and whole.
async fn assert_whole(world: &World) {
    let options = CheckOptions {
        contexts: Vec::new(),
        read_data: ReadData::All,
        concurrency: NonZeroUsize::new(4).unwrap(),
        memory: 64 << 20,
    };
    assert!(world.store().check(&options, &Silent).await.unwrap().is_whole());
}

/// A context with files inside and outside of `d`, a machine with the whole context, and one with `d`.
async fn agreed() -> (World, Machine, Machine) {
    let world = World::quick().await;
    let (whole, part) = (world.machine("whole"), world.machine("part").of_part("d"));
    whole
        .mount
        .write("a", "a")
        .write("d/x", "x")
        .write("d/y/z", "z")
        .write("d-e", "beside")
        .write("e/x", "other");
    whole.push().await.clean();
    part.pull().await.clean();
    (world, whole, part)
}
