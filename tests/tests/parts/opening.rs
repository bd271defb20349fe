//! Sessions on parts of contexts.

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::machine::{Machine, World, context};
use policy_core::TreePath;
use transfer_engine::{Arrival, CreateSessionParams, Error, RunningSession, Session, Silent};

use super::{agreed, entries, outside, paths_there};

async fn open(machine: &Machine, read_only: bool) -> Result<Session, Error> {
    let mut sync = machine.context_sync();
    sync.read_only = read_only;
    let store = transfer_engine::Store::new(machine.objects.clone(), "test:", machine.env.clone());
    Session::create(&store, CreateSessionParams::new(vec![sync], &machine.state)).await
}

#[tokio::test]
async fn a_session_works_on_a_part() {
    let (world, whole, _) = agreed().await;
    let machine = world.machine("session").of_part("d");
    let before = outside(&world, &machine.part).await;
    let session = open(&machine, false).await.unwrap();
    session.wait_for(&Arrival::All).await.unwrap();
    machine.mount.write("x", "changed").remove("y");
    session.fetch(&machine.mount.0, &["x".parse().unwrap()]).await.unwrap();
    let mut asked = RunningSession::connect(&machine.state, &machine.mount.0).await.unwrap().unwrap();
    assert_eq!(asked.place().to_string(), "work:d");
    assert!(asked.works_on(asked.place()) && !asked.works_on(&asked.context().clone().into()));
    asked.push(&machine.options, &Silent).await.unwrap();
    let tasks = session.context().info().context_status_data;
    assert!(
        !tasks.is_empty() && tasks.iter().all(|t| t.context == "work:d" && t.context_id == "work"),
        "{tasks:?}"
    );
    machine.mount.write("new", "new");
    let released = session.release(Default::default()).await.unwrap();
    assert!(released.mounts[0].success(), "{released:?}");
    assert_eq!(released.mounts[0].place().to_string(), "work:d");
    assert_eq!(outside(&world, &machine.part).await, before);
    whole.pull().await.clean();
    assert_same(&whole.mount.at("d"), &machine.mount.0);
}

#[tokio::test]
async fn a_session_makes_its_part_once() {
    for policy in ["{}", r#"{"downloadPolicy": {"autoDownload": false}}"#] {
        for exists in [true, false] {
            let world = if exists { agreed().await.0 } else { World::quick().await };
            let before = if exists { entries(&world).await } else { Vec::new() };
            let machine = world.machine("session").of_part("n/m").with_policy(policy);
            let refused = open(&machine, true).await.unwrap_err();
            assert!(matches!(refused, Error::NoContext { .. } | Error::NoPart { .. }), "{refused:?}");
            let session = open(&machine, false).await.unwrap();
            assert!(session.wait_for(&Arrival::All).await.unwrap().iter().all(|mount| mount.success));
            machine.mount.write("x", "x");
            session.release(Default::default()).await.unwrap();
            let session = open(&machine, false).await.unwrap();
            machine.mount.write("y", "y");
            session.release(Default::default()).await.unwrap();
            assert_eq!(outside(&world, &machine.part).await, before);
            let there = paths_there(&world).await;
            assert_eq!(there[there.len() - 2..], ["n/m/x", "n/m/y"]);
        }
    }
}

#[tokio::test]
async fn required_paths_are_those_of_the_mount() {
    let (world, ..) = agreed().await;
    let machine =
        world.machine("session").of_part("d").with_policy(r#"{"downloadPolicy": {"autoDownload": false}}"#);
    let store = transfer_engine::Store::new(machine.objects.clone(), "test:", machine.env.clone());
    let params = |path: &str| {
        let mut sync = machine.context_sync();
        sync.required = vec![path.parse().unwrap()];
        CreateSessionParams::new(vec![sync], &machine.state)
    };
    let refused = Session::create(&store, params("d/x")).await.unwrap_err();
    assert!(refused.to_string().contains("`d/x` (not in the context)"), "{refused}");
    let session = Session::create(&store, params("y/z")).await.unwrap();
    assert_eq!(machine.mount.read("y/z"), "z");
    session.release(Default::default()).await.unwrap();
}

#[tokio::test]
async fn a_session_follows_its_part_to_a_new_name() {
    let (world, ..) = agreed().await;
    let machine = world.machine("session").of_part("d");
    let session = open(&machine, false).await.unwrap();
    session.wait_for(&Arrival::All).await.unwrap();
    let renamed = "renamed".parse().unwrap();
    world.store().rename_context(&context(), &renamed).await.unwrap();
    machine.mount.write("new", "new").remove("x");
    let released = session.release(Default::default()).await.unwrap();
    assert_eq!(released.mounts[0].place().to_string(), "renamed:d");
    let report = released.mounts[0].report.clone().unwrap();
    assert_eq!((report.added, report.deleted, report.conflicts), (1, 1, 0), "{report:?}");
    let mut there = Vec::new();
    let head = world.store().head(&renamed).await.unwrap();
    let each = |entry: transfer_engine::format::TreeEntry| there.push(entry.path.to_string());
    world.store().entries(&head, &TreePath::root(), each).await.unwrap();
    assert_eq!(there, ["a", "d/new", "d/y/z", "d-e", "e/x"]);
}
