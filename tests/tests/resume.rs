//! Pushes that were killed, that failed, or that take long: what is in the store is not sent again.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::machine::{Ended, Machine, World, context};
use ctxsync_tests::notes::Notes;
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use storage_backends::layer::{Bandwidth, Fault, Faulty, Operation, Rule};
use transfer_engine::{Env, Error, ReadData, Store};

const MIB: usize = 1 << 20;
/// Overhead of packs and the tree, in bytes.
const SLACK: u64 = 256 << 10;

/// Two packs and a part of a third.
const FILES: usize = 14;
const EACH: usize = 5 * MIB;
const TOTAL: u64 = (FILES * EACH) as u64;

fn fill(machine: &Machine) {
    let mut random = Random::new(1);
    for i in 0..FILES {
        machine.mount.write(format!("{i}"), random.bytes(EACH));
    }
}

/// Limits what a machine sends, in bytes a second.
fn slow(world: &World, machine: &mut Machine, rate: usize) {
    machine.objects =
        Arc::new(Bandwidth::new(Arc::clone(&world.objects), NonZeroU64::new(rate as u64), None));
}

/// A push that exceeds its limit is noticed while a long file is read, not after it was sent.
#[tokio::test]
async fn an_upload_that_is_too_large_ends_before_it_is_sent() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.mount.write("long", Random::new(5).bytes(80 * MIB));
    a.options.max_upload = Some(10 * MIB as u64);
    let said = a.push().await.error().to_string();
    assert!(said.contains("at least"), "{said}");
    assert!(packs(&world).await.is_empty());
    a.options.max_upload = Some(80 * MIB as u64);
    a.push().await.clean();
}

/// Kills a push after some time.
async fn kill_after(machine: &Machine, time: Duration) {
    let mut mount = machine.open().unwrap();
    let notes = Notes::default();
    assert!(tokio::time::timeout(time, mount.push(&machine.options, &notes)).await.is_err());
}

async fn packs(world: &World) -> Vec<ObjectMeta> {
    world.objects.list(Some(&"packs".into())).try_collect().await.unwrap()
}

async fn bytes_of_packs(world: &World) -> u64 {
    packs(world).await.iter().map(|p| p.size).sum()
}

async fn is_saved(world: &World, machine: &Machine) {
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_same(&machine.mount.0, &fresh.mount.0);
}

/// Kills a push after a pack has landed; returns the machine and the bytes that landed.
async fn killed(world: &World) -> (Machine, u64) {
    let mut a = world.machine("a");
    fill(&a);
    slow(world, &mut a, 8 * MIB);
    kill_after(&a, Duration::from_secs(6)).await;
    a.objects = Arc::clone(&world.objects);
    let landed = bytes_of_packs(world).await;
    assert!(landed > 20 * MIB as u64 && landed < TOTAL, "{landed}");
    (a, landed)
}

#[tokio::test(start_paused = true)]
async fn a_killed_push_sends_no_stored_pack_again() {
    let world = World::memory().await;
    let (mut a, landed) = killed(&world).await;
    let before: Vec<_> = packs(&world).await.iter().map(|p| p.location.clone()).collect();
    assert_eq!(world.head().await.number, 1);
    // Killed again, just before the commit.
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::CrashBefore).on(Operation::Put).below("contexts"));
    a.objects = Arc::new(faulty);
    let ended = a.push().await;
    ended.error();
    assert!(a.state_file("packs").is_some());
    let stored = bytes_of_packs(&world).await;
    assert!(stored < TOTAL + SLACK && stored > TOTAL, "{stored}, {landed} before");
    a.objects = Arc::clone(&world.objects);
    let ended = a.push().await;
    let report = ended.clean();
    assert_eq!(report.added, FILES as u64);
    assert!(report.bytes_sent < SLACK, "{report:?}");
    let head = world.head().await;
    for pack in before {
        let id = pack.filename().unwrap().to_owned();
        assert!(head.packs.iter().any(|p| p.id.to_string() == id && p.land_by.is_some()), "{id}");
    }
    assert!(a.state_file("packs").is_none(), "what is committed is forgotten");
    assert_eq!(a.push().await.clean().requests, 1);
    is_saved(&world, &a).await;
}

#[tokio::test(start_paused = true)]
async fn a_push_that_failed_is_gone_on_with() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    fill(&a);
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::Denied).on(Operation::Put).below("packs").nth(3));
    a.objects = Arc::new(faulty);
    assert!(matches!(a.push().await.error(), Error::Store { .. }));
    let landed = bytes_of_packs(&world).await;
    assert!(landed > 60 * MIB as u64);
    let ended = a.push().await;
    assert!(ended.clean().bytes_sent < TOTAL - landed + SLACK);
    is_saved(&world, &a).await;
}

/// Returns the files of a local store's packs.
fn pack_files(machine: &Machine) -> Vec<PathBuf> {
    let packs = machine.mount.0.parent().unwrap().parent().unwrap().join("store/packs");
    std::fs::read_dir(packs).unwrap().map(|f| f.unwrap().path()).collect()
}

#[tokio::test(start_paused = true)]
async fn packs_count_while_they_are_young_by_the_stores_clock() {
    // The grace period is a day, and a writer may rely on half of it.
    for (hours, trusted) in [(3, true), (13, false), (30, false)] {
        let world = World::local().await;
        let (a, landed) = killed(&world).await;
        let then = SystemTime::now() - Duration::from_secs(hours * 3600);
        let old = pack_files(&a);
        for pack in &old {
            std::fs::File::options().write(true).open(pack).unwrap().set_modified(then).unwrap();
        }
        let ended = a.push().await;
        let sent = ended.clean().bytes_sent;
        let rest = TOTAL - if trusted { landed } else { 0 };
        assert!(sent >= rest && sent < rest + SLACK, "{hours} h: {sent}, {rest} expected");
        // A collection may delete the old packs now.
        if !trusted {
            old.iter().for_each(|pack| std::fs::remove_file(pack).unwrap());
        }
        is_saved(&world, &a).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_is_believed_only_as_far_as_the_store_bears_it_out() {
    // A pack was collected or has changed, the journal is damaged, or the store is another one.
    for damage in 0..4 {
        let world = World::memory().await;
        let (mut a, _) = killed(&world).await;
        let journal = a.state_file("packs").unwrap();
        let other = World::memory().await;
        let mut home = &world;
        match damage {
            0 => world.objects.delete(&packs(&world).await[0].location).await.unwrap(),
            1 => {
                let pack = packs(&world).await[0].location.clone();
                let bytes = world.objects.get(&pack).await.unwrap().bytes().await.unwrap();
                let mut bytes = bytes.to_vec();
                let at = bytes.len() - 100;
                bytes[at] ^= 1;
                world.objects.put(&pack, bytes.into()).await.unwrap();
            }
            2 => std::fs::write(&journal, b"CSpk and so on, but nothing that one could believe").unwrap(),
            // Another store at the same address.
            _ => {
                home = &other;
                a.objects = Arc::clone(&other.objects);
            }
        }
        let ended = a.push().await;
        assert!(ended.clean().bytes_sent > TOTAL, "{damage}: {:?}", ended.report());
        is_saved(home, &a).await;
    }
}

/// The answer to the commit is lost, so that the journal still has the pack of the head.
#[tokio::test(start_paused = true)]
async fn a_damaged_pack_is_not_used_to_heal_itself() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.mount.write("x", Random::new(1).bytes(1000));
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::CrashAfter).on(Operation::Put).below("contexts").nth(2));
    a.objects = Arc::new(faulty);
    a.push().await.error();
    assert_eq!((world.head().await.number, a.state_file("packs").is_some()), (2, true));
    let [pack] = &packs(&world).await[..] else { panic!("one pack") };
    let mut bytes = world.objects.get(&pack.location).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[500] ^= 1;
    world.objects.put(&pack.location, bytes.into()).await.unwrap();
    a.objects = Arc::clone(&world.objects);
    a.options.heal = Some(ReadData::All);
    a.push().await.clean();
    is_saved(&world, &a).await;
}

/// A world with a grace period so short that a push at 1 MiB/s takes longer than half of it.
async fn with_short_grace(secs: u64) -> World {
    let objects = Arc::new(InMemory::new());
    let store = Store::new(objects.clone(), "test:", Env::real());
    store.init(Duration::from_secs(secs)).await.unwrap();
    World::over(objects).await
}

/// Pushes `short` files of 2 MiB and `long` files of 9 MiB at 1 MiB/s, in at least `least` rounds before the
/// last.
///
/// Without a deadline the short files must fit into what is read ahead: a scan that waits for room stops the
/// paused clock.
async fn in_rounds(short: usize, long: usize, grace: u64, deadline: Option<Duration>, least: usize) {
    let world = with_short_grace(grace).await;
    let mut a = world.machine("a");
    a.mount.write("gone", "1").write("kept", "1");
    a.push().await.clean();
    a.mount.remove("gone");
    let mut random = Random::new(2);
    for i in 0..short {
        a.mount.write(format!("short/{i}"), random.bytes(2 * MIB));
    }
    for i in 0..long {
        a.mount.write(format!("long/{i}"), random.bytes(9 * MIB));
    }
    a.mount.dir("void").link("link", "kept");
    slow(&world, &mut a, MIB);
    // Memory for one pack at a time.
    a.options.memory = 16 << 20;
    a.options.deadline = deadline.map(|time| tokio::time::Instant::now() + time);
    let ended: Ended = a.push().await;
    let report = ended.clean();
    assert_eq!(
        (report.added, report.deleted, report.unchanged),
        ((short + long) as u64 + 2, 1, 1),
        "{report:?}"
    );
    assert_eq!(ended.noted.warnings, [""; 0]);
    assert_eq!(ended.noted.events.len(), short + long + 3, "each is told once: {:?}", ended.noted.events);
    let log = world.store().log(&context()).await.unwrap();
    let partial: Vec<bool> = log.iter().rev().map(|s| s.partial).collect();
    let (last, rounds) = partial[2..].split_last().unwrap();
    assert!(!last && rounds.iter().all(|partial| *partial) && rounds.len() >= least, "{partial:?}");
    for snapshot in &log[1..] {
        assert_eq!(snapshot.changes.deleted, 0);
    }
    assert!(report.bytes_sent < ((short * 2 + long * 9) * MIB) as u64 + 8 * SLACK, "{report:?}");
    assert!(a.state_file("packs").is_none());
    is_saved(&world, &a).await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_takes_long_is_committed_on_its_way() {
    in_rounds(4, 18, 240, None, 1).await;
}

#[tokio::test(start_paused = true)]
async fn and_so_is_one_with_a_deadline_far_away() {
    in_rounds(32, 4, 80, Some(Duration::from_secs(3600)), 2).await;
}

#[tokio::test(start_paused = true)]
async fn one_file_that_takes_longer_than_a_round_is_saved_all_the_same() {
    let world = with_short_grace(80).await;
    let mut a = world.machine("a");
    a.mount.write("huge", Random::new(3).bytes(60 * MIB)).write("small", "s");
    slow(&world, &mut a, MIB);
    let ended = a.push().await;
    assert_eq!(ended.clean().added, 2);
    assert!(!world.head().await.partial);
    is_saved(&world, &a).await;
}
