//! Errors of opening a store, and causes of the errors of a cloud store.

use std::error::Error as StdError;
use std::io;

use object_store::Error;

use crate::url::Cloud;

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
    /// The library was built without support for this cloud.
    #[error(
        "{url} can't be opened: this program was built without the feature `{}`",
        cloud.feature()
    )]
    NotBuilt {
        /// The store's URL.
        url: String,
        /// The cloud.
        cloud: Cloud,
    },
}

/// Why a profile can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Neither file has the profile.
    #[error("the AWS profile `{name}` is in neither the shared credentials file nor the config file")]
    Missing {
        /// The profile's name.
        name: String,
    },
    /// The profile gets its credentials in a way that is not supported here.
    #[error(
        "the AWS profile `{name}` gets its credentials by `{key}`, which is not supported; export them as \
         variables: eval \"$(aws configure export-credentials --profile {name} --format env)\""
    )]
    Unsupported {
        /// The profile's name.
        name: String,
        /// The setting that requires it.
        key: &'static str,
    },
}

/// The bucket or container does not exist. This is the source of an [`Error::Generic`]. `object_store` itself
/// reports `NotFound`, which would mean that an object is missing.
#[derive(Debug, thiserror::Error)]
#[error("the bucket of {url} does not exist")]
pub struct BucketMissing {
    /// The store's URL.
    pub url: String,
    /// The server's answer, with the kind `NotFound`, by which other crates can tell.
    pub(crate) source: io::Error,
}

impl BucketMissing {
    /// Finds a `BucketMissing` among the sources of an error.
    pub fn find(error: &Error) -> Option<&Self> {
        find(error)
    }
}

/// Finds an error of type `E` among the sources of an error.
pub(crate) fn find<E: StdError + 'static>(error: &Error) -> Option<&E> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// There are no credentials: none were given, and the server that was asked for them does not answer.
#[derive(Debug, thiserror::Error)]
#[error(
    "there are no credentials: none were given, and {asked}, which was asked for them, does not answer ({cause})"
)]
pub struct NoCredentials {
    /// Host and port of the server that was asked.
    pub asked: String,
    /// Why the last request failed.
    pub(crate) cause: String,
}

impl NoCredentials {
    /// Finds a `NoCredentials` among the sources of an error.
    pub fn find(error: &Error) -> Option<&Self> {
        find(error)
    }
}
