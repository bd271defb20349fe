//! What tests of merges do again and again. `CTXSYNC_SEEDS=500` tries so many random trees.

use std::collections::BTreeMap;

use ctxsync_tests::place::{Place, content_of, name};
use ctxsync_tests::random::Random;
use transfer_engine::format::TreeEntry;
use transfer_engine::{ContextService, MergeOptions, Silent, SyncReport};

/// A context's files.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) async fn files(place: &Place, context: &str) -> Files {
    entries(place, context).await.into_iter().filter_map(|(path, content)| Some((path, content?))).collect()
}

/// Returns a context's files, and its directories that are listed, without content.
pub(crate) async fn entries(place: &Place, context: &str) -> BTreeMap<String, Option<Vec<u8>>> {
    let store = place.store();
    let content = content_of(&store, &store.head(&name(context)).await.unwrap()).await.2;
    let entry = |(entry, bytes): (TreeEntry, _)| {
        (entry.path.to_string(), Some(bytes).filter(|_| !entry.entry.is_dir()))
    };
    content.into_iter().map(entry).collect()
}

pub(crate) async fn remove(place: &Place, context: &str, path: &str) {
    let store = place.store();
    let paths = [path.parse().unwrap()];
    ContextService::new(&store).delete_files(&name(context), &paths, true).await.unwrap();
}

pub(crate) async fn fork(place: &Place, from: &str, to: &str) {
    place.store().fork_context(&name(from), None, &name(to)).await.unwrap();
}

pub(crate) async fn merge_with(place: &Place, from: &str, into: &str, options: &MergeOptions) -> SyncReport {
    place.store().merge_context(&name(from), None, &name(into), options, &Silent).await.unwrap()
}

pub(crate) async fn merge(place: &Place, from: &str, into: &str) -> SyncReport {
    merge_with(place, from, into, &MergeOptions::default()).await
}

/// Changes some files of a context, out of those that `paths` names.
pub(crate) async fn change(place: &Place, random: &mut Random, context: &str, paths: &[&str], most: usize) {
    for _ in 0..random.below(most + 1) {
        let path = paths[random.below(paths.len())];
        let there = entries(place, context).await;
        let holds = |dir: &str| there.keys().any(|p| p.starts_with(&format!("{dir}/")));
        let is_dir = there.get(path).is_some_and(Option::is_none);
        let is_below_file = there.iter().any(|(p, c)| c.is_some() && path.starts_with(&format!("{p}/")));
        if random.below(3) == 0 {
            if there.contains_key(path) || holds(path) {
                remove(place, context, path).await;
            }
        } else if !is_dir && !is_below_file && !holds(path) {
            // Few contents, so that both sides sometimes make the same change.
            let content = format!("content {}", random.below(4)).repeat(20);
            place.write(context, path, content.as_bytes()).await;
        }
    }
}

pub(crate) fn seeds() -> u64 {
    std::env::var("CTXSYNC_SEEDS").ok().map_or(25, |seeds| seeds.parse().unwrap())
}
