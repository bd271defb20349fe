//! Limits how many bytes of a stream are held at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes, given out in the order of the requests. A request for more than all of them gets them
/// exclusively.
///
/// Each stream has its own budget. Its items take their room in order, and release it in the order in which
/// they are consumed. So an item only ever waits for items before it, and these need no more room.
#[derive(Clone)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    all: u32,
}

/// Bytes in use, until this is dropped.
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(super) fn new(all: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits for room.
    pub(super) async fn room(&self, bytes: u64) -> Room {
        let bytes = u32::try_from(bytes).map_or(self.all, |bytes| bytes.min(self.all));
        // The semaphore is never closed.
        Room(Arc::clone(&self.free).acquire_many_owned(bytes).await.ok())
    }
}

impl Room {
    /// Releases what exceeds `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        if let Some(permit) = &mut self.0 {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn what_is_too_large_for_all_goes_alone_and_in_its_turn() {
        let budget = Budget::new(100);
        let mut first = budget.room(60).now_or_never().unwrap();
        let mut large = budget.room(u64::MAX).boxed();
        assert!((&mut large).now_or_never().is_none());
        assert!(budget.room(1).now_or_never().is_none(), "it does not overtake");
        first.shrink_to(10);
        assert!((&mut large).now_or_never().is_none());
        first.shrink_to(20);
        drop(first);
        let large = (&mut large).now_or_never().unwrap();
        assert!(budget.room(1).now_or_never().is_none());
        drop(large);
        assert!(budget.room(100).now_or_never().is_some());
    }
}
