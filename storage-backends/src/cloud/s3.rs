//! S3, and what is compatible with it.

mod profile;

use std::str::FromStr;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;

use super::http::{Target, Watching};
use super::settings::{Settings, is_loopback};
use super::{client, env_of, guarded, retry};
use crate::error::OpenError;
use crate::options::{PROXIES, StoreOptions};
use crate::patience::Patience;
use crate::url::Cloud;

/// Opens a bucket of S3, or of what is compatible with it.
///
/// # Errors
/// As for [`crate::open`].
pub(crate) fn open(
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
    let proxied = settings.get("proxy_url").is_some() || has_proxy(options);
    let safe = is_way_safe(&settings, &["aws_endpoint_url_s3", "aws_endpoint"], proxied);
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
    let named = env(options, "AWS_PROFILE").or_else(|| env(options, "AWS_DEFAULT_PROFILE"));
    let credentials = options.aws_credentials.as_deref();
    let has_keys = env(options, "AWS_ACCESS_KEY_ID").is_some()
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
    if named.is_none() && identity.iter().any(|name| env(options, name).is_some()) {
        settings.remove(&["aws_access_key_id", "aws_secret_access_key", "aws_session_token"]);
    }
    Ok(())
}

/// Whether the environment names a proxy for plain HTTP.
fn has_proxy(options: &StoreOptions) -> bool {
    PROXIES.iter().any(|name| env(options, name).is_some())
}

fn env<'a>(options: &'a StoreOptions, name: &str) -> Option<&'a str> {
    options.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Whether nobody can change a request on its way, because it goes over TLS or does not leave this
/// machine. The request goes to the first of the named endpoints that is set, or else to the cloud's own.
/// `proxied` says that there may be a proxy on the way.
fn is_way_safe<K: FromStr + AsRef<str>>(settings: &Settings<K>, endpoints: &[&str], proxied: bool) -> bool {
    let endpoint = endpoints.iter().find_map(|name| settings.get(name));
    endpoint.is_none_or(|url| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        scheme.eq_ignore_ascii_case("https") || (!proxied && is_loopback(rest))
    })
}
