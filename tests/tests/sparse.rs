//! Files with holes are brought with holes.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use ctxsync_tests::machine::World;
use ctxsync_tests::notes::Notes;
use transfer_engine::SyncOptions;

const MIB: u64 = 1 << 20;

/// Writes what is in `parts` into a file of this size, and nothing else.
fn image(path: &Path, size: u64, parts: &[(u64, &[u8])]) {
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    file.set_len(size).unwrap();
    for (at, bytes) in parts {
        file.write_all_at(bytes, *at).unwrap();
    }
}

/// Expects both to read the same, and the copy to take no more room than this.
#[track_caller]
fn same(original: &Path, copy: &Path, most: u64) {
    assert!(std::fs::read(original).unwrap() == std::fs::read(copy).unwrap(), "{}", copy.display());
    File::open(copy).unwrap().sync_all().unwrap();
    let used = copy.metadata().unwrap().blocks() * 512;
    assert!(used <= most, "{} takes {used} bytes", copy.display());
}

#[tokio::test]
async fn l7_holes_are_holes_again() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let (long, short) = (a.mount.at("long"), a.mount.at("short"));
    // One that ends in a hole, and one that is short, and all hole but for its middle.
    image(&long, 90 * MIB + 77, &[(5 * MIB + 100, &[1; 5000]), (40 * MIB, &[2; 100_000])]);
    image(&short, 3 * MIB, &[(MIB, &[3; 10])]);
    a.mount.write("zeros", vec![0; 2 << 20]);
    a.push().await.clean();
    let pulled = b.pull().await;
    let received = pulled.clean().bytes_received;
    assert!(received < MIB, "{received}");
    same(&long, &b.mount.at("long"), MIB);
    same(&short, &b.mount.at("short"), 64 << 10);
    same(&a.mount.at("zeros"), &b.mount.at("zeros"), 64 << 10);
    // A change of it leaves the rest as it is, and what becomes zeros is a hole.
    image(&long, 90 * MIB + 77, &[(40 * MIB, &[0; 100_000]), (60 * MIB, &[4; 4096])]);
    a.push().await.clean();
    b.pull().await.clean();
    same(&long, &b.mount.at("long"), MIB);

    let (restored, notes) = (world.outside(), Notes::default());
    let options = SyncOptions::default();
    let head = world.head().await;
    world.store().restore(&head, &restored.0, &[], &options, &notes).await.unwrap();
    same(&long, &restored.at("long"), MIB);
}

/// What the store sends for zeros is verified like everything else, once.
#[tokio::test]
async fn l7_a_chunk_that_is_in_a_file_many_times_is_fetched_once() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    // The same four bytes all the way, so that all chunks but the last are the same and no zeros.
    let bytes: Vec<u8> = [1, 2, 3, 4].into_iter().cycle().take(40 << 20).collect();
    a.mount.write("long", &bytes);
    a.push().await.clean();
    let received = b.pull().await.clean().bytes_received;
    assert!(received < MIB, "{received}");
    assert!(std::fs::read(b.mount.at("long")).unwrap() == bytes);
}
