//! The tools, and how each performs the operations.

use std::fmt;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::cell::Operation;
use crate::place::{Destination, Repo};

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tool {
    Ctxsync,
    /// With `uploadMode: Archive`.
    CtxsyncArchive,
    /// Walks the tree and does nothing: what no tool can be faster than.
    Find,
    /// Copies the tree and flushes the file system, on one core: what a plain durable copy takes.
    Cp,
    Rsync,
    Restic,
    Rustic,
    Rclone,
    S5cmd,
}

/// The program, and the directory of its state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) ctxsync: &'a Path,
    pub(crate) state: &'a Path,
}

const COPY: [&str; 2] = ["-c", r#"mkdir -p "$1" && cp -a "$0." "$1" && sync -f "$1""#];
const PASSWORD: &str = "password";
const ARCHIVE: &str = r#"{"uploadPolicy": {"uploadMode": "Archive"}}"#;

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned()).as_str())
    }
}

impl Tool {
    /// Returns the installed version, on one line; `None` if the tool is missing.
    pub(crate) fn version(self, ctxsync: &Path) -> Option<String> {
        let mut command = match self {
            Self::Ctxsync | Self::CtxsyncArchive => Command::new(ctxsync),
            tool => Command::new(tool.to_string()),
        };
        let argument =
            if matches!(self, Self::Restic | Self::Rclone | Self::S5cmd) { "version" } else { "--version" };
        let output = command.arg(argument).output().ok().filter(|o| o.status.success())?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
    }

    /// Whether the tool supports the operation at this place.
    pub(crate) fn does(self, operation: Operation, to: Destination) -> bool {
        match self {
            Self::Find => operation == Operation::PushUnchanged,
            Self::Cp => {
                to == Destination::Local && matches!(operation, Operation::FirstPush | Operation::Pull)
            }
            Self::Rsync => to == Destination::Local,
            Self::S5cmd => to != Destination::Local,
            _ => true,
        }
    }

    /// Whether it stores the tree itself, file by file.
    pub(crate) fn stores_files(self) -> bool {
        matches!(self, Self::Cp | Self::Rsync | Self::Rclone | Self::S5cmd)
    }

    /// Whether it keeps symbolic links, times and modes.
    pub(crate) fn keeps_all(self) -> bool {
        !matches!(self, Self::Rclone | Self::S5cmd)
    }

    /// Returns the command that must run before the first push, if there is one.
    pub(crate) fn init(self, repo: &Repo, machine: Machine<'_>) -> Result<Option<Command>> {
        std::fs::create_dir_all(machine.state)?;
        Ok(match self {
            Self::Ctxsync | Self::CtxsyncArchive => {
                if self == Self::CtxsyncArchive {
                    std::fs::write(machine.state.join("policy.json"), ARCHIVE)?;
                }
                let mut command = self.command(repo, machine);
                command.args(["store", "init"]);
                Some(command)
            }
            Self::Restic | Self::Rustic => {
                let mut command = self.command(repo, machine);
                command.arg("init");
                Some(command)
            }
            _ => None,
        })
    }

    /// Returns the command that pushes `tree`.
    pub(crate) fn push(self, repo: &Repo, machine: Machine<'_>, tree: &Path) -> Command {
        let mut c = self.command(repo, machine);
        match self {
            Self::Ctxsync => c.args(["push", "work"]).arg(tree),
            Self::CtxsyncArchive => {
                c.arg("--policy").arg(machine.state.join("policy.json")).args(["push", "work"]).arg(tree)
            }
            Self::Find => c.arg(tree).args(["-printf", "%T@ %s\n"]),
            Self::Cp => c.args(COPY).arg(inside(tree)).arg(repo.url(self)),
            Self::Rsync => c.arg("-a").arg(inside(tree)).arg(repo.url(self)),
            Self::Restic | Self::Rustic => c.args(["backup", "."]).current_dir(tree),
            Self::Rclone => c.arg("sync").arg(tree).arg(repo.url(self)),
            Self::S5cmd => c.args(["sync", "--no-follow-symlinks"]).arg(inside(tree)).arg(repo.url(self)),
        };
        c
    }

    /// Returns the command that pulls everything, or what changed, to `target`.
    pub(crate) fn pull(self, repo: &Repo, machine: Machine<'_>, target: &Path) -> Command {
        let mut c = self.command(repo, machine);
        match self {
            Self::Ctxsync | Self::CtxsyncArchive => c.args(["pull", "work"]).arg(target),
            Self::Find => c.arg(target),
            Self::Cp => c.args(COPY).arg(repo.url(self)).arg(inside(target)),
            Self::Rsync => c.arg("-a").arg(repo.url(self)).arg(inside(target)),
            Self::Restic => c.args(["restore", "latest", "--target"]).arg(target),
            Self::Rustic => c.args(["restore", "latest"]).arg(target),
            Self::Rclone => c.arg("sync").arg(repo.url(self)).arg(target),
            Self::S5cmd => c.arg("sync").arg(repo.url(self) + "*").arg(inside(target)),
        };
        c
    }

    /// Returns the command that fetches one file, `path`, to its place below `target`.
    pub(crate) fn fetch(self, repo: &Repo, machine: Machine<'_>, path: &str, target: &Path) -> Command {
        let mut c = self.command(repo, machine);
        let to = target.join(path);
        let parent = to.parent().unwrap_or(target);
        match self {
            Self::Ctxsync | Self::CtxsyncArchive => c.args(["pull", "--only", path, "work"]).arg(target),
            Self::Find | Self::Cp => c.arg(target),
            Self::Rsync => c.arg("-a").arg("--mkpath").arg(repo.url(self) + path).arg(to),
            Self::Restic => {
                c.args(["restore", "latest", "--include"]).arg(format!("/{path}")).arg("--target").arg(target)
            }
            Self::Rustic => c.arg("restore").arg(format!("latest:{path}")).arg(to),
            Self::Rclone => c.arg("copy").arg(repo.url(self) + path).arg(parent),
            Self::S5cmd => c.arg("cp").arg(repo.url(self) + path).arg(to),
        };
        c
    }

    /// Returns a call with the common arguments: how to find the repository, and no output.
    pub(crate) fn command(self, repo: &Repo, machine: Machine<'_>) -> Command {
        let mut c = match self {
            Self::Ctxsync | Self::CtxsyncArchive => Command::new(machine.ctxsync),
            Self::Cp => Command::new("sh"),
            tool => Command::new(tool.to_string()),
        };
        if let Repo::S3 { env, .. } = repo {
            c.envs(env.iter().map(|(name, value)| (name, value)));
        }
        match self {
            Self::Ctxsync | Self::CtxsyncArchive => {
                c.env("XDG_CONFIG_HOME", machine.state).args(["--quiet", "--no-progress", "--state-dir"]);
                c.arg(machine.state).arg("--store").arg(repo.url(self));
            }
            Self::Restic => {
                c.env("RESTIC_PASSWORD", PASSWORD).env("RESTIC_CACHE_DIR", machine.state.join("cache"));
                c.arg("--quiet").arg("--repo").arg(repo.url(self));
            }
            Self::Rustic => {
                c.env("RUSTIC_PASSWORD", PASSWORD).env("RUSTIC_CACHE_DIR", machine.state.join("cache"));
                c.env("RUSTIC_NO_PROGRESS", "true").env("RUSTIC_LOG_LEVEL", "warn");
                c.env("RUSTIC_REPOSITORY", repo.url(self)).env("XDG_CONFIG_HOME", machine.state);
                if let Repo::S3 { bucket, prefix, endpoint, .. } = repo {
                    let options = [
                        ("BUCKET", *bucket),
                        ("ROOT", prefix),
                        ("ENDPOINT", endpoint),
                        ("REGION", "us-east-1"),
                    ];
                    c.envs(options.map(|(name, value)| (format!("OPENDAL_{name}"), value)));
                }
            }
            Self::Rclone => {
                c.args(["--config", "/dev/null", "--quiet"]);
                if matches!(repo, Repo::S3 { .. }) {
                    // Without the first two options, a sync with nothing to do sends a request for every
                    // object. The default of four parallel transfers is low for small files.
                    c.args(["--fast-list", "--checksum", "--transfers", "16", "--checkers", "16"]);
                    c.arg("--s3-no-check-bucket");
                }
            }
            Self::S5cmd => {
                c.args(["--log", "error"]);
                if let Repo::S3 { endpoint, .. } = repo {
                    c.arg("--endpoint-url").arg(endpoint);
                }
            }
            Self::Find | Self::Cp | Self::Rsync => {}
        }
        c
    }
}

impl Repo {
    /// Returns the repository in the tool's syntax. For tools that copy files it ends in a slash.
    fn url(&self, tool: Tool) -> String {
        match (self, tool) {
            (Self::Dir(dir), Tool::Cp | Tool::Rsync | Tool::Rclone) => inside(dir),
            (Self::Dir(dir), _) => dir.display().to_string(),
            (Self::S3 { bucket, prefix, endpoint, .. }, Tool::Restic) => {
                format!("s3:{endpoint}/{bucket}/{prefix}")
            }
            (Self::S3 { .. }, Tool::Rustic) => "opendal:s3".to_owned(),
            (Self::S3 { bucket, prefix, endpoint, .. }, Tool::Rclone) => {
                format!(
                    ":s3,provider=Other,env_auth=true,region=us-east-1,endpoint=\"{endpoint}\":{bucket}/{prefix}/"
                )
            }
            (Self::S3 { bucket, prefix, .. }, Tool::S5cmd) => format!("s3://{bucket}/{prefix}/"),
            (Self::S3 { bucket, prefix, .. }, _) => format!("s3://{bucket}/{prefix}"),
        }
    }
}

fn inside(dir: &Path) -> String {
    format!("{}/", dir.display())
}
