//! Slow connections and servers that stop answering: data that flows is never cut off, and a stall is given
//! up.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use storage_backends::{StoreOptions, StoreUrl, open};

const MIB: usize = 1 << 20;

/// Opens a store at a server that handles each connection with `serve`, which gets the length of the
/// request's body.
fn store_at(
    serve: impl Fn(&mut TcpStream, usize) -> std::io::Result<()> + Send + 'static,
    timeout: Duration,
) -> Arc<dyn ObjectStore> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = read_head(&mut stream).and_then(|length| serve(&mut stream, length));
        }
    });
    let settings = [("endpoint", endpoint.as_str()), ("access_key_id", "a"), ("secret_access_key", "b")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut options = StoreOptions::default().with_settings(settings);
    (options.timeout, options.retries) = (timeout, Some(0));
    open(&StoreUrl::parse("s3://b", Path::new("/")).unwrap(), &options).unwrap().store
}

/// Reads the head of a request, and returns the length of its body.
fn read_head(stream: &mut TcpStream) -> std::io::Result<usize> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    Ok(length.and_then(|length| length.trim().parse().ok()).unwrap_or(0))
}

/// Reads this many bytes, with a pause before each MiB.
fn take(stream: &mut TcpStream, bytes: usize, pause: Duration) -> std::io::Result<()> {
    let mut piece = vec![0; MIB];
    let mut left = bytes;
    while left > 0 {
        sleep(pause);
        let most = left.min(MIB);
        stream.read_exact(&mut piece[..most])?;
        left -= most;
    }
    Ok(())
}

async fn put(store: &Arc<dyn ObjectStore>, mib: usize) -> Result<(), String> {
    let body = vec![7; mib * MIB];
    store.put(&Key::from("x"), body.into()).await.map(drop).map_err(|error| format!("{error:?}"))
}

async fn get(store: &Arc<dyn ObjectStore>) -> Result<usize, String> {
    let found = store.get(&Key::from("x")).await.map_err(|error| format!("{error:?}"))?;
    found.bytes().await.map(|bytes| bytes.len()).map_err(|error| format!("{error:?}"))
}

/// Answers with a head for a body of ten bytes, and sends some of them, with a pause before each.
fn answer(stream: &mut TcpStream, bytes: usize, pause: Duration) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\netag: \"e\"\r\n\
                last-modified: Sat, 28 Nov 2026 10:00:00 GMT\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    for _ in 0..bytes {
        sleep(pause);
        stream.write_all(b"x")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_long_put_over_a_slow_line_takes_its_time() {
    // The body takes three seconds. A request without a body has half a second.
    let slow = |stream: &mut TcpStream, length: usize| {
        take(stream, length, Duration::from_millis(100))?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\netag: \"e\"\r\n\r\n")
    };
    assert_eq!(put(&store_at(slow, Duration::from_millis(500)), 30).await, Ok(()));
}

#[tokio::test]
async fn n1_a_request_that_is_never_answered_is_given_up() {
    let silent = |stream: &mut TcpStream, length: usize| {
        take(stream, length, Duration::ZERO)?;
        stream.try_clone().map(std::mem::forget)
    };
    let store = store_at(silent, Duration::from_millis(100));
    for said in
        [get(&store).await.unwrap_err(), put(&store, 0).await.unwrap_err(), put(&store, 1).await.unwrap_err()]
    {
        assert!(said.contains("TooSlow("), "{said}");
    }
}

#[tokio::test]
async fn a_slow_answer_is_read_to_its_end_unless_it_falls_silent() {
    let slow = |stream: &mut TcpStream, _: usize| answer(stream, 10, Duration::from_millis(300));
    assert_eq!(get(&store_at(slow, Duration::from_secs(2))).await, Ok(10));
    let ends = |stream: &mut TcpStream, _: usize| {
        answer(stream, 5, Duration::ZERO)?;
        stream.try_clone().map(std::mem::forget)
    };
    let said = get(&store_at(ends, Duration::from_millis(100))).await.unwrap_err();
    assert!(said.contains("TooSlow("), "{said}");
}
