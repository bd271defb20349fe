//! Runs git, without the settings of whoever runs the tests.

use std::path::Path;
use std::process::Command;

/// Returns a command with git's settings, and with no other environment than `PATH`.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::vars().filter(|(name, _)| name == "PATH"));
    let settings = [("user.name", "A"), ("user.email", "a@b"), ("gc.auto", "0"), ("safe.directory", "*")];
    command.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (at, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    command
}

/// Runs git in a directory, and returns what it says. Fails if git does.
#[track_caller]
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = command("git").arg("-C").arg(dir).args(args).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "git {args:?} in {}: {said}", dir.display());
    said
}

/// Fails unless every object is there that something in the repository names.
#[track_caller]
pub fn check(dir: &Path) {
    let said = git(dir, &["fsck", "--full", "--strict"]);
    assert!(!said.contains("missing") && !said.contains("error"), "{}: {said}", dir.display());
}
