//! The terminal under the progress bar.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::TermLike;

use super::queue::Queue;

/// The columns and rows of a terminal that does not tell.
const USUAL: (u16, u16) = (80, 24);

/// The terminal on stderr, for the bar.
///
/// `indicatif` fills the bar's line with spaces. Where the terminal then echoes `^C`, it begins another line, and the bar
/// stays on the screen. So the spaces are left out here, and the cursor stays behind the text.
pub(super) struct Screen {
    /// What is written with the next flush, all at once.
    pending: Mutex<Vec<u8>>,
    stream: Mutex<Box<dyn Write + Send>>,
    /// Where output waits for the terminal, which the user may have stopped.
    queue: Option<Arc<Queue>>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

/// Returns the columns of the terminal on stderr.
pub(super) fn columns() -> usize {
    size().0.into()
}

fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => USUAL,
    }
}

impl Screen {
    pub(super) fn new(stream: impl Write + Send + 'static, queue: Option<Arc<Queue>>) -> Self {
        Self { pending: Mutex::default(), stream: Mutex::new(Box::new(stream)), queue }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Moves the cursor by so many cells, as the letter says.
    fn move_cursor(&self, by: usize, letter: char) -> io::Result<()> {
        if by == 0 { Ok(()) } else { self.write(&format!("\x1b[{by}{letter}")) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        size().0
    }

    fn height(&self) -> u16 {
        size().1
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write(text)?;
        self.write("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        if text.bytes().all(|byte| byte == b' ') { Ok(()) } else { self.write(text) }
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        if self.queue.as_ref().is_some_and(|queue| queue.is_behind()) {
            return Ok(());
        }
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(&pending)
    }
}
