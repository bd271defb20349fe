//! The last resort: the program ends at its time, whatever hangs.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the last words may take. Who does not read them can't hold up the end.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Ends the program at a moment, unless it is dropped before.
#[derive(Debug)]
pub(crate) struct HardStop {
    _disarm: mpsc::Sender<()>,
}

impl HardStop {
    /// Arms it: at `at`, `last_words` are said on a thread of their own, and the program ends with `code`.
    pub(crate) fn arm(at: Instant, code: u8, last_words: impl FnOnce() + Send + 'static) -> Self {
        let (disarm, disarmed) = mpsc::channel::<()>();
        let wait = move || {
            let left = at.saturating_duration_since(Instant::now());
            if disarmed.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                let (said, was_said) = mpsc::channel();
                let speaker = thread::Builder::new().spawn(move || {
                    last_words();
                    // Nobody waits for it any longer than that.
                    let _ = said.send(());
                });
                if speaker.is_ok() {
                    let _ = was_said.recv_timeout(LAST_WORDS);
                }
                std::process::exit(code.into());
            }
        };
        if let Err(error) = thread::Builder::new().name("hard-stop".into()).spawn(wait) {
            tracing::warn!("the end at the deadline is not guarded: {error}");
        }
        Self { _disarm: disarm }
    }
}
