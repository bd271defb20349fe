//! A context is renamed, whatever happens meanwhile.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{World, context};
use futures::FutureExt;
use object_store::{ObjectStore, ObjectStoreExt};
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::format::Snapshot;
use transfer_engine::{
    ContextName, ContextService, ContextSync, Env, Error, Mount, Silent, Store, SyncOptions, WriteOptions,
};

fn name(name: &str) -> ContextName {
    name.parse().unwrap()
}

fn store_on(objects: &Arc<dyn ObjectStore>) -> Store {
    Store::new(Arc::clone(objects), "test:", Env::real())
}

/// A context with four snapshots: empty, one file, two files, one of them changed.
async fn with_history() -> World {
    let world = World::memory().await;
    let a = world.machine("a");
    for (path, content) in [("x", "1"), ("d/y", "2"), ("x", "3")] {
        a.mount.write(path, content);
        a.push().await.clean();
    }
    world
}

/// Returns the files of each snapshot, newest first.
async fn history(store: &Store, of: &ContextName) -> Vec<BTreeMap<String, Vec<u8>>> {
    let mut states = Vec::new();
    for snapshot in store.log(of).await.unwrap() {
        assert_eq!(snapshot.context, *of);
        states.push(content(store, &snapshot).await);
    }
    states
}

async fn content(store: &Store, snapshot: &Snapshot) -> BTreeMap<String, Vec<u8>> {
    let mut entries = Vec::new();
    store.entries(snapshot, &policy_core::TreePath::root(), |entry| entries.push(entry)).await.unwrap();
    let mut files = BTreeMap::new();
    for entry in entries {
        let mut bytes = Vec::new();
        let read = store.read_file(&entry, 0..u64::MAX, |part| {
            bytes.extend_from_slice(&part);
            Ok(())
        });
        read.await.unwrap();
        files.insert(entry.path.to_string(), bytes);
    }
    files
}

/// Fails unless `new` has the history of [`with_history`], and the old name refers to it.
async fn assert_moved(world: &World, new: &ContextName) {
    let store = world.store();
    let states = history(&store, new).await;
    let shown: Vec<_> = states
        .iter()
        .map(|files| {
            let files =
                files.iter().map(|(path, bytes)| format!("{path}={}", String::from_utf8_lossy(bytes)));
            files.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(shown, ["d/y=2 x=3", "d/y=2 x=1", "x=1", ""]);
    let error = store.head(&context()).await.unwrap_err();
    assert!(matches!(&error, Error::Moved { to, .. } if to == new), "{error:?}");
    assert_eq!(error.to_string(), format!("context `work` was moved to `{new}`"));
    assert_eq!(store.contexts().await.unwrap(), std::slice::from_ref(new));
    // Each snapshot has the one before it as parent, and none under the old name counts.
    let log = store.log(new).await.unwrap();
    for (newer, older) in log.iter().zip(&log[1..]) {
        assert_eq!((newer.number, newer.lineage), (older.number + 1, older.lineage));
        assert_eq!(newer.parent, Some(older.encode().unwrap().digest));
    }
    // The oldest snapshot gets its mark last, so that finding it means that the rename is complete.
    for number in 1..=4 {
        let mark = format!("contexts/work/{:016x}.gone", u64::MAX - number);
        world.objects.head(&mark.into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_context_moves_with_its_history() {
    let world = with_history().await;
    let (store, new) = (world.store(), name("team/new"));
    let before = store.usage();
    let head = store.rename_context(&context(), &new).await.unwrap();
    assert_eq!(head.totals.files, 2);
    let sent = store.usage().since(&before).bytes_sent;
    assert!(sent < 10_000, "{sent} bytes: no content is sent anew");
    assert_moved(&world, &new).await;
    // A second rename to the same name has no effect.
    assert_eq!(store.rename_context(&context(), &new).await.unwrap().number, head.number);
    let elsewhere = store.rename_context(&context(), &name("other")).await;
    assert!(matches!(elsewhere, Err(Error::Moved { .. })), "{elsewhere:?}");
}

#[tokio::test]
async fn who_works_under_the_old_name_hears_of_the_new_one() {
    let world = with_history().await;
    let new = name("new");
    world.store().rename_context(&context(), &new).await.unwrap();
    let a = world.machine("a");
    a.mount.write("x", "4");
    for ended in [a.push().await, a.pull().await, a.sync().await] {
        assert!(matches!(ended.error(), Error::Moved { to, .. } if *to == new), "{:?}", ended.error());
    }
    // Under the new name the mount goes on, and nothing is lost on either side.
    let prefer_local = Some(policy_core::ConflictPolicy::PreferLocal);
    let options = SyncOptions { conflict: prefer_local, ..SyncOptions::default() };
    let sync = ContextSync::new(new.clone(), &a.mount.0, a.policy.clone());
    let report = Mount::open(&world.store(), sync, &a.state).unwrap().push(&options, &Silent).await.unwrap();
    assert_eq!((report.added, report.changed, report.deleted), (0, 1, 0));
    // The old name can be used again, and its numbers go on.
    let again = world.store().create_context(&context()).await.unwrap();
    assert_eq!((again.number, again.totals.files), (6, 0));
    assert_eq!(world.store().contexts().await.unwrap(), [new, context()]);
}

#[tokio::test]
async fn a_name_that_was_used_before_goes_on_counting() {
    let world = with_history().await;
    let (store, new) = (world.store(), name("new"));
    store.create_context(&new).await.unwrap();
    store.delete_context(&new).await.unwrap();
    let head = store.rename_context(&context(), &new).await.unwrap();
    // Two snapshots from before, the claim, and four copies.
    assert_eq!(head.number, 3 + 4);
    assert_moved(&world, &new).await;
    // There and back again.
    let back = store.rename_context(&new, &context()).await.unwrap();
    assert_eq!(back.totals.files, 2);
    assert_eq!(history(&store, &context()).await.len(), 4);
    assert!(matches!(store.head(&new).await, Err(Error::Moved { .. })));
    let head = store.rename_context(&context(), &new).await.unwrap();
    assert!(head.number > back.number && head.number > 7);
    assert_eq!(history(&store, &new).await.len(), 4);
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let world = with_history().await;
    let (store, other) = (world.store(), name("other"));
    store.create_context(&other).await.unwrap();
    for target in [&other, &context()] {
        let refused = store.rename_context(&context(), target).await;
        assert!(matches!(refused, Err(Error::ContextExists { .. })), "{refused:?}");
    }
    assert_eq!(world.head().await.number, 4);
    let missing = store.rename_context(&name("nowhere"), &name("new")).await;
    assert!(matches!(missing, Err(Error::NoContext { .. })), "{missing:?}");
}

/// Calls `act` once, before the put of a key for which `fits` is true.
fn once_before<F>(
    world: &World,
    fits: impl Fn(&str) -> bool + Send + Sync + 'static,
    act: impl Fn() -> F + Send + Sync + 'static,
) -> Arc<dyn ObjectStore>
where
    F: Future<Output = ()> + Send + 'static,
{
    let once = AtomicBool::new(true);
    BeforePut::new(Arc::clone(&world.objects), move |key| {
        if fits(key.as_ref()) && once.swap(false, Ordering::SeqCst) {
            act().boxed()
        } else {
            async {}.boxed()
        }
    })
}

#[tokio::test]
async fn a_name_that_is_taken_in_the_meantime_undoes_the_move() {
    let world = with_history().await;
    let rival = world.store();
    // Just before the claim.
    let objects = once_before(
        &world,
        |key| key.starts_with("contexts/new"),
        move || {
            let rival = rival.clone();
            async move {
                rival.create_context(&name("new")).await.unwrap();
            }
        },
    );
    let refused = store_on(&objects).rename_context(&context(), &name("new")).await;
    assert!(matches!(refused, Err(Error::ContextExists { .. })), "{refused:?}");
    let store = world.store();
    assert_eq!(store.head(&name("new")).await.unwrap().totals.files, 0);
    // The context keeps its old name, with its history and for its machines.
    assert_eq!(history(&store, &context()).await.len(), 5);
    let a = world.machine("a");
    a.mount.write("x", "4");
    let ended = a.sync().await;
    assert_eq!((ended.clean().changed, ended.clean().added), (1, 0), "{:?}", ended.noted);
    let b = world.machine("b");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    // It can still be renamed to another name.
    store.rename_context(&context(), &name("newer")).await.unwrap();
    assert_eq!(history(&store, &name("newer")).await.len(), 6);
}

#[tokio::test]
async fn two_who_rename_at_once_do_it_once() {
    for round in 0..20 {
        let world = with_history().await;
        let slow =
            storage_backends::layer::Latency::new(Arc::clone(&world.objects), Duration::from_millis(1));
        let objects: Arc<dyn ObjectStore> = Arc::new(slow);
        let (a, b) = (store_on(&objects), store_on(&objects));
        let later = async {
            tokio::time::sleep(Duration::from_millis(round)).await;
            b.rename_context(&context(), &name("new")).await
        };
        let (source, new) = (context(), name("new"));
        let both = futures::future::join(a.rename_context(&source, &new), later).await;
        assert_eq!(both.0.unwrap().number, both.1.unwrap().number);
        assert_moved(&world, &name("new")).await;
        assert_eq!(world.store().head(&name("new")).await.unwrap().number, 5);
    }
}

#[tokio::test]
async fn two_who_rename_to_two_names_are_one_and_a_refusal() {
    for round in 0..20 {
        let world = with_history().await;
        let slow =
            storage_backends::layer::Latency::new(Arc::clone(&world.objects), Duration::from_millis(1));
        let objects: Arc<dyn ObjectStore> = Arc::new(slow);
        let (a, b) = (store_on(&objects), store_on(&objects));
        let later = async {
            tokio::time::sleep(Duration::from_millis(round)).await;
            b.rename_context(&context(), &name("second")).await
        };
        let (source, new) = (context(), name("first"));
        let both = futures::future::join(a.rename_context(&source, &new), later).await;
        let (done, target, refused) = match both {
            (Ok(done), refused) => (done, name("first"), refused),
            (refused, Ok(done)) => (done, name("second"), refused),
            neither => panic!("{neither:?}"),
        };
        assert_eq!(done.context, target);
        assert!(matches!(refused, Err(Error::Moved { .. })), "{refused:?}");
        assert_moved(&world, &target).await;
    }
}

/// Dies at each request in turn, and fails unless `finish` completes or undoes the rename.
async fn dies_at_each(fault: Fault, finish: impl AsyncFn(&World)) {
    let mut deaths = 0;
    for nth in 1.. {
        let world = with_history().await;
        let faulty = Faulty::new(Arc::clone(&world.objects), 1);
        faulty.add(Rule::new(fault).nth(nth));
        let objects: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
        let result = store_on(&objects).rename_context(&context(), &name("new")).await;
        if faulty.injections().is_empty() {
            result.unwrap();
            break;
        }
        deaths += 1;
        finish(&world).await;
        // The rename either happened as a whole or not at all.
        match world.store().head(&context()).await {
            Ok(head) => {
                assert_eq!(head.number, 4, "{nth}");
                assert!(matches!(world.store().head(&name("new")).await, Err(Error::NoContext { .. })));
            }
            Err(_) => assert_moved(&world, &name("new")).await,
        }
    }
    assert!(deaths > 15, "{deaths}");
}

#[tokio::test(start_paused = true)]
async fn who_opens_the_old_name_finishes_a_move_that_died() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        dies_at_each(fault, async |world| {
            let _ = world.store().head(&context()).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_lists_contexts_finds_one_whose_move_died() {
    dies_at_each(Fault::CrashBefore, async |world| {
        assert_eq!(world.store().contexts().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_opens_the_new_name_finishes_a_move_that_died() {
    dies_at_each(Fault::CrashAfter, async |world| {
        // Before the name is claimed, nothing under it shows that a rename has begun.
        if let Err(e) = world.store().head(&name("new")).await {
            assert!(matches!(e, Error::NoContext { .. }), "{e:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_renames_again_finishes_a_move_that_died() {
    dies_at_each(Fault::CrashAfter, async |world| {
        world.store().rename_context(&context(), &name("new")).await.unwrap();
        assert_moved(world, &name("new")).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_makes_the_new_name_finishes_a_move_that_died_or_undoes_it() {
    for nth in 1.. {
        let world = with_history().await;
        let faulty = Faulty::new(Arc::clone(&world.objects), 1);
        faulty.add(Rule::new(Fault::CrashBefore).on(Operation::Put).nth(nth));
        let objects: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
        let _ = store_on(&objects).rename_context(&context(), &name("new")).await;
        if faulty.injections().is_empty() {
            assert!(nth > 5);
            break;
        }
        let made = world.store().create_context(&name("new")).await;
        let old = world.store().head(&context()).await;
        match made {
            Ok(_) => assert_eq!(old.unwrap().totals.files, 2, "{nth}"),
            Err(Error::ContextExists { .. }) => assert_moved(&world, &name("new")).await,
            Err(e) => panic!("{e:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_lost_change_nothing() {
    for fault in [Fault::FailAfter, Fault::AlreadyExistsThoughStored, Fault::AlreadyExistsThoughAbsent] {
        for nth in 1.. {
            let world = with_history().await;
            let faulty = Faulty::new(Arc::clone(&world.objects), 1);
            faulty.add(Rule::new(fault).on(Operation::Put).below("contexts").nth(nth));
            let objects: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
            let result = store_on(&objects).rename_context(&context(), &name("new")).await;
            result.unwrap();
            assert_moved(&world, &name("new")).await;
            if faulty.injections().is_empty() {
                assert!(nth > 5);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_copy_that_lands_too_late_is_committed_once_more() {
    let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let store = store_on(&objects);
    store.init(Duration::from_secs(2)).await.unwrap();
    let service = ContextService::new(&store);
    service.create(&context()).await.unwrap();
    for content in ["1", "2"] {
        let (path, options) = ("x".parse().unwrap(), WriteOptions::default());
        service.write_file(&context(), &path, content.as_bytes(), &options).await.unwrap();
    }
    // The process dies after it has claimed the name. When another one finishes the rename, the claim is too
    // late to count.
    let faulty = Faulty::new(Arc::clone(&objects), 1);
    faulty.add(Rule::new(Fault::CrashBefore).on(Operation::Put).nth(3));
    let behind: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
    store_on(&behind).rename_context(&context(), &name("new")).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let store = store_on(&objects);
    let head = store.head(&name("new")).await.unwrap();
    // The claim, copies of three snapshots, and another copy of the last one.
    assert_eq!((head.number, head.totals.files), (5, 1));
    let landed = objects.head(&format!("contexts/new/{:016x}", u64::MAX - head.number).into()).await.unwrap();
    assert!(!head.packs.is_empty());
    assert!(head.packs.iter().all(|p| p.land_by.is_some_and(|by| landed.last_modified.timestamp() < by)));
    let states = history(&store, &name("new")).await;
    let shown: Vec<_> = states.iter().map(|s| s.get("x").map(|b| String::from_utf8_lossy(b))).collect();
    assert_eq!(shown, [Some("2".into()), Some("2".into()), Some("1".into()), None]);
    assert!(matches!(store.head(&context()).await, Err(Error::Moved { .. })));
}

#[tokio::test]
async fn a_mount_goes_on_under_the_new_name() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.mount.write("f", "1").write("g", "2");
    a.push().await.clean();
    let new: ContextName = "new".parse().unwrap();
    let store = world.store();
    store.rename_context(&context(), &new).await.unwrap();
    a.mount.write("f", "changed").remove("g");
    assert!(matches!(a.push().await.result, Err(Error::Moved { .. })));
    a.context = new;
    let synced = a.sync().await.clean().clone();
    assert_eq!((synced.changed, synced.deleted, synced.added, synced.conflicts), (1, 1, 0, 0));
    assert_eq!(ctxsync_tests::compare::paths(&a.mount.0), ["f"]);
}

/// What was synced with one context says nothing of another one.
#[tokio::test]
async fn a_mount_of_one_context_is_new_to_another() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.mount.write("f", "1").write("g", "2");
    a.push().await.clean();
    let forked: ContextName = "forked".parse().unwrap();
    world.store().fork_context(&context(), None, &forked).await.unwrap();
    a.mount.remove("g");
    a.context = forked;
    let synced = a.sync().await.clean().clone();
    assert_eq!((synced.added, synced.deleted), (1, 0), "`g` comes again");
}
