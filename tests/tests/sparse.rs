//! Files with holes are pulled with holes.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use ctxsync_tests::machine::World;
use ctxsync_tests::notes::Notes;
use transfer_engine::SyncOptions;

const MIB: u64 = 1 << 20;

/// Creates a file of `size` bytes with only these parts written.
fn image(path: &Path, size: u64, parts: &[(u64, &[u8])]) {
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    file.set_len(size).unwrap();
    for (at, bytes) in parts {
        file.write_all_at(bytes, *at).unwrap();
    }
}

/// Fails unless both have the same content, and the copy takes at most `most` bytes on disk.
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
    // A long file that ends in a hole, and a short one that has data only in its middle.
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
    // A change leaves the other holes as they are, and new zeros become a hole.
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

/// A chunk that is repeated in a file is fetched and verified once.
#[tokio::test]
async fn l7_a_chunk_that_is_in_a_file_many_times_is_fetched_once() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    // The same four bytes repeated, so that all chunks except the last are equal, and are not zeros.
    let bytes: Vec<u8> = [1, 2, 3, 4].into_iter().cycle().take(40 << 20).collect();
    a.mount.write("long", &bytes);
    a.push().await.clean();
    let received = b.pull().await.clean().bytes_received;
    assert!(received < MIB, "{received}");
    assert!(std::fs::read(b.mount.at("long")).unwrap() == bytes);
}
