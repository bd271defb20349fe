//! Pushes gather what the context has in many small packs, so that a pull after many pushes asks for few.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::random::Random;
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::{CheckOptions, Gathering, ReadData, Silent, SyncOptions};

/// Pushes a change of its own so many times.
async fn push_often(machine: &Machine, times: u64, first: u64) {
    for number in first..first + times {
        machine.mount.write(format!("d/f{}", number % 60), number.to_string());
        machine.push().await.clean();
    }
}

/// Returns how many packs the head needs.
async fn packs(world: &World) -> usize {
    let head = world.head().await;
    let mut used: Vec<u32> =
        head.segments.iter().flat_map(|segment| &segment.packs).map(|(pack, _)| *pack).collect();
    used.sort_unstable();
    used.dedup();
    used.len()
}

#[tokio::test(start_paused = true)]
async fn however_often_something_is_pushed_a_pull_asks_for_few_packs() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let mut most = 0;
    for number in 0..80 {
        push_often(&a, 1, number).await;
        most = most.max(packs(&world).await);
    }
    assert!((32..=34).contains(&most), "{most} packs");
    assert_eq!(world.head().await.number, 81, "each push makes one snapshot");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);

    // Older snapshots have what they had.
    let options = CheckOptions {
        contexts: Vec::new(),
        read_data: ReadData::All,
        concurrency: NonZeroUsize::MIN,
        memory: 64 << 20,
    };
    assert!(world.store().check(&options, &Silent).await.unwrap().is_whole());
}

#[tokio::test(start_paused = true)]
async fn a_push_whose_gathering_fails_is_a_push_all_the_same() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    push_often(&a, 32, 0).await;
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::Denied).on(Operation::Get).below("packs/"));
    a.objects = Arc::new(faulty.clone());
    push_often(&a, 3, 32).await;
    assert!(!faulty.injections().is_empty(), "nothing was to be gathered");
    assert_eq!(packs(&world).await, 35);

    a.objects = Arc::clone(&world.objects);
    push_often(&a, 1, 35).await;
    assert!(packs(&world).await < 3);
}

#[tokio::test(start_paused = true)]
async fn who_has_no_time_gathers_nothing() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    push_often(&a, 32, 0).await;
    let soon = tokio::time::Instant::now() + Duration::from_secs(3600);
    a.options = SyncOptions { deadline: Some(soon), ..a.options };
    push_often(&a, 1, 32).await;
    assert_eq!(packs(&world).await, 33);
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_is_bounded() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.options.gathering = Gathering { small: 1 << 10, many: 4, most: 250 };
    for number in 0..5 {
        a.mount.write(format!("f{number}"), Random::new(number).bytes(100));
        a.push().await.clean();
    }
    assert_eq!(packs(&world).await, 4, "two of four were gathered into one by the fifth push");
}
