//! Fixtures that the integration tests share.
//!
//! ```text
//! World ── objects (any store, behind any layers)
//!   └── Machine: a state directory, a mount, a policy; every call is like a new process
//! ```

#![expect(clippy::unwrap_used, reason = "a fixture that fails ends its test")]

pub mod archive;
pub mod busy;
pub mod clock;
pub mod compare;
pub mod document;
pub mod faults;
pub mod git;
pub mod guide;
pub mod interrupt;
pub mod landing;
pub mod machine;
pub mod mounts;
pub mod notes;
pub mod place;
pub mod random;
pub mod repairing;
pub mod s3;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod trace;
pub mod tree;
