//! Progress: a bar on a terminal, a line now and then elsewhere, objects in JSON.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use transfer_engine::{Phase, Progress};

use super::json::StatusLine;
use super::screen::{Screen, columns};
use crate::text;

/// How progress is shown.
pub(crate) enum Style {
    /// A bar on the terminal.
    Bar(ProgressBar),
    /// Plain lines.
    Lines,
    /// JSON objects.
    Json,
    /// Not at all.
    None,
}

/// Time between two plain lines.
const LINES_EVERY: Duration = Duration::from_secs(10);
/// Time between two JSON objects.
const JSON_EVERY: Duration = Duration::from_millis(500);
/// Time between two updates of the bar's text.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// Shows progress.
pub(crate) struct Meter {
    style: Style,
    begun: Instant,
    /// Whether the bar is on the terminal.
    drawn: AtomicBool,
    /// Whether the command has the terminal.
    rests: AtomicBool,
    /// When something was last shown.
    shown: Mutex<Instant>,
}

/// The phase of a task, and when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    pub(super) phase: Phase,
    pub(super) begun: Instant,
    /// The bytes that were done when it began, once that is known.
    from: Option<u64>,
}

impl Stage {
    pub(super) fn new(phase: Phase) -> Self {
        Self { phase, begun: Instant::now(), from: None }
    }

    /// Notes what was done when the stage began, if this is its first progress.
    pub(super) fn note(&mut self, progress: &Progress) {
        // Packs have been sent before a push only waits for them.
        let from = if self.phase == Phase::Sending { progress.bytes_done } else { 0 };
        self.from.get_or_insert(from);
    }

    /// Returns the bytes that were done when it began.
    fn from(&self) -> u64 {
        self.from.unwrap_or(0)
    }
}

impl Meter {
    pub(super) fn new(style: Style, screen: Screen) -> Self {
        let now = Instant::now();
        if let Style::Bar(bar) = &style {
            bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(screen), 10));
            // If the template were invalid, the built-in one would stay, which is usable.
            if let Ok(bar_style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(bar_style);
            }
        }
        Self {
            style,
            begun: now,
            drawn: AtomicBool::new(false),
            rests: AtomicBool::new(false),
            shown: Mutex::new(now),
        }
    }

    /// Runs `write` while the bar is hidden.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.style {
            // `suspend` would draw a bar that is not visible yet.
            Style::Bar(bar) if self.drawn.load(Ordering::Relaxed) => bar.suspend(write),
            _ => write(),
        }
    }

    /// Removes the bar from the terminal until the next update.
    pub(crate) fn clear(&self) {
        if let Style::Bar(bar) = &self.style
            && self.drawn.swap(false, Ordering::Relaxed)
        {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    /// Shows nothing to people until it is called with `false`.
    pub(crate) fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
        if rests {
            self.clear();
        }
    }

    /// Notes that a task reached a stage; returns what to print.
    pub(super) fn stage(&self, stage: Stage) -> Option<String> {
        if let (Style::Bar(_), Ok(mut shown)) = (&self.style, self.shown.try_lock()) {
            // The first figures of a stage are shown at once: the next ones may take a while.
            *shown = stage.begun.checked_sub(BAR_EVERY).unwrap_or(stage.begun);
        }
        match &self.style {
            Style::Bar(_) if stage.phase == Phase::Done => self.clear(),
            Style::Bar(bar) => self.draw(bar, stage.phase.to_string()),
            Style::Json => return Some(self.status(stage, self.begun, &Progress::default())),
            Style::Lines | Style::None => {}
        }
        None
    }

    /// Notes the progress of a task; returns what to print.
    pub(super) fn progress(&self, stage: Stage, progress: &Progress) -> Option<String> {
        let every = match self.style {
            Style::Bar(_) => BAR_EVERY,
            Style::Lines => LINES_EVERY,
            Style::Json => JSON_EVERY,
            Style::None => return None,
        };
        // If the lock is taken, another task is just showing newer figures.
        let mut shown = self.shown.try_lock().ok()?;
        let now = Instant::now();
        if now.duration_since(*shown) < every {
            return None;
        }
        *shown = now;
        drop(shown);
        let words = || describe(stage, progress, now.duration_since(stage.begun));
        match &self.style {
            Style::Bar(bar) => {
                self.draw(bar, words());
                None
            }
            Style::Lines if self.rests.load(Ordering::Relaxed) => None,
            Style::Lines => Some(words()),
            Style::Json => Some(self.status(stage, stage.begun, progress)),
            Style::None => None,
        }
    }

    fn draw(&self, bar: &ProgressBar, words: String) {
        if self.rests.load(Ordering::Relaxed) {
            return;
        }
        let was_drawn = self.drawn.swap(true, Ordering::Relaxed);
        if !was_drawn {
            bar.reset();
        }
        bar.set_message(fitted(words, columns()));
        if !was_drawn {
            bar.enable_steady_tick(BAR_EVERY);
        }
    }

    fn status(&self, stage: Stage, begun: Instant, progress: &Progress) -> String {
        let line = super::json::Line::Status(StatusLine {
            phase: &stage.phase.to_string(),
            files_done: progress.files_done,
            total_files: progress.total_files,
            bytes_done: progress.bytes_done,
            total_bytes: progress.total_bytes,
            seconds_elapsed: millis(self.begun.elapsed()),
            seconds_remaining: remaining(stage, progress, begun.elapsed()).map(millis),
        });
        super::json::text(&line)
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Cuts the text of the bar to what fits into a line with the spinner in front. If `^C` at the end began another line, the
/// bar would stay on the terminal.
fn fitted(words: String, columns: usize) -> String {
    const SPINNER: usize = 2;
    const INTERRUPT: usize = 3;
    let most = columns.saturating_sub(SPINNER + INTERRUPT);
    let Some((end, _)) = words.char_indices().nth(most) else { return words };
    // Half a figure would be another one.
    let end = words[..=end].rfind(", ").unwrap_or(end);
    words[..end].to_owned()
}

/// Returns the remaining time at the current rate, by bytes, or by files if there are no bytes.
fn remaining(stage: Stage, progress: &Progress, elapsed: Duration) -> Option<Duration> {
    let (done, total, from) = if progress.total_bytes > 0 {
        (progress.bytes_done, progress.total_bytes, stage.from())
    } else {
        (progress.files_done, progress.total_files, 0)
    };
    let here = time_for(total.checked_sub(done)?, done.saturating_sub(from), elapsed)?;
    if stage.phase != Phase::Scanning || progress.bytes_packed == 0 || progress.total_bytes == 0 {
        return Some(here);
    }
    // What is read waits for what is sent: as much of the rest will have to be sent as of what has been read.
    let packed = u128::from(progress.bytes_packed) * u128::from(total) / u128::from(done.max(1));
    let unsent = u64::try_from(packed).ok()?.saturating_sub(progress.bytes_sent);
    Some(here.max(time_for(unsent, progress.bytes_sent, elapsed)?))
}

/// Returns the time that `left` takes if `done` took `elapsed`.
fn time_for(left: u64, done: u64, elapsed: Duration) -> Option<Duration> {
    if done == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = elapsed.as_secs_f64() * left as f64 / done as f64;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Returns the progress as text: `downloading: 120 of 3000 files, 1.2 of 310 MiB, 12 MiB/s, 26 s left`.
fn describe(stage: Stage, progress: &Progress, elapsed: Duration) -> String {
    let mut parts = Vec::new();
    let phase = stage.phase;
    let noun = if phase == Phase::Checking { "context" } else { "file" };
    match (progress.files_done, progress.total_files) {
        (0, 0) => {}
        (done, 0) => parts.push(text::count(done, noun)),
        (done, total) => parts.push(format!("{done} of {}", text::count(total, noun))),
    }
    match (text::bytes(progress.bytes_done), progress.total_bytes) {
        (_, 0) if progress.bytes_done == 0 => {}
        (done, 0) => parts.push(done),
        (done, total) => parts.push(part_of(&done, &text::bytes(total))),
    }
    if progress.bytes_sent > 0 {
        parts.push(format!("{} sent", text::bytes(progress.bytes_sent)));
    }
    // Where something is sent, that is what takes the time.
    let moved = match progress.bytes_sent {
        0 => progress.bytes_done.saturating_sub(stage.from()),
        sent => sent,
    };
    if moved > 0 && elapsed > Duration::from_millis(500) {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people, and positive"
        )]
        let rate = (moved as f64 / elapsed.as_secs_f64()) as u64;
        parts.push(format!("{}/s", text::bytes(rate)));
    }
    let is_all = progress.total_bytes > 0 && progress.bytes_done >= progress.total_bytes;
    if elapsed > Duration::from_secs(2)
        && !is_all
        && let Some(left) = remaining(stage, progress, elapsed)
        && left >= Duration::from_secs(1)
    {
        parts.push(format!("{} left", roughly(left)));
    }
    if parts.is_empty() { phase.to_string() } else { format!("{phase}: {}", parts.join(", ")) }
}

/// Returns `12 of 60 MiB`, or `1.2 MiB of 3.0 GiB`.
fn part_of(done: &str, total: &str) -> String {
    let unit = total.rsplit(' ').next().unwrap_or_default();
    let done = done.strip_suffix(unit).map_or(done, str::trim_end);
    format!("{done} of {total}")
}

/// Returns a time that is an estimate: seconds, or else minutes.
fn roughly(left: Duration) -> String {
    match left.as_secs() {
        0..60 => text::span(left),
        60..3600 => format!("{} min", left.as_secs().div_ceil(60)),
        secs => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(phase: Phase, progress: &Progress, elapsed: Duration) -> String {
        describe(Stage::new(phase), progress, elapsed)
    }

    #[test]
    fn words() {
        let progress = Progress {
            files_done: 120,
            total_files: 3000,
            bytes_done: 12 << 20,
            total_bytes: 60 << 20,
            ..Progress::default()
        };
        assert_eq!(
            described(Phase::Downloading, &progress, Duration::from_secs(10)),
            "downloading: 120 of 3000 files, 12 of 60 MiB, 1.2 MiB/s, 40 s left"
        );
        let sending = Progress { files_done: 0, total_files: 0, ..progress };
        assert_eq!(
            described(Phase::Sending, &sending, Duration::from_secs(10)),
            "sending: 12 of 60 MiB, 1.2 MiB/s, 40 s left"
        );
        let reading =
            Progress { files_done: 2, bytes_done: 8 << 20, bytes_sent: 4 << 20, ..Progress::default() };
        assert_eq!(
            described(Phase::Scanning, &reading, Duration::from_secs(4)),
            "scanning: 2 files, 8.0 MiB, 4.0 MiB sent, 1.0 MiB/s"
        );
        let scanning = Progress { files_done: 1, ..Progress::default() };
        assert_eq!(described(Phase::Scanning, &scanning, Duration::ZERO), "scanning: 1 file");
        assert_eq!(described(Phase::Committing, &Progress::default(), Duration::ZERO), "committing");
    }

    #[test]
    fn a_huge_file_on_a_slow_line_takes_as_long_as_sending_it() {
        let progress = Progress {
            files_done: 1,
            bytes_done: 100 << 20,
            total_bytes: 1000 << 20,
            bytes_sent: 10 << 20,
            bytes_packed: 50 << 20,
            ..Progress::default()
        };
        // 500 MiB are to be sent in all, and 10 took 10 s.
        assert_eq!(
            described(Phase::Scanning, &progress, Duration::from_secs(10)),
            "scanning: 1 file, 100 of 1000 MiB, 10 MiB sent, 1.0 MiB/s, 9 min left"
        );
    }

    #[test]
    fn what_was_sent_while_reading_does_not_make_the_line_faster() {
        let mut stage = Stage::new(Phase::Sending);
        let first = Progress { bytes_done: 30 << 20, total_bytes: 60 << 20, ..Progress::default() };
        stage.note(&first);
        let later = Progress { bytes_done: 40 << 20, ..first };
        stage.note(&later);
        assert_eq!(
            describe(stage, &later, Duration::from_secs(10)),
            "sending: 40 of 60 MiB, 1.0 MiB/s, 20 s left"
        );
        // What is left then is the store's answer.
        let nearly = Progress { bytes_done: (60 << 20) - 1, ..first };
        assert_eq!(describe(stage, &nearly, Duration::from_secs(30)), "sending: 60 of 60 MiB, 1.0 MiB/s");
        let all = Progress { bytes_done: 60 << 20, ..first };
        assert_eq!(describe(stage, &all, Duration::from_secs(30)), "sending: 60 of 60 MiB, 1.0 MiB/s");
    }

    #[test]
    fn the_bar_leaves_room_for_an_interrupt() {
        assert_eq!(fitted("x".repeat(100), 80).len(), 75);
        assert_eq!(fitted("downloading".to_owned(), 80), "downloading");
        assert_eq!(fitted("scanning: 12 files, 310 MiB".to_owned(), 25), "scanning: 12 files");
    }
}
