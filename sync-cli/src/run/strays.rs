//! Processes that the command started and that left its group: daemons, and children of `setsid`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rustix::process::{Pid, Signal, getpid, kill_process};

use super::helper::is_helper;

/// A process. The start time tells it from a later process with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    id: i32,
    began: u64,
}

/// All descendants of this program, except those that existed before the command was started.
///
/// This program reaps orphans, so it is the parent of every process that lost its own. Without `/proc`, none
/// is found.
#[derive(Debug)]
pub(super) struct Strays {
    before: BTreeSet<Process>,
}

impl Strays {
    /// Notes the processes that do not belong to the command.
    pub(super) fn none_yet() -> Self {
        Self { before: below(getpid(), &BTreeSet::new()) }
    }

    /// Whether any of them is left.
    pub(super) fn are_alive(&self) -> bool {
        !below(getpid(), &self.before).is_empty()
    }

    /// Sends a signal to each of them.
    pub(super) fn send(&self, signal: Signal) {
        for process in below(getpid(), &self.before) {
            let Some(id) = Pid::from_raw(process.id) else { continue };
            let Some(sent) = send_to(process, id, signal) else { continue };
            if let Err(error) = sent {
                tracing::debug!("cannot send signal {} to process {}: {error}", signal.as_raw(), process.id);
            }
        }
    }

    /// Asks each of them to end.
    pub(super) fn terminate(&self) {
        self.send(Signal::TERM);
        self.send(Signal::CONT);
    }
}

/// Sends a signal to a process; `None` if it is gone.
#[cfg(target_os = "linux")]
fn send_to(process: Process, id: Pid, signal: Signal) -> Option<rustix::io::Result<()>> {
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    // While the handle is open, the id can't pass to another process unnoticed.
    let handle = pidfd_open(id, PidfdFlags::empty());
    read(process.id).filter(|found| found.process == process)?;
    Some(match handle {
        Ok(handle) => pidfd_send_signal(handle, signal),
        // Some sandboxes have no pidfds.
        Err(Errno::NOSYS | Errno::PERM) => kill_process(id, signal),
        Err(error) => Err(error),
    })
}

#[cfg(not(target_os = "linux"))]
fn send_to(process: Process, id: Pid, signal: Signal) -> Option<rustix::io::Result<()>> {
    read(process.id).filter(|found| found.process == process)?;
    Some(kill_process(id, signal))
}

struct Found {
    process: Process,
    parent: i32,
    is_dead: bool,
}

/// Returns the living descendants of a process, without those in `except` and their descendants.
fn below(top: Pid, except: &BTreeSet<Process>) -> BTreeSet<Process> {
    let mut children: BTreeMap<i32, Vec<Found>> = BTreeMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    for entry in entries.flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(found) = id.and_then(read) {
            children.entry(found.parent).or_default().push(found);
        }
    }
    let mut descendants = BTreeSet::new();
    let mut next = vec![top.as_raw_nonzero().get()];
    while let Some(parent) = next.pop() {
        for found in children.remove(&parent).unwrap_or_default() {
            if !except.contains(&found.process) && !is_helper(found.process.id) {
                next.push(found.process.id);
                // A dead process only waits to be reaped.
                if !found.is_dead {
                    descendants.insert(found.process);
                }
            }
        }
    }
    descendants
}

/// Reads the state of a process; `None` if it is gone.
fn read(id: i32) -> Option<Found> {
    parse(id, &fs::read(format!("/proc/{id}/stat")).ok()?)
}

/// Parses a line of `/proc/ID/stat` (see proc(5)). The program's name, in parentheses, may contain anything.
fn parse(id: i32, line: &[u8]) -> Option<Found> {
    let end = line.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(&line[end + 1..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let began = fields.nth(17)?.parse().ok()?;
    Some(Found { process: Process { id, began }, parent, is_dead: matches!(state, "Z" | "X" | "x") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels() {
        let line = b"42 (a) b (c\xff)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let found = parse(42, line).unwrap();
        assert_eq!((found.process, found.parent), (Process { id: 42, began: 98765 }, 7));
        assert!(!found.is_dead);
        assert!(parse(42, b"42 (a) Z 7 0").is_none() && parse(42, b"").is_none());
    }

    #[test]
    fn children_are_found_and_those_from_before_are_not() {
        let mut old = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let strays = Strays::none_yet();
        let mut new = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // Other tests of this process may start processes too.
        let found = below(getpid(), &strays.before);
        assert!(found.iter().any(|process| process.id == new.id().cast_signed()));
        assert!(!found.iter().any(|process| process.id == old.id().cast_signed()));
        for child in [&mut old, &mut new] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
