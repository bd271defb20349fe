//! Which stores the probe accepts and which it refuses, and that it leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use ctxsync_tests::s3::S3Server;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use storage_backends::layer::{Fault, Faulty, Operation, Recording, Rule};
use storage_backends::{ProbeError, StoreOptions, StoreUrl, open, probe};

/// A store that overwrites objects in spite of a condition. With `lies` it reports that it did not.
#[derive(Debug)]
struct Ignoring {
    inner: InMemory,
    lies: bool,
}

impl fmt::Display for Ignoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ignoring")
    }
}

#[async_trait]
impl ObjectStore for Ignoring {
    async fn put_opts(&self, at: &Key, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let there = self.inner.head(at).await.is_ok();
        let create = opts.mode == PutMode::Create;
        opts.mode = PutMode::Overwrite;
        let result = self.inner.put_opts(at, payload, opts).await?;
        if self.lies && create && there {
            return Err(object_store::Error::AlreadyExists { path: at.to_string(), source: "lie".into() });
        }
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        at: &Key,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Key, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn contents(store: &dyn ObjectStore) -> Vec<ObjectMeta> {
    store.list(None).try_collect().await.unwrap()
}

#[tokio::test]
async fn n16_a_store_that_ignores_preconditions_is_refused_and_left_as_it_was() {
    for lies in [false, true] {
        let store = Ignoring { inner: InMemory::new(), lies };
        store.put(&Key::from("probe/mine"), "mine".into()).await.unwrap();
        store.put(&Key::from("packs/x"), "x".into()).await.unwrap();
        let before = contents(&store).await;
        let error = probe(&store).await.unwrap_err();
        assert!(matches!(error, ProbeError::IgnoresPreconditions), "{error:?}");
        assert_eq!(contents(&store).await, before);
    }
    assert_eq!(
        ProbeError::IgnoresPreconditions.to_string(),
        "the store ignores preconditions: it let a second writer replace an object that was to be created once. \
         Writers would overwrite each other's work there, so it is not used; choose a store that honours \
         `If-None-Match: *`"
    );
}

#[tokio::test]
async fn n16_over_http_as_well() {
    let server = S3Server::start_ignoring_preconditions().unwrap();
    let url = StoreUrl::parse(&server.url("p"), Path::new("/")).unwrap();
    let store = open(&url, &StoreOptions::default().with_env(server.env())).unwrap().store;
    let error = probe(&store).await.unwrap_err();
    assert!(matches!(error, ProbeError::IgnoresPreconditions), "{error:?}");
    assert!(contents(&store).await.is_empty());
}

#[tokio::test]
async fn n17_a_missing_bucket_is_said_to_be_missing() {
    let server = S3Server::start().unwrap();
    let url = StoreUrl::parse("s3://none/p", Path::new("/")).unwrap();
    let store = open(&url, &StoreOptions::default().with_env(server.env())).unwrap().store;
    let error = probe(&store).await.unwrap_err();
    assert!(matches!(error, ProbeError::Missing { .. }), "{error:?}");
}

fn faulty(rule: Rule) -> Faulty {
    let faulty = Faulty::new(Arc::new(InMemory::new()), 0);
    faulty.add(rule);
    faulty
}

#[tokio::test]
async fn n14_missing_permissions_are_told_apart() {
    let write = probe(&faulty(Rule::new(Fault::Denied).on(Operation::Put))).await.unwrap_err();
    assert!(matches!(write, ProbeError::NoWritePermission { .. }), "{write:?}");
    let read = probe(&faulty(Rule::new(Fault::Denied).on(Operation::Get))).await.unwrap_err();
    assert!(matches!(read, ProbeError::NoReadPermission { action: "read", .. }), "{read:?}");
    let list = probe(&faulty(Rule::new(Fault::Denied).on(Operation::List))).await.unwrap_err();
    assert!(matches!(list, ProbeError::NoReadPermission { action: "listed", .. }), "{list:?}");
    let delete = probe(&faulty(Rule::new(Fault::Denied).on(Operation::Delete))).await.unwrap();
    assert!(!delete.deletes);
}

#[tokio::test]
async fn n10_a_conflict_with_nothing_stored_is_not_taken_for_a_refusal() {
    let store = faulty(Rule::new(Fault::AlreadyExistsThoughAbsent).on(Operation::Put));
    let error = probe(&store).await.unwrap_err();
    assert!(matches!(error, ProbeError::NotVisible { .. }), "{error:?}");
}

#[tokio::test]
async fn n7_a_first_put_whose_reply_was_lost_is_no_trouble() {
    let store = faulty(Rule::new(Fault::AlreadyExistsThoughStored).on(Operation::Put).nth(1));
    probe(&store).await.unwrap();
    assert!(contents(&store).await.is_empty());
}

#[tokio::test]
async fn whatever_fails_nothing_stays() {
    for operation in [Operation::Put, Operation::Get, Operation::List] {
        for nth in [1, 2] {
            for fault in [Fault::FailBefore, Fault::FailAfter, Fault::FlipBit(0), Fault::Truncate(0)] {
                let store = faulty(Rule::new(fault).on(operation).nth(nth));
                let outcome = probe(&store).await;
                assert_eq!(
                    outcome.is_err(),
                    !store.injections().is_empty(),
                    "{operation} {fault:?}: {outcome:?}"
                );
                store.clear();
                assert!(contents(&store).await.is_empty(), "{operation} {fault:?}");
            }
        }
    }
}

#[tokio::test]
async fn it_takes_five_requests() {
    let store = Recording::new(Arc::new(InMemory::new()));
    let found = probe(&store).await.unwrap();
    let counts = store.counts();
    assert_eq!((counts.puts, counts.gets, counts.lists, counts.deletes), (2, 1, 1, 1));
    assert_eq!(counts.requests(), 5);
    assert!(store.requests()[..2].iter().all(|request| request.create));
    let age = std::time::SystemTime::now().duration_since(found.store_time).unwrap();
    assert!(age.as_secs() < 60 && found.deletes);
}
