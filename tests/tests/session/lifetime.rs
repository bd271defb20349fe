//! Opening and releasing sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::Meanwhile;
use ctxsync_tests::machine::{World, context};
use policy_core::SyncPolicy;
use tokio::sync::Notify;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use transfer_engine::{
    Arrival, BootId, ContextName, ContextSync, CreateSessionParams, Env, Error, ReleaseOptions, Session,
    delete,
};

use crate::gate::Gate;
use crate::{eventually, open, params, release, report_of, store, try_open};

#[tokio::test]
async fn a_workspace_is_opened_edited_released_and_found_again_elsewhere() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    // The first session creates the context.
    let session = open(&a).await;
    a.mount.write("notes.txt", "one").write("src/main.rs", "fn main() {}");
    assert_eq!(report_of(&session).await.added, 2);

    let session = open(&a).await;
    let arrived = session.wait_for(&Arrival::All).await.unwrap();
    assert!(arrived[0].success, "{arrived:?}");
    a.mount.write("notes.txt", "two").remove("src/main.rs").write("src/lib.rs", "");
    let report = report_of(&session).await;
    assert_eq!((report.added, report.changed, report.deleted), (1, 1, 1));

    let session = open(&b).await;
    session.wait_for(&Arrival::All).await.unwrap();
    assert_same(&a.mount.0, &b.mount.0);
    b.mount.write("from-b", "b");
    report_of(&session).await;
    assert_eq!(world.head().await.session, session.id());
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn w12_released_twice_is_once() {
    let world = World::memory().await;
    let a = world.machine("a");
    let session = open(&a).await;
    a.mount.write("x", "1");
    let again = session.clone();
    let (one, two) = tokio::join!(release(&session), release(&again));
    let three = release(&session).await;
    for other in [&two, &three] {
        assert_eq!(one.mounts[0].report, other.mounts[0].report);
    }
    assert_eq!(world.head().await.number, 2);
    // A released session refuses further calls.
    assert!(!session.context().sync().await.success);
    let sync = ContextSync::new(context(), world.outside().0, SyncPolicy::default());
    assert!(matches!(session.context().bind(sync).await, Err(Error::Ended { .. })));
    assert!(matches!(session.fetch(&a.mount.0, &["x".parse().unwrap()]).await, Err(Error::Ended { .. })));
}

#[tokio::test]
async fn a_mount_that_a_session_holds_is_refused_with_who_holds_it() {
    let world = World::memory().await;
    let a = world.machine("a");
    let session = open(&a).await;
    let Err(Error::Locked { holder, .. }) = try_open(&a).await else { panic!("not locked") };
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    assert!(matches!(a.push().await.error(), Error::Locked { .. }));
    report_of(&session).await;
    // The mount is free at once, even while the released session still exists.
    report_of(&open(&a).await).await;
}

#[tokio::test]
async fn dropped_without_a_release_it_saves_nothing_and_lets_go() {
    let world = World::memory().await;
    let a = world.machine("a");
    let session = open(&a).await;
    a.mount.write("x", "1");
    let told = Told::default();
    let clone = session.clone();
    tracing::subscriber::with_default(told.clone(), || drop(clone));
    assert_eq!(told.count(), 0, "another clone shares it");
    tracing::subscriber::with_default(told.clone(), || drop(session));
    assert_eq!(told.count(), 1);
    eventually("the lock is free", async || a.open().is_ok()).await;
    assert_eq!(world.head().await.number, 1);
    // The next session pushes what was left. Once it is released, nothing is told.
    let session = open(&a).await;
    assert_eq!(report_of(&session).await.added, 1);
    tracing::subscriber::with_default(told.clone(), || drop(session));
    assert_eq!(told.count(), 1);
}

/// Counts warnings of the log.
#[derive(Clone, Default)]
struct Told(Arc<AtomicUsize>);

impl Told {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("transfer_engine") && *metadata.level() <= Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn two_mounts_are_opened_and_released_together() {
    let world = World::memory().await;
    let a = world.machine("a");
    let (one, two) = (a.mount.at("one"), a.mount.at("two"));
    let name = |text: &str| text.parse::<ContextName>().unwrap();
    let sync =
        |context: &str, path: &std::path::Path| ContextSync::new(name(context), path, SyncPolicy::default());
    let params = CreateSessionParams::new(vec![sync("c1", &one), sync("c2", &two)], &a.state);
    let session = Session::create(&store(&a), params).await.unwrap();
    a.mount.write("one/x", "1").write("two/y", "2").write("two/z", "2");
    // One of them by a manual sync.
    let by_path = transfer_engine::SyncParams { path: Some(one.clone()), ..Default::default() };
    let synced = session.context().sync_with(by_path).await;
    assert!(synced.success && synced.mounts.len() == 1, "{synced:?}");
    let released = release(&session).await;
    let added: Vec<_> = released.mounts.iter().map(|m| m.report.as_ref().unwrap().added).collect();
    assert_eq!(added, [0, 2]);
    for (context, count) in [("c1", 1), ("c2", 2)] {
        assert_eq!(world.store().head(&name(context)).await.unwrap().totals.files, count);
    }
}

#[tokio::test]
async fn mounts_that_contain_each_other_are_refused_and_nothing_stays_open() {
    let world = World::memory().await;
    let a = world.machine("a");
    let (outer, inner) = (a.mount.0.clone(), a.mount.at("sub/inner"));
    std::os::unix::fs::symlink(&outer, a.state.parent().unwrap().join("link")).unwrap();
    let link = a.state.parent().unwrap().join("link/other");
    for (first, second) in [(&outer, &inner), (&inner, &outer), (&outer, &outer), (&link, &outer)] {
        let syncs = [first, second].map(|p| ContextSync::new(context(), p, SyncPolicy::default()));
        let params = CreateSessionParams::new(syncs.to_vec(), &a.state);
        let refused = Session::create(&store(&a), params).await;
        assert!(matches!(refused, Err(Error::Overlap { .. })), "{refused:?}");
        drop(a.open().unwrap());
    }
    // Paths with a common prefix in their names are different mounts.
    let syncs = ["work", "work-2"].map(|p| ContextSync::new(context(), a.mount.at(p), SyncPolicy::default()));
    let params = CreateSessionParams::new(syncs.to_vec(), &a.state);
    release(&Session::create(&store(&a), params).await.unwrap()).await;
}

#[tokio::test]
async fn one_mount_that_fails_to_open_lets_the_others_go() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let held = b.open().unwrap();
    let syncs = [&a, &b].map(|m| ContextSync::new(context(), &m.mount.0, SyncPolicy::default()));
    let mut params = CreateSessionParams::new(syncs.to_vec(), &a.state);
    // The second mount is locked under another state directory, so it is locked under this one as well.
    drop(held);
    let sync = ContextSync::new(context(), &b.mount.0, SyncPolicy::default());
    let held = transfer_engine::Mount::open(&store(&a), sync, &a.state).unwrap();
    let refused = Session::create(&store(&a), params.clone()).await;
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    drop(a.open().unwrap());
    drop(held);
    // A missing context does not leave anything open either.
    params.options.create = false;
    let refused = Session::create(&store(&a), params.clone()).await;
    assert!(matches!(refused, Err(Error::NoContext { .. })), "{refused:?}");
    drop(a.open().unwrap());
    params.options.create = true;
    release(&Session::create(&store(&a), params).await.unwrap()).await;
}

#[tokio::test]
async fn a_store_that_is_missing_is_found_out_at_the_start() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.objects = Arc::new(object_store::memory::InMemory::new());
    for policy in ["{}", crate::ON_DEMAND, crate::BEFORE_START] {
        let a = a.clone().with_policy(policy);
        let refused = try_open(&a).await;
        assert!(matches!(refused, Err(Error::NoStore { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn without_auto_upload_only_a_release_that_asks_for_it_uploads() {
    let world = World::memory().await;
    let a = world.machine("a").with_policy(r#"{"uploadPolicy": {"autoUpload": false}}"#);
    let session = open(&a).await;
    a.mount.write("x", "1");
    let released = release(&session).await;
    assert!(released.mounts[0].report.is_none() && released.mounts[0].success());
    assert_eq!(world.head().await.number, 1);
    let deleted = delete(open(&a).await, true).await;
    assert!(deleted.success && deleted.error_message.is_none(), "{deleted:?}");
    assert_eq!(world.head().await.totals.files, 1);
}

#[tokio::test]
async fn at_a_release_a_conflict_keeps_both() {
    let world = World::memory().await;
    let a = world.machine("a").with_policy(r#"{"conflictPolicy": "Fail"}"#);
    let b = world.machine("b");
    let session = open(&a).await;
    a.mount.write("x", "from a");
    b.mount.write("x", "from b");
    b.push().await.clean();
    let stopped = session.context().sync().await;
    assert!(!stopped.success && stopped.error_message.unwrap().contains("conflict"));
    assert_eq!(report_of(&session).await.conflicts, 1);
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("x"), "from a");
    assert_eq!(paths(&fresh.mount.0).len(), 2);
}

#[tokio::test]
async fn a_further_context_joins_a_running_session() {
    let world = World::memory().await;
    let a = world.machine("a");
    let other = world.outside();
    let session = open(&a).await;
    let name: ContextName = "later".parse().unwrap();
    let sync = ContextSync::new(name.clone(), &other.0, SyncPolicy::default());
    session.context().bind(sync.clone()).await.unwrap();
    assert!(matches!(session.context().bind(sync).await, Err(Error::Overlap { .. })));
    other.write("y", "2");
    assert_eq!(session.context().info().context_status_data.len(), 4);
    assert_eq!(release(&session).await.mounts.len(), 2);
    assert_eq!(world.store().head(&name).await.unwrap().totals.files, 1);
}

/// A disk that no longer answers blocks a job of the pull, and nothing can stop that job.
#[tokio::test]
async fn p3_a_release_ends_in_time_although_a_job_does_not() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount.write("x", "1");
    a.push().await.clean();
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (begins, ends) = (begun.clone(), ended.clone());
    // Without a boot id, a pull waits for the disk.
    b.env = Env::real().with_boot(None).with_file_faults(Meanwhile::new(move |operation, _| {
        if operation != "syncfs" {
            return;
        }
        begins.notify_one();
        // Not for ever, so that a release that does wait for it ends, too, and the test fails.
        for _ in 0..1000 {
            std::thread::sleep(std::time::Duration::from_millis(10));
            if ends.load(Ordering::SeqCst) {
                return;
            }
        }
        ends.store(true, Ordering::SeqCst);
    }));
    let session = Session::create(&store(&b), params(&b)).await.unwrap();
    begun.notified().await;
    let deadline = Some(tokio::time::Instant::now() + std::time::Duration::from_secs(1));
    let released = session.release(ReleaseOptions { sync_context: true, deadline }).await.unwrap();
    assert!(!ended.swap(true, Ordering::SeqCst), "it was waited for");
    let error = released.mounts[0].error.as_ref().unwrap();
    assert!(matches!(**error, Error::OutOfTime { .. }), "{error}");
}

#[tokio::test]
async fn a_release_with_a_deadline_does_not_wait_for_a_stuck_checkpoint() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let gate = Gate::new(Arc::clone(&world.objects));
    a.objects = Arc::new(gate.clone());
    let session = Session::create(&store(&a), params(&a)).await.unwrap();
    session.wait_for(&Arrival::All).await.unwrap();
    a.mount.write("x", "1");
    gate.hold_packs();
    let stuck = session.clone();
    let stuck = tokio::spawn(async move { stuck.context().sync().await });
    gate.somebody_waits().await;
    let releasing = tokio::spawn({
        let session = session.clone();
        let deadline = Some(tokio::time::Instant::now() + std::time::Duration::from_secs(60));
        async move { session.release(ReleaseOptions { sync_context: false, deadline }).await.unwrap() }
    });
    assert!(!stuck.await.unwrap().success);
    gate.open();
    let released = releasing.await.unwrap();
    assert!(released.mounts[0].success(), "{released:?}");
    assert_eq!(world.head().await.totals.files, 1);
}

/// Without a deadline, nobody would flush later. By a deadline, the flush could take too long, so that a note says what
/// it would have covered.
#[tokio::test]
async fn only_a_release_by_a_deadline_leaves_the_mount_unflushed_and_notes_that() {
    for time in [None, Some(std::time::Duration::from_secs(60))] {
        let world = World::memory().await;
        let mut a = world.machine("a");
        a.env = Env::real().with_boot(Some(BootId([1; 16])));
        let mut params = params(&a);
        params.options.flush_behind = true;
        let session = Session::create(&store(&a), params).await.unwrap();
        a.mount.write("x", "1");
        let deadline = time.map(|time| tokio::time::Instant::now() + time);
        let released = session.release(ReleaseOptions { sync_context: true, deadline }).await.unwrap();
        assert!(released.mounts[0].error.is_none(), "{released:?}");
        assert_eq!(a.state_file("unflushed").is_some(), time.is_some(), "{time:?}");
    }
}
