//! Pushes with a deadline (spec section 9).
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::machine::{Ended, Machine, World, context};
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::ObjectStore;
use storage_backends::layer::{Bandwidth, Fault, Faulty, Latency, Operation, Rule};
use tokio::time::Instant;
use transfer_engine::{Action, Error};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A world, and a machine that sends `rate` bytes a second, with a latency of `trip` for each request.
async fn behind(rate: usize, trip: Duration) -> (World, Machine) {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let line = Bandwidth::new(Arc::clone(&world.objects), NonZeroU64::new(rate as u64), None);
    a.objects = Arc::new(Latency::new(Arc::new(line), trip));
    (world, a)
}

/// Pushes with a deadline, and fails if it is missed.
async fn push_within(machine: &Machine, time: Duration) -> Ended {
    let deadline = Instant::now() + time;
    let mut machine = machine.clone();
    machine.options.deadline = Some(deadline);
    let ended = machine.push().await;
    assert!(Instant::now() < deadline, "{:?} late: {ended:?}", Instant::now() - deadline);
    ended
}

/// Returns the paths that were reported as left out.
fn skipped(ended: &Ended) -> Vec<String> {
    let events = ended.noted.events.iter().filter(|(_, action)| *action == Action::Skip);
    let mut skipped: Vec<String> = events.map(|(path, _)| path.to_string()).collect();
    skipped.sort();
    skipped
}

async fn bytes_of_packs(world: &World) -> u64 {
    let packs: Vec<_> = world.objects.list(Some(&"packs".into())).try_collect().await.unwrap();
    packs.iter().map(|p| p.size).sum()
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_saves_what_is_small_and_recent() {
    let (world, a) = behind(200 * KIB, Duration::from_millis(50)).await;
    let mut random = Random::new(1);
    for i in 0..50 {
        a.mount.write(format!("small/{i}"), random.bytes(2 * KIB));
    }
    // Of equal size; three of them fit.
    for i in 0..8 {
        let name = format!("medium/{i}");
        a.mount.write(&name, random.bytes(400 * KIB)).time(&name, 1_000_000 + (i * 5) % 8, 0);
    }
    a.mount.write("0-large", random.bytes(6 * MIB));
    a.mount.link("link", "0-large").write("empty", "").dir("void");
    let ended = push_within(&a, Duration::from_secs(10)).await;
    let report = ended.report();
    assert!(report.partial && report.is_incomplete(), "{report:?}");
    assert_eq!((report.failed, report.held_back), (0, 0));
    let head = world.head().await;
    assert!(head.partial && Some(head.number) == report.snapshot);

    let skipped = skipped(&ended);
    assert!(skipped.contains(&"0-large".to_owned()), "{skipped:?}");
    assert_eq!(report.unsent, skipped.len() as u64);
    assert_eq!(report.added + report.unsent, 50 + 8 + 1 + 3);
    assert!(ended.warned(&format!("{} files of {} bytes are missing", report.unsent, report.unsent_bytes)));
    assert!(ended.warned("`0-large` (6291456 bytes)"), "{:?}", ended.noted.warnings);

    let b = world.machine("b");
    b.pull().await.clean();
    let there = paths(&b.mount.0);
    for path in &there {
        if a.mount.at(path).symlink_metadata().unwrap().is_file() {
            assert_eq!(std::fs::read(a.mount.at(path)).unwrap(), std::fs::read(b.mount.at(path)).unwrap());
        }
    }
    for i in 0..50 {
        assert!(b.mount.has(format!("small/{i}")));
    }
    assert!(b.mount.has("link") && b.mount.has("empty") && b.mount.has("void"));
    // Of the medium files, the newest ones are pushed.
    let saved: Vec<bool> = [3, 6, 1, 4, 7, 2, 5, 0].map(|i| b.mount.has(format!("medium/{i}"))).into();
    let count = saved.iter().filter(|there| **there).count();
    assert!((1..8).contains(&count) && saved[..count].iter().all(|there| *there), "{saved:?}");

    // The next push sends the rest, and nothing else.
    let total = (50 * 2 + 8 * 400) * KIB + 6 * MIB;
    let before = bytes_of_packs(&world).await;
    let again = a.push().await;
    assert_eq!(again.clean().added, report.unsent);
    assert!(!world.head().await.partial);
    let sent = again.clean().bytes_sent;
    assert!(sent <= total as u64 - before + 64 * KIB as u64, "{sent} of {total}, {before} before");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test(start_paused = true)]
async fn most_of_the_time_is_used() {
    for (rate, trip, secs) in [(MIB, 1, 10), (50 * KIB, 100, 30), (10 * MIB, 200, 20), (4 * MIB, 20, 3)] {
        let (world, a) = behind(rate, Duration::from_millis(trip)).await;
        let mut random = Random::new(2);
        let fits = rate * secs;
        for i in 0..40 {
            a.mount.write(format!("{i}"), random.bytes(fits / 20));
        }
        let ended = push_within(&a, Duration::from_secs(secs as u64)).await;
        assert!(ended.report().partial);
        let saved = world.head().await.totals.bytes as usize;
        assert!(saved > fits * 6 / 10, "{saved} of {fits} at {rate} bytes a second, {trip} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_snapshot_deletes_nothing_and_adds_nothing_that_needs_it() {
    let (world, a) = behind(200 * KIB, Duration::from_millis(20)).await;
    let b = world.machine("b");
    a.mount.write("gone", "1").write("file-to-dir", "1").write("dir-to-file/x", "1").write("kept", "1");
    a.mount.write("large", "1").write("moved", "moved").write("emptied/x", "1").write("link-to-dir", "1");
    a.push().await.clean();
    b.pull().await.clean();
    let mut random = Random::new(3);
    a.mount.remove("gone").remove("file-to-dir").remove("dir-to-file").rename("moved", "moved-on");
    a.mount.write("file-to-dir/x", "2").write("dir-to-file", "2").write("kept", "2");
    a.mount.remove("emptied/x").remove("link-to-dir").dir("link-to-dir");
    a.mount.write("large", random.bytes(4 * MIB)).write("new", "2");
    let ended = push_within(&a, Duration::from_secs(5)).await;
    let report = ended.report();
    assert!(report.partial, "{report:?}");
    assert_eq!((report.deleted, report.failed), (0, 0), "{:?}", ended.noted);
    assert_eq!(ended.noted.problems, [""; 0]);
    assert_eq!(skipped(&ended), ["dir-to-file", "file-to-dir", "file-to-dir/x", "large", "link-to-dir"]);
    let fresh = world.machine("fresh");
    for machine in [&b, &fresh] {
        machine.pull().await.clean();
        for path in ["gone", "file-to-dir", "dir-to-file/x", "large", "emptied/x", "link-to-dir"] {
            assert_eq!(machine.mount.read(path), "1", "{path}");
        }
        assert_eq!(machine.mount.read("moved"), "moved");
        assert_eq!(machine.mount.read("moved-on"), "moved");
        assert_eq!((machine.mount.read("kept"), machine.mount.read("new")), ("2".into(), "2".into()));
    }
    a.push().await.clean();
    assert!(!world.head().await.partial);
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test(start_paused = true)]
async fn where_the_time_suffices_nothing_is_partial() {
    let (world, a) = behind(MIB, Duration::from_millis(50)).await;
    a.mount.write("gone", "1").write("x", "1");
    a.push().await.clean();
    let mut random = Random::new(4);
    a.mount.remove("gone").odd();
    a.mount.write("large", random.bytes(9 * MIB)).write("x", "2");
    let ended = push_within(&a, Duration::from_secs(60)).await;
    assert_eq!((ended.clean().deleted, ended.clean().unsent), (1, 0));
    assert_eq!(ended.noted.warnings, [""; 0]);
    assert!(!world.head().await.partial);
    let b = world.machine("b");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    // A push with nothing to do still sends one request. With `Archive`, any order of files is allowed.
    assert_eq!(push_within(&a, Duration::from_secs(60)).await.clean().requests, 1);
    let c = world.machine("c").with_policy(r#"{"uploadPolicy": {"uploadMode": "Archive"}}"#);
    c.pull().await.clean();
    c.mount.write("archived/1", random.bytes(100)).write("archived/2", random.bytes(100));
    assert_eq!(push_within(&c, Duration::from_secs(60)).await.clean().added, 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_ends_a_push_in_time() {
    let hang = || Rule::new(Fault::Delay(Duration::from_secs(1_000_000)));
    // The store hangs at each request in turn.
    for nth in 1.. {
        let world = World::memory().await;
        let mut a = world.machine("a");
        a.mount.write("x", "1").write("large", Random::new(5).bytes(5 * MIB));
        let faulty = Faulty::new(Arc::clone(&world.objects), 1);
        faulty.add(hang().with_key(count_from(nth)));
        a.objects = Arc::new(faulty.clone());
        let ended = push_within(&a, Duration::from_secs(20)).await;
        match &ended.result {
            Ok(report) if faulty.injections().is_empty() => {
                assert!(nth > 8 && !report.partial);
                break;
            }
            Ok(report) => assert!(report.partial),
            Err(Error::OutOfTime { name }) => {
                assert_eq!(*name, context());
                assert!(ended.error().to_string().contains("deadline"), "{}", ended.error());
            }
            Err(Error::CommitUnknown { number: 2, .. }) => {}
            Err(e) => panic!("{nth}: {e:?}"),
        }
        faulty.clear();
        a.push().await.clean();
        let b = world.machine("b");
        b.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
    }
}

/// Matches all requests from number `nth` on, counted from 1.
fn count_from(nth: u64) -> impl Fn(&object_store::path::Path) -> bool + Send + Sync {
    let seen = std::sync::atomic::AtomicU64::new(0);
    move |_| seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 >= nth
}

#[tokio::test(start_paused = true)]
async fn where_nothing_fits_the_error_says_so_and_what_landed_counts_next_time() {
    let (world, a) = behind(20 * KIB, Duration::from_millis(100)).await;
    a.mount.write("large", Random::new(6).bytes(5 * MIB)).write("kept", "1");
    a.push().await.clean();
    a.mount
        .write("large", Random::new(7).bytes(5 * MIB))
        .remove("large")
        .write("larger", Random::new(7).bytes(5 * MIB));
    let ended = push_within(&a, Duration::from_secs(100)).await;
    assert!(matches!(ended.error(), Error::OutOfTime { .. }), "{:?}", ended.error());
    assert_eq!(skipped(&ended), ["larger"]);
    assert_eq!(world.head().await.number, 2);
    let landed = bytes_of_packs(&world).await - 5 * MIB as u64;
    assert!(landed > MIB as u64 / 2, "{landed}");
    // Each push gets a bit further.
    let mut sent = 0;
    for _ in 0..10 {
        let ended = push_within(&a, Duration::from_secs(100)).await;
        if let Ok(report) = &ended.result {
            assert!(!report.partial);
            sent = report.bytes_sent;
            break;
        }
    }
    assert!((1..2 * MIB as u64).contains(&sent), "{sent}");
    let b = world.machine("b");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_ends_at_once() {
    let (world, mut a) = behind(MIB, Duration::from_millis(1)).await;
    a.mount.write("x", "1");
    a.options.deadline = Some(Instant::now());
    assert!(matches!(a.push().await.error(), Error::OutOfTime { .. }));
    assert!(world.store().contexts().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_writer_in_between_costs_nobody_anything() {
    let (world, a) = behind(200 * KIB, Duration::from_millis(20)).await;
    let b = world.machine("b");
    a.mount.write("shared", "1").write("old", "1");
    a.push().await.clean();
    b.pull().await.clean();
    let mut random = Random::new(8);
    a.mount.write("shared", "a").remove("old").write("large", random.bytes(4 * MIB)).write("mine", "a");
    b.mount.write("shared", "b").write("old", "b").write("theirs", "b");
    b.push().await.clean();
    let ended = push_within(&a, Duration::from_secs(6)).await;
    assert!(ended.report().partial && ended.report().conflicts == 1, "{ended:?}");
    a.sync().await.report();
    b.sync().await.report();
    assert_same(&a.mount.0, &b.mount.0);
    for machine in [&a, &b] {
        let found: Vec<String> = paths(&machine.mount.0);
        assert_eq!(found.len(), 6, "{found:?}");
        assert_eq!((machine.mount.read("old"), machine.mount.read("shared")), ("b".into(), "a".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn packs_that_fail_for_good_fail_the_push_as_ever() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::Denied).on(Operation::Put).below("packs"));
    a.objects = Arc::new(faulty);
    a.mount.write("x", "1");
    let ended = push_within(&a, Duration::from_secs(60)).await;
    assert!(matches!(ended.error(), Error::Store { .. }), "{:?}", ended.error());
}

/// What names objects of a git repository is only saved with all objects. Otherwise it stays as the context has it.
#[tokio::test(start_paused = true)]
async fn l28_a_repository_that_is_not_sent_completely_stays_as_the_context_has_it() {
    // A repository in a directory, a bare one, and one that is the mount itself.
    for at in ["work/.git/", "r.git/", ""] {
        let is_outside = !at.is_empty();
        let (world, a) = behind(200 * KIB, Duration::from_millis(50)).await;
        let file = |name: &str| format!("{at}{name}");
        let names = ["HEAD", "index", "refs/heads/main", "logs/HEAD", "objects/pack/multi-pack-index"];
        names.iter().for_each(|name| _ = a.mount.write(file(name), "1"));
        a.mount.write(file("objects/ab/first"), "1").write(file("packed-refs"), "1").write("work/f", "1");
        a.push().await.clean();
        let mut random = Random::new(1);
        names.iter().for_each(|name| _ = a.mount.write(file(name), "2"));
        a.mount.write(file("objects/ab/small"), "2").write("work/f", "2").remove(file("packed-refs"));
        a.mount
            .write(file("refs/heads/other"), "2")
            .write(file("objects/pack/p.pack"), random.bytes(6 * MIB));
        let ended = push_within(&a, Duration::from_secs(10)).await;
        assert!(ended.report().partial, "{ended:?}");
        // Six files with names, and the pack.
        assert_eq!(ended.report().unsent, if is_outside { 7 } else { 8 }, "{ended:?}");
        assert!(skipped(&ended).contains(&file("refs/heads/other")), "{ended:?}");
        let b = world.machine("b");
        b.pull().await.clean();
        names.iter().for_each(|name| assert_eq!(b.mount.read(file(name)), "1", "{name}"));
        assert!(b.mount.has(file("packed-refs")) && !b.mount.has(file("refs/heads/other")));
        assert!(b.mount.has(file("objects/ab/first")) && !b.mount.has(file("objects/pack/p.pack")));
        assert_eq!(b.mount.read("work/f"), if is_outside { "2" } else { "1" });
        a.push().await.clean();
        b.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
    }
}
