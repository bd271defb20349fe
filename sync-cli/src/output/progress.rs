//! Progress: a bar on a terminal, a line now and then elsewhere, objects in JSON.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use transfer_engine::{Phase, Progress};

use super::json::StatusLine;
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
}

impl Stage {
    pub(super) fn new(phase: Phase) -> Self {
        Self { phase, begun: Instant::now() }
    }
}

impl Meter {
    pub(crate) fn new(style: Style) -> Self {
        let now = Instant::now();
        if let Style::Bar(bar) = &style {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            // If the template were invalid, the built-in one would stay, which is usable.
            if let Ok(bar_style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
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
        let words = || describe(stage.phase, progress, now.duration_since(stage.begun));
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
        bar.set_message(words);
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
            seconds_remaining: remaining(progress, begun.elapsed()).map(millis),
        });
        super::json::text(&line)
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Returns the remaining time at the current rate, by bytes, or by files if there are no bytes.
fn remaining(progress: &Progress, elapsed: Duration) -> Option<Duration> {
    let (done, total) = if progress.total_bytes > 0 {
        (progress.bytes_done, progress.total_bytes)
    } else {
        (progress.files_done, progress.total_files)
    };
    if done == 0 || total < done {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let left = elapsed.as_secs_f64() * (total - done) as f64 / done as f64;
    Duration::try_from_secs_f64(left).ok()
}

/// Returns the progress as text: `downloading: 120 of 3000 files, 1.2 of 310 MiB, 12 MiB/s, 26 s left`.
fn describe(phase: Phase, progress: &Progress, elapsed: Duration) -> String {
    let mut parts = Vec::new();
    let noun = if phase == Phase::Checking { "context" } else { "file" };
    match (progress.files_done, progress.total_files) {
        (0, 0) => {}
        (done, 0) => parts.push(text::count(done, noun)),
        (done, total) => parts.push(format!("{done} of {}", text::count(total, noun))),
    }
    match (text::bytes(progress.bytes_done), progress.total_bytes) {
        (_, 0) if progress.bytes_done == 0 => {}
        (done, 0) => parts.push(done),
        (done, total) => parts.push(format!("{done} of {}", text::bytes(total))),
    }
    if progress.bytes_done > 0 && elapsed > Duration::from_millis(500) {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people, and positive"
        )]
        let rate = (progress.bytes_done as f64 / elapsed.as_secs_f64()) as u64;
        parts.push(format!("{}/s", text::bytes(rate)));
    }
    if progress.bytes_sent > 0 {
        parts.push(format!("{} sent", text::bytes(progress.bytes_sent)));
    }
    if elapsed > Duration::from_secs(2)
        && let Some(left) = remaining(progress, elapsed)
    {
        parts.push(format!("{} left", text::span(left)));
    }
    if parts.is_empty() { phase.to_string() } else { format!("{phase}: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            describe(Phase::Downloading, &progress, Duration::from_secs(10)),
            "downloading: 120 of 3000 files, 12 MiB of 60 MiB, 1.2 MiB/s, 40 s left"
        );
        let sending = Progress { files_done: 0, total_files: 0, ..progress };
        assert_eq!(
            describe(Phase::Sending, &sending, Duration::from_secs(10)),
            "sending: 12 MiB of 60 MiB, 1.2 MiB/s, 40 s left"
        );
        let reading =
            Progress { files_done: 2, bytes_done: 8 << 20, bytes_sent: 4 << 20, ..Progress::default() };
        assert_eq!(
            describe(Phase::Scanning, &reading, Duration::from_secs(4)),
            "scanning: 2 files, 8.0 MiB, 2.0 MiB/s, 4.0 MiB sent"
        );
        let scanning = Progress { files_done: 1, ..Progress::default() };
        assert_eq!(describe(Phase::Scanning, &scanning, Duration::ZERO), "scanning: 1 file");
        assert_eq!(describe(Phase::Committing, &Progress::default(), Duration::ZERO), "committing");
    }
}
