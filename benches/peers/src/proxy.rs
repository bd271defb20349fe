//! A way to a server on which everything takes a while, and is counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The most that is read at once.
const PIECE: usize = 64 << 10;
/// Pieces that are on their way at once, for each direction of each connection: 16 MiB.
const PIECES: usize = 256;

/// What went through.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bytes {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// A running proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    counted: Arc<[AtomicU64; 2]>,
    /// Ends all connections with it.
    _runtime: Runtime,
}

impl Proxy {
    /// Starts a proxy on a free port of the loopback interface. Everything takes `delay` longer, each way;
    /// a connection needs two ways to stand, as it does over a network.
    pub(crate) fn start(server: SocketAddr, delay: Duration) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let address = listener.local_addr()?;
        let counted: Arc<[AtomicU64; 2]> = Arc::default();
        let counting = counted.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counted = counting.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay * 2).await;
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::join!(
                        pass(from_client, to_server, delay, &counted[0]),
                        pass(from_server, to_client, delay, &counted[1]),
                    );
                });
            }
        });
        Ok(Self { address, counted, _runtime: runtime })
    }

    /// Returns the address as `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns what has gone through so far.
    pub(crate) fn bytes(&self) -> Bytes {
        let [sent, received] = &*self.counted;
        Bytes { sent: sent.load(Ordering::Relaxed), received: received.load(Ordering::Relaxed) }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration, counted: &AtomicU64) {
    let (out, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if !matches!(from.read_buf(&mut piece).await, Ok(len) if len > 0) {
                return;
            }
            counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if out.send((Instant::now() + delay, piece)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
