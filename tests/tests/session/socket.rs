//! Requests of other processes to a session.

use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::sync::Arc;

use ctxsync_tests::machine::{World, context};
use ctxsync_tests::notes::Notes;
use policy_core::MaxDelete;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use transfer_engine::{Action, Arrival, Error, ErrorKind, RunningSession, Silent, SyncOptions, TaskType};

use crate::gate::Gate;
use crate::{ON_DEMAND, eventually, open, path, release};

async fn connect(machine: &ctxsync_tests::machine::Machine) -> RunningSession {
    RunningSession::connect(&machine.state, &machine.mount.0).await.unwrap().unwrap()
}

#[tokio::test]
async fn every_request_is_carried_out_by_the_session() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b").with_policy(ON_DEMAND));
    a.mount.write("one", "1").write("dir/two", "2");
    a.push().await.clean();
    let session = open(&b).await;
    let mut asked = connect(&b).await;
    assert_eq!((asked.id(), asked.context()), (session.id(), &context()));
    assert_eq!(asked.fetch(&[path("one")], &Silent).await.unwrap().added, 1);
    assert_eq!(b.mount.read("one"), "1");

    b.mount.write("new", "n");
    let notes = Notes::default();
    let options = SyncOptions { dry_run: true, ..SyncOptions::default() };
    assert_eq!(asked.push(&options, &notes).await.unwrap().added, 1);
    assert!(notes.noted().events.iter().any(|(at, action)| (at, *action) == (&path("new"), Action::Add)));
    assert_eq!(world.head().await.number, 2);
    assert_eq!(asked.push(&SyncOptions::default(), &Silent).await.unwrap().snapshot, Some(3));
    assert_eq!(world.head().await.session, session.id());

    let only = SyncOptions { only: vec![path("dir")], ..SyncOptions::default() };
    asked.pull(&only, &Silent).await.unwrap();
    assert_eq!(b.mount.read("dir/two"), "2");
    a.mount.write("later", "l");
    a.sync().await.clean();
    b.mount.write("more", "m");
    asked.sync(&SyncOptions::default(), &Silent).await.unwrap();
    assert_eq!((b.mount.read("later"), world.head().await.totals.files), ("l".into(), 5));

    b.mount.remove("one").remove("new");
    let guarded = SyncOptions { max_delete: Some(MaxDelete::Count(1)), ..SyncOptions::default() };
    assert_eq!(asked.push(&guarded, &notes).await.unwrap().held_back, 2);
    assert!(notes.noted().warnings.iter().any(|w| w.contains("guard")), "{:?}", notes.noted());
    let tasks = asked.status().await.unwrap().context_status_data;
    assert!(tasks.iter().any(|t| t.task_type == TaskType::Upload && t.session == session.id()));
    release(&session).await;
    assert!(RunningSession::connect(&b.state, &b.mount.0).await.unwrap().is_none());
}

#[tokio::test]
async fn what_fails_there_fails_here_with_its_kind_and_causes() {
    let world = World::memory().await;
    let a = world.machine("a").with_policy(ON_DEMAND);
    let session = open(&a).await;
    let mut asked = connect(&a).await;
    world.store().delete_context(&context()).await.unwrap();
    let error = asked.pull(&SyncOptions::default(), &Silent).await.unwrap_err();
    assert!(matches!(error, Error::Remote { kind: ErrorKind::NoContext, .. }), "{error:?}");
    assert!(error.to_string().contains("no context `work`"), "{error}");
    let error = asked.fetch(&[], &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    release(&session).await;
    let gone = asked.pull(&SyncOptions::default(), &Silent).await.unwrap_err();
    assert!(matches!(gone, Error::Local { .. } | Error::Remote { .. }), "{gone:?}");
}

#[tokio::test]
async fn nonsense_is_answered_with_an_error_and_does_no_harm() {
    let world = World::memory().await;
    let a = world.machine("a");
    let session = open(&a).await;
    let socket = a.state_file("socket").unwrap();
    for nonsense in [
        &b"\n"[..],
        b"hello\n",
        b"{\"request\":\"dance\"}\n",
        b"[1,2]\n",
        b"\xff\xfe\n",
        b"{\"request\":\"push\",\"paths\":[\"../x\"]}\n",
    ] {
        let mut stream = BufReader::new(UnixStream::connect(&socket).await.unwrap());
        stream.get_mut().write_all(nonsense).await.unwrap();
        let mut lines = stream.lines();
        assert!(lines.next_line().await.unwrap().unwrap().contains("\"hello\""));
        let answer = lines.next_line().await.unwrap().unwrap();
        assert!(answer.contains("bad_request"), "{answer}");
    }
    // A request that never ends is cut off.
    let mut stream = BufReader::new(UnixStream::connect(&socket).await.unwrap());
    let endless = vec![b'x'; 1 << 16];
    while stream.get_mut().write_all(&endless).await.is_ok() {}
    assert!(connect(&a).await.push(&SyncOptions::default(), &Silent).await.is_ok());
    release(&session).await;
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_the_work() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let gate = Gate::new(Arc::clone(&world.objects));
    a.objects = Arc::new(gate.clone());
    let session = open(&a).await;
    session.wait_for(&Arrival::All).await.unwrap();
    a.mount.write("x", "1");
    gate.hold_packs();
    let mut asked = connect(&a).await;
    let asking = tokio::spawn(async move { asked.push(&SyncOptions::default(), &Silent).await });
    gate.somebody_waits().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    gate.open();
    eventually("it is saved", async || world.head().await.totals.files == 1).await;
    release(&session).await;
}

#[tokio::test]
async fn the_socket_is_private_replaces_a_stale_one_and_may_lie_deep() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.state = a.state.join("d".repeat(120)).join("e".repeat(120));
    drop(a.open().unwrap());
    let stale = a.state_file("lock").unwrap().with_file_name("socket");
    std::fs::write(&stale, "left behind").unwrap();
    let session = open(&a).await;
    let meta = stale.symlink_metadata().unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(connect(&a).await.id(), session.id());
    release(&session).await;
    assert!(!stale.exists());
    // A killed session leaves its socket, but no session is found.
    let near = world.machine("near");
    drop(near.open().unwrap());
    let left = near.state_file("lock").unwrap().with_file_name("socket");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    assert!(RunningSession::connect(&near.state, &near.mount.0).await.unwrap().is_none());
    assert!(RunningSession::connect(&a.state, &a.mount.0).await.unwrap().is_none());
    assert!(RunningSession::connect(&world.outside().0, &a.mount.0).await.unwrap().is_none());
}

#[tokio::test]
async fn the_owner_of_the_files_may_ask_where_the_session_runs_as_root() {
    if !ctxsync_tests::tree::is_root() {
        return;
    }
    let world = World::memory().await;
    let a = world.machine("a");
    let kept = crate::Kept::default();
    let mut params = crate::params(&a);
    params.options.owner = Some((12_345, 23_456));
    params.monitor = Arc::new(kept.clone());
    let session = transfer_engine::Session::create(&crate::store(&a), params).await.unwrap();
    let socket = a.state_file("socket").unwrap();
    let meta = socket.symlink_metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.permissions().mode() & 0o777), (12_345, 23_456, 0o600));
    for dir in socket.ancestors().skip(1).take(3) {
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o011, 0o011, "{}", dir.display());
    }
    // The files of the state stay private.
    let status = a.state_file("status.json").unwrap();
    assert_eq!(status.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(kept.0.noted().warnings, [""; 0]);
    release(&session).await;
    // If a parent of the state directory is closed to the owner, a warning names it.
    let mut deep = a.clone();
    deep.state = deep.state.join("closed/state");
    std::fs::create_dir_all(&deep.state).unwrap();
    std::fs::set_permissions(deep.state.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
    let mut params = crate::params(&deep);
    params.options.owner = Some((12_345, 23_456));
    params.monitor = Arc::new(kept.clone());
    let session = transfer_engine::Session::create(&crate::store(&deep), params).await.unwrap();
    let warnings = kept.0.noted().warnings;
    assert!(warnings.iter().any(|w| w.contains("12345") && w.contains("closed")), "{warnings:?}");
    release(&session).await;
}
