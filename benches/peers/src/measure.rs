//! One command, and what it used.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use crate::Result;

/// What one run used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Used {
    /// Seconds from the start of the command to its end.
    pub(crate) wall: f64,
    /// Seconds of CPU time, in user and kernel mode, of the command and all children that it waited for.
    pub(crate) cpu: f64,
    /// The peak memory of its largest process, in KiB.
    pub(crate) peak_kib: i64,
}

/// Runs a command in a process without other children, so that its figures are not mixed with others. `logs`
/// gets its output, which on a failure is the error.
pub(crate) fn measure(command: &Command, logs: &Path) -> Result<Used> {
    let out = logs.join("used.json");
    let mut outer = Command::new(std::env::current_exe()?);
    outer.arg("measure").arg(&out).arg("--").arg(command.get_program()).args(command.get_args());
    copy_surroundings(command, &mut outer);
    finish(outer, logs)?;
    Ok(serde_json::from_reader(File::open(&out)?)?)
}

/// Formats a command as a user would type it. Each pair of `names` is a text and its replacement.
pub(crate) fn shown(command: &Command, names: &[(String, &str)]) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut line =
        words.map(|word| word.to_string_lossy().replace('\n', "\\n")).collect::<Vec<_>>().join(" ");
    if let Some(dir) = command.get_current_dir() {
        line = format!("cd {} && {line}", dir.display());
    }
    names.iter().fold(line, |line, (text, name)| line.replace(text.as_str(), name))
}

/// Runs a command that is not measured.
pub(crate) fn prepare(command: Command, logs: &Path) -> Result<()> {
    finish(command, logs)
}

fn copy_surroundings(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    if let Some(dir) = from.get_current_dir() {
        to.current_dir(dir);
    }
}

fn finish(mut command: Command, logs: &Path) -> Result<()> {
    std::fs::create_dir_all(logs)?;
    let log = logs.join("output.log");
    let file = File::create(&log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = command.status().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    // The first lines have the cause, the last ones the consequence.
    let lines: Vec<&str> = said.lines().collect();
    let (first, rest) = lines.split_at(lines.len().min(4));
    let last = rest.get(rest.len().saturating_sub(2)..).unwrap_or_default();
    Err(format!("{:?} ended with {status}: {}", command.get_program(), [first, last].concat().join("\n"))
        .into())
}

/// The process in between: runs the command as its only child, and writes what it used.
pub(crate) fn wrapped(out: &Path, command: &[OsString]) -> Result<()> {
    let [program, args @ ..] = command else { return Err("no command".into()) };
    let start = Instant::now();
    let status = Command::new(program).args(args).status()?;
    let wall = start.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("ended with {status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    serde_json::to_writer(File::create(out)?, &Used { wall, cpu, peak_kib: usage.max_rss() })?;
    Ok(())
}
