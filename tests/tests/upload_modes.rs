//! `uploadMode`: what `File` and `Archive` cost. Readers need not know which mode was used.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::ops::Range;
use std::sync::Arc;

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::compare::assert_same;
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use object_store::memory::InMemory;
use storage_backends::layer::{Operation, Recording, Request};
use transfer_engine::format::CHUNK_MAX;
use transfer_engine::{ContextService, Env};

/// The size of each file, in bytes.
const FILE: usize = 32 << 10;
/// What is received besides a file's block, in bytes: the snapshot, the tree and the store's description.
const BESIDES: u64 = 16 << 10;

/// Returns bytes that compress by one eighth only, so that stored sizes are close to the original ones.
fn content(random: &mut Random, len: usize) -> Vec<u8> {
    random.bytes(len).into_iter().map(|byte| byte >> 1).collect()
}

/// Returns the range of bytes on the network for `raw` bytes of such content, with everything else that is
/// transferred.
fn moved(raw: usize) -> Range<u64> {
    let packed = raw as u64 / 8 * 7;
    packed..packed + packed / 64 + BESIDES
}

/// A world whose store records its requests.
async fn counted() -> (World, Recording) {
    let recording = Recording::new(Arc::new(InMemory::new()));
    (World::over(Arc::new(recording.clone())).await, recording)
}

fn with_mode(machine: Machine, mode: &str) -> Machine {
    machine.with_policy(&format!(r#"{{"uploadPolicy": {{"uploadMode": "{mode}"}}}}"#))
}

/// Writes 64 files, 2 MiB in total.
fn fill(machine: &Machine, dir: &str, random: &mut Random) {
    for i in 0..64 {
        machine.mount.write(format!("{dir}/{i:02}"), content(random, FILE));
    }
}

/// Pulls one file to a new machine, and returns the bytes received.
async fn received_for(world: &World, path: &str) -> u64 {
    let mut fresh = world.machine(&format!("fresh-for-{}", path.replace('/', "-")));
    fresh.options.only = vec![path.parse().unwrap()];
    let ended = fresh.pull().await;
    let report = ended.clean();
    assert_eq!(report.added, 1, "{report:?}");
    assert_eq!(fresh.mount.at(path).metadata().unwrap().len(), FILE as u64);
    report.bytes_received
}

#[tokio::test]
async fn one_file_costs_a_small_block_in_file_mode_and_a_large_one_in_archive_mode() {
    for (mode, block) in [("File", 256 << 10), ("Archive", 2 << 20)] {
        let world = World::memory().await;
        let a = with_mode(world.machine("a"), mode);
        fill(&a, "dir", &mut Random::new(1));
        a.push().await.clean();
        let received = received_for(&world, "dir/40").await;
        assert!(moved(block).contains(&received), "{mode}: {received} bytes came");
    }
}

/// What does not compress is stored in small blocks even with `Archive`, as larger ones would not save
/// anything.
#[tokio::test]
async fn what_does_not_compress_costs_a_small_block_in_either_mode() {
    for mode in ["File", "Archive"] {
        let world = World::memory().await;
        let a = with_mode(world.machine("a"), mode);
        let mut random = Random::new(6);
        fill(&a, "dir", &mut random);
        for i in 0..64 {
            a.mount.write(format!("dir/{i:02}.png"), random.bytes(FILE));
        }
        a.push().await.clean();
        let received = received_for(&world, "dir/40.png").await;
        assert!(((256 << 10)..(256 << 10) + BESIDES).contains(&received), "{mode}: {received} bytes came");
    }
}

/// Tiny files are combined into blocks like larger ones.
#[tokio::test]
async fn tiny_files_are_put_together_as_well() {
    let (world, recording) = counted().await;
    let a = with_mode(world.machine("a"), "Archive");
    let mut random = Random::new(2);
    for i in 0..2000 {
        a.mount.write(format!("{}/{i:04}", i % 7), content(&mut random, 64));
    }
    a.mount.write("3/wanted", content(&mut random, FILE));
    a.push().await.clean();
    let received = received_for(&world, "3/wanted").await;
    assert!(received >= moved(2000 * 64 + FILE).start, "{received} bytes came");
    assert!(recording.requests().iter().filter(|r| is_pack_put(r)).count() <= 2);
}

fn is_pack_put(request: &Request) -> bool {
    request.operation == Operation::Put && request.key.as_ref().starts_with("packs/")
}

#[tokio::test]
async fn a_switch_of_modes_sends_nothing_again() {
    let (world, recording) = counted().await;
    let mut random = Random::new(3);
    let mut a = with_mode(world.machine("a"), "File");
    // Long after the files were written, so that their stats can be trusted.
    let clock = HandClock::default();
    clock.pass(20 * 365 * 86_400);
    a.env = Env::real().with_clock(Arc::new(clock));
    fill(&a, "old", &mut random);
    a.push().await.clean();

    let a = with_mode(a, "Archive");
    recording.clear();
    let ended = a.push().await;
    let report = ended.clean();
    assert_eq!((report.snapshot, report.parent, report.bytes_read), (Some(2), None, 0), "{report:?}");
    assert_eq!(recording.counts().puts, 0);

    // Also without the state: everything is read, and nothing is sent.
    a.lose_state();
    recording.clear();
    assert_eq!(a.push().await.clean().snapshot, Some(2));
    assert_eq!(recording.counts().puts, 0);

    // New and changed files use the new mode, and the others stay where they are.
    fill(&a, "new", &mut random);
    a.mount.write("old/07", content(&mut random, FILE));
    let ended = a.push().await;
    let sent = ended.clean().bytes_sent;
    assert!(moved(65 * FILE).contains(&sent), "{sent} bytes were sent");
    assert!(received_for(&world, "old/08").await < moved(256 << 10).end);
    assert!(received_for(&world, "new/08").await > moved(2 << 20).start);

    // Back to the old mode, with two machines that use different modes.
    let b = with_mode(world.machine("b"), "File");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    for i in 0..8 {
        b.mount.write(format!("new/{i:02}"), content(&mut random, FILE));
    }
    b.push().await.clean();
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    assert!(received_for(&world, "new/01").await < moved(256 << 10).end);
    let c = world.machine("c");
    c.pull().await.clean();
    assert_same(&a.mount.0, &c.mount.0);
}

#[tokio::test]
async fn what_is_excepted_from_archive_mode_is_stored_as_in_file_mode() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let mount = a.mount.0.to_str().unwrap().to_owned();
    // All forms of a white list path: below the mount, below its alias, or relative.
    a = a.with_policy(&format!(
        r#"{{"uploadPolicy": {{"uploadMode": "Archive",
                               "archiveExcludePaths": ["{mount}/absolute", "/alias/mapped", "/rooted/", "one/03"]}},
            "mappingPolicy": {{"path": "/alias"}}}}"#
    ));
    let mut random = Random::new(4);
    let dirs = ["absolute", "mapped", "rooted", "absolutely", "one"];
    for dir in dirs {
        fill(&a, dir, &mut random);
    }
    a.push().await.clean();
    for path in ["absolute/20", "mapped/20", "rooted/20", "one/03"] {
        let received = received_for(&world, path).await;
        assert!(received < moved(256 << 10).end, "{path}: {received} bytes came");
    }
    for path in ["absolutely/20", "one/20"] {
        let received = received_for(&world, path).await;
        assert!(received > moved(63 * FILE).start, "{path}: {received} bytes came");
    }
    let b = world.machine("b");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

/// The chunks of a long file are not combined, so that each can be read alone.
#[tokio::test]
async fn a_part_of_a_long_file_costs_a_chunk_in_either_mode() {
    for mode in ["File", "Archive"] {
        let (world, recording) = counted().await;
        let a = with_mode(world.machine("a"), mode);
        let content = Random::new(5).bytes(24 << 20);
        a.mount.write("long", &content);
        a.push().await.clean();
        let service = ContextService::new(&world.store());
        let (name, path, range) = (context(), "long".parse().unwrap(), 9_000_000..9_000_010);
        let mut part = Vec::new();
        recording.clear();
        let read = service.read_file(&name, &path, range, |bytes| {
            part.extend_from_slice(&bytes);
            Ok(())
        });
        read.await.unwrap();
        assert_eq!(part, &content[9_000_000..9_000_010]);
        let received = recording.counts().bytes_received;
        assert!(received < CHUNK_MAX as u64 + BESIDES, "{mode}: {received} bytes came");
    }
}
