//! Manual syncs, and the end of a session.

#![expect(clippy::print_stdout, reason = "an example is a program of its own")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use policy_core::{SyncPolicy, UploadPolicy};
use transfer_engine::{
    ContextSync, CreateSessionParams, Direction, Env, ReleaseOptions, Session, Store, SyncParams,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let workspace = place.path().join("my-workspace");
    let state_dir = place.path().join("state");
    std::fs::create_dir_all(&workspace)?;
    let store = Store::new(Arc::new(InMemory::new()), "memory:", Env::real());
    store.init(Duration::from_secs(24 * 60 * 60)).await?;
    let session = by_hand(&store, &workspace, &state_dir).await?;

    println!("== sync");
    std::fs::write(workspace.join("model.bin"), "weights, first version")?;
    // ANCHOR: sync
    let sync_result = session.context().sync().await;
    if sync_result.success {
        println!("Sync successful");
    } else {
        println!("Sync failed: {}", sync_result.error_message.unwrap_or_default());
    }
    // ANCHOR_END: sync

    println!("== directions");
    std::fs::write(workspace.join("model.bin"), "weights, second version")?;
    // ANCHOR: directions
    let params = SyncParams {
        context_id: Some("my-models".parse()?), // or a mount's path; without either, every mount
        mode: Direction::Both,
        ..SyncParams::default()
    };
    let sync_result = session.context().sync_with(params).await;
    for mount in &sync_result.mounts {
        if let Some(report) = &mount.report {
            println!("{}: {} changed, snapshot {:?}", mount.context_id, report.changed, report.snapshot);
        }
    }
    // ANCHOR_END: directions

    println!("== background");
    // ANCHOR: background
    let (done, result) = tokio::sync::oneshot::channel();
    session.context().sync_in_background(SyncParams::default(), |sync_result| {
        done.send(sync_result.success).ok();
    });
    // ... the program goes on. The callback is called once.
    println!("Background sync successful: {}", result.await?);
    // ANCHOR_END: background

    println!("== delete");
    std::fs::write(workspace.join("model.bin"), "weights, third version")?;
    // ANCHOR: delete
    let delete_result = transfer_engine::delete(session, true).await;
    println!("Saved and released: {}", delete_result.success);
    // ANCHOR_END: delete

    println!("== deadline");
    let session = by_hand(&store, &workspace, &state_dir).await?;
    std::fs::write(workspace.join("model.bin"), "weights, fourth version")?;
    // ANCHOR: deadline
    let deadline = tokio::time::Instant::now() + Duration::from_secs(25);
    let how = ReleaseOptions { sync_context: true, deadline: Some(deadline) };
    for mount in session.release(how).await?.mounts {
        let report = mount.report.as_ref().ok_or("nothing was saved")?;
        println!("{}: snapshot {:?}, partial: {}", mount.context_id, report.snapshot, report.partial);
    }
    // ANCHOR_END: deadline
    Ok(())
}

/// Opens a session in which only manual syncs push.
async fn by_hand(store: &Store, workspace: &Path, state_dir: &Path) -> Result<Session, Box<dyn Error>> {
    let upload_policy = UploadPolicy { auto_upload: false, ..UploadPolicy::default() };
    let policy = SyncPolicy { upload_policy, ..SyncPolicy::default() };
    let context_sync = ContextSync::new("my-models".parse()?, workspace, policy);
    Ok(Session::create(store, CreateSessionParams::new(vec![context_sync], state_dir)).await?)
}
