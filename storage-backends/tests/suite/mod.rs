//! What every store must do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

/// Runs everything against an empty store, and leaves it empty.
pub(crate) async fn run(store: Arc<dyn ObjectStore>) {
    let store = &store;
    missing(store).await;
    put_and_read(store).await;
    ranges(store).await;
    empty_object(store).await;
    odd_keys(store).await;
    listings(store).await;
    put_if_absent(store).await;
    put_if_absent_in_a_race(store).await;
    copies(store).await;
    many_deletions(store).await;
    upload_in_parts(store).await;
    large_object(store).await;
    last_modified(store).await;
    assert_eq!(keys(store, "").await, Vec::<String>::new(), "the suite leaves nothing");
}

fn key(text: &str) -> Path {
    Path::parse(text).unwrap()
}

async fn put(store: &dyn ObjectStore, at: &str, body: &'static str) {
    store.put(&key(at), body.into()).await.unwrap();
}

async fn body(store: &dyn ObjectStore, at: &str) -> Bytes {
    store.get(&key(at)).await.unwrap().bytes().await.unwrap()
}

async fn delete(store: &dyn ObjectStore, keys: &[&str]) {
    for at in keys {
        store.delete(&key(at)).await.unwrap();
    }
}

async fn keys(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let prefix = key(prefix);
    let prefix = (!prefix.is_root()).then_some(&prefix);
    store.list(prefix).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
}

fn create() -> PutOptions {
    PutMode::Create.into()
}

async fn missing(store: &dyn ObjectStore) {
    let at = key("no/such/key");
    assert!(matches!(store.get(&at).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.head(&at).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.get_range(&at, 0..1).await, Err(Error::NotFound { .. })));
    // Deleting a missing key succeeds on S3, and fails with "not found" in a directory.
    assert!(matches!(store.delete(&at).await, Ok(()) | Err(Error::NotFound { .. })));
    assert!(keys(store, "no").await.is_empty());
    assert!(keys(store, "").await.is_empty());
}

async fn put_and_read(store: &dyn ObjectStore) {
    put(store, "a/b", "first").await;
    assert_eq!(body(store, "a/b").await, "first");
    put(store, "a/b", "the second").await;
    assert_eq!(body(store, "a/b").await, "the second");
    let head = store.head(&key("a/b")).await.unwrap();
    assert_eq!((head.location, head.size), (key("a/b"), 10));
    let got = store.get(&key("a/b")).await.unwrap();
    assert_eq!((got.meta.location.clone(), got.meta.size, got.range.clone()), (key("a/b"), 10, 0..10));
    let pieces: Vec<Bytes> = got.into_stream().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"the second");
    // A payload of several pieces is one body.
    let payload: PutPayload = ["in ", "three ", "pieces"].map(Bytes::from).into_iter().collect();
    store.put(&key("a/b"), payload).await.unwrap();
    assert_eq!(body(store, "a/b").await, "in three pieces");
    delete(store, &["a/b"]).await;
    assert!(matches!(store.get(&key("a/b")).await, Err(Error::NotFound { .. })));
}

async fn ranges(store: &dyn ObjectStore) {
    put(store, "r", "0123456789").await;
    let at = key("r");
    assert_eq!(store.get_range(&at, 2..5).await.unwrap(), "234");
    assert_eq!(store.get_range(&at, 9..10).await.unwrap(), "9");
    let suffix = GetOptions::new().with_range(Some(GetRange::Suffix(3)));
    match store.get_opts(&at, suffix).await {
        Ok(got) => {
            assert_eq!((got.range.clone(), got.meta.size), (7..10, 10));
            assert_eq!(got.bytes().await.unwrap(), "789");
        }
        // Azure does not support suffix ranges, so nothing may depend on them.
        Err(error) => assert!(matches!(error, Error::NotSupported { .. }), "{error:?}"),
    }
    let offset = GetOptions::new().with_range(Some(GetRange::Offset(8)));
    assert_eq!(store.get_opts(&at, offset).await.unwrap().bytes().await.unwrap(), "89");
    // The end of a range may be after the object's end, the start may not.
    assert_eq!(store.get_range(&at, 8..100).await.unwrap(), "89");
    assert!(store.get_range(&at, 100..101).await.is_err());
    assert_eq!(store.get_ranges(&at, &[7..9, 0..2, 1..4]).await.unwrap(), ["78", "01", "123"]);
    assert!(store.get_ranges(&at, &[]).await.unwrap().is_empty());
    delete(store, &["r"]).await;
}

async fn empty_object(store: &dyn ObjectStore) {
    put(store, "empty", "").await;
    assert_eq!(store.head(&key("empty")).await.unwrap().size, 0);
    assert!(body(store, "empty").await.is_empty());
    assert_eq!(keys(store, "").await, ["empty"]);
    delete(store, &["empty"]).await;
}

async fn odd_keys(store: &dyn ObjectStore) {
    let odd = [
        "~tilde/~",
        "per%cent/%2F%",
        "equal=s/a=b",
        "plus+/a b",
        "日本語/ñandú",
        "a&b'(c)!/$@,;:",
        "h#sh/a#b",
    ];
    for at in odd {
        store.put_opts(&key(at), at.to_owned().into(), create()).await.unwrap();
    }
    let mut expected = odd.map(str::to_owned).to_vec();
    expected.sort_unstable();
    assert_eq!(keys(store, "").await, expected);
    for at in odd {
        assert_eq!(body(store, at).await, at);
        assert_eq!(store.head(&key(at)).await.unwrap().location, key(at));
        let (parent, _) = at.rsplit_once('/').unwrap();
        assert_eq!(keys(store, parent).await, [at]);
        let again = store.put_opts(&key(at), "again".into(), create()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{at}: {again:?}");
    }
    delete(store, &odd).await;
}

async fn listings(store: &dyn ObjectStore) {
    // In byte order `-` and `.` come before `/`, unlike in a walk of directories.
    let all = ["l/a-b", "l/a.b", "l/a/b", "l/a/c/d", "l/a0", "l/b", "lx"];
    for at in all.iter().rev() {
        put(store, at, "x").await;
    }
    assert_eq!(keys(store, "").await, all);
    assert_eq!(keys(store, "l").await, all[..6], "a prefix is of whole parts");
    assert_eq!(keys(store, "l/a").await, ["l/a/b", "l/a/c/d"]);
    assert_eq!(keys(store, "l/none").await, Vec::<String>::new());
    let first = store.list(Some(&key("l"))).next().await.unwrap().unwrap();
    assert_eq!((first.location, first.size), (key("l/a-b"), 1));
    let after: Vec<String> = store
        .list_with_offset(Some(&key("l")), &key("l/a/b"))
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(after, ["l/a/c/d", "l/a0", "l/b"]);
    let one_level = store.list_with_delimiter(Some(&key("l"))).await.unwrap();
    let objects: Vec<_> = one_level.objects.iter().map(|meta| meta.location.as_ref()).collect();
    assert_eq!(objects, ["l/a-b", "l/a.b", "l/a0", "l/b"]);
    assert_eq!(one_level.common_prefixes, [key("l/a")]);
    let top = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(top.common_prefixes, [key("l")]);
    delete(store, &all).await;
}

async fn put_if_absent(store: &dyn ObjectStore) {
    let at = key("once/only");
    store.put_opts(&at, "first".into(), create()).await.unwrap();
    for _ in 0..2 {
        let refused = store.put_opts(&at, "second".into(), create()).await;
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    }
    assert_eq!(body(store, "once/only").await, "first");
    delete(store, &["once/only"]).await;
    store.put_opts(&at, "third".into(), create()).await.unwrap();
    assert_eq!(body(store, "once/only").await, "third");
    delete(store, &["once/only"]).await;
}

async fn put_if_absent_in_a_race(store: &Arc<dyn ObjectStore>) {
    for round in 0..4 {
        let at = key(&format!("race/{round}"));
        let racers = (0..16).map(|racer| {
            let (store, at) = (store.clone(), at.clone());
            tokio::spawn(async move {
                let body = format!("racer {racer} {}", "x".repeat(1000 * racer));
                store.put_opts(&at, body.clone().into(), create()).await.map(|_| body)
            })
        });
        let results: Vec<_> = join_all(racers).await.into_iter().map(|joined| joined.unwrap()).collect();
        let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1, "one racer wins: {results:?}");
        let losers = results.iter().filter(|result| matches!(result, Err(Error::AlreadyExists { .. })));
        assert_eq!(losers.count(), 15, "all others are told so: {results:?}");
        assert_eq!(body(store, at.as_ref()).await, *winners[0]);
        store.delete(&at).await.unwrap();
    }
}

async fn copies(store: &dyn ObjectStore) {
    put(store, "from", "copied").await;
    store.copy(&key("from"), &key("to/there")).await.unwrap();
    assert_eq!(body(store, "to/there").await, "copied");
    store.rename(&key("to/there"), &key("to/here")).await.unwrap();
    assert_eq!(keys(store, "to").await, ["to/here"]);
    delete(store, &["from", "to/here"]).await;
}

async fn many_deletions(store: &dyn ObjectStore) {
    let all: Vec<Path> = (0..40).map(|number| key(&format!("many/{number:02}"))).collect();
    for at in &all {
        store.put(at, "x".into()).await.unwrap();
    }
    let doomed = futures::stream::iter(all.clone().into_iter().map(Ok)).boxed();
    let mut deleted: Vec<Path> = store.delete_stream(doomed).try_collect().await.unwrap();
    deleted.sort_unstable();
    assert_eq!(deleted, all);
    assert!(keys(store, "many").await.is_empty());
}

async fn upload_in_parts(store: &dyn ObjectStore) {
    let parts = [vec![1_u8; 5 << 20], vec![2_u8; 5 << 20], vec![3_u8; 1000]];
    let mut upload = store.put_multipart(&key("parts")).await.unwrap();
    for part in &parts {
        upload.put_part(part.clone().into()).await.unwrap();
    }
    assert!(keys(store, "").await.is_empty(), "nothing is to be seen before it is complete");
    upload.complete().await.unwrap();
    assert_eq!(body(store, "parts").await, parts.concat());
    delete(store, &["parts"]).await;
    let mut given_up = store.put_multipart(&key("parts")).await.unwrap();
    given_up.put_part(parts[0].clone().into()).await.unwrap();
    given_up.abort().await.unwrap();
    assert!(keys(store, "").await.is_empty());
}

async fn large_object(store: &dyn ObjectStore) {
    // Numbers, so that a piece at the wrong place is detected.
    let large: Bytes = (0..8_u32 << 20).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into();
    let at = key("large");
    store.put_opts(&at, large.clone().into(), create()).await.unwrap();
    assert_eq!(store.head(&at).await.unwrap().size, 32 << 20);
    assert!(body(store, "large").await == large, "32 MiB come back as they went");
    let middle = store.get_range(&at, 20_000_000..20_000_010).await.unwrap();
    assert_eq!(middle, large[20_000_000..20_000_010]);
    let far = [0..4, 16 << 20..(16 << 20) + 4, (32 << 20) - 4..32 << 20];
    let pieces = store.get_ranges(&at, &far).await.unwrap();
    for (piece, range) in pieces.iter().zip(&far) {
        assert_eq!(*piece, large[range.start as usize..range.end as usize]);
    }
    delete(store, &["large"]).await;
}

async fn last_modified(store: &dyn ObjectStore) {
    // S3 has times in whole seconds.
    let grain = Duration::from_secs(2);
    let before = SystemTime::now() - grain;
    put(store, "time", "x").await;
    let after = SystemTime::now() + grain;
    let head = SystemTime::from(store.head(&key("time")).await.unwrap().last_modified);
    let listed = store.list(None).next().await.unwrap().unwrap();
    let got = store.get(&key("time")).await.unwrap().meta;
    for time in [head, listed.last_modified.into(), got.last_modified.into()] {
        assert!((before..after).contains(&time), "{before:?} {time:?} {after:?}");
    }
    delete(store, &["time"]).await;
}
