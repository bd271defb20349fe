//! From the store to the mount.

mod apply;
mod compare;
mod contents;
mod dir_times;
mod extracting;
mod fetch;
mod folder;
mod jobs;
mod ledger;
mod members;
mod place;
mod pull;
mod ranges;
mod read;
mod recent;
mod removing;
mod restore;
mod resume;
mod trouble;
mod windows;

pub(crate) use fetch::verified;
#[cfg(test)]
pub(crate) use ranges::BlockNeeds;
pub(crate) use ranges::{Need, PackRange, plan_ranges};
