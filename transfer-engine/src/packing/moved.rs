//! How much has been sent or received, also of what is on its way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often progress is told while a pack is on its way.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Counts the bytes of one push or pull. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved(Arc<Shared>);

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

/// A pack, or a range of one, on its way. If it is dropped before it has landed, nothing of it counts any more.
#[derive(Debug)]
pub(crate) struct OnItsWay {
    moved: Moved,
    number: u64,
    size: u64,
    taken: Arc<AtomicU64>,
}

impl Moved {
    /// Notes that so many bytes are on their way from now on.
    pub(crate) fn begin(&self, size: u64) -> OnItsWay {
        let (taken, number) = (Arc::default(), self.0.next.fetch_add(1, Ordering::Relaxed));
        self.parts(|parts| parts.insert(number, Part { size, taken: Arc::clone(&taken) }));
        OnItsWay { moved: self.clone(), number, size, taken }
    }

    /// Returns how many bytes have landed, or have passed the connection.
    pub(crate) fn bytes(&self) -> u64 {
        let taken = |part: &Part| part.taken.load(Ordering::Relaxed).min(part.size);
        self.parts(|parts| self.0.landed.load(Ordering::Relaxed) + parts.values().map(taken).sum::<u64>())
    }

    fn parts<T>(&self, look: impl FnOnce(&mut HashMap<u64, Part>) -> T) -> T {
        look(&mut self.0.on_their_way.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OnItsWay {
    /// Returns where to count what has passed the connection.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }

    /// Notes that all of it has landed.
    pub(crate) fn landed(self) {
        self.moved.parts(|parts| {
            parts.remove(&self.number);
            self.moved.0.landed.fetch_add(self.size, Ordering::Relaxed);
        });
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.moved.parts(|parts| parts.remove(&self.number));
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
        let moved = Moved::default();
        let (one, two) = (moved.begin(10), moved.begin(5));
        assert_eq!(moved.bytes(), 0);
        one.counter().store(4, Ordering::Relaxed);
        assert_eq!(moved.bytes(), 4);
        // A body may be longer than its pack, and a put is repeated from its beginning.
        two.counter().store(7, Ordering::Relaxed);
        assert_eq!(moved.bytes(), 9);
        one.counter().store(0, Ordering::Relaxed);
        two.landed();
        assert_eq!(moved.bytes(), 5);
        drop(one);
        assert_eq!(moved.bytes(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_told_while_nothing_lands() {
        let mut told = 0;
        telling(tokio::time::sleep(Duration::from_millis(900)), || told += 1).await;
        assert_eq!(told, 4);
    }
}
