//! The pager: on a terminal, long results go through the program that `$PAGER` names, or through `less`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// What `less` does unless LESS says otherwise, as with git: it ends at once if all fits on one screen (F), shows
/// colours (R), and leaves the text on the screen (X).
const LESS: &str = "FRX";

/// A pager that starts with the first output. Dropping it waits until the user leaves it.
pub(super) struct Pager {
    words: Vec<OsString>,
    sink: Option<Sink>,
}

enum Sink {
    Pager(Child, ChildStdin),
    /// There is no such program.
    Stdout(io::Stdout),
}

impl Pager {
    /// Returns the pager that the environment asks for. `PAGER=cat` or an empty one ask for none.
    pub(super) fn of_environment() -> Option<Self> {
        if std::env::var_os("TERM").is_none_or(|term| term == "dumb") {
            return None;
        }
        let named = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
        let words: Vec<OsString> = named.split_whitespace().map(OsString::from).collect();
        (!words.is_empty() && words != ["cat"]).then_some(Self { words, sink: None })
    }

    fn start(&self) -> Sink {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", LESS);
        }
        let Ok(mut pager) = command.spawn() else { return Sink::Stdout(io::stdout()) };
        match pager.stdin.take() {
            Some(pipe) => Sink::Pager(pager, pipe),
            None => Sink::Stdout(io::stdout()),
        }
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sink = match self.sink.take() {
            Some(sink) => sink,
            None => self.start(),
        };
        match self.sink.insert(sink) {
            Sink::Pager(_, pipe) => pipe.write(bytes),
            Sink::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Some(Sink::Pager(_, pipe)) => pipe.flush(),
            Some(Sink::Stdout(stdout)) => stdout.flush(),
            None => Ok(()),
        }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        if let Some(Sink::Pager(mut pager, pipe)) = self.sink.take() {
            drop(pipe);
            let _ = pager.wait();
        }
    }
}
