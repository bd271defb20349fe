//! Errors while a store is opened, and their messages.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use ctxsync_tests::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use storage_backends::{
    BucketMissing, OpenError, Opened, StoreOptions, StoreUrl, open, parse_setting, probe,
};

const CANARY: &str = "canary-0123456789-canary";

fn at(url: &str, options: &StoreOptions) -> Result<Opened, OpenError> {
    open(&StoreUrl::parse(url, Path::new("/")).unwrap(), options)
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec()
}

fn settings<const N: usize>(of: [(&str, &str); N]) -> StoreOptions {
    StoreOptions::default().with_settings(pairs(of))
}

fn env<const N: usize>(of: [(&str, &str); N]) -> StoreOptions {
    StoreOptions::default().with_env(pairs(of))
}

/// Returns everything that can be printed about an error.
fn printed(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{error:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        text.push_str(&format!("\n{error}"));
        next = error.source();
    }
    text
}

#[test]
fn a_missing_directory_is_missing_unless_it_is_to_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let url = path.to_str().unwrap();
    assert!(matches!(at(url, &StoreOptions::default()), Err(OpenError::Missing { .. })));
    assert!(!path.exists());
    let mut options = StoreOptions::default();
    options.create = true;
    assert_eq!(at(url, &options).unwrap().local_dir.as_deref(), Some(path.as_path()));
    at(url, &StoreOptions::default()).unwrap();
    std::fs::write(path.join("file"), "x").unwrap();
    let file = format!("{url}/file");
    assert!(matches!(at(&file, &options), Err(OpenError::NotADirectory { .. })));
    assert!(matches!(at(&format!("{file}/below"), &options), Err(OpenError::NotADirectory { .. })));
}

#[test]
fn unknown_settings_are_named() {
    let said = |url, key| at(url, &settings([(key, CANARY)])).unwrap_err().to_string();
    assert_eq!(said("s3://b", "regoin"), "`regoin` is not an option of s3 stores; did you mean `region`?");
    assert_eq!(said("gs://b", "nonsense"), "`nonsense` is not an option of gs stores");
    assert_eq!(said("memory:", "region"), "`region` is not an option of memory stores");
    assert_eq!(said("/", "region"), "`region` is not an option of local stores");
    assert_eq!(
        said("s3://b", "bucket"),
        "the option `bucket` can't be set so: the bucket is a part of the store's URL"
    );
    assert_eq!(parse_setting("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    assert!(parse_setting(CANARY).is_err_and(|error| !printed(&error).contains(CANARY)));
}

#[test]
fn plain_http_is_for_this_machine_or_for_those_who_ask() {
    for endpoint in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1/", "https://far.example"] {
        at("s3://b", &env([("AWS_ENDPOINT_URL", endpoint)])).unwrap();
    }
    let far = [("AWS_ENDPOINT_URL", "http://far.example:9000")];
    assert!(matches!(at("s3://b", &env(far)), Err(OpenError::PlainHttp { .. })));
    at("s3://b", &env([far[0], ("AWS_ALLOW_HTTP", "true")])).unwrap();
    at("s3://b", &env(far).with_settings(pairs([("allow_http", "true")]))).unwrap();
}

#[test]
fn aws_profiles_are_looked_up() {
    let credentials = format!("[work]\naws_access_key_id=A\naws_secret_access_key={CANARY}\n");
    let named = |name| env([("AWS_PROFILE", name)]).with_aws_credentials(credentials.clone());
    at("s3://b", &named("work")).unwrap();
    let error = at("s3://b", &named("wrok")).unwrap_err();
    assert!(matches!(error, OpenError::Profile { .. }), "{error:?}");
    assert!(printed(&error).contains("`wrok`") && !printed(&error).contains(CANARY));
    let keys = pairs([("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S")]);
    at("s3://b", &named("wrok").with_env(keys)).unwrap();
    at("s3://b", &StoreOptions::default()).unwrap();
}

#[tokio::test]
async fn the_stronger_source_gives_the_credentials_as_a_whole() {
    let server = S3Server::start().unwrap();
    // The token and the wrong keys come from a weaker source, and must not be mixed in.
    let credentials = "[default]\naws_access_key_id=no\naws_secret_access_key=no\naws_session_token=no\n";
    let options = StoreOptions::default().with_aws_credentials(credentials).with_env(server.env());
    probe(&at(&server.url("p"), &options).unwrap().store).await.unwrap();
    // The profile alone is enough.
    let config = format!(
        "[profile test]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n\
         region = us-east-1\nendpoint_url = {}\n",
        server.endpoint()
    );
    let options = env([("AWS_PROFILE", "test")]).with_aws_config(config);
    probe(&at(&server.url("p"), &options).unwrap().store).await.unwrap();
}

#[tokio::test]
async fn n17_a_missing_bucket_is_never_an_empty_store() {
    let server = S3Server::start().unwrap();
    let options = StoreOptions::default().with_env(server.env());
    let store = at("s3://other-bucket/p", &options).unwrap().store;
    let listed = store.list(None).try_collect::<Vec<_>>().await.unwrap_err();
    let got = store.get(&Key::from("ctxsync.json")).await.unwrap_err();
    let put = store.put(&Key::from("x"), "x".into()).await.unwrap_err();
    for error in [listed, got, put] {
        assert!(!matches!(error, Error::NotFound { .. }), "{error:?}");
        let missing = BucketMissing::find(&error).unwrap();
        assert_eq!(missing.to_string(), "the bucket of s3://other-bucket/p does not exist");
        let source = std::error::Error::source(missing).unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    }
    // The bucket exists, so a missing object is just not found.
    let store = at(&server.url("p"), &options).unwrap().store;
    assert!(matches!(store.get(&Key::from("x")).await, Err(Error::NotFound { .. })));
}

#[test]
fn k1_no_secret_is_in_options_or_in_errors_of_opening() {
    let bad = [
        ("s3://b", "endpoint", format!("http://user:{CANARY}@127.0.0.1:1")),
        ("s3://b", "endpoint", format!("https://host/?token={CANARY}")),
        ("s3://b", "secret_access_key", CANARY.to_owned()),
        ("gs://b", "service_account_key", format!("\"{CANARY}\"")),
        ("az://b", "sas_token", format!("sig={CANARY}%zz")),
        ("az://b", "account_key", format!("{CANARY}!!")),
        ("s3://b", "proxy_url", format!("http://user:{CANARY}@bad host")),
    ];
    for (url, key, value) in bad {
        let options = settings([(key, value.as_str())]).with_env(pairs([("AWS_SESSION_TOKEN", CANARY)]));
        assert!(!format!("{options:?}").contains(CANARY));
        match at(url, &options) {
            Ok(opened) => panic!("{key} was taken by {opened:?}"),
            Err(error) => assert!(!printed(&error).contains(CANARY), "{key}: {}", printed(&error)),
        }
    }
}

/// Answers each request with 403 and the request itself, like servers that explain a bad token.
fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut chunk) {
                    Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                    _ => break,
                }
            }
            let head = format!(
                "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                request.len()
            );
            let _ = stream.write_all(&[head.into_bytes(), request].concat());
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_payload_is_signed_where_it_could_be_changed_on_its_way() {
    let echo = echo_server();
    let here = settings([("endpoint", &echo)]);
    let proxied = settings([("endpoint", &echo), ("proxy_url", &echo)]);
    let environment = here.clone().with_env(pairs([("http_proxy", echo.as_str())]));
    let asked = settings([("endpoint", &echo), ("unsigned_payload", "false")]);
    let far = settings([("endpoint", "http://far.example"), ("allow_http", "true"), ("proxy_url", &echo)]);
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "secret-secret")];
    for (options, is_signed) in
        [(here, false), (asked, true), (far, true), (proxied, true), (environment, true)]
    {
        let mut options = options.with_env(pairs(keys));
        options.retries = Some(0);
        let store = at("s3://b", &options).unwrap().store;
        let request = printed(&store.put(&Key::from("x"), "x".into()).await.unwrap_err());
        assert!(request.contains("x-amz-content-sha256"), "{request}");
        assert_ne!(request.contains("UNSIGNED-PAYLOAD"), is_signed, "{request}");
    }
}

#[tokio::test]
async fn k1_a_server_that_repeats_a_token_does_not_get_it_printed() {
    let endpoint = echo_server();
    let mut options = env([
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "secret-secret"),
        ("AWS_SESSION_TOKEN", CANARY),
    ]);
    options.retries = Some(0);
    options.timeout = Duration::from_secs(5);
    let opened = at("s3://b/p", &options).unwrap();
    assert_eq!(
        format!("{opened:?} {:?} {}", opened.store, opened.store),
        "Opened(s3://b/p) Guarded(s3://b/p) s3://b/p"
    );
    let key = Key::from("x");
    let listed = opened.store.list(None).try_collect::<Vec<_>>().await.unwrap_err();
    let errors = [
        opened.store.get(&key).await.unwrap_err(),
        opened.store.put(&key, "x".into()).await.unwrap_err(),
        opened.store.copy(&key, &Key::from("y")).await.unwrap_err(),
        opened.store.delete(&key).await.unwrap_err(),
        opened.store.put_multipart(&key).await.unwrap_err(),
        opened.store.get_ranges(&key, &[0..1, 1..2]).await.unwrap_err(),
        opened.store.list_with_delimiter(None).await.unwrap_err(),
        listed,
    ];
    for error in errors {
        let text = printed(&error);
        assert!(!text.contains(CANARY), "{text}");
        assert!(text.contains("***"), "the server did repeat it: {text}");
        assert!(matches!(error, Error::PermissionDenied { .. }), "{text}");
    }
    let error = probe(&opened.store).await.unwrap_err();
    assert!(!printed(&error).contains(CANARY));
}
