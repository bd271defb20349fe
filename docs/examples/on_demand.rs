//! Files that are pulled when they are asked for, and another context in a running session.

#![expect(clippy::print_stdout, reason = "an example is a program of its own")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use policy_core::{DownloadPolicy, SyncPolicy};
use transfer_engine::{
    Arrival, ContextSync, CreateSessionParams, Direction, Env, ReleaseOptions, Session, Store, SyncParams,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let store = Store::new(Arc::new(InMemory::new()), "memory:", Env::real());
    store.init(Duration::from_secs(24 * 60 * 60)).await?;
    elsewhere(&store, &place.path().join("elsewhere")).await?;
    let datasets = place.path().join("datasets");
    let state_dir = place.path().join("state");

    println!("== fetch");
    // ANCHOR: fetch
    let download_policy = DownloadPolicy { auto_download: false, ..DownloadPolicy::default() };
    let policy = SyncPolicy { download_policy, ..SyncPolicy::default() };
    let context_sync = ContextSync::new("datasets".parse()?, &datasets, policy);
    let session = Session::create(&store, CreateSessionParams::new(vec![context_sync], &state_dir)).await?;

    let report = session.fetch(&datasets, &["index.csv".parse()?]).await?;
    println!("{} brought", report.added);
    println!("index.csv: {}", datasets.join("index.csv").exists());
    println!("2024/: {}", datasets.join("2024").exists());
    // ANCHOR_END: fetch

    println!("== wait");
    // ANCHOR: wait
    let below = Arrival::Paths { mount: datasets.clone(), paths: vec!["2024".parse()?] };
    for result in session.wait_for(&below).await? {
        println!("2024/: {}", if result.success { "all there" } else { "not all there" });
    }

    // Or pull everything that is left, by a manual download:
    let params = SyncParams { mode: Direction::Download, ..SyncParams::default() };
    let result = session.context().sync_with(params).await;
    println!("everything: {}", result.success);
    // ANCHOR_END: wait

    println!("== bind");
    let models = place.path().join("models");
    // ANCHOR: bind
    let context_sync = ContextSync::new("models".parse()?, &models, SyncPolicy::default());
    session.context().bind(context_sync).await?;
    println!("{} tasks", session.context().info().context_status_data.len());
    // ANCHOR_END: bind

    println!("== part");
    let year = place.path().join("year");
    // ANCHOR: part
    let context_sync = ContextSync::new("datasets".parse()?, &year, SyncPolicy::default());
    session.context().bind(context_sync.with_part("2024".parse()?)).await?;
    session.wait_for(&Arrival::All).await?;
    println!("a.parquet: {}", year.join("a.parquet").exists());
    // ANCHOR_END: part
    session.release(ReleaseOptions::default()).await?;
    Ok(())
}

/// Fills the context like another machine.
async fn elsewhere(store: &Store, machine: &Path) -> Result<(), Box<dyn Error>> {
    let mount = machine.join("datasets");
    std::fs::create_dir_all(mount.join("2024"))?;
    std::fs::create_dir_all(mount.join("2025"))?;
    for file in ["index.csv", "2024/a.parquet", "2024/b.parquet", "2025/a.parquet"] {
        std::fs::write(mount.join(file), file)?;
    }
    let context_sync = ContextSync::new("datasets".parse()?, &mount, SyncPolicy::default());
    let params = CreateSessionParams::new(vec![context_sync], machine.join("state"));
    let released = Session::create(store, params).await?.release(ReleaseOptions::default()).await?;
    if released.mounts.iter().all(|mount| mount.success()) { Ok(()) } else { Err("not saved".into()) }
}
