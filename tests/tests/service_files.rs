//! Files of a context that are written, read and deleted without a mount.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ctxsync_tests::compare::{assert_same_but_times, paths};
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{World, context};
use ctxsync_tests::random::Random;
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use policy_core::{Timestamp, TreePath};
use storage_backends::layer::{Fault, Faulty, Latency, Operation, Rule};
use tokio::io::AsyncReadExt;
use transfer_engine::{ContextService, Env, Error, FileKind, Store, SyncReport, WriteOptions};

fn path(path: &str) -> TreePath {
    path.parse().unwrap()
}

fn on(objects: &Arc<dyn ObjectStore>) -> ContextService {
    ContextService::new(&Store::new(Arc::clone(objects), "test:", Env::real()))
}

/// A world with an empty context, and its service.
async fn empty() -> (World, ContextService) {
    let world = World::memory().await;
    let service = on(&world.objects);
    service.create(&context()).await.unwrap();
    (world, service)
}

async fn write(service: &ContextService, at: &str, bytes: &[u8]) -> Result<SyncReport, Error> {
    service.write_file(&context(), &path(at), bytes, &WriteOptions::default()).await
}

async fn read(service: &ContextService, at: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let (context, path) = (context(), path(at));
    let read = service.read_file(&context, &path, 0..u64::MAX, |part| {
        bytes.extend_from_slice(&part);
        Ok(())
    });
    read.await?;
    Ok(bytes)
}

async fn names(service: &ContextService, dir: &str) -> Vec<String> {
    let files = service.list_files(&context(), &path(dir)).await.unwrap();
    files
        .iter()
        .map(|f| format!("{}{}", f.path, if f.kind == FileKind::Directory { "/" } else { "" }))
        .collect()
}

#[tokio::test]
async fn what_is_written_is_read_listed_and_pulled() {
    let (world, service) = empty().await;
    let mut random = Random::new(1);
    let mib = 1 << 20;
    let mut sizes = vec![0, 1, 4 * mib - 1, 4 * mib, 4 * mib + 1, 20 * mib];
    sizes.extend((0..12).map(|i| random.below(1 << (2 * i))));
    let b = world.machine("b");
    for (i, size) in sizes.iter().enumerate() {
        let (name, bytes) = (format!("d{}/f{i}", i % 3), random.bytes(*size));
        let report = write(&service, &name, &bytes).await.unwrap();
        assert_eq!((report.snapshot, report.added), (Some(i as u64 + 2), 1), "{size}");
        assert_eq!(report.bytes_read, *size as u64);
        assert!(read(&service, &name).await.unwrap() == bytes, "{size}");
        let listed = service.list_files(&context(), &path(&format!("d{}", i % 3))).await.unwrap();
        let listed = listed.iter().find(|f| f.path == path(&name)).unwrap();
        assert_eq!((listed.size, listed.mode), (*size as u64, 0o644));
        b.pull().await.clean();
        assert!(std::fs::read(b.mount.0.join(&name)).unwrap() == bytes, "{size}");
    }
    let head = world.head().await;
    assert_eq!(head.totals.files, sizes.len() as u64);
    assert_eq!(head.totals.bytes, sizes.iter().map(|s| *s as u64).sum::<u64>());
    assert_eq!(names(&service, "").await, ["d0/", "d1/", "d2/"]);
    // A range of a file.
    let mut part = Vec::new();
    let (of, at) = (context(), path("d2/f5"));
    let info = service.read_file(&of, &at, 5_000_000..5_000_010, |bytes| {
        part.extend_from_slice(&bytes);
        Ok(())
    });
    assert_eq!(info.await.unwrap().size, 20 << 20);
    assert_eq!(part, read(&service, "d2/f5").await.unwrap()[5_000_000..5_000_010]);
}

#[tokio::test]
async fn writing_the_same_makes_no_snapshot_and_sends_nothing() {
    let (world, service) = empty().await;
    let bytes = Random::new(2).bytes(9 << 20);
    write(&service, "a", &bytes).await.unwrap();
    let again = write(&service, "a", &bytes).await.unwrap();
    assert_eq!((again.snapshot, again.parent, again.bytes_stored), (Some(2), None, 0));
    assert_eq!(again.bytes_sent, 0);
    // At another path, and slightly changed: only new chunks are sent.
    let other = write(&service, "b/c", &bytes).await.unwrap();
    assert_eq!((other.snapshot, other.added), (Some(3), 1));
    assert!(other.bytes_sent < 50_000, "{other:?}");
    let mut more = bytes.clone();
    more.extend_from_slice(b"and more");
    let more_sent = write(&service, "a", &more).await.unwrap();
    assert_eq!((more_sent.changed, more_sent.added), (1, 0));
    assert!(more_sent.bytes_sent < 5 << 20, "{more_sent:?}");
    assert!(read(&service, "a").await.unwrap() == more && read(&service, "b/c").await.unwrap() == bytes);
    assert_eq!(world.head().await.totals.bytes, (bytes.len() + more.len()) as u64);
}

#[tokio::test]
async fn mode_and_time_are_kept_or_given() {
    let (world, service) = empty().await;
    let mtime = Timestamp { secs: 1_000_000, nanos: 5 };
    let options = WriteOptions { mode: Some(0o750), mtime: Some(mtime) };
    service.write_file(&context(), &path("tool"), &b"1"[..], &options).await.unwrap();
    let info = |service: ContextService| async move {
        service.list_files(&context(), &path("")).await.unwrap().remove(0)
    };
    let first = info(service.clone()).await;
    assert_eq!((first.mode, first.mtime), (0o750, Some(mtime)));
    // A new version keeps the mode.
    write(&service, "tool", b"2").await.unwrap();
    let second = info(service.clone()).await;
    assert_eq!(second.mode, 0o750);
    assert!(second.mtime > first.mtime && second.uploaded >= first.uploaded);
    // Another mode alone is a change.
    let options = WriteOptions { mode: Some(0o600), mtime: None };
    let report = service.write_file(&context(), &path("tool"), &b"2"[..], &options).await.unwrap();
    assert_eq!((report.snapshot, report.changed), (Some(4), 1));
    // A link is replaced by a file.
    let a = world.machine("a");
    a.pull().await.clean();
    a.mount.link("link", "tool");
    a.push().await.clean();
    write(&service, "link", b"3").await.unwrap();
    a.pull().await.clean();
    assert!(a.mount.0.join("link").symlink_metadata().unwrap().is_file());
    assert_eq!((a.mount.read("tool"), a.mount.read("link")), ("2".into(), "3".into()));
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let (_world, service) = empty().await;
    write(&service, "d/f", b"1").await.unwrap();
    for (at, expected) in [
        ("d", "`d` in `work@2` is a directory"),
        ("d/f/g", "`d/f` in `work@2` is not a directory"),
        ("d/f/g/h", "`d/f` in `work@2` is not a directory"),
        ("", "`/` in `work@2` is a directory"),
    ] {
        let error = write(&service, at, b"2").await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let error = |result: Result<SyncReport, Error>| result.unwrap_err().to_string();
    let delete = async |at: &str| service.delete_file(&context(), &path(at)).await;
    assert_eq!(error(delete("d").await), "`d` in `work@2` is a directory");
    for at in ["x", "d/x", "d/f/x"] {
        assert_eq!(error(delete(at).await), format!("no `{at}` in `work@2`"));
        assert!(matches!(read(&service, at).await, Err(Error::NoPath { .. })));
    }
    assert!(matches!(read(&service, "d").await, Err(Error::IsDirectory { .. })));
    let list = async |at: &str| service.list_files(&context(), &path(at)).await;
    assert!(matches!(list("d/f").await, Err(Error::NotADirectory { .. })));
    assert!(matches!(list("e").await, Err(Error::NoPath { .. })));
    let nowhere = "nowhere".parse().unwrap();
    let missing = service.write_file(&nowhere, &path("a"), &b""[..], &WriteOptions::default()).await;
    assert!(matches!(missing, Err(Error::NoContext { .. })));
    assert_eq!(service.get(&context(), false).await.unwrap().snapshot, 2, "and nothing was written");
}

#[tokio::test]
async fn removing_does_what_it_does_in_a_mount() {
    // Deleting paths in a mount and by the service gives the same tree.
    let files = ["a/b/c", "a/b/d", "a/e", "f", "g/h/i/j", "k/l", "k/m/n", "o"];
    let removals: [(&[&str], bool); 7] = [
        (&["a/b/c"], false),
        (&["a/b/c", "a/b/d", "f"], false),
        (&["a/b"], true),
        (&["a/b", "a/e"], true),
        (&["g/h/i/j"], false),
        (&["g/h/i", "k", "k/m"], true),
        (&["a", "f", "g", "k", "o"], true),
    ];
    for (gone, recursive) in removals {
        let world = World::memory().await;
        let (a, b) = (world.machine("a"), world.machine("b"));
        for file in files {
            a.mount.write(file, file);
        }
        a.push().await.clean();
        b.pull().await.clean();
        let targets: Vec<TreePath> = gone.iter().map(|p| path(p)).collect();
        let service = on(&world.objects);
        let report = service.delete_files(&context(), &targets, recursive).await.unwrap();
        assert_eq!(report.snapshot, Some(3), "{gone:?}");
        // Deleted in one mount by hand, and in the other one by a pull.
        for target in gone {
            let at = a.mount.0.join(target);
            match at.symlink_metadata() {
                Ok(stat) if stat.is_dir() => std::fs::remove_dir_all(at).unwrap(),
                Ok(_) => std::fs::remove_file(at).unwrap(),
                Err(_) => {}
            }
        }
        // If everything is deleted, this option allows it.
        let mut b = b;
        b.options.allow_empty_mount = true;
        b.pull().await.clean();
        assert_same_but_times(&a.mount.0, &b.mount.0);
        // A push of the mount has nothing left to do.
        assert_eq!(a.push().await.clean().snapshot, Some(3), "{gone:?}");
        let again = service.delete_files(&context(), &targets, recursive).await;
        assert!(matches!(again, Err(Error::NoPath { .. })), "{again:?}");
    }
}

#[tokio::test]
async fn one_that_is_missing_among_several_leaves_all() {
    let (world, service) = empty().await;
    write(&service, "a", b"1").await.unwrap();
    let error = service.delete_files(&context(), &[path("a"), path("b")], true).await.unwrap_err();
    assert!(matches!(error, Error::NoPath { path, .. } if path == "b"));
    assert_eq!(world.head().await.number, 2);
    // An empty directory is deleted like any directory.
    service.delete_files(&context(), &[path("a")], true).await.unwrap();
    write(&service, "d/f", b"1").await.unwrap();
    service.delete_file(&context(), &path("d/f")).await.unwrap();
    assert_eq!(names(&service, "").await, ["d/"]);
    assert!(matches!(service.delete_file(&context(), &path("d")).await, Err(Error::IsDirectory { .. })));
    service.delete_files(&context(), &[path("d")], true).await.unwrap();
    assert!(names(&service, "").await.is_empty());
    assert_eq!(world.head().await.totals, Default::default());
}

#[tokio::test]
async fn a_mount_sees_a_change_made_in_the_context() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("x", "1").write("y", "1").write("d/z", "1");
    a.push().await.clean();
    let service = on(&world.objects);
    write(&service, "x", b"2").await.unwrap();
    write(&service, "new", b"2").await.unwrap();
    service.delete_file(&context(), &path("d/z")).await.unwrap();
    // A push undoes none of it, and a pull gets it.
    a.mount.write("y", "3");
    let pushed = a.push().await;
    assert_eq!((pushed.clean().changed, pushed.clean().deleted, pushed.clean().added), (1, 0, 0));
    let pulled = a.pull().await;
    assert_eq!((pulled.clean().changed, pulled.clean().deleted, pulled.clean().conflicts), (1, 1, 0));
    assert_eq!(
        (a.mount.read("x"), a.mount.read("y"), a.mount.read("new")),
        ("2".into(), "3".into(), "2".into())
    );
    assert_eq!(paths(&a.mount.0), ["d", "new", "x", "y"]);
    // Both changed one file: both versions stay.
    a.mount.write("x", "mine");
    write(&service, "x", b"theirs").await.unwrap();
    assert_eq!(a.sync().await.report().conflicts, 1);
    assert_eq!(a.mount.read("x"), "mine");
    assert_eq!(paths(&a.mount.0).len(), 5);
}

#[tokio::test]
async fn w1_writers_at_once_are_all_there() {
    let slow: Arc<dyn ObjectStore> =
        Arc::new(Latency::new(Arc::new(InMemory::new()), Duration::from_millis(1)));
    let world = World::over(slow).await;
    on(&world.objects).create(&context()).await.unwrap();
    let writes = (0..12).map(|i| {
        let service = on(&world.objects);
        async move { write(&service, &format!("d/{i}"), format!("content {i}").as_bytes()).await }
    });
    let mut numbers: Vec<u64> =
        futures::future::join_all(writes).await.into_iter().map(|w| w.unwrap().snapshot.unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (2..14).collect::<Vec<_>>(), "each its own snapshot");
    let service = on(&world.objects);
    for i in 0..12 {
        assert_eq!(read(&service, &format!("d/{i}")).await.unwrap(), format!("content {i}").as_bytes());
    }
}

#[tokio::test]
async fn n7_a_write_of_which_the_reply_is_lost_is_one_commit() {
    for fault in [Fault::FailAfter, Fault::AlreadyExistsThoughStored, Fault::AlreadyExistsThoughAbsent] {
        for prefix in ["contexts", "packs"] {
            let (world, service) = empty().await;
            write(&service, "x", b"1").await.unwrap();
            let faulty = Faulty::new(Arc::clone(&world.objects), 1);
            faulty.add(Rule::new(fault).on(Operation::Put).below(prefix).nth(1));
            let behind: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
            let report = write(&on(&behind), "x", b"2").await.unwrap();
            assert_eq!((report.snapshot, report.parent, report.changed), (Some(3), Some(2), 1));
            assert_eq!(faulty.injections().len(), 1, "{fault:?} {prefix}");
            assert_eq!(world.head().await.number, 3);
            assert_eq!(read(&service, "x").await.unwrap(), b"2");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_dies_at_any_request_happened_or_did_not() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for nth in 1.. {
            let (world, service) = empty().await;
            write(&service, "d/x", b"1").await.unwrap();
            let faulty = Faulty::new(Arc::clone(&world.objects), 1);
            faulty.add(Rule::new(fault).nth(nth));
            let behind: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
            let written = write(&on(&behind), "d/y", b"2").await;
            if faulty.injections().is_empty() {
                written.unwrap();
                assert!(nth > 5);
                break;
            }
            let there = world.head().await.number == 3;
            assert_eq!(there, read(&service, "d/y").await.is_ok(), "{nth}");
            assert_eq!(read(&service, "d/x").await.unwrap(), b"1");
            // Writing the same again has the same result.
            write(&service, "d/y", b"2").await.unwrap();
            assert_eq!(world.head().await.number, 3);
        }
    }
}

/// Calls `act` once, before the first put of a snapshot.
fn once_before_commit<F>(world: &World, act: impl Fn() -> F + Send + Sync + 'static) -> Arc<dyn ObjectStore>
where
    F: Future<Output = ()> + Send + 'static,
{
    let once = AtomicBool::new(true);
    BeforePut::new(Arc::clone(&world.objects), move |key| {
        let now = key.as_ref().starts_with("contexts") && once.swap(false, Ordering::SeqCst);
        if now { act().boxed() } else { async {}.boxed() }
    })
}

#[tokio::test]
async fn what_a_lost_race_took_away_is_sent_again() {
    let (world, service) = empty().await;
    let mut bytes = Random::new(3).bytes(3 << 20);
    write(&service, "old", &bytes).await.unwrap();
    // The new file refers to the chunks of `old`. Just before its commit, these leave the context.
    let rival = service.clone();
    let racing = once_before_commit(&world, move || {
        let rival = rival.clone();
        async move {
            rival.clear(&context()).await.unwrap();
        }
    });
    bytes.extend_from_slice(b"more");
    let report = write(&on(&racing), "new", &bytes).await.unwrap();
    assert_eq!((report.snapshot, report.parent), (Some(4), Some(3)));
    let head = world.head().await;
    let log = world.store().log(&context()).await.unwrap();
    assert!(head.packs.iter().all(|p| p.land_by.is_some()), "packs of its own: {:?}", head.packs);
    let of_old = &log[2].packs;
    assert!(head.packs.iter().all(|p| of_old.iter().all(|old| old.id != p.id)));
    assert!(read(&service, "new").await.unwrap() == bytes);
}

#[tokio::test]
async fn w13_a_commit_that_landed_too_late_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = object_store::local::LocalFileSystem::new_with_prefix(dir.path()).unwrap();
    let objects: Arc<dyn ObjectStore> = Arc::new(place);
    let store = Store::new(Arc::clone(&objects), "test:", Env::real());
    store.init(Duration::from_secs(2)).await.unwrap();
    let service = on(&objects);
    service.create(&context()).await.unwrap();
    let (old, new) = (Random::new(4).bytes(300_000), Random::new(5).bytes(300_000));
    write(&service, "d/old", &old).await.unwrap();
    // The machine sleeps between its packs and its commit for longer than the grace period.
    let once = AtomicBool::new(true);
    let sleepy: Arc<dyn ObjectStore> = BeforePut::new(Arc::clone(&objects), move |key| {
        let now = key.as_ref().starts_with("contexts") && once.swap(false, Ordering::SeqCst);
        async move {
            if now {
                tokio::time::sleep(Duration::from_millis(3500)).await;
            }
        }
        .boxed()
    });
    let report = write(&on(&sleepy), "d/new", &new).await.unwrap();
    assert_eq!((report.snapshot, report.parent), (Some(4), Some(3)));
    let log = store.log(&context()).await.unwrap();
    // The new commit refers to none of the late packs, and still to the one from before.
    let late: Vec<_> = log[1].packs.iter().filter(|p| p.land_by.is_some()).map(|p| p.id).collect();
    assert!(!late.is_empty() && log[0].packs.iter().all(|p| !late.contains(&p.id)));
    assert_eq!(log[0].packs.iter().filter(|p| p.land_by.is_none()).count(), 1);
    assert_eq!((log[0].totals.files, log[1].totals.files), (2, 2));
    assert!(read(&service, "d/new").await.unwrap() == new && read(&service, "d/old").await.unwrap() == old);
}

#[tokio::test]
async fn clearing_leaves_the_history() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("x", "1").write("d/y", "2").dir("e");
    a.push().await.clean();
    let service = on(&world.objects);
    let report = service.clear(&context()).await.unwrap();
    assert_eq!((report.snapshot, report.parent, report.deleted), (Some(3), Some(2), 3));
    assert!(names(&service, "").await.is_empty());
    assert_eq!(service.clear(&context()).await.unwrap().parent, None, "nothing is left to be cleared");
    let info = service.get(&context(), false).await.unwrap();
    assert_eq!((info.snapshot, info.files, info.bytes), (3, 0, 0));
    let log = world.store().log(&context()).await.unwrap();
    assert_eq!(log.iter().map(|s| s.number).collect::<Vec<_>>(), [3, 2, 1]);
    let back = world.outside();
    let options = transfer_engine::SyncOptions::default();
    let before = world.store().snapshot(&context(), Some(-1)).await.unwrap();
    world.store().restore(&before, &back.0, &[], &options, &transfer_engine::Silent).await.unwrap();
    assert_same_but_times(&back.0, &a.mount.0);
    // A mount becomes empty, too, once its user allows that.
    assert_eq!(a.pull().await.report().held_back, 3);
    assert_same_but_times(&back.0, &a.mount.0);
    let mut a = a;
    a.options.allow_empty_mount = true;
    a.pull().await.clean();
    assert!(paths(&a.mount.0).is_empty());
}

#[tokio::test]
async fn contexts_come_and_go() {
    let world = World::memory().await;
    let service = on(&world.objects);
    let (a, b): (transfer_engine::ContextName, _) = ("a".parse().unwrap(), "b/c".parse().unwrap());
    assert!(matches!(service.get(&a, false).await, Err(Error::NoContext { .. })));
    let made = service.get(&a, true).await.unwrap();
    assert_eq!((made.id(), made.snapshot, made.files), ("a", 1, 0));
    assert_eq!(service.get(&a, true).await.unwrap(), made);
    assert!(matches!(service.create(&a).await, Err(Error::ContextExists { .. })));
    let moved = service.update(&a, &b).await.unwrap();
    assert_eq!(moved.name, b);
    assert!(matches!(service.get(&a, true).await, Err(Error::Moved { .. })), "it has another name");
    assert_eq!(service.list().await.unwrap(), [moved]);
    service.delete(&b).await.unwrap();
    assert!(service.list().await.unwrap().is_empty());
    assert!(matches!(service.delete(&b).await, Err(Error::NoContext { .. })));
}

#[tokio::test]
async fn large_directories_are_listed_without_reading_what_is_below() {
    let world = World::memory().await;
    let a = world.machine("a");
    for i in 0..3000 {
        a.mount.write(format!("deep/{:02}/{i:04}", i / 1000), "x");
    }
    for name in ["deep-er", "a", "z/y", "deep/000", "deep/02-"] {
        a.mount.write(name, "x");
    }
    a.push().await.clean();
    assert!(world.head().await.segments.len() > 2);
    let service = on(&world.objects);
    assert_eq!(names(&service, "").await, ["a", "deep/", "deep-er", "z/"]);
    assert_eq!(names(&service, "deep").await, ["deep/00/", "deep/000", "deep/01/", "deep/02/", "deep/02-"]);
    assert_eq!(names(&service, "deep/01").await.len(), 1000);
}

#[tokio::test]
async fn content_that_breaks_off_writes_nothing() {
    let (world, service) = empty().await;
    let broken = (&[7u8; 5 << 20][..]).chain(Broken);
    let result = service.write_file(&context(), &path("a"), broken, &WriteOptions::default()).await;
    assert!(matches!(result, Err(Error::Local { .. })), "{result:?}");
    assert_eq!(world.head().await.number, 1);
    let put: Vec<_> = world.objects.list(Some(&"contexts".into())).try_collect().await.unwrap();
    assert_eq!(put.len(), 1);
}

struct Broken;

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::Error::other("the pipe broke")))
    }
}
