//! How a store is opened: settings, credentials and bounds, all given by the caller.

use std::fmt;
use std::time::Duration;

use crate::patience::{Bounds, Listener, Patience};

/// Variables of the environment that name a proxy for requests over plain HTTP.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// How a store is opened.
///
/// Nothing here is read from the environment or from files: the caller passes what it wants to be used.
/// `Debug` shows the names of settings and never their values.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Makes the directory of a local store where it is missing. A bucket is never made.
    pub create: bool,
    /// Flushes each object of a local store to the disk before a put returns. Only tests and
    /// measurements turn this off.
    pub fsync: bool,
    /// How long a request is sent again after a failure that may pass, and how long a store is waited for that
    /// answers nobody.
    pub retry_time: Duration,
    /// The most times that one request is sent again, if there is such a bound besides the time.
    pub retries: Option<usize>,
    /// Is told when a store does not answer and requests are sent again, and when it answers again.
    pub listener: Option<Listener>,
    /// The longest time until an answer begins, and as long again for each MiB that is sent; and the longest
    /// without a byte while the answer is read.
    pub timeout: Duration,
    /// The longest time for connecting.
    pub connect_timeout: Duration,
    /// The first pause before a request is sent again; pauses grow from it, with jitter.
    pub backoff_min: Duration,
    /// The longest pause before a request is sent again.
    pub backoff_max: Duration,
    /// How many idle connections are kept for the next requests. How many requests run at once is the
    /// caller's decision.
    pub connections: usize,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) aws_credentials: Option<String>,
    pub(crate) aws_config: Option<String>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            create: false,
            fsync: true,
            retry_time: Duration::from_mins(2),
            retries: None,
            listener: None,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            connections: 32,
            settings: Vec::new(),
            env: Vec::new(),
            aws_credentials: None,
            aws_config: None,
        }
    }
}

impl StoreOptions {
    /// Adds settings of the backend, which win over the environment (`--store-option`). The names are
    /// those of `object_store`'s configuration, with or without the cloud's prefix: `region`,
    /// `aws_region`, `endpoint`.
    #[must_use]
    pub fn with_settings(mut self, settings: impl IntoIterator<Item = (String, String)>) -> Self {
        self.settings.extend(settings);
        self
    }

    /// Adds environment variables, of which `AWS_*`, `GOOGLE_*` and `AZURE_*` are used for a store of
    /// that cloud, and proxies' to know whether what is sent may leave this machine. Others are ignored, as
    /// are empty values.
    #[must_use]
    pub fn with_env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(env.into_iter().filter(|(name, value)| {
            let known = ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
            (known || name == "IDENTITY_ENDPOINT" || PROXIES.contains(&name.as_str())) && !value.is_empty()
        }));
        self
    }

    /// Gives the text of AWS's shared credentials file (`~/.aws/credentials`), in which `AWS_PROFILE`
    /// is looked up.
    #[must_use]
    pub fn with_aws_credentials(mut self, text: impl Into<String>) -> Self {
        self.aws_credentials = Some(text.into());
        self
    }

    /// Gives the text of AWS's shared config file (`~/.aws/config`), in which `AWS_PROFILE` is looked
    /// up.
    #[must_use]
    pub fn with_aws_config(mut self, text: impl Into<String>) -> Self {
        self.aws_config = Some(text.into());
        self
    }

    pub(crate) fn patience(&self) -> Patience {
        let bounds = Bounds {
            time: self.retry_time,
            retries: self.retries,
            shortest: self.backoff_min.min(self.backoff_max),
            longest: self.backoff_max,
        };
        Patience::new(bounds, self.listener.clone())
    }

    /// Says whether the environment names a proxy for plain HTTP.
    pub(crate) fn has_proxy(&self) -> bool {
        PROXIES.iter().any(|name| self.env(name).is_some())
    }

    pub(crate) fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("StoreOptions")
            .field("create", &self.create)
            .field("fsync", &self.fsync)
            .field("retry_time", &self.retry_time)
            .field("retries", &self.retries)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("backoff_min", &self.backoff_min)
            .field("backoff_max", &self.backoff_max)
            .field("connections", &self.connections)
            .field("settings", &names(&self.settings))
            .field("env", &names(&self.env))
            .field("aws_credentials", &self.aws_credentials.is_some())
            .field("aws_config", &self.aws_config.is_some())
            .finish()
    }
}

/// A setting that is not of the form `KEY=VALUE`. The text is not shown: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a store option is written KEY=VALUE")]
pub struct SettingError;

/// Splits `KEY=VALUE`, as it stands on a command line, at the first `=`.
///
/// # Errors
/// [`SettingError`] where there is no `=` or nothing before it.
pub fn parse_setting(text: &str) -> Result<(String, String), SettingError> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(SettingError),
    }
}
