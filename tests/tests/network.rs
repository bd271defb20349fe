//! Faults of the network and of the store (faults N and S).
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::compare::{assert_same, assert_same_but_times, paths};
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use futures::{FutureExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::{Env, Error, Store};

/// A machine that has pushed once, behind a layer whose requests can fail.
async fn behind_faults() -> (World, Machine, Faulty) {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.mount.write("x", "1").write("d/y", "1").write("old", "1");
    a.push().await.clean();
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    a.objects = Arc::new(faulty.clone());
    (world, a, faulty)
}

fn change(machine: &Machine) {
    machine.mount.write("x", "2").write("new", "2").remove("old").mode("d", 0o700);
}

/// A rule that makes the put of a commit fail.
fn of_commits(fault: Fault) -> Rule {
    Rule::new(fault).on(Operation::Put).below("contexts")
}

/// Fails unless the head has this number, and the machine can go on without a conflict with itself.
async fn goes_on(world: &World, a: &Machine, snapshot: u64) {
    assert_eq!(world.head().await.number, snapshot);
    let ended = a.push().await;
    assert_eq!(ended.clean().snapshot, Some(snapshot), "{:?}", ended.noted);
    a.mount.write("x", "3").remove("new");
    assert_eq!(a.push().await.clean().snapshot, Some(snapshot + 1));
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_same(&a.mount.0, &fresh.mount.0);
    assert_eq!(world.store().log(&context()).await.unwrap().len() as u64, snapshot + 1);
}

#[tokio::test]
async fn a_head_is_found_by_the_first_key_of_a_listing_in_order() {
    let (_world, a, faulty) = behind_faults().await;
    faulty.add(Rule::new(Fault::Break(1)).on(Operation::List));
    let store = Store::new(Arc::clone(&a.objects), "test:", Env::real());
    let error = store.head(&context()).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
    assert_eq!(store.listed_in_order().head(&context()).await.unwrap().number, 2);
}

#[tokio::test(start_paused = true)]
async fn n7_put_landed_reply_lost() {
    for fault in [Fault::FailAfter, Fault::AlreadyExistsThoughStored] {
        let (world, a, faulty) = behind_faults().await;
        change(&a);
        faulty.add(of_commits(fault).nth(1));
        let ended = a.push().await;
        // The machine recognizes the commit as its own: for the commit of another writer the report would
        // have no parent.
        let report = ended.clean();
        assert_eq!((report.snapshot, report.parent, report.deleted), (Some(3), Some(2), 1), "{fault:?}");
        assert_eq!(faulty.injections().len(), 1);
        goes_on(&world, &a, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn n7_a_packs_put_landed_reply_lost() {
    for fault in [
        Fault::FailAfter,
        Fault::AlreadyExistsThoughStored,
        Fault::FailBefore,
        Fault::AlreadyExistsThoughAbsent,
    ] {
        let (world, a, faulty) = behind_faults().await;
        change(&a);
        faulty.add(Rule::new(fault).on(Operation::Put).below("packs").nth(1));
        assert_eq!(a.push().await.clean().snapshot, Some(3), "{fault:?}");
        assert_eq!(faulty.injections().len(), 1);
        goes_on(&world, &a, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p7_a_pack_that_its_disk_may_not_have_does_not_count() {
    let (world, a, faulty) = behind_faults().await;
    change(&a);
    faulty.add(Rule::new(Fault::Unflushed).on(Operation::Put).below("packs").nth(1));
    let said = a.push().await.error().to_string();
    assert!(said.contains("packs/"), "{said}");
    assert_eq!(world.head().await.number, 2);
    // The content is sent again, in another pack.
    assert_eq!(a.push().await.clean().snapshot, Some(3));
    goes_on(&world, &a, 3).await;
}

#[tokio::test(start_paused = true)]
async fn n8_unknown_for_ever_is_said_and_settled_later() {
    // The put lands or not, and no later request reaches the store.
    for (fault, landed) in [(Fault::CrashAfter, true), (Fault::CrashBefore, false)] {
        let (world, a, faulty) = behind_faults().await;
        change(&a);
        faulty.add(of_commits(fault).nth(1));
        let ended = a.push().await;
        assert!(matches!(ended.error(), Error::CommitUnknown { .. }), "{:?}", ended.error());
        assert!(ended.error().to_string().contains("unknown"));
        faulty.revive();
        assert_eq!(world.head().await.number, if landed { 3 } else { 2 });
        // Another machine may have committed meanwhile.
        let b = world.machine("b");
        b.pull().await.clean();
        b.mount.write("from-b", "b").write("d/y", "b");
        b.push().await.clean();
        let ended = a.sync().await;
        assert_eq!((ended.clean().conflicts, ended.clean().failed), (0, 0), "{landed} {:?}", ended.noted);
        b.pull().await.clean();
        assert_same_but_times(&a.mount.0, &b.mount.0);
        assert_eq!((a.mount.read("x"), a.mount.read("d/y")), ("2".to_owned(), "b".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn n13_a_push_whose_credentials_expire_goes_on_where_it_stopped() {
    let (world, a, faulty) = behind_faults().await;
    change(&a);
    a.mount.write("large", Random::new(1).bytes(300_000));
    faulty.add(of_commits(Fault::Denied));
    let ended = a.push().await;
    assert!(
        matches!(ended.error(), Error::Store { source: object_store::Error::PermissionDenied { .. }, .. }),
        "{:?}",
        ended.error()
    );
    assert_eq!((world.head().await.number, faulty.injections().len()), (2, 1), "it is no use to ask again");
    faulty.clear();
    let ended = a.push().await;
    let report = ended.clean();
    assert_eq!((report.snapshot, report.added, report.deleted), (Some(3), 3, 1));
    assert!(report.bytes_sent < 10_000, "what was sent is not sent again: {}", report.bytes_sent);
    a.mount.remove("large");
    assert_eq!(a.push().await.clean().snapshot, Some(4));
    goes_on(&world, &a, 4).await;
}

#[tokio::test(start_paused = true)]
async fn n8_a_landed_commit_of_which_the_machine_never_heard_is_no_conflict_with_itself() {
    let (world, a, faulty) = behind_faults().await;
    change(&a);
    faulty.add(of_commits(Fault::CrashAfter).nth(1));
    a.push().await.error();
    faulty.revive();
    // The machine changes files before it learns of its commit.
    a.mount.write("x", "33").write("new", "33");
    let ended = a.push().await;
    assert_eq!(ended.clean().changed, 2, "{:?}", ended.noted);
    goes_on(&world, &a, 4).await;
}

#[tokio::test(start_paused = true)]
async fn n9_a_lost_race_is_planned_again() {
    let (world, mut a, _) = behind_faults().await;
    let b = world.machine("b");
    b.pull().await.clean();
    b.mount.write("from-b", "b").write("d/y", "b");
    let once = Arc::new(AtomicBool::new(true));
    let rival = b.clone();
    a.objects = BeforePut::new(Arc::clone(&world.objects), move |key| {
        let (once, rival, is_commit) = (once.clone(), rival.clone(), key.as_ref().starts_with("contexts"));
        async move {
            if is_commit && once.swap(false, Ordering::SeqCst) {
                rival.push_elsewhere().await.clean();
            }
        }
        .boxed()
    });
    change(&a);
    let ended = a.push().await;
    assert_eq!((ended.clean().snapshot, ended.clean().parent), (Some(4), Some(3)));
    a.pull().await.clean();
    b.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert_eq!((b.mount.read("x"), b.mount.read("from-b")), ("2".to_owned(), "b".to_owned()));
    assert!(!b.mount.has("old"));
}

#[tokio::test(start_paused = true)]
async fn n10_already_exists_though_absent() {
    let (world, a, faulty) = behind_faults().await;
    change(&a);
    faulty.add(of_commits(Fault::AlreadyExistsThoughAbsent).nth(1));
    assert_eq!(a.push().await.clean().snapshot, Some(3));
    assert_eq!(faulty.injections().len(), 1);
    goes_on(&world, &a, 3).await;
}

#[tokio::test(start_paused = true)]
async fn n10_n7_making_a_context_is_settled_alike() {
    for fault in [Fault::AlreadyExistsThoughAbsent, Fault::AlreadyExistsThoughStored, Fault::FailAfter] {
        let world = World::memory().await;
        let faulty = Faulty::new(Arc::clone(&world.objects), 1);
        let mut a = world.machine("a");
        a.objects = Arc::new(faulty.clone());
        a.mount.write("x", "1");
        faulty.add(of_commits(fault).nth(1));
        assert_eq!(a.push().await.clean().snapshot, Some(2), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn n11_a_stale_listing_delays_nothing_but_the_news() {
    let (world, a, faulty) = behind_faults().await;
    change(&a);
    a.push().await.clean();
    // The listing does not have the machine's own commit yet.
    faulty.add(Rule::new(Fault::StaleList(1)).on(Operation::List).times(2));
    a.mount.write("x", "4");
    let ended = a.push().await;
    assert_eq!((ended.report().deleted, ended.report().failed), (0, 0), "{:?}", ended.noted);
    faulty.clear();
    let ended = a.sync().await;
    assert!(!ended.report().is_incomplete());
    assert_eq!(a.mount.read("x"), "4");
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_same(&a.mount.0, &fresh.mount.0);
}

#[tokio::test(start_paused = true)]
async fn n12_a_listing_that_breaks_off_counts_for_nothing() {
    let (world, a, faulty) = behind_faults().await;
    change(&a);
    faulty.add(Rule::new(Fault::Break(1)).on(Operation::List));
    assert!(matches!(a.push().await.error(), Error::Store { .. }));
    assert!(matches!(a.pull().await.error(), Error::Store { .. }));
    assert_eq!(world.head().await.number, 2);
    faulty.clear();
    goes_on_after(&world, &a).await;
}

async fn goes_on_after(world: &World, a: &Machine) {
    a.push().await.clean();
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_same(&a.mount.0, &fresh.mount.0);
}

#[tokio::test(start_paused = true)]
async fn every_request_of_a_push_may_fail() {
    for nth in 1.. {
        let (world, a, faulty) = behind_faults().await;
        change(&a);
        faulty.add(Rule::new(Fault::CrashBefore).nth(nth));
        let ended = a.push().await;
        if faulty.injections().is_empty() {
            assert!(nth > 4);
            ended.clean();
            break;
        }
        // The push does not depend on the check whether the head's packs exist.
        let met = faulty.injections().remove(0);
        let beside = met.operation == Operation::Head && met.key.as_ref().starts_with("packs");
        assert!(ended.result.is_err() || beside, "{met:?}");
        faulty.clear();
        faulty.revive();
        goes_on_after(&world, &a).await;
        assert_eq!(world.head().await.number, 3, "{nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_of_a_pull_may_fail_and_nothing_is_left_behind() {
    for fault in [Fault::CrashBefore, Fault::FailBefore, Fault::Break(10)] {
        for nth in 1.. {
            let world = World::memory().await;
            let (a, mut b) = (world.machine("a"), world.machine("b"));
            let mut random = Random::new(4);
            // Two packs, so that one request may succeed and another one fail.
            a.mount.write("d/one", random.bytes(1000)).write("d/large", random.bytes(5 << 20));
            a.push().await.clean();
            a.mount.write("two", random.bytes(1000)).link("link", "two");
            a.push().await.clean();
            let faulty = Faulty::new(Arc::clone(&world.objects), 1);
            b.objects = Arc::new(faulty.clone());
            faulty.add(Rule::new(fault).nth(nth));
            let ended = b.pull().await;
            if faulty.injections().is_empty() {
                assert!(nth > 4);
                ended.clean();
                break;
            }
            faulty.clear();
            faulty.revive();
            let left: Vec<_> = paths(&b.mount.0).into_iter().filter(|p| p.contains("ctxsync")).collect();
            // The mount has only what the context has, so a push adds nothing.
            let pushed = b.push().await;
            assert_eq!(pushed.clean().added, 0, "{fault:?} {nth} {left:?} {:?}", pushed.noted);
            b.pull().await.clean();
            assert_same(&a.mount.0, &b.mount.0);
        }
    }
}

/// A machine that will pull from a store that damages packs as they are read, and the one that pushed.
async fn damaged(rule: Rule) -> (World, Machine, Machine, Faulty) {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    let mut random = Random::new(5);
    a.mount.write("first", random.bytes(100_000));
    a.push().await.clean();
    a.mount.write("second", random.bytes(200_000)).write("third", random.bytes(6 << 20));
    a.push().await.clean();
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(rule);
    b.objects = Arc::new(faulty.clone());
    (world, a, b, faulty)
}

fn of_packs(fault: Fault) -> Rule {
    Rule::new(fault).on(Operation::Get).below("packs")
}

#[tokio::test(start_paused = true)]
async fn n5_n6_a_spoilt_body_is_fetched_once_more() {
    for fault in [Fault::FlipBit(77), Fault::Truncate(50)] {
        for nth in 1..=3 {
            let (_world, a, b, faulty) = damaged(of_packs(fault).nth(nth)).await;
            b.pull().await.clean();
            assert_eq!(faulty.injections().len(), 1);
            assert_same(&a.mount.0, &b.mount.0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn n5_n6_what_stays_spoilt_spoils_its_files_only() {
    for fault in [Fault::FlipBit(50_077), Fault::Truncate(60)] {
        let world = World::memory().await;
        let (a, mut b) = (world.machine("a"), world.machine("b"));
        let mut random = Random::new(6);
        a.mount.write("first", random.bytes(100_000));
        a.push().await.clean();
        let pack = packs(&world).await.remove(0);
        a.mount.write("second", random.bytes(200_000));
        a.push().await.clean();
        b.mount.write("first", "a version of its own");
        let faulty = Faulty::new(Arc::clone(&world.objects), 1);
        faulty.add(Rule::new(fault).on(Operation::Get).with_key(move |key| *key == pack));
        b.objects = Arc::new(faulty.clone());
        b.options.conflict = Some(policy_core::ConflictPolicy::PreferRemote);
        let ended = b.pull().await;
        assert_eq!((ended.report().failed, ended.report().added), (1, 1), "{fault:?} {:?}", ended.noted);
        assert!(ended.noted.problems[0].starts_with("first: "), "{:?}", ended.noted.problems);
        assert_eq!(paths(&b.mount.0), ["first", "second"]);
        assert_eq!(b.mount.read("first"), "a version of its own");
        // The file is pending, not deleted. Once the store is repaired, it is pulled.
        faulty.clear();
        b.pull().await.report();
        assert_same(&a.mount.0, &b.mount.0);
    }
}

async fn packs(world: &World) -> Vec<object_store::path::Path> {
    world.objects.list(Some(&"packs".into())).map_ok(|m| m.location).try_collect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn n6_a_flipped_bit_in_a_snapshot_is_read_again() {
    let (world, a, b, faulty) =
        damaged(Rule::new(Fault::FlipBit(90)).on(Operation::Get).below("contexts").nth(1)).await;
    b.pull().await.clean();
    assert_eq!(faulty.injections().len(), 1);
    assert_same(&a.mount.0, &b.mount.0);
    drop(world);
}

#[tokio::test(start_paused = true)]
async fn s3_s4_a_corrupt_head_is_an_error_and_touches_nothing() {
    for fault in [Fault::FlipBit(90), Fault::Truncate(40), Fault::Truncate(0)] {
        let (_world, _, b, _) = damaged(Rule::new(fault).on(Operation::Get).below("contexts")).await;
        b.mount.write("mine", "m");
        assert!(matches!(b.pull().await.error(), Error::DamagedHead { .. }));
        assert!(matches!(b.push().await.error(), Error::DamagedHead { .. }));
        assert_eq!(paths(&b.mount.0), ["mine"]);
    }
}

/// The store answers, but not for one kind of object.
#[tokio::test(start_paused = true)]
async fn s1_a_pack_that_may_not_be_read_spoils_its_files_only() {
    let (world, a, b, faulty) = damaged(of_packs(Fault::Denied)).await;
    a.mount.write("empty", "");
    a.push().await.clean();
    let pulled = b.pull().await;
    assert_eq!(
        (pulled.report().failed, paths(&b.mount.0)),
        (3, vec!["empty".to_owned()]),
        "{:?}",
        pulled.noted
    );
    // If nothing may be read, that is an error as a whole.
    faulty.clear();
    faulty.add(Rule::new(Fault::Denied).on(Operation::Get));
    assert!(b.pull().await.result.is_err());
    faulty.clear();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    drop(world);
}

#[tokio::test(start_paused = true)]
async fn s1_a_missing_pack_spoils_its_files_only() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let mut random = Random::new(7);
    a.mount.write("first", random.bytes(1000)).write("empty", "").link("link", "first");
    a.push().await.clean();
    let lost = packs(&world).await.remove(0);
    a.mount.write("second", random.bytes(1000));
    a.push().await.clean();
    world.objects.delete(&lost).await.unwrap();
    for _ in 0..2 {
        let ended = b.pull().await;
        assert_eq!(ended.report().failed, 1, "{:?}", ended.noted);
        assert!(ended.noted.problems[0].starts_with("first: "), "{:?}", ended.noted.problems);
        assert_eq!(paths(&b.mount.0), ["empty", "link", "second"]);
    }
    // The file was not pulled, so it does not count as deleted.
    assert_eq!(b.push().await.report().deleted, 0);
    // A push reports the lost pack, until a machine that still has the file pushes it again by changing it.
    a.mount.write("third", "third");
    assert_eq!(a.push().await.report().lost_packs, 1);
    a.mount.write("first", "again");
    assert_eq!(a.push().await.clean().lost_packs, 0);
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}
