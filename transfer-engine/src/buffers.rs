//! Large buffers that are reused. New memory would cost a page fault for every 4 KiB, and the allocator would
//! keep twice what is in use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// How many free buffers are kept.
const KEPT: usize = 16;

/// A pool of buffers. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    capacity: usize,
}

impl Buffers {
    /// Makes a pool of buffers with this initial capacity, in bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { free: Arc::default(), capacity }
    }

    /// Returns an empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free().pop().unwrap_or_else(|| Vec::with_capacity(self.capacity))
    }

    /// Makes a buffer's content shareable; the buffer returns to the pool when the last part is dropped.
    pub(crate) fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Shared { buffer, home: self.clone() })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Shared {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut free = self.home.free();
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_when_its_last_part_is_dropped() {
        let buffers = Buffers::new(100);
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"what was read");
        let place = buffer.as_ptr();
        let whole = buffers.share(buffer);
        let part = whole.slice(..4);
        drop(whole);
        let other = buffers.take();
        assert_ne!(other.as_ptr(), place, "a part of it is in use");
        assert_eq!(&part[..], b"what");
        drop(part);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }
}
