//! File systems that a test mounts in its own mount namespace: they are invisible outside, and vanish with
//! it.

use std::path::Path;
use std::process::Command;

/// Set in the process that runs in its own namespace.
const INSIDE: &str = "CTXSYNC_TEST_INSIDE";

/// Runs the named test again in its own mount namespace; returns whether this is that run. If mounting is not
/// permitted, prints that the test was skipped.
#[must_use]
#[expect(clippy::print_stdout, reason = "who runs the tests has to see what was not tested")]
pub fn may_mount(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let may = in_namespace().args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may.is_ok_and(|may| may.status.success()) {
        println!("skipped: mounting is not permitted here");
        return false;
    }
    let ran = in_namespace()
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = [&ran.stdout[..], &ran.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    false
}

fn in_namespace() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare
}

fn run(command: &mut Command) {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Mounts an empty file system in memory.
pub fn tmpfs(at: impl AsRef<Path>) {
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "none"]).arg(at.as_ref()));
}

/// Mounts an empty file system in memory of this size.
pub fn small_tmpfs(at: impl AsRef<Path>, size: &str) {
    let size = format!("mode=755,size={size}");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(at.as_ref()));
}

/// Bind-mounts a directory or file at another path, where it counts as a file system of its own.
pub fn bind(from: impl AsRef<Path>, at: impl AsRef<Path>) {
    run(Command::new("mount").arg("--bind").args([from.as_ref(), at.as_ref()]));
}

/// Unmounts a file system.
pub fn unmount(at: impl AsRef<Path>) {
    run(Command::new("umount").arg(at.as_ref()));
}
