//! The program's output: results on one stream, everything else on the other.

mod advice;
pub(crate) mod json;
mod known;
mod pager;
mod progress;
mod queue;
mod screen;
pub(crate) mod summary;
mod watch;
mod writer;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use policy_core::escape_text as harmless;
use transfer_engine::ContextName;

use crate::args::Color;
use crate::errors::Failure;
pub(crate) use advice::advise;
use json::{ErrorLine, Line};
pub(crate) use known::{Known, note_usage};
use pager::Pager;
use progress::{Meter, Style};
use queue::Queue;
use screen::Screen;
pub(crate) use watch::{SessionWatch, Tally, Watch};
use writer::Writer;

/// How the program prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    pub(crate) progress: bool,
    pub(crate) color: Color,
    /// Whether results go through a pager, if stdout is a terminal.
    pub(crate) paged: bool,
    /// Prints everything on stderr, because stdout belongs to the command of `run`.
    pub(crate) stderr_only: bool,
    /// What is printed only goes with the work. If nobody reads it, it is dropped, and the work goes on.
    pub(crate) droppable: bool,
}

/// Prints everything.
pub(crate) struct Ui {
    results: Writer,
    notes: Writer,
    manner: Manner,
    colors: bool,
    /// Whether a pager shows the results, and whether it has begun.
    paged: bool,
    has_begun: AtomicBool,
    /// Whether the columns of results get a header: only for people, not for what reads a pipe.
    headed: bool,
    has_header: AtomicBool,
    meter: Meter,
    /// What waits for its reader, if the work does not.
    queue: Option<Arc<Queue>>,
    begun: Instant,
    known: Known,
}

impl Ui {
    pub(crate) fn new(manner: Manner) -> Self {
        let terminal = io::stderr().is_terminal();
        let style = match () {
            () if !manner.progress || (manner.quiet && !manner.json) => Style::None,
            () if manner.json => Style::Json,
            () if terminal => Style::Bar(ProgressBar::hidden()),
            () => Style::Lines,
        };
        let colors = match manner.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                terminal
                    && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                    && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
            }
        };
        let headed = !manner.json && !manner.stderr_only && io::stdout().is_terminal();
        let pager = (headed && manner.paged).then(Pager::of_environment).flatten();
        let paged = pager.is_some();
        let stdout = || -> Box<dyn Write + Send> {
            if manner.stderr_only { Box::new(io::stderr()) } else { Box::new(io::stdout()) }
        };
        let stderr = || Box::new(io::stderr());
        // Without another thread, output is written by the one that has it.
        let queued =
            manner.droppable.then(|| Queue::start([stdout(), stderr(), stderr()])).and_then(Result::ok);
        let (queue, results, notes, screen) = match (queued, pager) {
            (Some((queue, [results, notes, bar])), _) => {
                let screen = Screen::new(bar, Some(Arc::clone(&queue)));
                (Some(queue), Writer::new(results), Writer::new(notes), screen)
            }
            (None, pager) => {
                let results = pager.map_or_else(|| Writer::new(stdout()), Writer::new);
                (None, results, Writer::new(io::stderr()), Screen::new(io::stderr(), None))
            }
        };
        Self {
            results,
            notes,
            manner,
            colors,
            paged,
            has_begun: AtomicBool::new(false),
            headed,
            has_header: AtomicBool::new(false),
            meter: Meter::new(style, screen),
            queue,
            begun: Instant::now(),
            known: Known::default(),
        }
    }

    /// Returns an output that nobody sees.
    pub(crate) fn silent() -> Self {
        let manner = Manner {
            json: false,
            quiet: true,
            verbose: 0,
            progress: false,
            color: Color::Never,
            paged: false,
            stderr_only: true,
            droppable: false,
        };
        Self { results: Writer::new(io::sink()), notes: Writer::new(io::sink()), ..Self::new(manner) }
    }

    /// Returns the facts about the command so far.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    pub(crate) fn is_json(&self) -> bool {
        self.manner.json
    }

    pub(crate) fn verbose(&self) -> u8 {
        self.manner.verbose
    }

    /// Returns the time since the program began.
    pub(crate) fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns the columns into which the result of a sync should fit: those of the terminal that shows it.
    pub(crate) fn columns(&self) -> Option<usize> {
        let is_shown =
            if self.manner.stderr_only { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        (is_shown && io::stderr().is_terminal()).then(screen::columns)
    }

    /// Whether somebody sees notes and hints on a terminal.
    pub(crate) fn is_watched(&self) -> bool {
        !self.manner.quiet && !self.manner.json && io::stderr().is_terminal()
    }

    /// Whether a pager shows the results.
    pub(crate) fn is_paged(&self) -> bool {
        self.paged
    }

    /// Leaves the terminal to the pager, if there is one, until the end.
    fn begin_results(&self) {
        if self.paged && !self.has_begun.swap(true, Ordering::Relaxed) {
            self.meter.rest(true);
            self.notes.hold();
        }
    }

    /// Prints what the columns of the lines to come are, once, and only on a terminal.
    pub(crate) fn header(&self, text: &str) {
        if self.headed && !self.has_header.swap(true, Ordering::Relaxed) {
            self.begin_results();
            self.meter.aside(|| self.results.line(&self.paint(text, "1")));
        }
    }

    /// Prints a line of the result, for people.
    pub(crate) fn line(&self, text: &str) {
        self.begin_results();
        self.meter.aside(|| self.results.line(&harmless(text)));
    }

    /// Prints a text document unchanged.
    pub(crate) fn document(&self, text: &str) {
        self.begin_results();
        self.results.line(text);
    }

    /// Prints an object of the result, for programs.
    pub(crate) fn object(&self, line: &Line<'_>) {
        self.results.line(&json::text(line));
    }

    /// Prints the last object of the result, for programs.
    pub(crate) fn last_object(&self, line: &Line<'_>) {
        self.results.last_line(&json::text(line));
    }

    /// Prints an object that has its type already.
    pub(crate) fn raw_object(&self, value: &serde_json::Value) {
        self.results.line(&value.to_string());
    }

    /// Writes a document, or a part of one, unchanged.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        self.begin_results();
        self.results.bytes(bytes);
    }

    /// Whether anybody still reads the results.
    pub(crate) fn is_read(&self) -> bool {
        self.results.is_open()
    }

    /// Prints something that is neither a result nor a warning; `-q` turns it off.
    pub(crate) fn note(&self, text: &str) {
        if !self.manner.quiet && !self.manner.json {
            self.meter.aside(|| self.notes.line(&harmless(text)));
        }
    }

    /// Prints what to do next, for people; `-q` suppresses it.
    pub(crate) fn hint(&self, text: &str) {
        if !self.manner.quiet && !self.manner.json {
            let head = self.paint("hint:", "36");
            self.meter.aside(|| self.notes.line(&format!("{head} {}", harmless(text))));
        }
    }

    pub(crate) fn warning(&self, message: &str) {
        if self.manner.json {
            self.object(&Line::Warning { message });
        } else {
            let head = self.paint("warning:", "33");
            self.meter.aside(|| self.notes.line(&format!("{head} {}", harmless(message))));
        }
    }

    /// Prints why something failed: `error:`, `caused by:`, `hint:`.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.manner.json {
            let (path, path_bytes) = failure.path_fields();
            self.object(&Line::Error(ErrorLine {
                path,
                path_bytes,
                mount: failure.mount.as_deref(),
                context: failure.context.as_deref().map(ContextName::as_str),
                message: &failure.message,
                causes: &failure.causes,
                hint: failure.hint.as_deref(),
            }));
            return;
        }
        let mut text = format!("{} {}", self.paint("error:", "1;31"), harmless(&failure.headline()));
        for cause in &failure.causes {
            // A parser's message may have several lines, which show the position in the file.
            let cause = cause.lines().map(harmless).collect::<Vec<_>>().join("\n");
            text.push_str(&format!("\n{} {cause}", self.paint("caused by:", "31")));
        }
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("\n{} {}", self.paint("hint:", "36"), harmless(hint)));
        }
        self.meter.aside(|| self.notes.line(&text));
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.colors { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Asks a question on the terminal; `None` if there is no terminal.
    pub(crate) fn confirm(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        self.notes.bytes(format!("{} [y/N] ", harmless(question)).as_bytes());
        self.flush();
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Leaves the terminal to the command until [`Ui::resume`]. If the command may draw on it (`silent`),
    /// messages are kept until then.
    pub(crate) fn rest(&self, silent: bool) {
        self.meter.rest(true);
        if silent {
            self.results.hold();
            self.notes.hold();
        }
    }

    /// Takes the terminal back, and prints the messages that were kept.
    pub(crate) fn resume(&self) {
        self.results.resume();
        self.notes.resume();
        self.meter.rest(false);
    }

    /// Whether readers are so far behind that progress is not worth printing.
    fn is_behind(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.is_behind())
    }

    /// Waits until everything is written, unless its reader has stopped.
    pub(crate) fn flush(&self) {
        self.queue.iter().for_each(|queue| queue.drain());
    }

    /// Says how much was not printed because nobody read it.
    pub(crate) fn tell_dropped(&self) {
        let dropped = self.queue.as_ref().map_or(0, |queue| queue.dropped());
        if dropped > 0 {
            let lines = crate::text::count(dropped, "message");
            self.warning(&format!("{lines} went missing here, because nobody read them for a second"));
        }
    }

    /// Ends the output, and waits until the user leaves the pager. Returns the first write error, unless only the reader
    /// was gone.
    pub(crate) fn finish(&self) -> Result<(), io::Error> {
        self.meter.clear();
        let written = self.results.finish();
        self.notes.resume();
        self.flush();
        written
    }
}
