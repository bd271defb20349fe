//! The machine on which the measurements ran.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What a reader has to know about it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    pub(crate) day: String,
    pub(crate) commit: String,
}

impl Machine {
    /// Describes this machine; `dir` is the directory of the data.
    pub(crate) fn here(dir: &Path) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let kind = said(Command::new("df").arg("--output=fstype").arg(dir));
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: kind.lines().last().unwrap_or_default().to_owned(),
            day: said(Command::new("date").args(["--utc", "+%F"])),
            commit: said(Command::new("git").args(["rev-parse", "--short", "HEAD"])),
        }
    }
}

/// Returns a program's output, or nothing if it can't be run.
fn said(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    output.map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
