//! From the store to the mount.

mod apply;
mod compare;
mod fetch;
mod pull;
mod ranges;
mod read;
mod restore;

pub(crate) use fetch::chain;
