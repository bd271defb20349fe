//! Answers that are not a store's, stores that are away, and missing credentials: with real connections, on
//! loopback.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use storage_backends::{NoCredentials, Notice, StoreOptions, StoreUrl, open};

/// Answers each request with what `serve` returns. An empty text closes the connection, `None` never answers.
fn server(serve: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || {
                let Ok(head) = read_request(&mut stream) else { return };
                match serve(&head) {
                    Some(answer) => drop(stream.write_all(answer.as_bytes())),
                    None => std::mem::forget(stream),
                }
            });
        }
    });
    endpoint
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
    let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(head)
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn options(settings: &[(&str, &str)]) -> StoreOptions {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut options = StoreOptions::default().with_settings(settings);
    options.backoff_min = Duration::from_millis(1);
    options.backoff_max = Duration::from_millis(20);
    options
}

fn opened(url: &str, options: &StoreOptions) -> Arc<dyn ObjectStore> {
    open(&StoreUrl::parse(url, Path::new("/")).unwrap(), options).unwrap().store
}

/// Opens a store of each cloud at an endpoint.
fn clouds(endpoint: &str) -> Vec<(&'static str, Arc<dyn ObjectStore>)> {
    // A put needs credentials there, even if the server does not check them.
    let account = format!(
        r#"{{"private_key": "k", "private_key_id": "i", "client_email": "e", "disable_oauth": true, "gcs_base_url": "{endpoint}"}}"#
    );
    let places: [(&str, &[(&str, &str)]); 3] = [
        ("s3://b/p", &[("endpoint", endpoint), ("access_key_id", "a"), ("secret_access_key", "b")]),
        ("gs://b/p", &[("service_account_key", &account)]),
        ("az://b/p", &[("endpoint", endpoint), ("account_name", "a"), ("skip_signature", "true")]),
    ];
    let opened = places.map(|(url, settings)| {
        let mut options = options(settings);
        options.retries = Some(1);
        (url, opened(url, &options))
    });
    opened.into()
}

/// Sends every kind of request, and returns those that succeeded.
async fn believed(store: &Arc<dyn ObjectStore>) -> Vec<&'static str> {
    let key = Key::from("contexts/c/x");
    let mut believed = Vec::new();
    let mut note = |what, all_well: bool| believed.extend(all_well.then_some(what));
    note("list", store.list(Some(&Key::from("contexts"))).try_collect::<Vec<_>>().await.is_ok());
    note("list from", store.list_with_offset(None, &key).try_collect::<Vec<_>>().await.is_ok());
    note("list a level", store.list_with_delimiter(None).await.is_ok());
    note("get", store.get(&key).await.is_ok());
    note("head", store.head(&key).await.is_ok());
    note("get a range", store.get_range(&key, 0..3).await.is_ok());
    let create = PutOptions::from(PutMode::Create);
    note("create", store.put_opts(&key, "x".into(), create).await.is_ok());
    note("put", store.put(&key, "x".into()).await.is_ok());
    note("delete", store.delete(&key).await.is_ok());
    let keys = stream::iter([Ok(key.clone()), Ok(Key::from("y"))]).boxed();
    note("delete many", store.delete_stream(keys).try_collect::<Vec<_>>().await.is_ok());
    believed
}

#[tokio::test]
async fn n3_n18_an_answer_that_is_not_one_is_an_error_on_every_backend() {
    let page = "<!DOCTYPE html><html><body>Please log in</body></html>";
    let error =
        "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>try again</Message></Error>";
    let listing =
        "<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name><Contents><Key>p/contexts/c/x</Key>";
    let blobs = "<?xml version=\"1.0\"?><EnumerationResults><Blobs><Blob><Name>p/contexts/c/x</Name>";
    for (head, body) in [
        ("200 OK\r\ncontent-type: text/html; charset=utf-8", page),
        (
            "200 OK\r\ncontent-type: text/html\r\netag: \"e\"\r\nlast-modified: Sat, 28 Nov 2026 10:00:00 GMT",
            page,
        ),
        ("200 OK", page),
        ("200 OK\r\ncontent-type: application/xml", error),
        ("200 OK\r\ncontent-type: application/xml", listing),
        ("200 OK\r\ncontent-type: application/xml", blobs),
        ("200 OK\r\ncontent-type: application/json", "{\"error\": {\"code\": 503}}"),
        ("201 Created", error),
        ("202 Accepted", page),
    ] {
        let endpoint = server(move |_| Some(answer(head, body)));
        for (url, store) in clouds(&endpoint) {
            let believed = believed(&store).await;
            assert!(believed.is_empty(), "{url}: {head}: {believed:?}");
        }
    }
    // A deletion has an empty answer, so it may succeed.
    let endpoint = server(|_| Some(answer("200 OK", "")));
    for (url, store) in clouds(&endpoint) {
        let believed = believed(&store).await;
        assert!(believed.iter().all(|what| what.starts_with("delete")), "{url}: {believed:?}");
        assert!(!url.starts_with("s3") || !believed.contains(&"delete many"), "{url}: {believed:?}");
    }
}

/// Some servers give the type of a page to answers without a body.
#[tokio::test]
async fn n18_an_answer_without_a_body_is_no_page() {
    let key = Key::from("x");
    let create = || PutOptions::from(PutMode::Create);
    let endpoint = server(|_| Some(answer("200 OK\r\netag: \"e\"\r\ncontent-type: text/html", "")));
    let (_, store) = clouds(&endpoint).remove(0);
    store.put(&key, "x".into()).await.unwrap();
    store.put_opts(&key, "x".into(), create()).await.unwrap();
    // Without a tag, nothing was put.
    let endpoint = server(|_| Some(answer("200 OK\r\ncontent-type: text/html", "")));
    let (_, store) = clouds(&endpoint).remove(0);
    assert!(store.put_opts(&key, "x".into(), create()).await.is_err());
}

const LISTING: &str = "<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>";

fn of_s3(endpoint: &str) -> StoreOptions {
    options(&[("endpoint", endpoint), ("access_key_id", "a"), ("secret_access_key", "b")])
}

#[tokio::test]
async fn n19_a_store_that_is_away_is_waited_for_and_said_to_be() {
    let back = Arc::new(AtomicBool::new(false));
    let endpoint = {
        let back = back.clone();
        server(move |_| match back.load(Ordering::SeqCst) {
            true => Some(answer("200 OK", LISTING)),
            false => Some(answer("503 Service Unavailable", "down")),
        })
    };
    let mut options = of_s3(&endpoint);
    let heard = Arc::new(Mutex::new(Vec::new()));
    options.listener = Some({
        let heard = heard.clone();
        Arc::new(move |notice| {
            heard.lock().unwrap().push(notice.clone());
            back.store(true, Ordering::SeqCst);
        })
    });
    let listed: Vec<_> = opened("s3://b", &options).list(None).try_collect().await.unwrap();
    assert!(listed.is_empty());
    let heard = heard.lock().unwrap();
    let [Notice::Waiting { cause, left }, Notice::Back { .. }] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(cause, "status 503: down");
    assert!(*left > Duration::from_secs(60), "{left:?}");
}

#[tokio::test]
async fn n1_what_a_retry_cannot_help_is_not_tried_again() {
    for status in
        ["403 Forbidden", "401 Unauthorized", "404 Not Found", "400 Bad Request", "501 Not Implemented"]
    {
        let count = Arc::new(AtomicUsize::new(0));
        let endpoint = {
            let count = count.clone();
            server(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                Some(answer(status, "<Error><Code>x</Code></Error>"))
            })
        };
        let listed: Result<Vec<_>, _> = opened("s3://b", &of_s3(&endpoint)).list(None).try_collect().await;
        assert!(listed.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 1, "{status}");
    }
}

#[tokio::test]
async fn n2_a_store_that_is_busy_is_asked_again() {
    for status in ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests"] {
        let count = Arc::new(AtomicUsize::new(0));
        let endpoint = {
            let count = count.clone();
            server(move |head| match (count.fetch_add(1, Ordering::SeqCst) % 4, head.starts_with("PUT")) {
                (0..3, _) => Some(answer(status, "<Error><Code>SlowDown</Code></Error>")),
                (_, true) => Some(answer("200 OK\r\netag: \"e\"", "")),
                (_, false) => Some(answer("200 OK", LISTING)),
            })
        };
        let store = opened("s3://b", &of_s3(&endpoint));
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert!(listed.is_empty());
        store.put(&Key::from("x"), "x".into()).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 8, "{status}: three more tries for each request");
    }
}

#[tokio::test]
async fn n7_a_put_that_may_have_landed_is_not_sent_again_blindly() {
    let count = Arc::new(AtomicUsize::new(0));
    let endpoint = {
        let count = count.clone();
        server(move |head| {
            count.fetch_add(usize::from(head.starts_with("PUT")), Ordering::SeqCst);
            Some(answer("200 OK\r\ncontent-type: text/html", "<html>"))
        })
    };
    let create = PutOptions::from(PutMode::Create);
    opened("s3://b", &of_s3(&endpoint)).put_opts(&Key::from("x"), "x".into(), create).await.unwrap_err();
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn n20_a_metadata_service_that_never_answers_is_told_soon() {
    let metadata = server(|_| None);
    let store = server(|_| Some(answer("200 OK", LISTING)));
    let settings = [("endpoint", store.as_str()), ("metadata_endpoint", metadata.as_str())];
    let began = std::time::Instant::now();
    let store = opened("s3://b", &options(&settings));
    let list = || async { store.list(None).try_collect::<Vec<_>>().await.unwrap_err() };
    let key = Key::from("x");
    let (listed, read) = tokio::join!(list(), store.get(&key));
    assert!(matches!(listed, object_store::Error::Unauthenticated { .. }), "{listed:?}");
    let found = NoCredentials::find(&listed).unwrap();
    assert!(metadata.ends_with(&found.asked), "{found}");
    assert!(NoCredentials::find(&read.unwrap_err()).is_some());
    assert!(NoCredentials::find(&list().await).is_some());
    // Far less than the time for retries.
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn n20_an_endpoint_that_never_answers_is_told_while_it_is_waited_for() {
    let endpoint = server(|_| None);
    let mut options = of_s3(&endpoint);
    (options.timeout, options.retries) = (Duration::from_millis(600), Some(1));
    let heard = Arc::new(Mutex::new(Vec::new()));
    options.listener = Some({
        let heard = heard.clone();
        Arc::new(move |notice| heard.lock().unwrap().push(notice.clone()))
    });
    opened("s3://b", &options).list(None).try_collect::<Vec<_>>().await.unwrap_err();
    let heard = heard.lock().unwrap();
    assert!(matches!(&heard[..], [Notice::Waiting { .. }, ..]), "{heard:?}");
}

#[tokio::test]
async fn n19_a_directory_that_is_away_is_no_empty_store() {
    let top = tempfile::tempdir().unwrap();
    let place = top.path().join("store");
    let mut options = StoreOptions::default();
    options.create = true;
    options.backoff_min = Duration::from_millis(1);
    options.backoff_max = Duration::from_millis(20);
    options.listener = Some({
        let (place, off) = (place.clone(), top.path().join("off"));
        // The directory is back as soon as it is missed.
        Arc::new(move |notice| {
            if matches!(notice, Notice::Waiting { .. }) {
                std::fs::rename(&off, &place).unwrap();
            }
        })
    });
    let store = opened(place.to_str().unwrap(), &options);
    store.put(&Key::from("contexts/c/x"), "x".into()).await.unwrap();
    let count = || async { store.list(None).try_collect::<Vec<_>>().await.map(|all| all.len()) };
    std::fs::rename(&place, top.path().join("off")).unwrap();
    assert_eq!(count().await.unwrap(), 1);
    options.listener = None;
    options.retry_time = Duration::from_millis(50);
    let store = opened(place.to_str().unwrap(), &options);
    std::fs::rename(&place, top.path().join("off")).unwrap();
    let key = Key::from("contexts/c/x");
    store.list(None).try_collect::<Vec<_>>().await.unwrap_err();
    store.list_with_delimiter(None).await.unwrap_err();
    let said = store.put(&key, "y".into()).await.unwrap_err();
    assert!(format!("{said:?}").contains("NotFound"), "{said:?}");
    // It is not created again either.
    assert!(!place.exists());
    assert!(!matches!(store.get(&key).await.unwrap_err(), object_store::Error::NotFound { .. }));
}
