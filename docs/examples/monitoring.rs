//! The status of a session's tasks, from inside and from another process.

#![expect(clippy::print_stdout, reason = "an example is a program of its own")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use policy_core::SyncPolicy;
use transfer_engine::{Arrival, ContextSync, CreateSessionParams, Env, ReleaseOptions, Session, Store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let workspace = place.path().join("my-workspace");
    let state_dir = place.path().join("state");
    let store = Store::new(Arc::new(InMemory::new()), "memory:", Env::real());
    store.init(Duration::from_secs(24 * 60 * 60)).await?;
    let name = "my-project".parse()?;
    store.create_context(&name).await?;
    std::fs::create_dir_all(&workspace)?;
    std::fs::write(workspace.join("notes.txt"), "remember me\n")?;
    let context_sync = ContextSync::new(name, &workspace, SyncPolicy::default());
    let session = Session::create(&store, CreateSessionParams::new(vec![context_sync], &state_dir)).await?;
    session.wait_for(&Arrival::All).await?;
    session.context().sync().await;

    println!("== info");
    // ANCHOR: info
    let context_info = session.context().info();

    println!("Sync status data: {} items", context_info.context_status_data.len());
    for status in &context_info.context_status_data {
        println!("Context ID: {}", status.context_id);
        println!("Path: {}", status.path);
        println!("Status: {:?}", status.status);
        println!("Task Type: {:?}", status.task_type);
        println!("Start Time: {}", status.start_time.as_deref().unwrap_or("-"));
        println!("Finish Time: {}", status.finish_time.as_deref().unwrap_or("-"));
        if let Some(error_message) = &status.error_message {
            println!("Error Message: {error_message}");
        }
        println!("Files: {} of {}, snapshot {:?}", status.files_done, status.total_files, status.snapshot);
        println!("---");
    }
    // ANCHOR_END: info
    session.release(ReleaseOptions::default()).await?;

    println!("== status");
    // ANCHOR: status
    // From any process, even after the session: what `ctxsync status` shows.
    for task in transfer_engine::status(&state_dir, Some(&workspace))? {
        println!(
            "{:?} {:?}, {} pending, released: {}",
            task.task_type, task.status, task.pending, task.released
        );
    }
    // ANCHOR_END: status
    Ok(())
}
