//! A temporary directory with machines in it, which share a store and nothing else.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

/// Everything that a test uses.
pub(crate) struct World {
    dir: Arc<TempDir>,
}

/// A machine: its own state and config, and a mount called `work`.
pub(crate) struct Machine {
    /// Keeps the temporary directory.
    _world: Arc<TempDir>,
    root: PathBuf,
    dir: PathBuf,
}

/// How a call ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    root: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: Arc::new(tempfile::Builder::new().prefix("ctxsync-cli-").tempdir().unwrap()) }
    }

    pub(crate) fn machine(&self, name: &str) -> Machine {
        let root = self.dir.path().canonicalize().unwrap();
        let dir = root.join(name);
        std::fs::create_dir_all(dir.join("work")).unwrap();
        Machine { _world: Arc::clone(&self.dir), root, dir }
    }

    /// Returns the directory of the default store.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("data/ctxsync/store")
    }
}

impl Machine {
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, below: &str) -> String {
        std::fs::read_to_string(self.path(below)).unwrap()
    }

    pub(crate) fn has(&self, below: &str) -> bool {
        self.path(below).symlink_metadata().is_ok()
    }

    /// Returns the file with this name in the state of the machine's only mount.
    pub(crate) fn state_file(&self, name: &str) -> PathBuf {
        let mut dirs = vec![self.path("state")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
                if entry.file_name() == name {
                    return entry.path();
                }
                dirs.extend(entry.file_type().unwrap().is_dir().then(|| entry.path()));
            }
        }
        panic!("no {name} in the state");
    }

    /// Returns a call that is not started yet, in the machine's directory and with a clean environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctxsync"));
        command
            .args(args)
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            // Scripts that a test runs find the program by this variable.
            .env("PROGRAM", env!("CARGO_BIN_EXE_ctxsync"))
            .env("HOME", self.dir.join("home"))
            .env("XDG_CONFIG_HOME", self.dir.join("config"))
            .env("XDG_STATE_HOME", self.dir.join("state"))
            .env("XDG_DATA_HOME", self.root.join("data"))
            .stdin(Stdio::null());
        command
    }

    /// Returns a command that calls the program on a terminal of its own, with these environment variables set. What
    /// is written to its input is typed there, and its output is what the terminal shows.
    pub(crate) fn on_terminal(&self, variables: &[(&str, &str)], args: &str) -> Command {
        let call = self.command([""; 0]);
        let mut command = Command::new("script");
        // `script` runs a line of shell, and ends with its code.
        command
            .args(["-qec", &format!("exec \"$PROGRAM\" {args}"), "/dev/null"])
            .current_dir(&self.dir)
            .env_clear();
        for (name, value) in call.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    pub(crate) fn ended(&self, output: Output) -> Ended {
        Ended {
            code: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0)),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            root: self.root.to_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn call(&self, args: &[&str]) -> Ended {
        self.ended(self.command(args).output().unwrap())
    }

    /// Calls with these environment variables set.
    pub(crate) fn call_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Ended {
        self.ended(self.command(args).envs(variables.iter().copied()).output().unwrap())
    }

    /// Calls, and fails unless the exit code is 0.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> Ended {
        let ended = self.call(args);
        assert_eq!(ended.code, 0, "{args:?}\n{}{}", ended.out, ended.err);
        ended
    }
}

impl Ended {
    /// Returns the output with times, sizes and the temporary directory replaced.
    pub(crate) fn seen(&self) -> String {
        let mut text = String::new();
        for (name, stream) in [("out", &self.out), ("err", &self.err)] {
            for line in stream.lines() {
                text.push_str(&format!("{name}| {line}\n"));
            }
        }
        text.push_str(&format!("exit {}", self.code));
        redact(&text, &self.root)
    }

    /// Returns the JSON objects on standard output.
    pub(crate) fn objects(&self) -> Vec<Value> {
        objects(&self.out)
    }

    /// Returns the last object on standard output, which must be the summary.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        let last = self.objects().pop().unwrap();
        assert_eq!(last["message_type"], "summary", "{}", self.out);
        assert_eq!(last["exit_code"], self.code);
        last
    }

    /// Returns the objects of one type.
    pub(crate) fn of_type(&self, message_type: &str) -> Vec<Value> {
        self.objects().into_iter().filter(|object| object["message_type"] == message_type).collect()
    }
}

/// Parses lines of JSON; any other line is a failure.
#[track_caller]
pub(crate) fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Replaces what differs from run to run.
pub(crate) fn redact(text: &str, root: &str) -> String {
    let mut text = text.replace(root, "[ROOT]");
    for (pattern, stand_in) in [
        (r"\b\d+(\.\d)? (B|KiB|MiB)\b", "[SIZE]"),
        (r"; \d+(\.\d)? s\b", "; [TIME]"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "[MOMENT]"),
        (r"\b[0-9a-f]{32}\b", "[ID]"),
        (r"s-[0-9a-f]{16}\b", "[SESSION]"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, stand_in).into_owned();
    }
    text
}

/// Returns every path below `dir` with its kind, mode, and content or target.
pub(crate) fn tree(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    fn walk(dir: &Path, top: &Path, rows: &mut Vec<String>) {
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for path in names {
            let found = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            let mode = found.permissions().mode() & 0o7777;
            if found.is_dir() {
                rows.push(format!("{name}/ {mode:o}"));
                walk(&path, top, rows);
            } else if found.is_symlink() {
                rows.push(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
            } else {
                rows.push(format!(
                    "{name} {mode:o} {:?}",
                    std::fs::read(&path).unwrap().escape_ascii().to_string()
                ));
            }
        }
    }
    let mut rows = Vec::new();
    walk(dir, dir, &mut rows);
    rows
}

/// Returns bytes that do not compress.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}
