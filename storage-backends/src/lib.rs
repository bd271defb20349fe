//! Opens object stores by URL, checks what they can do, and wraps them for tests.
//!
//! ```text
//!  "s3://bucket/prefix"            environment, options, profile (given by the caller)
//!          |                                     |
//!      StoreUrl::parse                     StoreOptions
//!          '------------------. .----------------'
//!                            open  -> Opened { store: Arc<dyn ObjectStore>, url, .. }
//!                              |
//!                            probe -> Capabilities, or a refusal
//!                              |
//!     layer::{Recording, Faulty, Latency, Bandwidth}   each one a store round a store
//! ```
//!
//! ```
//! use storage_backends::{StoreOptions, StoreUrl, open, probe};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let url = StoreUrl::parse("memory:", "/".as_ref())?;
//! let opened = open(&url, &StoreOptions::default())?;
//! let found = probe(&opened.store).await?;
//! assert!(found.deletes);
//! # Ok(()) })
//! # }
//! ```
//!
//! Listings of an opened store are in the order of the keys' bytes, whatever the backend. Nothing here reads
//! the environment or a home directory, with one exception: `object_store` itself searches for Google
//! credentials if none are given.

#[cfg(feature = "cloud")]
mod cloud;
mod error;
pub mod layer;
mod leftovers;
mod local;
mod open;
mod options;
mod patience;
mod prefix;
mod probe;
mod sorted;
mod url;

// The crates whose types are in the signatures here.
#[doc(no_inline)]
pub use {object_store, tokio};

pub use error::{BucketMissing, NoCredentials, OpenError, ProfileError};
pub use leftovers::{Leftover, leftovers};
pub use open::{Opened, open};
pub use options::{SettingError, StoreOptions, is_public_setting, parse_setting};
pub use patience::{Listener, Notice, Patience};
pub use probe::{Capabilities, ProbeError, probe, writable};
pub use url::{Backend, Cloud, StoreUrl, UrlError};

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
