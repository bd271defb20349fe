//! What expires leaves the context: which files, when, and what goes with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::compare::paths;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{Machine, context};
use ctxsync_tests::random::Random;
use ctxsync_tests::repairing::repairing;
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStoreExt;
use policy_core::TreePath;
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::format::{RecycleRules, StoreKey};
use transfer_engine::recycle::{Due, Recycled};
use transfer_engine::{
    Action, CollectOptions, ContextName, ContextService, Env, Error, Gathering, MergeOptions, ReadData,
    Silent, Store, SyncOptions, WriteOptions,
};

use crate::yard::{DAY, ONE_DAY, Yard, gone, holds, recycled};

#[tokio::test]
async fn what_is_expired_leaves_with_the_next_commit_and_so_do_its_bytes() {
    let (yard, a) = recycled().await;
    let head = yard.world.head().await;
    assert_eq!((head.totals.files, head.totals.bytes, head.changes.deleted), (1, 1, 1));
    // The empty first snapshot is kept: it never had the file.
    assert_eq!(yard.log().await, [4, 1]);
    // Only files that are in scope and young enough are due later.
    assert_eq!(yard.due().await.0.next, Some(yard.clock.secs() + DAY));

    // There is no other writer, so no grace period is needed. A day later `new` would be expired as well.
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    store.collect(&CollectOptions { exclusive: true, ..CollectOptions::default() }, &Silent).await.unwrap();
    let packs = yard.world.objects.list(Some(&"packs".into())).try_collect::<Vec<_>>();
    let bytes: u64 = packs.await.unwrap().iter().map(|p| p.size).sum();
    assert!(bytes < 10_000, "{bytes}");
    let fresh = yard.machine("fresh", "{}");
    fresh.pull().await.clean();
    assert_eq!(paths(&fresh.mount.0), ["new"]);
}

/// Issue 21: the next collection deletes the bytes, whatever else is in their pack, and whatever is kept.
#[tokio::test]
async fn i21_what_is_recycled_leaves_packs_that_are_mostly_alive() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs"]}}"#);
    let content = |seed, len| Random::new(seed).bytes(len);
    // One pack with a short secret and much other data.
    let secret = content(1, 3_000);
    a.mount.write("logs/secret", &secret);
    let stays: Vec<_> = (2..30).map(|seed| (format!("d/{seed}"), content(seed, 20_000))).collect();
    for (path, bytes) in &stays {
        a.mount.write(path, bytes);
    }
    a.push().await.clean();
    yard.days(1);
    // Older and newer snapshots use that pack, and all are kept.
    a.mount.write("logs/next", content(40, 3_000));
    let report = a.push().await.clean().clone();
    assert_eq!(report.recycled, 1);
    assert!(holds(&yard, &secret).await);
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    yard.clock.pass(DAY + 1);
    let report = store.collect(&CollectOptions::default(), &Silent).await.unwrap();
    assert_eq!((report.packs_lost, report.unreadable), (0, 0));
    assert!(!holds(&yard, &secret).await, "{report:?}");
    for (path, bytes) in &stays {
        assert!(holds(&yard, bytes).await, "{path}");
    }
    let fresh = yard.machine("fresh", "{}");
    fresh.pull().await.clean();
    for (path, bytes) in &stays {
        assert_eq!(std::fs::read(fresh.mount.0.join(path)).unwrap(), *bytes);
    }
    // Nothing is left to do.
    assert_eq!(a.push().await.clean().parent, None);
}

/// A damaged pack does not prevent files from being recycled.
#[tokio::test]
async fn i21_a_damaged_pack_does_not_stop_a_recycling() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs"]}}"#);
    a.mount.write("logs/old", Random::new(1).bytes(3_000));
    a.mount.write("stays", Random::new(2).bytes(3_000));
    a.push().await.clean();
    for pack in &yard.world.head().await.packs {
        let damaged = vec![0; pack.size as usize];
        yard.world.objects.put(&StoreKey::Pack(pack.id).path(), damaged.into()).await.unwrap();
    }
    yard.days(1);
    assert_eq!(yard.recycle().await.unwrap().files, 1);
    assert_eq!(yard.files().await, gone(&["logs/old"], &["stays"]));
}

/// A file that the store has lost expires as well: older snapshots may have its content in another pack.
#[tokio::test]
async fn what_was_left_out_by_a_repair_is_recycled_too_and_only_then_is_its_history_forgotten() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs"]}}"#);
    a.mount.write("logs/old", Random::new(1).bytes(3_000));
    a.push().await.clean();
    for pack in &yard.world.head().await.packs {
        yard.world.objects.delete(&StoreKey::Pack(pack.id).path()).await.unwrap();
    }
    let options = repairing(ReadData::None);
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    assert_eq!(store.repair(&options, &Silent).await.unwrap().left_out, 1);
    let before = yard.log().await;
    assert_eq!(
        yard.recycle().await.unwrap(),
        Recycled { next: yard.due().await.0.next, ..Recycled::default() }
    );
    assert_eq!(yard.log().await, before);
    yard.days(1);
    let recycled = yard.recycle().await.unwrap();
    assert_eq!((recycled.files, recycled.bytes, recycled.forgotten), (1, 3_000, vec![2]));
    assert_eq!(yard.recycle().await.unwrap(), Recycled::default());
    // It is kept where it is, and not sent any more.
    assert_eq!(a.push().await.clean().withheld, 1);
}

#[tokio::test]
async fn a_collection_tells_of_it_though_it_fails_to_gather_after_it() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["old"]}}"#);
    for path in ["old", "x", "y"] {
        a.mount.write(path, path);
        a.push().await.clean();
    }
    yard.days(1);
    for pack in &yard.world.head().await.packs {
        let damaged = vec![0; pack.size as usize];
        yard.world.objects.put(&StoreKey::Pack(pack.id).path(), damaged.into()).await.unwrap();
    }
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    let gathering = Gathering { many: 2, ..Gathering::default() };
    let options = CollectOptions { gathering, ..CollectOptions::default() };
    let report = store.collect(&options, &Silent).await.unwrap();
    assert_eq!((report.files_recycled, report.packs_gathered), (1, 0));
    assert_eq!(yard.files().await, gone(&["old"], &["x", "y"]));
}

#[tokio::test]
async fn only_below_its_paths_and_only_what_is_in_scope() {
    let yard = Yard::new().await;
    let all = yard.machine("all", "{}");
    all.mount.write("logs/a", "1").write("logs2", "1").write("src/logs", "1").write("out/logs/b", "1");
    all.mount.link("logs/link", "a");
    all.push().await.clean();
    let a = yard.machine(
        "a",
        r#"{"recyclePolicy": {"lifecycle": "Lifecycle_3Days", "paths": ["logs", "out"]},
            "bwList": {"whiteLists": [{"path": "logs"}, {"path": "src"}]}}"#,
    );
    a.pull().await.clean();
    yard.days(2);
    a.mount.write("src/x", "1");
    assert_eq!(a.push().await.clean().recycled, 0);
    yard.days(1);
    assert_eq!(a.push().await.clean().recycled, 1);
    let there = ["logs/link", "logs2", "out/logs/b", "src/logs", "src/x"];
    assert_eq!(yard.files().await, gone(&["logs/a"], &there));
    // `gc`, which recycles by the head's rules, respects them, too.
    yard.days(100);
    assert_eq!(yard.recycle().await.unwrap(), Recycled::default());
}

#[tokio::test]
async fn for_ever_is_for_ever() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_Forever"}}"#);
    a.mount.write("old", "1");
    a.push().await.clean();
    yard.days(100_000);
    a.mount.write("new", "1");
    let report = a.push().await.clean().clone();
    assert_eq!((report.recycled, report.next_expiry), (0, None));
    assert_eq!(yard.recycle().await.unwrap(), Recycled::default());
    assert_eq!(yard.due().await, (Due { snapshot: 3, ..Due::default() }, vec![]));
    assert_eq!(yard.log().await, [3, 2, 1]);
}

#[tokio::test]
async fn a_push_with_nothing_to_do_is_one_request_until_something_is_expired() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("old", "1");
    a.push().await.clean();
    let expires = yard.clock.secs() + DAY;
    yard.clock.pass(DAY - 1);
    let report = a.push().await.clean().clone();
    assert_eq!((report.requests, report.next_expiry), (1, Some(expires)));
    let plan = Machine { options: SyncOptions { dry_run: true, ..a.options.clone() }, ..a.clone() };
    assert_eq!(plan.push().await.clean().recycled, 0);
    assert_eq!(yard.due().await.1, [("old".to_owned(), false)]);
    yard.clock.pass(1);
    let planned = plan.push().await;
    assert_eq!(planned.clean().recycled, 1);
    assert_eq!(planned.noted.events, [("old".parse().unwrap(), Action::Delete)]);
    let (due, files) = yard.due().await;
    assert_eq!((due.files, due.bytes, due.next, files), (1, 1, None, vec![("old".to_owned(), true)]));
    let ended = a.push().await;
    assert_eq!((ended.clean().recycled, ended.clean().snapshot), (1, Some(3)));
    assert_eq!(ended.noted.events, [("old".parse().unwrap(), Action::Delete)]);
    assert_eq!(yard.files().await, gone(&["old"], &[]));
}

#[tokio::test]
async fn only_new_content_counts_as_an_upload() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("touched", "1").write("again", "1").write("moved", "1").write("changed", "1");
    a.push().await.clean();
    yard.clock.pass(DAY - 10);
    a.mount.time("touched", 7, 7).remove("again").write("again", "1");
    a.mount.rename("moved", "moved-here").write("changed", "2");
    a.push().await.clean();
    yard.clock.pass(10);
    a.push().await.clean();
    assert_eq!(yard.files().await, gone(&["again", "touched"], &["changed", "moved-here"]));
}

#[tokio::test]
async fn the_stores_clock_counts() {
    let yard = Yard::new().await;
    // One machine's clock is far behind, the other one's far ahead.
    let wrong = |name: &str, days: i64| {
        let (mut machine, clock) = (yard.machine(name, ONE_DAY), HandClock::default());
        clock.pass(yard.clock.secs() - clock.secs() + days * DAY);
        machine.env = Env::real().with_clock(Arc::new(clock));
        machine
    };
    let (past, future) = (wrong("past", -1000), wrong("future", 1000));
    past.mount.write("p", "1");
    past.push().await.clean();
    future.pull().await.clean();
    future.mount.write("f", "1");
    future.push().await.clean();
    // The content of `q` is already in the store, so this push puts no pack.
    past.pull().await.clean();
    past.mount.write("q", "1");
    for machine in [&past, &future] {
        assert_eq!(machine.push().await.clean().recycled, 0);
    }
    assert_eq!(yard.files().await, gone(&[], &["f", "p", "q"]));
    assert_eq!(yard.due().await.0.next, Some(yard.clock.secs() + DAY));
    yard.days(1);
    assert_eq!(yard.recycle().await.unwrap().files, 3);
}

#[tokio::test]
async fn a_writer_that_is_first_loses_nothing_and_hinders_nothing() {
    let yard = Yard::new().await;
    let (mut a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("old", "1").write("other", "1");
    a.push().await.clean();
    b.pull().await.clean();
    yard.days(1);
    b.mount.write("other", "2").write("theirs", "1");
    let once = AtomicBool::new(true);
    let rival = b.clone();
    a.objects = BeforePut::new(Arc::clone(&yard.world.objects), move |key| {
        let now = key.as_ref().starts_with("contexts") && once.swap(false, Ordering::SeqCst);
        let rival = rival.clone();
        async move {
            if now {
                rival.push_elsewhere().await.clean();
            }
        }
        .boxed()
    });
    assert_eq!(a.push().await.clean().recycled, 1);
    assert_eq!(yard.files().await, gone(&["old"], &["other", "theirs"]));
    // Every snapshot with the file is forgotten, including the rival's.
    assert_eq!(yard.log().await, [4, 1]);
    assert_eq!(b.sync().await.clean().withheld, 1);
    assert_eq!(yard.recycle().await.unwrap().forgotten, [0; 0]);
}

#[tokio::test]
async fn who_dies_before_forgetting_is_finished_by_the_next() {
    let yard = Yard::new().await;
    let mut a = yard.machine("a", ONE_DAY);
    a.mount.write("old", "1");
    a.push().await.clean();
    a.mount.write("old2", "1");
    a.push().await.clean();
    yard.days(1);
    let faulty = Faulty::new(Arc::clone(&yard.world.objects), 1);
    faulty.add(Rule::new(Fault::CrashBefore).on(Operation::Put).nth(3));
    a.objects = Arc::new(faulty);
    let ended = a.push().await;
    // The push itself is done, and the rest is reported as not done.
    assert!(ended.warned("expired files were not recycled"), "{:?}", ended.noted);
    assert_eq!(yard.files().await, gone(&["old", "old2"], &[]));
    assert!(yard.log().await.len() > 2, "it died too late");
    let finished = yard.recycle().await.unwrap();
    assert_eq!((finished.snapshot, finished.files), (None, 0));
    assert!(!finished.forgotten.is_empty());
    assert_eq!(yard.log().await, [4, 1]);
    assert_eq!(yard.recycle().await.unwrap(), Recycled::default());
}

#[tokio::test]
async fn another_context_keeps_its_own() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("old", "1");
    a.push().await.clean();
    let service = ContextService::new(&yard.world.store());
    let other = ContextName::new("other").unwrap();
    service.create(&other).await.unwrap();
    let path: TreePath = "old".parse().unwrap();
    service.write_file(&other, &path, &b"1"[..], &WriteOptions::default()).await.unwrap();
    yard.days(1);
    assert_eq!(yard.recycle().await.unwrap().files, 1);
    assert_eq!(service.list_files(&other, &TreePath::root()).await.unwrap().len(), 1);
    assert_eq!(yard.world.store().log(&other).await.unwrap().len(), 2);

    // Without a mount, a recycled file does not exist, apart from the error.
    assert!(service.list_files(&context(), &TreePath::root()).await.unwrap().is_empty());
    let read = service.read_file(&context(), &path, 0..1, |_| Ok(())).await;
    assert!(matches!(read, Err(Error::Recycled { .. })), "{read:?}");
    let removed = service.delete_file(&context(), &path).await;
    assert!(matches!(removed, Err(Error::Recycled { .. })), "{removed:?}");
    let head = yard.world.head().await;
    let restored = yard.world.outside();
    let restore = |paths: Vec<TreePath>| {
        let (store, head, dir) = (yard.world.store(), head.clone(), restored.0.clone());
        async move { store.restore(&head, &dir, &paths, &SyncOptions::default(), &Silent).await }
    };
    assert_eq!(restore(vec![]).await.unwrap().added, 0);
    assert!(matches!(restore(vec![path.clone()]).await, Err(Error::Recycled { .. })));
    // Once it is written again, it exists again.
    service.write_file(&context(), &path, &b"1"[..], &WriteOptions::default()).await.unwrap();
    assert_eq!(yard.files().await, gone(&[], &["old"]));
    assert_eq!(yard.recycle().await.unwrap().files, 0);
}

/// A fork has no rules until somebody pushes to it with a policy that has some. A renamed context keeps its own.
#[tokio::test]
async fn a_fork_keeps_its_files_until_a_push_brings_it_rules_and_a_renamed_context_does_not() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("old", "1");
    a.push().await.clean();
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    let name = |name| ContextName::new(name).unwrap();
    for fork in ["fork", "pushed"] {
        store.fork_context(&context(), None, &name(fork)).await.unwrap();
    }
    store.rename_context(&context(), &name("renamed")).await.unwrap();
    let pusher = Machine { context: name("pushed"), ..yard.machine("pusher", ONE_DAY) };
    pusher.pull().await.clean();
    pusher.mount.write("new", "2");
    pusher.push().await.clean();
    yard.days(1);
    let report = store.collect(&CollectOptions::default(), &Silent).await.unwrap();
    assert_eq!(report.files_recycled, 3, "{report:?}");
    let service = ContextService::new(&store);
    for (context, files) in [("fork", 1), ("pushed", 0), ("renamed", 0)] {
        let listed = service.list_files(&name(context), &TreePath::root()).await.unwrap();
        assert_eq!(listed.len(), files, "{context}");
    }
    // Neither does a merge bring it the rules of another context.
    pusher.mount.write("merged", "3");
    pusher.push().await.clean();
    let merge = MergeOptions::default();
    store.merge_context(&name("pushed"), None, &name("fork"), &merge, &Silent).await.unwrap();
    assert_eq!(store.head(&name("fork")).await.unwrap().recycle, RecycleRules::default());
}

/// A mount of a part recycles what is in the part, and leaves the rules and the files of other parts alone.
#[tokio::test]
async fn a_part_recycles_its_own_files() {
    let yard = Yard::new().await;
    let whole = yard.machine(
        "whole",
        r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs", "d/tmp"]}}"#,
    );
    whole.mount.write("logs/old", "1").write("d/old", "2").write("d/tmp/old", "3");
    whole.push().await.clean();
    let part = yard.machine("part", ONE_DAY).of_part("d");
    part.pull().await.clean();
    part.mount.write("first", "4");
    assert_eq!(part.push().await.clean().recycled, 0);
    let rules = yard.world.head().await.recycle.clone();
    let paths: Vec<String> = rules.paths.iter().map(ToString::to_string).collect();
    assert_eq!((rules.lifecycle_days, paths), (Some(1), vec!["d".to_owned(), "logs".to_owned()]));
    yard.days(1);
    part.mount.write("new", "5");
    let pushed = part.push().await;
    assert_eq!(pushed.clean().recycled, 3);
    let told: Vec<String> = pushed.noted.events.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(told, ["new", "first", "old", "tmp/old"]);
    assert_eq!(yard.files().await, gone(&["d/first", "d/old", "d/tmp/old"], &["d/new", "logs/old"]));
    // `gc` goes by all rules.
    assert_eq!(yard.recycle().await.unwrap().files, 1);
    // Without a rule of its own, the part only takes back its rules.
    let plain = yard.machine("plain", "{}").of_part("d");
    plain.pull().await.clean();
    plain.mount.write("plain", "6");
    assert!(!plain.push().await.warned("lifecycle"));
    assert_eq!(yard.world.head().await.recycle.paths, ["logs".parse().unwrap()]);
    // A context has one lifecycle: with another one, the part's rule is not noted, and that is said.
    let other = yard.machine("other", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_3Days"}}"#).of_part("d");
    other.pull().await.clean();
    other.mount.write("other", "7");
    assert!(other.push().await.warned("another lifecycle"));
    let rules = yard.world.head().await.recycle.clone();
    assert_eq!((rules.lifecycle_days, rules.paths), (Some(1), vec!["logs".parse().unwrap()]));
    yard.days(3);
    other.mount.write("last", "8");
    assert_eq!(other.push().await.clean().recycled, 3);
}
