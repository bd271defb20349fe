//! One suite for every backend and every layer.
//!
//! With `CTXSYNC_TEST_S3_ENDPOINT` and the usual `AWS_*` variables it also runs against that server, in the
//! bucket `CTXSYNC_TEST_S3_BUCKET` (default `ctxsync-test`), which must exist. With `CTXSYNC_TEST_STORE` it
//! runs against the store at that URL, with the usual variables of its cloud.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod suite;

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::s3::S3Server;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use storage_backends::layer::{Bandwidth, Fault, Faulty, Latency, Recording, Rule};
use storage_backends::{StoreOptions, StoreUrl, open, probe};

fn opened(url: &str, options: &StoreOptions) -> Arc<dyn ObjectStore> {
    open(&StoreUrl::parse(url, Path::new("/")).unwrap(), options).unwrap().store
}

fn memory() -> Arc<dyn ObjectStore> {
    opened("memory:", &StoreOptions::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/st%C3%B6re with spaces");
    let mut options = StoreOptions::default();
    options.create = true;
    let store = opened(path.to_str().unwrap(), &options);
    probe(&store).await.unwrap();
    suite::run(store).await;
    let left: Vec<_> = std::fs::read_dir(path).unwrap().collect();
    assert!(left.is_empty(), "a deletion leaves no directories: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_memory_below_a_prefix() {
    suite::run(memory()).await;
    suite::run(opened("memory:/some/prefix", &StoreOptions::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_loopback() {
    let server = S3Server::start().unwrap();
    let options = StoreOptions::default().with_env(server.env());
    let store = opened(&server.url("some/prefix"), &options);
    probe(&store).await.unwrap();
    suite::run(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_loopback_every_answer_has_the_same_etag_until_the_object_changes() {
    let server = S3Server::start().unwrap();
    let store = opened(&server.url("prefix"), &StoreOptions::default().with_env(server.env()));
    let key = object_store::path::Path::from("some/key");
    let mut seen = Vec::new();
    // Sizes below and above the server's limit for an MD5 as ETag, each with two contents.
    for body in [vec![1; 3], vec![2; 3], vec![3; 2 << 20], vec![4; 2 << 20]] {
        let put = store.put(&key, body.into()).await.unwrap().e_tag.unwrap();
        assert_eq!(store.head(&key).await.unwrap().e_tag.as_ref(), Some(&put));
        assert_eq!(store.get(&key).await.unwrap().meta.e_tag.as_ref(), Some(&put));
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed[0].e_tag.as_ref(), Some(&put));
        assert!(!seen.contains(&put), "{put}");
        seen.push(put);
    }
    assert_eq!(seen[0], "\"12f023f06e7ec12986f1ff0a2e26188e\"", "the MD5 of three ones");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_given_from_outside() {
    let Ok(endpoint) = std::env::var("CTXSYNC_TEST_S3_ENDPOINT") else { return };
    let bucket = std::env::var("CTXSYNC_TEST_S3_BUCKET").unwrap_or_else(|_| "ctxsync-test".to_owned());
    let options =
        StoreOptions::default().with_env(std::env::vars()).with_settings([("endpoint".to_owned(), endpoint)]);
    let store = opened(&format!("s3://{bucket}/conformance/{}", std::process::id()), &options);
    probe(&store).await.unwrap();
    suite::run(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_given_from_outside() {
    let Ok(url) = std::env::var("CTXSYNC_TEST_STORE") else { return };
    let options = StoreOptions::default().with_env(std::env::vars());
    let store = opened(&format!("{url}/conformance/{}", std::process::id()), &options);
    probe(&store).await.unwrap();
    suite::run(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layer_is_transparent() {
    let rate = NonZeroU64::new(4 << 30);
    suite::run(Arc::new(Recording::new(memory()))).await;
    suite::run(Arc::new(Latency::new(memory(), Duration::from_micros(50)))).await;
    suite::run(Arc::new(Bandwidth::new(memory(), rate, rate))).await;
    let faulty = Faulty::new(memory(), 1);
    faulty.add(Rule::new(Fault::FailBefore).below("never").chance(0.5));
    suite::run(Arc::new(faulty)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_layers_round_a_directory_are_transparent() {
    let dir = tempfile::tempdir().unwrap();
    let rate = NonZeroU64::new(4 << 30);
    let local = opened(dir.path().to_str().unwrap(), &StoreOptions::default());
    let slow = Bandwidth::new(local, rate, rate);
    let late = Latency::new(Arc::new(slow), Duration::from_micros(50));
    let faulty = Faulty::new(Arc::new(late), 1);
    suite::run(Arc::new(Recording::counting(Arc::new(faulty)))).await;
}
