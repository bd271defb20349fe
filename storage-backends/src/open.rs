//! Turns a [`StoreUrl`] into an object store.

use std::fmt;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::error::OpenError;
use crate::guard::{Guarded, Secrets};
use crate::http::{Target, Watching};
use crate::local::Local;
use crate::options::StoreOptions;
use crate::patience::Patience;
use crate::profile;
use crate::settings::Settings;
use crate::sorted::Sorted;
use crate::url::{Address, Backend, Cloud, StoreUrl};

/// An opened store. `Debug` shows only its URL.
#[derive(Clone)]
#[non_exhaustive]
pub struct Opened {
    /// The store. Its keys are relative to the URL's prefix, and its listings are in the order of the keys'
    /// bytes.
    pub store: Arc<dyn ObjectStore>,
    /// The store's URL, without secrets.
    pub url: String,
    /// The kind of backend.
    pub backend: Backend,
    /// The directory of a local store.
    pub local_dir: Option<PathBuf>,
    /// How long failed requests are retried.
    pub patience: Patience,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({})", self.url)
    }
}

/// Opens the store at `url`, without sending a request.
///
/// - The result of a put to a cloud store has a `SystemTime` among its extensions: the store's time of the
///   answer.
/// - S3 puts are conditional by `If-None-Match`. Their payloads are not signed if TLS protects them, or if
///   they stay on this machine.
/// - A local store flushes what it writes. `memory:` is a new and empty store each time.
/// - Errors of a cloud store contain no secrets, and have the kind that the status of the answer implies. If
///   the bucket is missing, the error is not `NotFound`, which would mean a missing object (see
///   [`crate::BucketMissing`]). Only a HEAD can't tell the two apart, because its answer has no body.
///
/// # Errors
/// An [`OpenError`]. Whether the store can be reached and written is checked by [`crate::probe`].
pub fn open(url: &StoreUrl, options: &StoreOptions) -> Result<Opened, OpenError> {
    let patience = options.patience();
    let store = match url.address() {
        Address::Local(dir) => open_local(url, dir, options, &patience)?,
        Address::Memory(prefix) => {
            no_settings(options, "memory")?;
            below(InMemory::new(), prefix)
        }
        Address::Cloud { cloud, bucket, prefix } => {
            let name = url.to_string();
            match cloud {
                Cloud::S3 => open_s3(name, bucket, prefix, options, &patience)?,
                Cloud::Gcs => open_gcs(name, bucket, prefix, options, &patience)?,
                Cloud::Azure => open_azure(name, bucket, prefix, options, &patience)?,
            }
        }
    };
    let local_dir = url.local_dir().map(FsPath::to_owned);
    Ok(Opened { store, url: url.to_string(), backend: url.backend(), local_dir, patience })
}

fn below<S: ObjectStore>(store: S, prefix: &Path) -> Arc<dyn ObjectStore> {
    if prefix.is_root() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix.clone())) }
}

fn no_settings(options: &StoreOptions, scheme: &'static str) -> Result<(), OpenError> {
    match options.settings.first() {
        Some((key, _)) => Err(OpenError::UnknownOption { key: key.clone(), scheme, nearest: None }),
        None => Ok(()),
    }
}

fn open_local(
    url: &StoreUrl,
    dir: &FsPath,
    options: &StoreOptions,
    patience: &Patience,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    no_settings(options, "local")?;
    let unusable = |source| OpenError::Directory { url: url.to_string(), source };
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(OpenError::NotADirectory { url: url.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !options.create {
                return Err(OpenError::Missing { url: url.to_string() });
            }
            std::fs::create_dir_all(dir).map_err(unusable)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(OpenError::NotADirectory { url: url.to_string() });
        }
        Err(error) => return Err(unusable(error)),
    }
    let root = dir.canonicalize().map_err(unusable)?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(|e| unusable(io::Error::other(e)))?;
    // Every listing would have to walk the empty directories that deletions leave.
    let store = store.with_fsync(options.fsync).with_automatic_cleanup(true);
    Ok(Arc::new(Local::new(Sorted::new(store, root.clone()), root, patience.clone())))
}

/// How often `object_store` resumes an answer that breaks off, and repeats a put that fails because the store
/// is too busy. All other retries are those of [`Watching`].
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

fn guarded<S: ObjectStore>(
    url: String,
    prefix: &Path,
    secrets: Vec<String>,
    built: object_store::Result<S>,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let secrets = Secrets::new(secrets);
    match built {
        Ok(store) => Ok(Arc::new(Guarded::new(below(store, prefix), url, secrets))),
        Err(source) => Err(OpenError::Settings { url, source: secrets.clean(source) }),
    }
}

fn open_s3(
    url: String,
    bucket: &str,
    prefix: &Path,
    options: &StoreOptions,
    patience: &Patience,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let mut settings = Settings::new(Cloud::S3);
    lay_profile(&mut settings, &url, options)?;
    settings.lay(env_of(options, "AWS_"));
    settings.lay_strict(&options.settings)?;
    let secrets = settings.secrets();
    let http = settings.allow_http()?;
    let proxied = settings.get("proxy_url").is_some() || options.has_proxy();
    let safe = settings.is_way_safe(&["aws_endpoint_url_s3", "aws_endpoint"], proxied);
    let target = Target::new(settings.get("aws_endpoint_url_s3").or(settings.get("aws_endpoint")), bucket);
    let watching = Watching::new(options.timeout, patience.clone(), target);
    let builder = AmazonS3Builder::new()
        .with_http_connector(watching)
        .with_client_options(client(options, http))
        .with_retry(retry(options))
        .with_unsigned_payload(safe)
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    settings.remove(&["allow_http"]);
    let builder = settings.apply(builder, AmazonS3Builder::with_config);
    guarded(url, prefix, secrets, builder.with_bucket_name(bucket).build())
}

/// Adds the profile that `AWS_PROFILE` names, or else the default profile if there is one, as the weakest
/// source.
fn lay_profile<K: FromStr + AsRef<str>>(
    settings: &mut Settings<K>,
    url: &str,
    options: &StoreOptions,
) -> Result<(), OpenError> {
    let named = options.env("AWS_PROFILE").or_else(|| options.env("AWS_DEFAULT_PROFILE"));
    let credentials = options.aws_credentials.as_deref();
    let has_keys = options.env("AWS_ACCESS_KEY_ID").is_some()
        || options.settings.iter().any(|(key, _)| key.to_ascii_lowercase().ends_with("access_key_id"));
    let read = profile::read(named.unwrap_or("default"), credentials, options.aws_config.as_deref());
    let profile = match read {
        Ok(profile) => profile,
        // A profile is not needed if a stronger source gives the keys, and the default profile is optional.
        Err(_) if named.is_none() || has_keys => return Ok(()),
        Err(source) => return Err(OpenError::Profile { url: url.to_owned(), source }),
    };
    settings.lay(profile.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    // AWS's tools prefer an identity from the environment to the keys of the default profile.
    let identity = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"];
    if named.is_none() && identity.iter().any(|name| options.env(name).is_some()) {
        settings.remove(&["aws_access_key_id", "aws_secret_access_key", "aws_session_token"]);
    }
    Ok(())
}

fn open_gcs(
    url: String,
    bucket: &str,
    prefix: &Path,
    options: &StoreOptions,
    patience: &Patience,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let mut settings = Settings::new(Cloud::Gcs);
    settings.lay(env_of(options, "GOOGLE_"));
    settings.lay_strict(&options.settings)?;
    let secrets = settings.secrets();
    let http = settings.allow_http()?;
    let target = Target::new(settings.get("google_base_url"), bucket);
    let watching = Watching::new(options.timeout, patience.clone(), target);
    let builder = GoogleCloudStorageBuilder::new()
        .with_http_connector(watching)
        .with_client_options(client(options, http))
        .with_retry(retry(options));
    settings.remove(&["allow_http"]);
    let builder = settings.apply(builder, GoogleCloudStorageBuilder::with_config);
    guarded(url, prefix, secrets, builder.with_bucket_name(bucket).build())
}

fn open_azure(
    url: String,
    container: &str,
    prefix: &Path,
    options: &StoreOptions,
    patience: &Patience,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let mut settings = Settings::new(Cloud::Azure);
    settings.lay(env_of(options, "AZURE_").chain(env_of(options, "IDENTITY_ENDPOINT")));
    settings.lay_strict(&options.settings)?;
    let secrets = settings.secrets();
    // The emulator speaks plain HTTP on this machine.
    let http = settings.allow_http()? || settings.is_true("azure_storage_use_emulator");
    let target = Target::new(settings.get("azure_storage_endpoint"), container);
    let watching = Watching::new(options.timeout, patience.clone(), target);
    let builder = MicrosoftAzureBuilder::new()
        .with_http_connector(watching)
        .with_client_options(client(options, http))
        .with_retry(retry(options));
    settings.remove(&["allow_http"]);
    let builder = settings.apply(builder, MicrosoftAzureBuilder::with_config);
    guarded(url, prefix, secrets, builder.with_container_name(container).build())
}
