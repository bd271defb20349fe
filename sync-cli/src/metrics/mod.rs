//! Writes a session's figures into a file that Prometheus collects (with the node exporter's textfile
//! collector).

mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use transfer_engine::{TaskStatus, status};

use crate::errors::Failure;
use crate::exit::Exit;

/// The shortest time between two writes while the session runs.
const EVERY: Duration = Duration::from_secs(1);

/// Updates the file until it is dropped, and then writes it once more.
#[derive(Debug)]
pub(crate) struct Metrics {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Writes the figures of these mounts into this file.
struct Keeper {
    file: PathBuf,
    state_dir: PathBuf,
    mounts: Vec<PathBuf>,
    /// For each task, when it last succeeded. A later failure does not change that.
    successes: BTreeMap<text::Task, i64>,
    written: String,
}

impl Metrics {
    /// Writes the file for the first time, and starts to update it.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn start(file: &Path, state_dir: &Path, mounts: Vec<PathBuf>) -> Result<Self, Failure> {
        let mut keeper = Keeper {
            file: file.to_owned(),
            state_dir: state_dir.to_owned(),
            mounts,
            successes: BTreeMap::new(),
            written: String::new(),
        };
        keeper.write().map_err(|error| {
            Failure::usage(format!("cannot write the metrics to {}", file.display())).caused_by(&error)
        })?;
        let (stop, stopped) = mpsc::channel::<()>();
        let keep = move || {
            loop {
                let ended = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
                // A session must not end because its metrics can't be written.
                if let Err(error) = keeper.write() {
                    tracing::warn!("the metrics are not written: {error}");
                }
                if ended {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(keep).map_err(|error| {
            Failure::new(Exit::FAILED, "cannot start a thread for the metrics").caused_by(&error)
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread has logged its errors itself.
            let _ = thread.join();
        }
    }
}

impl Keeper {
    fn write(&mut self) -> io::Result<()> {
        let mut tasks: Vec<TaskStatus> = Vec::new();
        for mount in &self.mounts {
            tasks.extend(status(&self.state_dir, Some(mount)).map_err(io::Error::other)?);
        }
        for task in &tasks {
            if let Some(at) = text::success(task) {
                self.successes.insert(text::Task::of(task), at);
            }
        }
        let text = text::render(&tasks, &self.successes);
        if text != self.written || !self.file.exists() {
            replace(&self.file, text.as_bytes())?;
            self.written = text;
        }
        Ok(())
    }
}

/// Returns the name under which the next version is written, beside the file. Collectors ignore names with
/// this ending. The name never changes, so a file that was left behind is recognized.
pub(crate) fn new_name(file: &Path) -> PathBuf {
    let mut new = std::ffi::OsString::from(".");
    new.push(file.file_name().unwrap_or_default());
    new.push(".new");
    file.with_file_name(new)
}

/// Replaces a file atomically: a reader sees the old text or the new one.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let new = new_name(file);
    let written = fs::File::create(&new)
        .and_then(|mut file| file.write_all(text))
        .and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // An unfinished file is useless.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ctxsync.prom");
        drop(Metrics::start(&file, dir.path(), vec![dir.path().join("work")]).unwrap());
        assert!(fs::read_to_string(&file).unwrap().contains("# TYPE ctxsync_task_state gauge"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Metrics::start(&dir.path().join("missing/file"), dir.path(), Vec::new()).is_err());
    }
}
