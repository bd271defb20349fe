//! How many bytes of a stream are held at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes, shared out in the order in which they are asked for. What is larger than all of them has them to
/// itself.
///
/// It belongs to one stream, whose items take their room in their order and give it back when they are taken in their
/// order: then who waits for room waits only for items before it, and these need no more.
#[derive(Clone)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    all: u32,
}

/// Bytes that are in use until this is dropped.
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(super) fn new(all: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until there is room.
    pub(super) async fn room(&self, bytes: u64) -> Room {
        let bytes = u32::try_from(bytes).map_or(self.all, |bytes| bytes.min(self.all));
        // It is never closed.
        Room(Arc::clone(&self.free).acquire_many_owned(bytes).await.ok())
    }
}

impl Room {
    /// Gives back what is not in use, where that is less than was asked for.
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
