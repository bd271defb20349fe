//! `cat`: a file of a context on the standard output.

use std::io;

use policy_core::{Node, TreePath};
use transfer_engine::format::Snapshot;
use transfer_engine::{Error, Store, SyncReport};

use super::Finished;
use crate::args::CatArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;

pub(super) async fn cat(args: &CatArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let ui = means.ui;
    let (context, path) = (&args.place.context, &args.place.path);
    if path.is_root() {
        return Err(Failure::usage("no file was given").hint("a file of a context is written NAME:PATH"));
    }
    let store = open_store(means, false)?.store;
    let snapshot = store.snapshot(&context.name, context.at.clone()).await?;
    let file = match store.entry(&snapshot, path).await {
        Err(Error::NoPath { .. }) if is_implied(&store, &snapshot, path).await? => {
            return Err(Failure::new(Exit::FAILED, format!("`{path}` is a directory, not a file")));
        }
        found => found?,
    };
    let Node::File { size, .. } = file.entry.node else {
        let kind = if file.entry.is_dir() { "a directory" } else { "a symbolic link" };
        return Err(Failure::new(Exit::FAILED, format!("`{path}` is {kind}, not a file")));
    };
    let range = args.range.map_or(0..size, |range| range.within(size));
    let read = store
        .read_file(&file, range, |bytes| {
            ui.bytes(&bytes);
            // If the reader is gone, the rest of the file need not be fetched.
            if ui.is_read() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        })
        .await;
    match read {
        Err(_) if !ui.is_read() => {}
        read => read?,
    }
    let report = SyncReport { snapshot: Some(snapshot.number), ..SyncReport::default() };
    Ok(Finished { report: Some(report), ..Finished::of_context(&context.name) })
}

/// Whether the path is a directory without an entry, implied by what is in it.
async fn is_implied(store: &Store, snapshot: &Snapshot, path: &TreePath) -> Result<bool, Error> {
    let mut found = false;
    store.entries(snapshot, path, |entry| found |= !entry.recycled).await?;
    Ok(found)
}
