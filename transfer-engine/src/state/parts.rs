//! What had arrived of ranges of packs when a pull was stopped. The pull that goes on with it fetches only the rest.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::format::PackId;

/// Beginnings of ranges. They are in memory, so a process that ends loses them.
#[derive(Debug, Default)]
pub(crate) struct Parts(Mutex<Vec<Part>>);

#[derive(Debug)]
struct Part {
    pack: PackId,
    start: u64,
    bytes: Bytes,
}

impl Parts {
    /// Keeps bytes of a pack, which begin at `start`, unless the parts would take more than `most` bytes then.
    pub(crate) fn keep(&self, pack: PackId, start: u64, bytes: &[u8], most: u64) {
        let mut parts = self.lock();
        let held: usize = parts.iter().map(|part| part.bytes.len()).sum();
        if !bytes.is_empty() && (held + bytes.len()) as u64 <= most {
            // A copy, because the buffer may be much longer.
            parts.push(Part { pack, start, bytes: Bytes::copy_from_slice(bytes) });
        }
    }

    /// Takes the bytes of a pack from `start` on. There are none if nothing of them is kept.
    pub(crate) fn take(&self, pack: PackId, start: u64) -> Bytes {
        let mut parts = self.lock();
        let has = |part: &Part| {
            part.pack == pack && (part.start..part.start + part.bytes.len() as u64).contains(&start)
        };
        let Some(at) = parts.iter().position(has) else { return Bytes::new() };
        let part = parts.swap_remove(at);
        part.bytes.slice((start - part.start) as usize..)
    }

    /// Forgets all parts.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_by_each_byte_of_it_and_taken_once() {
        let (one, other) = (PackId([1; 16]), PackId([2; 16]));
        let parts = Parts::default();
        parts.keep(one, 100, b"abcdef", 10);
        assert_eq!((parts.take(other, 102), parts.take(one, 99), parts.take(one, 106)), Default::default());
        assert_eq!(parts.take(one, 102), "cdef");
        assert_eq!(parts.take(one, 102), "");
    }

    #[test]
    fn what_would_be_too_much_is_not_kept() {
        let parts = Parts::default();
        parts.keep(PackId([1; 16]), 0, b"abcdef", 10);
        parts.keep(PackId([2; 16]), 0, b"ghijk", 10);
        parts.keep(PackId([3; 16]), 0, b"lmno", 10);
        assert_eq!(parts.take(PackId([2; 16]), 0), "");
        assert_eq!(parts.take(PackId([3; 16]), 0), "lmno");
        parts.clear();
        assert_eq!(parts.take(PackId([1; 16]), 0), "");
    }
}
