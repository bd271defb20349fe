//! Output that waits for its reader on a thread of its own, so that a reader that has stopped holds up neither the work nor
//! its end.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most bytes that wait; more is dropped.
const MOST: usize = 1 << 20;
/// From so many bytes on, no progress is added: the next figures will be newer.
const BEHIND: usize = 16 << 10;
/// How long something waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// The reader takes a long text piece by piece, which shows that it still reads.
const PIECE: usize = 4096;

/// What waits to be written, for several streams, in order.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something was added or written.
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Texts, each with the number of its stream.
    texts: VecDeque<(usize, Vec<u8>)>,
    /// The bytes of `texts`, and of the text that is being written.
    bytes: usize,
    /// How many pieces were written.
    written: u64,
    /// Whether the reader has taken nothing for so long that nothing waits for it any more.
    stuck: bool,
    /// How many texts were dropped.
    dropped: u64,
    /// The first error of each stream, until it is asked for.
    errors: Vec<Option<io::Error>>,
}

/// One of the streams. Writing to it takes no longer than [`PATIENCE`]; flushing it waits for the reader as long as that
/// takes something.
pub(super) struct Queued {
    queue: Arc<Queue>,
    stream: usize,
}

impl Queue {
    /// Starts the thread, which writes to these streams. Returns what to write to instead.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start<const N: usize>(
        mut streams: [Box<dyn Write + Send>; N],
    ) -> io::Result<(Arc<Self>, [Queued; N])> {
        let errors = (0..N).map(|_| None).collect();
        let waiting = Mutex::new(Waiting { errors, ..Waiting::default() });
        let queue = Arc::new(Self { waiting, changed: Condvar::new() });
        let queued = std::array::from_fn(|stream| Queued { queue: Arc::clone(&queue), stream });
        let of_thread = Arc::clone(&queue);
        thread::Builder::new().name("output".into()).spawn(move || of_thread.work(&mut streams))?;
        Ok((queue, queued))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so much waits that progress is better left out.
    pub(super) fn is_behind(&self) -> bool {
        self.lock().bytes > BEHIND
    }

    /// Returns how many texts were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until everything is written, unless the reader has stopped.
    pub(super) fn drain(&self) {
        drop(self.wait(|waiting| waiting.bytes == 0));
    }

    /// Waits until `is_done`, but for no longer than the reader takes something.
    fn wait(&self, is_done: impl Fn(&Waiting) -> bool) -> MutexGuard<'_, Waiting> {
        let mut waiting = self.lock();
        while !waiting.stuck && !is_done(&waiting) {
            let written = waiting.written;
            let rests = |waiting: &mut Waiting| waiting.written == written;
            let (after, waited) = self
                .changed
                .wait_timeout_while(waiting, PATIENCE, rests)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = after;
            waiting.stuck |= waited.timed_out();
        }
        waiting
    }

    fn put(&self, stream: usize, text: &[u8]) -> io::Result<()> {
        // A text that is longer than all that may wait is still written.
        let fits = |waiting: &Waiting| waiting.bytes == 0 || waiting.bytes + text.len() <= MOST;
        let mut waiting = self.wait(fits);
        if let Some(error) = waiting.errors[stream].take() {
            return Err(error);
        }
        if fits(&waiting) {
            waiting.bytes += text.len();
            waiting.texts.push_back((stream, text.to_vec()));
            self.changed.notify_all();
        } else {
            waiting.dropped += 1;
        }
        Ok(())
    }

    /// Writes what is put into the queue, as long as the program runs.
    fn work(&self, streams: &mut [Box<dyn Write + Send>]) {
        loop {
            let idle = |waiting: &mut Waiting| waiting.texts.is_empty();
            let mut waiting =
                self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let Some((stream, text)) = waiting.texts.pop_front() else { continue };
            drop(waiting);
            for piece in text.chunks(PIECE) {
                let wrote = streams[stream].write_all(piece).and_then(|()| streams[stream].flush());
                let mut waiting = self.lock();
                if let Err(error) = wrote {
                    waiting.errors[stream].get_or_insert(error);
                }
                waiting.bytes -= piece.len();
                waiting.written += 1;
                waiting.stuck = false;
                self.changed.notify_all();
            }
        }
    }
}

impl Write for Queued {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.queue.put(self.stream, text)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queue.drain();
        self.queue.lock().errors[self.stream].take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use super::*;

    fn start(stream: impl Write + Send + 'static) -> (Arc<Queue>, Queued) {
        let (queue, [queued]) = Queue::start([Box::new(stream)]).unwrap();
        (queue, queued)
    }

    #[test]
    fn a_reader_that_stops_holds_nothing_up_and_one_that_comes_back_gets_the_rest() {
        let (mut reader, writer) = pipe().unwrap();
        let (queue, mut queued) = start(writer);
        let lines: Vec<String> = (0..40).map(|i| format!("{i}{}\n", "x".repeat(50_000))).collect();
        for line in &lines {
            queued.write_all(line.as_bytes()).unwrap();
        }
        assert!(queue.dropped() > 0 && queue.is_behind());
        queued.flush().unwrap();
        // What was not dropped comes in order, and so does what follows.
        let kept = lines.len() - usize::try_from(queue.dropped()).unwrap();
        let mut read = vec![0; lines[..kept].iter().map(String::len).sum()];
        reader.read_exact(&mut read).unwrap();
        assert!(read == lines[..kept].concat().as_bytes());
        queued.write_all(b"last").unwrap();
        queued.flush().unwrap();
        let mut last = [0; 4];
        reader.read_exact(&mut last).unwrap();
        assert_eq!(&last, b"last");
    }

    #[test]
    fn a_slow_reader_gets_everything() {
        let (mut reader, writer) = pipe().unwrap();
        let (queue, mut queued) = start(writer);
        let text = vec![b'x'; 3 * MOST];
        let reading = thread::spawn(move || {
            let (mut all, mut piece) = (0, [0; 10_000]);
            while all < 3 * MOST {
                thread::sleep(Duration::from_millis(1));
                all += reader.read(&mut piece).unwrap();
            }
        });
        for piece in text.chunks(1000) {
            queued.write_all(piece).unwrap();
        }
        queued.flush().unwrap();
        reading.join().unwrap();
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn p12_a_reader_that_is_gone_is_told_to_the_writer() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let (_, mut queued) = start(writer);
        queued.write_all(b"lost").unwrap();
        assert_eq!(queued.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
