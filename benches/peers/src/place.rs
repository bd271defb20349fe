//! Where the tools store the data: a directory, or S3 on loopback, with or without delay.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use ctxsync_tests::s3::{BUCKET, Bytes, S3Server};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::tree::{self, Size};

/// A kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Destination {
    /// A directory.
    Local,
    /// An S3 server on loopback that honours put-if-absent.
    S3,
    /// The same, and everything takes 20 ms longer each way.
    S3Delay,
}

/// The latency that `s3-delay` adds in each direction.
const DELAY: Duration = Duration::from_millis(20);

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::S3 => "s3",
            Self::S3Delay => "s3-delay",
        })
    }
}

impl Destination {
    /// Returns the place's title.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::S3 => "S3",
            Self::S3Delay => "S3 with delay",
        }
    }

    /// Whether requests can be counted.
    pub(crate) fn is_remote(self) -> bool {
        self != Self::Local
    }
}

/// The place of one cell.
pub(crate) struct Site {
    dir: PathBuf,
    server: Option<S3Server>,
}

/// The repository of one tool.
#[derive(Debug, Clone)]
pub(crate) enum Repo {
    Dir(PathBuf),
    /// A prefix in a bucket.
    S3 {
        bucket: &'static str,
        prefix: String,
        endpoint: String,
        env: Vec<(String, String)>,
    },
}

/// Requests and bytes at a place up to some moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) bytes: Bytes,
}

impl Site {
    /// Creates a place below `dir`.
    pub(crate) fn new(destination: Destination, dir: &Path) -> Result<Self> {
        let server_dir = dir.join("server");
        let server = match destination {
            Destination::Local => None,
            Destination::S3 => Some(S3Server::start_at(&server_dir, Duration::ZERO)?),
            Destination::S3Delay => Some(S3Server::start_at(&server_dir, DELAY)?),
        };
        Ok(Self { dir: dir.to_owned(), server })
    }

    /// Returns the repository with this name.
    pub(crate) fn repo(&self, name: &str) -> Repo {
        let Some(server) = &self.server else { return Repo::Dir(self.dir.join(name)) };
        let (endpoint, env) = (server.endpoint(), server.env());
        Repo::S3 { bucket: BUCKET, prefix: name.to_owned(), endpoint, env }
    }

    /// Returns the size of a repository.
    pub(crate) fn stored(&self, name: &str) -> Result<Size> {
        tree::size(&self.on_disk(name))
    }

    /// Returns the directory with a repository's files.
    pub(crate) fn on_disk(&self, name: &str) -> PathBuf {
        self.server.as_ref().map_or_else(|| self.dir.join(name), |server| server.bucket_dir().join(name))
    }

    /// Returns the requests and bytes of the server so far; `None` without a server.
    pub(crate) fn traffic(&self) -> Option<Traffic> {
        let server = self.server.as_ref()?;
        Some(Traffic { requests: server.requests().len() as u64, bytes: server.bytes() })
    }
}
