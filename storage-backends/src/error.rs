//! Errors of opening a store.

use std::io;

use crate::profile::ProfileError;

/// Why a store can't be opened. No message contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store's directory does not exist.
    #[error("there is no store at {url}: the directory does not exist")]
    Missing {
        /// The store's URL.
        url: String,
    },
    /// The path of a local store is not a directory.
    #[error("{url} is not a directory")]
    NotADirectory {
        /// The store's URL.
        url: String,
    },
    /// The directory of a local store can't be created or used.
    #[error("the directory {url} can't be used as a store")]
    Directory {
        /// The store's URL.
        url: String,
        /// The error of the file system.
        source: io::Error,
    },
    /// The backend has no such setting.
    #[error(
        "`{key}` is not an option of {scheme} stores{}",
        nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
    )]
    UnknownOption {
        /// The key as it was given.
        key: String,
        /// The scheme of the store's URL.
        scheme: &'static str,
        /// The known key that is most similar.
        nearest: Option<&'static str>,
    },
    /// A setting has a value that is not allowed. The message does not show the value.
    #[error("the option `{key}` can't be set so: {reason}")]
    BadOption {
        /// The key.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Credentials would be sent over a network without encryption.
    #[error(
        "the endpoint {endpoint} is not encrypted and not on this machine; set AWS_ALLOW_HTTP=true or the \
         option allow_http=true if that is meant"
    )]
    PlainHttp {
        /// The endpoint's address.
        endpoint: String,
    },
    /// The named profile can't be used.
    #[error("the credentials for {url} can't be read")]
    Profile {
        /// The store's URL.
        url: String,
        /// What is wrong with the profile.
        source: ProfileError,
    },
    /// The backend refuses its settings.
    #[error("the settings for {url} are not usable")]
    Settings {
        /// The store's URL.
        url: String,
        /// The backend's error.
        source: object_store::Error,
    },
}
