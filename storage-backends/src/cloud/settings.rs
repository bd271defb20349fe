//! Merges the sources of a cloud's settings, and knows which settings are secret.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::OpenError;
use crate::url::{Cloud, nearest};

/// The settings of one cloud by canonical name, each with the value of the strongest source.
///
/// `K` is `object_store`'s key type for the cloud.
pub(crate) struct Settings<K> {
    values: BTreeMap<String, (K, String)>,
    cloud: Cloud,
}

/// Names to suggest when a setting is unknown. More names are understood.
fn known_names(cloud: Cloud) -> &'static [&'static str] {
    match cloud {
        Cloud::S3 => &[
            "region",
            "endpoint",
            "access_key_id",
            "secret_access_key",
            "session_token",
            "allow_http",
            "virtual_hosted_style_request",
            "unsigned_payload",
            "skip_signature",
            "request_payer",
            "server_side_encryption",
            "sse_kms_key_id",
            "checksum_algorithm",
            "conditional_put",
            "disable_bulk_delete",
            "s3_express",
            "proxy_url",
            "user_agent",
            "allow_invalid_certificates",
        ],
        Cloud::Gcs => &[
            "service_account",
            "service_account_key",
            "application_credentials",
            "bearer_token",
            "base_url",
            "skip_signature",
            "allow_http",
            "proxy_url",
            "user_agent",
        ],
        Cloud::Azure => &[
            "account_name",
            "account_key",
            "access_key",
            "sas_token",
            "bearer_token",
            "client_id",
            "client_secret",
            "tenant_id",
            "endpoint",
            "use_emulator",
            "use_azure_cli",
            "skip_signature",
            "allow_http",
            "proxy_url",
            "user_agent",
        ],
    }
}

/// The bucket comes from the URL. It must not be given twice.
const PLACE: [&str; 3] = ["aws_bucket", "google_bucket", "azure_container_name"];
/// Keys of one credential. A stronger source replaces all of them together. Otherwise a session token of one
/// account could be sent with the key of another.
const AWS_KEYS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
/// A part of a secret value counts as secret itself from this length on.
const LONG: usize = 16;
const ENDPOINTS: [&str; 6] = [
    "aws_endpoint",
    "aws_endpoint_url_s3",
    "aws_endpoint_url_sts",
    "google_base_url",
    "azure_storage_endpoint",
    "azure_storage_authority_host",
];

impl<K: FromStr + AsRef<str>> Settings<K> {
    pub(crate) fn new(cloud: Cloud) -> Self {
        Self { values: BTreeMap::new(), cloud }
    }

    /// Adds environment variables or a profile, which override what is there. Unknown names are ignored.
    pub(crate) fn lay<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let parsed = pairs.into_iter().filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            // Names that differ in each cloud's own tools.
            let name = match name.as_str() {
                "aws_ec2_metadata_service_endpoint" => "aws_metadata_endpoint",
                "azure_storage_account" => "azure_storage_account_name",
                "azure_storage_key" => "azure_storage_account_key",
                other => other,
            };
            let key: K = name.parse().ok()?;
            (!PLACE.contains(&key.as_ref())).then(|| (key, value.to_owned()))
        });
        let layer = parsed.collect();
        self.overlay(layer);
    }

    /// Adds the caller's own settings, which override what is there.
    ///
    /// # Errors
    /// [`OpenError::UnknownOption`] for a key that the backend does not have, [`OpenError::BadOption`] for
    /// one that can't be set.
    pub(crate) fn lay_strict(&mut self, pairs: &[(String, String)]) -> Result<(), OpenError> {
        let mut layer = Vec::new();
        for (name, value) in pairs {
            let lower = name.to_ascii_lowercase();
            let key: K = lower.parse().map_err(|_| OpenError::UnknownOption {
                key: name.clone(),
                scheme: self.cloud.scheme(),
                nearest: nearest(&lower, known_names(self.cloud).iter().copied()),
            })?;
            if PLACE.contains(&key.as_ref()) {
                let reason = "the bucket is a part of the store's URL";
                return Err(OpenError::BadOption { key: name.clone(), reason });
            }
            layer.push((key, value.clone()));
        }
        self.overlay(layer);
        Ok(())
    }

    fn overlay(&mut self, layer: Vec<(K, String)>) {
        let layer: BTreeMap<String, (K, String)> =
            layer.into_iter().map(|(key, value)| (key.as_ref().to_owned(), (key, value))).collect();
        if AWS_KEYS[..2].iter().any(|key| layer.contains_key(*key)) {
            self.remove(&AWS_KEYS);
        }
        // The region's weaker name, from a stronger source, overrides its stronger name from a weaker source.
        if layer.contains_key("aws_default_region") {
            self.remove(&["aws_region"]);
        }
        self.values.extend(layer);
    }

    pub(crate) fn remove(&mut self, names: &[&str]) {
        for name in names {
            self.values.remove(*name);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
        })
    }

    /// Returns the values that must never be printed.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let secret = |name: &str| {
            let words = ["secret", "token", "key", "sas", "password", "proxy_url"];
            let harmless = ["key_id", "token_file", "token_service_url", "_enabled"];
            words.iter().any(|word| name.contains(word)) && !harmless.iter().any(|end| name.ends_with(end))
        };
        let values = self.values.iter().filter(|(name, _)| secret(name)).map(|(_, (_, value))| value);
        // The password of a proxy and the signature of a shared access token are also secret by themselves.
        let pieces = |value: &String| {
            let pieces = value.split(['&', '=', '?', '@', ':', '/']).filter(|piece| piece.len() >= LONG);
            pieces.map(str::to_owned).chain([value.clone()]).collect::<Vec<_>>()
        };
        values.flat_map(pieces).collect()
    }

    /// Checks the addresses, and says whether requests without TLS are allowed: if a setting allows them, or
    /// if the server is on this machine.
    ///
    /// # Errors
    /// [`OpenError::BadOption`] for an address with user info, and [`OpenError::PlainHttp`] for an address
    /// without TLS on another machine.
    pub(crate) fn allow_http(&self) -> Result<bool, OpenError> {
        let asked = self.is_true("allow_http");
        let mut loopback = false;
        for name in ENDPOINTS {
            let Some(url) = self.get(name) else { continue };
            let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
            if rest.contains('@') || rest.contains('?') {
                let reason =
                    "an endpoint holds no user info and no query; credentials have keys of their own";
                return Err(OpenError::BadOption { key: name.to_owned(), reason });
            }
            if !scheme.eq_ignore_ascii_case("http") {
                if scheme.is_empty() {
                    let reason = "an endpoint starts with https:// (or http://)";
                    return Err(OpenError::BadOption { key: name.to_owned(), reason });
                }
                continue;
            }
            if is_loopback(rest) {
                loopback = true;
            } else if !asked {
                return Err(OpenError::PlainHttp { endpoint: url.to_owned() });
            }
        }
        Ok(asked || loopback)
    }

    /// Passes every setting to a builder.
    pub(crate) fn apply<B>(self, builder: B, set: impl Fn(B, K, String) -> B) -> B {
        self.values.into_values().fold(builder, |builder, (key, value)| set(builder, key, value))
    }
}

/// Whether an address, given from its host on, is on this machine.
pub(super) fn is_loopback(address: &str) -> bool {
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
