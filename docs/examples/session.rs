//! A session: its mounts are opened, changed and released. The next machine goes on from there.

#![expect(clippy::print_stdout, reason = "an example is a program of its own")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

// ANCHOR: uses
use policy_core::{BwList, SyncPolicy, WhiteList};
use storage_backends::{StoreOptions, StoreUrl};
use transfer_engine::{Arrival, ContextSync, CreateSessionParams, Env, ReleaseOptions, Session, Store};
// ANCHOR_END: uses

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Two directories take the place of two machines.
    let place = tempfile::tempdir()?;
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    let store = open_store(&place.path().join("store")).await?;

    println!("== create");
    first_machine(&store, &first).await?;
    println!("== second");
    second_machine(&store, &second).await
}

// ANCHOR: store
async fn open_store(place: &Path) -> Result<Store, Box<dyn Error>> {
    // Or "s3://bucket/prefix", "gs://...", "az://..."; credentials go into the options.
    let url = StoreUrl::parse(&place.to_string_lossy(), Path::new("/"))?;
    let mut options = StoreOptions::default();
    options.create = true; // creates the directory of a local store
    let opened = storage_backends::open(&url, &options)?;
    let mut store = Store::new(opened.store, opened.url, Env::real());
    if let Some(dir) = opened.local_dir {
        store = store.listed_in_order().in_directory(dir); // so that a store inside a mount is not pushed
    }
    store.init(Duration::from_secs(24 * 60 * 60)).await?; // an existing store is not changed
    Ok(store)
}
// ANCHOR_END: store

fn policy() -> SyncPolicy {
    // ANCHOR: relative
    let white_list =
        WhiteList { path: "src".into(), exclude_paths: vec!["target".into()], ..WhiteList::default() };
    let bw_list = BwList { white_lists: vec![white_list], ..BwList::default() };
    let sync_policy = SyncPolicy { bw_list, ..SyncPolicy::default() };
    // ANCHOR_END: relative
    sync_policy
}

async fn first_machine(store: &Store, machine: &Path) -> Result<(), Box<dyn Error>> {
    let sync_policy = policy();
    let workspace = machine.join("my-workspace");
    // ANCHOR: create
    let context_sync = ContextSync::new("my-project".parse()?, &workspace, sync_policy);
    let params = CreateSessionParams::new(vec![context_sync], machine.join("state"));
    let session = Session::create(store, params).await?;

    std::fs::create_dir_all(workspace.join("src"))?;
    std::fs::write(workspace.join("src/main.rs"), "fn main() {}\n")?;

    let released = session.release(ReleaseOptions::default()).await?;
    for mount in &released.mounts {
        let report = mount.report.as_ref().ok_or("nothing was saved")?;
        println!("{}: snapshot {:?}, {} added", mount.context_id, report.snapshot, report.added);
    }
    // ANCHOR_END: create
    Ok(())
}

async fn second_machine(store: &Store, machine: &Path) -> Result<(), Box<dyn Error>> {
    let sync_policy = policy();
    let workspace = machine.join("my-workspace");
    let context_sync = ContextSync::new("my-project".parse()?, &workspace, sync_policy);
    let params = CreateSessionParams::new(vec![context_sync], machine.join("state"));
    // ANCHOR: second
    let session = Session::create(store, params).await?;
    session.wait_for(&Arrival::All).await?;
    println!("src/main.rs: {}", std::fs::read_to_string(workspace.join("src/main.rs"))?.trim_end());
    // ANCHOR_END: second
    session.release(ReleaseOptions::default()).await?;
    Ok(())
}
