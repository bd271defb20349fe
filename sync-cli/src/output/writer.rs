//! Writes to a standard stream. Errors never fail the work that is reported.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A standard stream. Once its reader is gone, further output is dropped: that must not end a sync.
pub(crate) struct Writer {
    inner: Mutex<Inner>,
}

struct Inner {
    stream: Box<dyn Write + Send>,
    state: State,
    /// Output that is written once the command gives the terminal back.
    held: Option<Vec<u8>>,
    /// Whether the last line was written.
    ended: bool,
}

/// The most output that is kept back; more is not worth the memory in a long session.
const MOST_HELD: usize = 1 << 20;

enum State {
    Open,
    /// The reader closed its end.
    Closed,
    /// Another error, such as a full disk.
    Failed(io::Error),
}

impl Writer {
    pub(crate) fn new(stream: impl Write + Send + 'static) -> Self {
        Self {
            inner: Mutex::new(Inner {
                stream: Box::new(stream),
                state: State::Open,
                held: None,
                ended: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `text` and a newline with one call.
    pub(crate) fn line(&self, text: &str) {
        let mut line = String::with_capacity(text.len() + 1);
        line.push_str(text);
        line.push('\n');
        self.bytes(line.as_bytes());
    }

    /// Writes the last line. What comes later is dropped: a sync that was interrupted may still report progress.
    pub(crate) fn last_line(&self, text: &str) {
        let mut inner = self.lock();
        let mut rest = inner.held.take().unwrap_or_default();
        rest.extend_from_slice(text.as_bytes());
        rest.push(b'\n');
        inner.write(&rest);
        inner.ended = true;
    }

    /// Writes bytes unchanged.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        self.lock().write(bytes);
    }

    /// Keeps back what is written from now on.
    pub(crate) fn hold(&self) {
        self.lock().held.get_or_insert_default();
    }

    /// Writes what was kept back.
    pub(crate) fn resume(&self) {
        let mut inner = self.lock();
        if let Some(held) = inner.held.take() {
            inner.write(&held);
        }
    }

    /// Whether there is still a reader.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.lock().state, State::Open)
    }

    /// Flushes and closes, and returns the first error, unless only the reader was gone.
    pub(crate) fn finish(&self) -> Result<(), io::Error> {
        self.resume();
        let mut inner = self.lock();
        if matches!(inner.state, State::Open) {
            let flushed = inner.stream.flush();
            inner.note(flushed);
        }
        inner.stream = Box::new(io::sink());
        match std::mem::replace(&mut inner.state, State::Closed) {
            State::Failed(error) => Err(error),
            state => {
                inner.state = state;
                Ok(())
            }
        }
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) {
        match &mut self.held {
            _ if self.ended => {}
            Some(held) if held.len() + bytes.len() <= MOST_HELD => held.extend_from_slice(bytes),
            Some(_) => {}
            None if matches!(self.state, State::Open) => {
                let wrote = self.stream.write_all(bytes);
                self.note(wrote);
            }
            None => {}
        }
    }

    fn note(&mut self, outcome: io::Result<()>) {
        self.state = match outcome {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => State::Closed,
            Err(error) => State::Failed(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refusing(io::ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn p12_a_closed_pipe_is_no_error() {
        let writer = Writer::new(Refusing(io::ErrorKind::BrokenPipe));
        writer.line("lost");
        assert!(!writer.is_open());
        assert!(writer.finish().is_ok());
    }

    #[test]
    fn what_is_held_comes_later_and_in_order() {
        let file = tempfile::tempfile().unwrap();
        let writer = Writer::new(file.try_clone().unwrap());
        let written = || file.metadata().unwrap().len();
        writer.line("a");
        writer.hold();
        writer.line("b");
        writer.line(&"x".repeat(MOST_HELD));
        assert_eq!(written(), 2);
        writer.resume();
        writer.line("c");
        assert_eq!(written(), 6);
    }

    #[test]
    fn nothing_follows_the_last_line() {
        let file = tempfile::tempfile().unwrap();
        let writer = Writer::new(file.try_clone().unwrap());
        writer.hold();
        writer.line("a");
        writer.last_line("b");
        writer.line("c");
        writer.resume();
        assert!(writer.finish().is_ok());
        assert_eq!(file.metadata().unwrap().len(), 4, "`a` and `b`");
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let writer = Writer::new(Refusing(io::ErrorKind::StorageFull));
        writer.line("lost");
        assert_eq!(writer.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
