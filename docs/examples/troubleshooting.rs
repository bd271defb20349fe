//! A sync with an unexpected result, and how to find the cause.

#![expect(clippy::print_stdout, reason = "an example is a program of its own")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use policy_core::{BwList, SyncPolicy, TreePath, WhiteList};
use transfer_engine::{
    Arrival, ContextSync, CreateSessionParams, Env, ReleaseOptions, Session, Store, mount_scope,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let workspace = place.path().join("my-workspace");
    let store = Store::new(Arc::new(InMemory::new()), "memory:", Env::real());
    store.init(Duration::from_secs(24 * 60 * 60)).await?;
    // The mistake: the mount is `my-workspace`, but the white list has the path of another directory.
    let white_list = WhiteList { path: "/home/wuying/project".into(), ..WhiteList::default() };
    let bw_list = BwList { white_lists: vec![white_list], ..BwList::default() };
    let policy = SyncPolicy { bw_list, ..SyncPolicy::default() };
    let name = "my-project".parse()?;
    store.create_context(&name).await?;
    std::fs::create_dir_all(&workspace)?;
    std::fs::write(workspace.join("notes.txt"), "remember me\n")?;
    let context_sync = ContextSync::new(name, &workspace, policy.clone());
    let params = CreateSessionParams::new(vec![context_sync], place.path().join("state"));
    let session = Session::create(&store, params).await?;
    session.wait_for(&Arrival::All).await?;
    session.context().sync().await;

    println!("== errors");
    // ANCHOR: errors
    let context_info = session.context().info();
    for status in &context_info.context_status_data {
        if let Some(error_message) = &status.error_message {
            println!("Sync error: {error_message}");
        }
        for error in &status.errors {
            println!("One path: {error}");
        }
        for warning in &status.warnings {
            println!("Warning: {warning}");
        }
    }
    // ANCHOR_END: errors

    println!("== explain");
    // ANCHOR: explain
    let scope = mount_scope(&policy, &workspace)?;
    let path: TreePath = "notes.txt".parse()?;
    let decision = scope.decide(&path, false);
    println!("notes.txt takes part: {} ({})", decision.in_scope, decision.rule);
    for list in scope.lists() {
        println!("{} is read as {}", list.path(), list.resolved().map_or("?".into(), TreePath::to_string));
    }
    // ANCHOR_END: explain
    session.release(ReleaseOptions::default()).await?;
    Ok(())
}
