//! The status of a session, as it is seen by the session and by other processes.

use std::sync::Arc;

use ctxsync_tests::machine::{Machine, World};
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::{Arrival, TaskState, TaskStatus, TaskType, status};

use crate::gate::Gate;
use crate::{BEFORE_START, eventually, open, release};

/// Returns a task as another process sees it.
fn seen(machine: &Machine, task_type: TaskType) -> TaskStatus {
    let tasks = status(&machine.state, Some(&machine.mount.0)).unwrap();
    tasks.into_iter().find(|t| t.task_type == task_type).unwrap()
}

async fn gated() -> (World, Machine, Gate) {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount.write("x", "12345").write("y", "1");
    a.push().await.clean();
    let gate = Gate::new(Arc::clone(&world.objects));
    b.objects = Arc::new(gate.clone());
    gate.hold_packs();
    (world, b, gate)
}

#[tokio::test]
async fn every_stage_is_seen_from_outside() {
    let (_world, b, gate) = gated().await;
    let session = open(&b).await;
    gate.somebody_waits().await;
    let (up, down) = (seen(&b, TaskType::Upload), seen(&b, TaskType::Download));
    assert_eq!((up.status, up.start_time), (TaskState::Waiting, None));
    assert_eq!((down.status, down.finish_time), (TaskState::Running, None));
    assert_eq!((&down.session[..], &down.context_id[..]), (session.id(), "work"));
    assert_eq!(down.path, b.mount.0.to_str().unwrap());
    eventually("the phase is seen", async || seen(&b, TaskType::Download).phase == "downloading").await;
    gate.open();
    session.wait_for(&Arrival::All).await.unwrap();
    let down = seen(&b, TaskType::Download);
    assert_eq!((down.status, down.files_done, down.bytes_done), (TaskState::Success, 2, 6));
    assert!(down.finish_time.is_some() && down.pending == 0);
    assert_eq!(session.context().info().context_status_data, [seen(&b, TaskType::Upload), down]);

    b.mount.write("z", "new here");
    gate.hold_packs();
    let syncing = tokio::spawn({
        let session = session.clone();
        async move { session.context().sync().await.success }
    });
    gate.somebody_waits().await;
    assert_eq!(seen(&b, TaskType::Upload).status, TaskState::Running);
    gate.open();
    assert!(syncing.await.unwrap());
    assert_eq!(seen(&b, TaskType::Upload).snapshot, Some(3));
    assert!(!seen(&b, TaskType::Upload).released);
    release(&session).await;
    let up = seen(&b, TaskType::Upload);
    assert!(up.released && up.status == TaskState::Success && up.session == session.id());
}

#[tokio::test]
async fn what_failed_says_why() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    a.objects = Arc::new(faulty.clone());
    let session = open(&a).await;
    session.wait_for(&Arrival::All).await.unwrap();
    faulty.add(Rule::new(Fault::Denied).on(Operation::Put));
    a.mount.write("x", "1");
    let result = session.context().sync().await;
    assert!(!result.success);
    let up = seen(&a, TaskType::Upload);
    assert_eq!(up.status, TaskState::Failed);
    assert!(up.error_message.unwrap().contains("injected"), "{:?}", result.error_message);
    let failed = release(&session).await;
    assert!(!failed.mounts[0].success());
    // The lock is free nevertheless.
    drop(a.open().unwrap());
}

#[tokio::test]
async fn after_a_drop_nothing_is_shown_as_running() {
    let (_world, b, gate) = gated().await;
    let session = open(&b).await;
    gate.somebody_waits().await;
    drop(session);
    eventually("it is interrupted", async || {
        let (up, down) = (seen(&b, TaskType::Upload), seen(&b, TaskType::Download));
        up.status == TaskState::Failed && down.status == TaskState::Failed
    })
    .await;
    let up = seen(&b, TaskType::Upload);
    assert!(up.error_message.unwrap().contains("without a release"));
    gate.open();
}

#[tokio::test]
async fn a_file_that_a_dead_process_left_is_no_running_task() {
    let (_world, b, gate) = gated().await;
    let session = open(&b).await;
    gate.somebody_waits().await;
    let file = b.state_file("status.json").unwrap();
    let left = std::fs::read(&file).unwrap();
    gate.open();
    release(&session).await;
    // SIGKILL leaves a file that describes a running task, without a process.
    std::fs::write(&file, &left).unwrap();
    let down = seen(&b, TaskType::Download);
    assert_eq!(down.status, TaskState::Failed);
    assert!(down.error_message.unwrap().contains("interrupted"));
    std::fs::write(&file, b"[{").unwrap();
    assert!(status(&b.state, None).unwrap().is_empty());
}

#[tokio::test]
async fn a_session_that_could_not_be_opened_leaves_its_reason() {
    let world = World::memory().await;
    let mut a = world.machine("a").with_policy(BEFORE_START);
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    faulty.add(Rule::new(Fault::Denied).on(Operation::List));
    a.objects = Arc::new(faulty);
    assert!(crate::try_open(&a).await.is_err());
    let tasks = status(&a.state, None).unwrap();
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].task_type, tasks[0].status), (TaskType::Download, TaskState::Failed));
    drop(a.open().unwrap());
}
