//! How much of the packs has been sent, also of those that are on their way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often progress is told while a pack is on its way.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Counts the bytes of one push. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    landed: AtomicU64,
    on_their_way: Mutex<HashMap<u64, Part>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Part {
    size: u64,
    taken: Arc<AtomicU64>,
}

/// A pack on its way. If it is dropped before it has landed, nothing of it counts any more.
#[derive(Debug)]
pub(crate) struct OnItsWay {
    sent: Sent,
    number: u64,
    size: u64,
    taken: Arc<AtomicU64>,
}

impl Sent {
    /// Notes that a pack is sent from now on.
    pub(crate) fn begin(&self, size: u64) -> OnItsWay {
        let (taken, number) = (Arc::default(), self.0.next.fetch_add(1, Ordering::Relaxed));
        self.parts(|parts| parts.insert(number, Part { size, taken: Arc::clone(&taken) }));
        OnItsWay { sent: self.clone(), number, size, taken }
    }

    /// Returns how many bytes of packs are in the store, or have been taken by the connection to it.
    pub(crate) fn bytes(&self) -> u64 {
        let taken = |part: &Part| part.taken.load(Ordering::Relaxed).min(part.size);
        self.parts(|parts| self.0.landed.load(Ordering::Relaxed) + parts.values().map(taken).sum::<u64>())
    }

    fn parts<T>(&self, look: impl FnOnce(&mut HashMap<u64, Part>) -> T) -> T {
        look(&mut self.0.on_their_way.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OnItsWay {
    /// Returns where to count what the connection has taken.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }

    /// Notes that the whole pack is in the store.
    pub(crate) fn landed(self) {
        self.sent.parts(|parts| {
            parts.remove(&self.number);
            self.sent.0.landed.fetch_add(self.size, Ordering::Relaxed);
        });
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.sent.parts(|parts| parts.remove(&self.number));
    }
}

/// Waits for `work`, and calls `tell` now and then meanwhile.
pub(crate) async fn telling<T>(work: impl Future<Output = T>, mut tell: impl FnMut()) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(TELL_EVERY, &mut work).await {
            Ok(done) => return done,
            Err(_) => tell(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_counts_as_far_as_it_has_come() {
        let sent = Sent::default();
        let (one, two) = (sent.begin(10), sent.begin(5));
        assert_eq!(sent.bytes(), 0);
        one.counter().store(4, Ordering::Relaxed);
        assert_eq!(sent.bytes(), 4);
        // A body may be longer than its pack, and a put is repeated from its beginning.
        two.counter().store(7, Ordering::Relaxed);
        assert_eq!(sent.bytes(), 9);
        one.counter().store(0, Ordering::Relaxed);
        two.landed();
        assert_eq!(sent.bytes(), 5);
        drop(one);
        assert_eq!(sent.bytes(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_told_while_nothing_lands() {
        let mut told = 0;
        telling(tokio::time::sleep(Duration::from_millis(900)), || told += 1).await;
        assert_eq!(told, 4);
    }
}
