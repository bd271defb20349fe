//! How a store is opened: settings, credentials and limits, all given by the caller.

use std::fmt;
use std::time::Duration;

use crate::patience::{Bounds, Listener, Patience};

/// Environment variables that name a proxy for plain HTTP.
pub(crate) const PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// How a store is opened.
///
/// Nothing here is read from the environment or from files: the caller passes everything. `Debug` shows the
/// names of settings and never their values.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Creates the directory of a local store if it is missing. A bucket is never created.
    pub create: bool,
    /// Flushes each object of a local store to the disk before a put returns. Only tests and benchmarks turn
    /// this off.
    pub fsync: bool,
    /// How long a request is retried after a failure that may pass, and how long the program waits for a
    /// store that does not answer at all.
    pub retry_time: Duration,
    /// The maximum number of retries of one request; `None` if only the time limits them.
    pub retries: Option<usize>,
    /// Called when a store does not answer and requests are retried, and when it answers again.
    pub listener: Option<Listener>,
    /// The longest time until an answer begins, plus the same time for each MiB that is sent; also the
    /// longest time without a byte while an answer is read.
    pub timeout: Duration,
    /// The longest time to connect.
    pub connect_timeout: Duration,
    /// The first pause before a retry. Later pauses are longer, with jitter.
    pub backoff_min: Duration,
    /// The longest pause before a retry.
    pub backoff_max: Duration,
    /// How many idle connections are kept for later requests. The caller decides how many requests run at
    /// once.
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
    /// Adds settings of the backend, which take precedence over the environment (`--store-option`). The names
    /// are those of `object_store`'s configuration, with or without the cloud's prefix: `region`,
    /// `aws_region`, `endpoint`.
    #[must_use]
    pub fn with_settings(mut self, settings: impl IntoIterator<Item = (String, String)>) -> Self {
        self.settings.extend(settings);
        self
    }

    /// Adds environment variables. Those named `AWS_*`, `GOOGLE_*` and `AZURE_*` are used for stores of that
    /// cloud. Those of proxies tell whether requests may leave this machine. All others are ignored, and so
    /// are empty values.
    #[must_use]
    pub fn with_env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(env.into_iter().filter(|(name, value)| {
            let known = ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
            (known || name == "IDENTITY_ENDPOINT" || PROXIES.contains(&name.as_str())) && !value.is_empty()
        }));
        self
    }

    /// Sets the text of AWS's shared credentials file (`~/.aws/credentials`), in which `AWS_PROFILE` is
    /// looked up.
    #[must_use]
    pub fn with_aws_credentials(mut self, text: impl Into<String>) -> Self {
        self.aws_credentials = Some(text.into());
        self
    }

    /// Sets the text of AWS's shared config file (`~/.aws/config`), in which `AWS_PROFILE` is looked up.
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

/// Settings that say where a store is and how to connect to it, but not with which credentials; without their
/// cloud's prefix.
const PUBLIC: [&str; 21] = [
    "region",
    "default_region",
    "endpoint",
    "endpoint_url",
    "endpoint_url_s3",
    "base_url",
    "allow_http",
    "allow_invalid_certificates",
    "virtual_hosted_style_request",
    "unsigned_payload",
    "skip_signature",
    "request_payer",
    "server_side_encryption",
    "checksum_algorithm",
    "conditional_put",
    "disable_bulk_delete",
    "s3_express",
    "account_name",
    "use_emulator",
    "use_azure_cli",
    "user_agent",
];

/// Whether a setting may be passed on to other programs: only if it is known not to be a secret.
pub fn is_public_setting(key: &str, value: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let prefixes = ["aws_", "google_", "azure_storage_", "azure_"];
    let bare = prefixes.iter().find_map(|prefix| key.strip_prefix(prefix)).unwrap_or(&key);
    // An address with user info or a query may contain a secret.
    PUBLIC.contains(&bare) && !value.contains(['@', '?'])
}

/// A setting that is not of the form `KEY=VALUE`. The message does not show the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a store option is written KEY=VALUE")]
pub struct SettingError;

/// Splits `KEY=VALUE`, as given on a command line, at the first `=`.
///
/// # Errors
/// [`SettingError`] if there is no `=`, or nothing before it.
pub fn parse_setting(text: &str) -> Result<(String, String), SettingError> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(SettingError),
    }
}
