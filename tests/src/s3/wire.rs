//! The network between the server and its clients: it counts bytes and may add latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::io::{InspectReader, InspectWriter};

/// The most bytes that are read at once.
const PIECE: usize = 64 << 10;
/// The most pieces in flight in each direction of each connection: 16 MiB.
const PIECES: usize = 256;

/// Bytes that were transferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// To the server.
    pub sent: u64,
    /// From the server.
    pub received: u64,
}

/// Counters of bytes. Copies share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted(Arc<[AtomicU64; 2]>);

impl Counted {
    /// Returns the bytes so far.
    pub(super) fn bytes(&self) -> Bytes {
        let [sent, received] = &*self.0;
        Bytes { sent: sent.load(Ordering::Relaxed), received: received.load(Ordering::Relaxed) }
    }

    /// Counts the bytes that a connection carries from now on.
    pub(super) fn count<C: AsyncRead + AsyncWrite + Unpin>(
        &self,
        connection: C,
    ) -> impl AsyncRead + AsyncWrite + Unpin + use<C> {
        let (sent, received) = (self.0.clone(), self.0.clone());
        let add = |to: &AtomicU64, bytes: &[u8]| {
            to.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        };
        let counted = InspectReader::new(connection, move |bytes| add(&sent[0], bytes));
        InspectWriter::new(counted, move |bytes| add(&received[1], bytes))
    }
}

/// Returns an end of a connection that adds `delay` in each direction. As on a network, connecting takes one
/// round trip.
///
/// A separate proxy would do the same, but it would copy every byte through the kernel once more, on the
/// processors on which the measured programs run.
pub(super) async fn lengthen<C>(connection: C, delay: Duration) -> DuplexStream
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::time::sleep(delay * 2).await;
    let (near, far) = duplex(PIECE);
    let ((from_client, to_client), (from_server, to_server)) = (split(connection), split(far));
    tokio::spawn(pass(from_client, to_server, delay));
    tokio::spawn(pass(from_server, to_client, delay));
    near
}

/// Forwards data, each piece `delay` after it arrived.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (out, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if !matches!(from.read_buf(&mut piece).await, Ok(len) if len > 0) {
                return;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn what_goes_over_the_way_is_counted_and_comes_whole_and_late() {
        let counted = Counted::default();
        let (mut client, server) = duplex(PIECE);
        let start = Instant::now();
        let mut server = lengthen(counted.count(server), DELAY).await;
        assert_eq!(start.elapsed(), DELAY * 2);

        let question: Vec<u8> = (0..3 * PIECE).map(|i| i as u8).collect();
        let asking = async {
            client.write_all(&question).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answering = async {
            let mut got = vec![0; question.len()];
            server.read_exact(&mut got).await.unwrap();
            let came = start.elapsed();
            server.write_all(b"answer").await.unwrap();
            drop(server);
            (got, came)
        };
        let (answer, (got, came)) = tokio::join!(asking, answering);
        assert!(got == question);
        // Timers have a resolution of a millisecond.
        assert!((DELAY * 3..DELAY * 4).contains(&came), "{came:?}");
        assert!((DELAY * 4..DELAY * 5).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert_eq!(answer, b"answer");
        assert_eq!(counted.bytes(), Bytes { sent: question.len() as u64, received: 6 });
    }
}
