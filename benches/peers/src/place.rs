//! Where the data goes: a directory, or S3 on loopback, with or without delay.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use ctxsync_tests::s3::{BUCKET, S3Server};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::proxy::{Bytes, Proxy};
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

/// What `s3-delay` adds, each way.
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
    /// Returns what it is, in words.
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

/// A place for one cell.
pub(crate) struct Site {
    dir: PathBuf,
    remote: Option<Remote>,
}

struct Remote {
    server: S3Server,
    proxy: Proxy,
    /// Whether all goes through the proxy; otherwise only what is counted.
    delayed: bool,
}

/// Where one tool keeps one copy.
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

/// What had happened at a place up to some moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) bytes: Bytes,
}

impl Site {
    /// Makes a place below `dir`.
    pub(crate) fn new(destination: Destination, dir: &Path) -> Result<Self> {
        let delayed = destination == Destination::S3Delay;
        let remote = match destination {
            Destination::Local => None,
            Destination::S3 | Destination::S3Delay => {
                let server = S3Server::start_at(&dir.join("server"))?;
                let address = server.endpoint().trim_start_matches("http://").parse()?;
                let proxy = Proxy::start(address, if delayed { DELAY } else { Duration::ZERO })?;
                Some(Remote { server, proxy, delayed })
            }
        };
        Ok(Self { dir: dir.to_owned(), remote })
    }

    /// Returns where a tool keeps a copy of this name. What goes there is counted only if that was asked for.
    pub(crate) fn repo(&self, name: &str, counted: bool) -> Repo {
        let Some(remote) = &self.remote else { return Repo::Dir(self.dir.join(name)) };
        let through = remote.delayed || counted;
        let endpoint = if through { remote.proxy.endpoint() } else { remote.server.endpoint() };
        let env = remote.server.env().into_iter().map(|(name, value)| match name.as_str() {
            "AWS_ENDPOINT_URL" => (name, endpoint.clone()),
            _ => (name, value),
        });
        Repo::S3 { bucket: BUCKET, prefix: name.to_owned(), env: env.collect(), endpoint: endpoint.clone() }
    }

    /// Returns how much a copy takes.
    pub(crate) fn stored(&self, name: &str) -> Result<Size> {
        tree::size(&self.on_disk(name))
    }

    /// Returns the directory that holds a copy.
    pub(crate) fn on_disk(&self, name: &str) -> PathBuf {
        self.remote.as_ref().map_or_else(|| self.dir.join(name), |r| r.server.bucket_dir().join(name))
    }

    /// Returns what has gone to and from a server so far; `None` where there is none.
    pub(crate) fn traffic(&self) -> Option<Traffic> {
        let remote = self.remote.as_ref()?;
        let requests = remote.server.requests().len() as u64;
        Some(Traffic { requests, bytes: remote.proxy.bytes() })
    }
}
