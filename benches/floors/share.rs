//! Work shared among threads.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// Handles each of `items` on this many threads, and returns the total time. Each thread has its own state,
/// for example a buffer.
pub(crate) fn share<T: Sync, S>(
    items: &[T],
    threads: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> io::Result<()> + Sync,
) -> Result<Duration> {
    let next = AtomicUsize::new(0);
    let one = || {
        let mut state = state();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(&mut state, item)?;
        }
        Ok::<_, io::Error>(())
    };
    let start = Instant::now();
    on_threads(threads, one)?;
    Ok(start.elapsed())
}

/// Runs the same function on this many threads, and returns their results.
pub(crate) fn on_threads<R: Send>(threads: usize, one: impl Fn() -> io::Result<R> + Sync) -> Result<Vec<R>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(&one)).collect();
        let results = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked"));
        results.map(|result| Ok(result??)).collect()
    })
}
