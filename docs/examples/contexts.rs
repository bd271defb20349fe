//! The contexts of a store and their files, without a mount.

#![expect(clippy::print_stdout, reason = "an example is a program of its own")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
// ANCHOR: uses
use policy_core::TreePath;
use transfer_engine::{ContextName, ContextService, Env, Store, WriteOptions};
// ANCHOR_END: uses

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::new(Arc::new(InMemory::new()), "memory:", Env::real());
    store.init(Duration::from_secs(24 * 60 * 60)).await?;

    println!("== contexts");
    // ANCHOR: contexts
    let service = ContextService::new(&store);
    let name: ContextName = "my-project".parse()?;
    let context = service.get(&name, true).await?; // creates it if it does not exist
    println!("{}: snapshot {}, {} files", context.name, context.snapshot, context.files);

    service.create(&"scratch".parse()?).await?; // an error if it exists
    service.update(&"scratch".parse()?, &"notes".parse()?).await?; // renames it
    for context in service.list().await? {
        println!("{}", context.id());
    }
    // ANCHOR_END: contexts

    println!("== files");
    // ANCHOR: files
    let path: TreePath = "notes/today.md".parse()?;
    let written = service.write_file(&name, &path, &b"remember me"[..], &WriteOptions::default()).await?;
    println!("snapshot {:?}", written.snapshot);

    for file in service.list_files(&name, &"notes".parse()?).await? {
        println!("{} {:?}, {} bytes", file.path, file.kind, file.size);
    }

    let mut content = Vec::new();
    let all = 0..u64::MAX;
    service
        .read_file(&name, &path, all, |part| {
            content.extend_from_slice(&part);
            Ok(())
        })
        .await?;
    println!("{}", String::from_utf8_lossy(&content));

    service.delete_file(&name, &path).await?;
    // ANCHOR_END: files

    println!("== clear");
    // ANCHOR: clear
    service.write_file(&name, &path, &b"once more"[..], &WriteOptions::default()).await?;
    let cleared = service.clear(&name).await?; // a new snapshot without files
    println!("{} removed, snapshot {:?}", cleared.deleted, cleared.snapshot);
    service.delete(&name).await?; // the context and all its snapshots
    println!("{} left", service.list().await?.len());
    // ANCHOR_END: clear
    Ok(())
}
