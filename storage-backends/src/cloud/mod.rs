//! Stores that are reached over HTTP: what the three clouds share, and each of them by itself.

#[cfg(feature = "azure")]
pub(crate) mod azure;
#[cfg(feature = "gcp")]
pub(crate) mod gcs;
mod guard;
mod http;
#[cfg(feature = "aws")]
pub(crate) mod s3;
mod settings;
mod short;

use std::sync::Arc;
use std::time::Duration;

use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::error::OpenError;
use crate::options::StoreOptions;
use crate::prefix::below;
use guard::{Guarded, Secrets};
use short::ShortFirst;

/// How often `object_store` resumes an answer that breaks off, and repeats a put that fails because the store
/// is too busy. All other retries are those of [`http::Watching`].
const RESUMED: usize = 10;

fn retry(options: &StoreOptions) -> RetryConfig {
    let init_backoff = options.backoff_min.min(options.backoff_max);
    RetryConfig {
        backoff: BackoffConfig { init_backoff, max_backoff: options.backoff_max, base: 2.0 },
        max_retries: options.retries.unwrap_or(RESUMED),
        // Reading a body may take any time.
        retry_timeout: Duration::MAX,
    }
}

fn client(options: &StoreOptions, allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_timeout_disabled()
        .with_connect_timeout(options.connect_timeout)
        .with_pool_max_idle_per_host(options.connections)
}

fn env_of<'a>(options: &'a StoreOptions, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let pairs = options.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    pairs.filter(move |(name, _)| name.starts_with(prefix))
}

fn guarded<S: ObjectStore + PaginatedListStore>(
    url: String,
    prefix: &Path,
    secrets: Vec<String>,
    built: object_store::Result<S>,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let secrets = Secrets::new(secrets);
    match built {
        Ok(store) => Ok(Arc::new(Guarded::new(below(ShortFirst::new(store), prefix), url, secrets))),
        Err(source) => Err(OpenError::Settings { url, source: secrets.clean(source) }),
    }
}
