//! What happened in a run: each request, each call of the file system, and how each step ended.

use std::sync::{Arc, Mutex};

use crate::outside::lock;

/// The lines of a run, if they are wanted.
#[derive(Clone)]
pub(crate) struct Trace(Option<Arc<Mutex<Vec<String>>>>);

impl Trace {
    pub(crate) fn new(wanted: bool) -> Self {
        Self(wanted.then(Arc::default))
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lock(lines).push(line());
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.0.as_ref().map(|lines| lock(lines).clone()).unwrap_or_default();
        lines.iter().map(|line| without_run(line)).collect()
    }
}

/// Returns a line without what differs from run to run: the world's directory, and the names of states, which follow
/// from the mounts' paths.
fn without_run(line: &str) -> String {
    let mut line = line.to_owned();
    while let Some(at) = line.find("/dev/shm/ctxsync-test-").or_else(|| line.find("/tmp/ctxsync-test-")) {
        let end = at + line[at..].find("-test-").unwrap() + "-test-".len() + 6;
        line.replace_range(at..(end + 1).min(line.len()), "");
    }
    while let Some(at) = line.find("/mounts/") {
        line.replace_range(at..at + "/mounts/".len() + 32, "");
    }
    line
}
