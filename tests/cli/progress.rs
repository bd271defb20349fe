//! Progress moves with each byte that is sent, not only when an object is complete.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ctxsync_tests::s3::S3Server;
use serde_json::Value;

use crate::world::{World, noise};

/// How much a connection takes before it waits: more than a small request, less than a pack.
const TAKEN: u64 = 1 << 20;

/// A line to a server that carries the beginning of each request, or of each answer, and the rest only when it is opened.
struct Line {
    address: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Line {
    fn to(server: SocketAddr) -> Self {
        Self::new(server, false)
    }

    /// The same for answers.
    fn back_from(server: SocketAddr) -> Self {
        Self::new(server, true)
    }

    fn new(server: SocketAddr, back: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, open) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let is_open = Arc::clone(&open);
        // Both ends of a connection are closed by the program, which is gone before the test ends.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, is_open) = (TcpStream::connect(server).unwrap(), Arc::clone(&is_open));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let at_once = Arc::new(AtomicBool::new(true));
                let (there, here) = if back { (at_once, is_open) } else { (is_open, at_once) };
                thread::spawn(move || carry(&from, &to, &there));
                thread::spawn(move || carry(&server, &client, &here));
            }
        });
        Self { address, open }
    }
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, is_open: &AtomicBool) {
    let copied = io::copy(&mut from.take(TAKEN), &mut to);
    if copied.is_ok_and(|copied| copied == TAKEN) {
        // Where progress does not move, the line opens by itself after 20 s, so that the test ends.
        let mut waits = 0..2000;
        while !is_open.load(Ordering::Relaxed) && waits.next().is_some() {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = io::copy(&mut from, &mut to);
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = to.flush();
}

/// Without it, a push on a slow line showed 0 bytes until a pack of 32 MiB was complete.
#[test]
fn what_is_on_its_way_counts_as_sent() {
    let (world, server) = (World::new(), S3Server::start().unwrap());
    let line = Line::to(server.endpoint().trim_start_matches("http://").parse().unwrap());
    let machine = world.machine("a");
    machine.write("work/huge", noise(24 << 20));
    let mut push = machine.command(["push", "c", "work", "--store", &server.url("p"), "--json"]);
    push.envs(server.env()).env("AWS_ENDPOINT_URL", format!("http://{}", line.address));
    let mut push = push.env_remove("CTXSYNC_NO_PROGRESS").stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    for text in BufReader::new(push.stdout.take().unwrap()).lines() {
        let object: Value = serde_json::from_str(&text.unwrap()).unwrap();
        if object["message_type"] == "status" && object["phase"] == "sending" {
            let done = object["bytes_done"].as_u64().unwrap();
            // The rest waits for the line, which nobody has opened yet.
            if done >= TAKEN && !line.open.swap(true, Ordering::Relaxed) {
                assert!(done < 24 << 20 && object["total_bytes"].as_u64().unwrap() > 24 << 20, "{object}");
            }
            seen.push(done);
        }
    }
    assert!(push.wait().unwrap().success(), "{seen:?}");
    assert!(line.open.load(Ordering::Relaxed), "{seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
}

/// A pull of one large file showed nothing until a range of 8 MiB had arrived.
#[test]
fn what_is_on_its_way_counts_as_received() {
    let (world, server) = (World::new(), S3Server::start().unwrap());
    let machine = world.machine("a");
    machine.write("work/huge", noise(24 << 20));
    let env = server.env();
    let near: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let store = server.url("p");
    assert_eq!(machine.call_with(&near, &["push", "c", "work", "--store", &store]).code, 0);
    let line = Line::back_from(server.endpoint().trim_start_matches("http://").parse().unwrap());
    let mut pull = machine.command(["pull", "c", "copy", "--store", &store, "--json"]);
    pull.envs(env).env("AWS_ENDPOINT_URL", format!("http://{}", line.address));
    let mut pull = pull.stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    for text in BufReader::new(pull.stdout.take().unwrap()).lines() {
        let object: Value = serde_json::from_str(&text.unwrap()).unwrap();
        if object["message_type"] == "status" && object["phase"] == "downloading" {
            let done = object["bytes_done"].as_u64().unwrap();
            // No range can be complete, as each connection waits for the line.
            if done > 0 && !line.open.swap(true, Ordering::Relaxed) {
                assert!(done < 24 << 20, "{object}");
                seen.push(done);
            }
        }
    }
    assert!(pull.wait().unwrap().success() && !seen.is_empty(), "{seen:?}");
    assert!(line.open.load(Ordering::Relaxed), "{seen:?}");
}

/// The terminal shows `^C` where the cursor is. If that is at the right edge, the bar stays above all that follows.
#[test]
fn the_bar_leaves_nothing_behind() {
    let (world, server) = (World::new(), S3Server::start().unwrap());
    let line = Line::to(server.endpoint().trim_start_matches("http://").parse().unwrap());
    let machine = world.machine("a");
    machine.write("work/huge", noise(24 << 20));
    let mut env = server.env();
    env.extend([("AWS_ENDPOINT_URL", format!("http://{}", line.address))].map(|(n, v)| (n.to_owned(), v)));
    env.extend([("TERM", "xterm"), ("NO_COLOR", "1")].map(|(n, v)| (n.to_owned(), v.to_owned())));
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut push = machine.on_terminal(&env, &format!("push c work --store {}", server.url("p")));
    let mut push = push.spawn().unwrap();
    let (mut typed, mut shown) = (push.stdin.take().unwrap(), push.stdout.take().unwrap());
    let mut seen = String::new();
    let mut piece = [0; 4096];
    while let Ok(len @ 1..) = shown.read(&mut piece) {
        seen.push_str(&String::from_utf8_lossy(&piece[..len]));
        if seen.contains("sending:") && !seen.contains("^C") {
            typed.write_all(b"\x03").unwrap();
        }
    }
    push.wait().unwrap();
    assert!(seen.contains("stopped by SIGINT"), "{seen:?}");
    // The cursor stays behind the text, so that one line is to be cleared, whatever the terminal adds to it.
    let spaces = " ".repeat(8);
    assert!(!seen.contains(&spaces), "{seen:?}");
    let before = &seen[..seen.find("error:").unwrap()];
    assert!(before.ends_with("\r\u{1b}[2K"), "{before:?}");
}
