//! What keeps a store from being opened.

use std::io;

use crate::profile::ProfileError;

/// Why a store can't be opened. No message holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no store at the place.
    #[error("there is no store at {url}: the directory does not exist")]
    Missing {
        /// The place.
        url: String,
    },
    /// Something that is not a directory is at the place of a local store.
    #[error("{url} is not a directory")]
    NotADirectory {
        /// The place.
        url: String,
    },
    /// The directory of a local store can't be made or used.
    #[error("the directory {url} can't be used as a store")]
    Directory {
        /// The place.
        url: String,
        /// What the file system says.
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
        /// The known key that is most like it.
        nearest: Option<&'static str>,
    },
    /// A setting can't have the value that it was given, which is not shown.
    #[error("the option `{key}` can't be set so: {reason}")]
    BadOption {
        /// The key.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Credentials would cross a network in the clear.
    #[error(
        "the endpoint {endpoint} is not encrypted and not on this machine; set AWS_ALLOW_HTTP=true or the \
         option allow_http=true if that is meant"
    )]
    PlainHttp {
        /// The endpoint's address.
        endpoint: String,
    },
    /// The profile that was asked for can't be used.
    #[error("the credentials for {url} can't be read")]
    Profile {
        /// The place.
        url: String,
        /// What is wrong with the profile.
        source: ProfileError,
    },
    /// The backend refuses its settings.
    #[error("the settings for {url} are not usable")]
    Settings {
        /// The place.
        url: String,
        /// What the backend says.
        source: object_store::Error,
    },
}
