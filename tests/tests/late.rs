//! Commits that land so late that their packs may already have been collected.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::clock::{Clocked, HandClock};
use ctxsync_tests::compare::assert_same_but_times;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use futures::FutureExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use policy_core::TreePath;
use storage_backends::layer::{Fault, Faulty, Operation, Recording, Rule};
use transfer_engine::format::PackId;
use transfer_engine::{ContextService, Env, WriteOptions};

/// The grace period of test stores, in seconds.
const GRACE: i64 = 86_400;

async fn world(clock: &HandClock) -> World {
    World::over(Clocked::new(Arc::new(InMemory::new()), clock)).await
}

/// A store on which the next commit takes longer than the grace period. Its writer dies after it.
fn asleep(world: &World, clock: &HandClock) -> Arc<dyn ObjectStore> {
    let (clock, once) = (clock.clone(), AtomicBool::new(true));
    let sleepy = BeforePut::new(Arc::clone(&world.objects), move |key| {
        if key.as_ref().starts_with("contexts") && once.swap(false, Ordering::SeqCst) {
            clock.pass(GRACE + 60);
        }
        async {}.boxed()
    });
    let faulty = Faulty::new(sleepy, 1);
    faulty.add(Rule::new(Fault::CrashAfter).on(Operation::Put).below("contexts"));
    Arc::new(faulty)
}

/// Writes so many files that the segments of the tree are in packs.
fn fill(machine: &Machine) {
    let mut random = Random::new(3);
    for i in 0..3000 {
        machine.mount.write(format!("d{}/{i:04}-with-a-name-of-some-length", i / 500), random.bytes(20));
    }
    machine.mount.write("long", random.bytes(3 << 20));
}

/// Returns the head's late packs: those that were pushed for its own commit.
async fn late_packs(world: &World) -> BTreeSet<PackId> {
    let head = world.head().await;
    head.packs.iter().filter(|p| p.land_by.is_some()).map(|p| p.id).collect()
}

/// Fails if the head refers to any of these packs. Deletes them, so that a later pull shows that the head is
/// whole.
async fn is_free_of(world: &World, late: &BTreeSet<PackId>) {
    let head = world.head().await;
    assert!(head.packs.iter().all(|p| !late.contains(&p.id)), "{:?}", head.packs);
    for pack in late {
        let key = transfer_engine::format::StoreKey::Pack(*pack).path();
        object_store::ObjectStoreExt::delete(&world.objects, &key).await.unwrap();
    }
}

#[tokio::test]
async fn w13_a_push_copies_what_its_parent_has_in_late_packs() {
    let clock = HandClock::default();
    let world = world(&clock).await;
    let (mut a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("before", "1");
    a.push().await.clean();
    fill(&a);
    a.objects = asleep(&world, &clock);
    a.push().await.error();
    let late = late_packs(&world).await;
    assert!(!late.is_empty() && world.head().await.number == 3);
    // Another machine with nothing of that adds a file.
    b.mount.write("other", "2");
    assert_eq!(b.push().await.report().added, 1);
    assert_eq!(world.head().await.number, 4);
    is_free_of(&world, &late).await;
    a.objects = Arc::clone(&world.objects);
    a.sync().await.clean();
    let c = world.machine("c");
    c.pull().await.clean();
    assert_same_but_times(&c.mount.0, &a.mount.0);
    assert_eq!(c.mount.read("other") + &c.mount.read("before"), "21");
}

#[tokio::test]
async fn w13_an_edit_copies_what_its_parent_has_in_late_packs() {
    let clock = HandClock::default();
    let world = world(&clock).await;
    let mut a = world.machine("a");
    a.mount.write("before", "1");
    a.push().await.clean();
    fill(&a);
    a.objects = asleep(&world, &clock);
    a.push().await.error();
    let late = late_packs(&world).await;
    let service = ContextService::new(&world.store());
    let other: TreePath = "d3/other".parse().unwrap();
    service.write_file(&context(), &other, &b"2"[..], &WriteOptions::default()).await.unwrap();
    is_free_of(&world, &late).await;
    let c = world.machine("c");
    c.pull().await.clean();
    a.mount.write("d3/other", "2");
    assert_same_but_times(&c.mount.0, &a.mount.0);
}

#[tokio::test]
async fn w13_who_was_late_and_hears_of_it_sends_everything_again() {
    let clock = HandClock::default();
    let world = world(&clock).await;
    let mut a = world.machine("a");
    a.env = Env::real();
    fill(&a);
    let (clock, once) = (clock.clone(), AtomicBool::new(true));
    a.objects = BeforePut::new(Arc::clone(&world.objects), move |key| {
        let is_commit = key.as_ref().starts_with("contexts") && !key.as_ref().ends_with("fffe");
        if is_commit && once.swap(false, Ordering::SeqCst) {
            clock.pass(GRACE + 60);
        }
        async {}.boxed()
    });
    let ended = a.push().await;
    assert!(ended.warned("too late"), "{:?}", ended.noted);
    let log = world.store().log(&context()).await.unwrap();
    assert_eq!(log.len(), 3);
    let late: BTreeSet<PackId> = log[1].packs.iter().map(|p| p.id).collect();
    is_free_of(&world, &late).await;
    let c = world.machine("c");
    c.pull().await.clean();
    assert_same_but_times(&c.mount.0, &a.mount.0);
}

/// Pushes one file to a store whose answers have a time `ahead` seconds after the clock's. Returns the
/// requests for packs, and the times by which the head's packs had to land.
async fn push_where_answers_tell(clock: &HandClock, ahead: i64) -> (Vec<Operation>, Vec<i64>) {
    let world = World::over(Clocked::answering(Arc::new(InMemory::new()), clock, ahead)).await;
    let mut machine = world.machine("a");
    machine.env = Env::real().with_clock(Arc::new(clock.clone()));
    machine.mount.write("file", "content");
    let recording = Recording::new(Arc::clone(&world.objects));
    machine.objects = Arc::new(recording.clone());
    machine.push().await.clean();
    let of_packs = recording.requests().into_iter().filter(|r| r.key.as_ref().starts_with("packs/"));
    let land_by = world.head().await.packs.iter().filter_map(|p| p.land_by).collect();
    (of_packs.map(|r| r.operation).collect(), land_by)
}

#[tokio::test]
async fn an_answer_that_tells_the_time_saves_asking_for_it() {
    let clock = HandClock::default();
    let (asked, land_by) = push_where_answers_tell(&clock, 0).await;
    assert_eq!(asked, [Operation::Put]);
    assert_eq!(land_by, [clock.secs() - 2 + GRACE * 3 / 4]);
}

#[tokio::test]
async fn answers_of_a_clock_that_is_behind_only_leave_less_time() {
    let clock = HandClock::default();
    let (asked, land_by) = push_where_answers_tell(&clock, -3600).await;
    assert_eq!(asked, [Operation::Put]);
    assert_eq!(land_by, [clock.secs() - 3602 + GRACE * 3 / 4]);
}

#[tokio::test]
async fn a_clock_that_is_far_from_ours_is_not_believed() {
    for ahead in [-GRACE / 4, GRACE / 4] {
        let clock = HandClock::default();
        let (asked, land_by) = push_where_answers_tell(&clock, ahead).await;
        assert_eq!(asked, [Operation::Put, Operation::Head]);
        assert_eq!(land_by, [clock.secs() + GRACE]);
    }
}

#[tokio::test]
async fn a_clock_that_is_an_hour_ahead_does_no_harm() {
    let clock = HandClock::default();
    let (asked, land_by) = push_where_answers_tell(&clock, 3600).await;
    assert_eq!(asked, [Operation::Put]);
    assert_eq!(land_by, [clock.secs() + 3598 + GRACE * 3 / 4]);
}

#[tokio::test]
async fn a_commit_takes_two_puts_where_answers_tell_the_time_and_the_next_sync_one_look() {
    for (ahead, expected) in [
        (0, &[Operation::List, Operation::Put, Operation::Put][..]),
        (GRACE / 4, &[Operation::List, Operation::Put, Operation::Head, Operation::Put, Operation::Head]),
    ] {
        let clock = HandClock::default();
        let world = World::over(Clocked::answering(Arc::new(InMemory::new()), &clock, ahead)).await;
        let mut machine = world.machine("a");
        machine.env = Env::real().with_clock(Arc::new(clock.clone()));
        machine.mount.write("file", "content");
        machine.push().await.clean();
        let recording = Recording::new(Arc::clone(&world.objects));
        machine.objects = Arc::new(recording.clone());
        machine.mount.write("file", "other content");
        machine.push().await.clean();
        // After the commit two more requests check that the store is the same and has the head's packs. They
        // are left out.
        let mut requests = recording.requests();
        let commit = requests.iter().rposition(|r| r.operation == Operation::Put).unwrap();
        let beside =
            requests.split_off(commit + 1).into_iter().filter(|r| r.key.as_ref().starts_with("contexts/"));
        requests.extend(beside);
        let asked: Vec<Operation> = requests.iter().map(|r| r.operation).collect();
        assert_eq!(asked, expected);
        recording.clear();
        machine.push().await.clean();
        let asked: Vec<Operation> = recording.requests().iter().map(|r| r.operation).collect();
        assert_eq!(asked, [Operation::List]);
    }
}
