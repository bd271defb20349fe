//! What changed locally: the mount is scanned and merged with the base, and files that may have changed are
//! read.

mod away;
mod batch;
mod candidates;
mod delta;
mod differences;
mod files;
mod git;
mod head_paths;
mod holding;
mod landed;
mod members;
mod merge;
mod options;
mod ordered;
mod reading;
mod resume;
mod settling;
mod specials;
mod stats;
mod subtrees;
mod together;
mod units;
mod unsent;
mod walk;

pub(crate) use away::is_empty;
pub(crate) use delta::{Purpose, local_delta};
pub(crate) use differences::LocalDelta;
pub(crate) use head_paths::HeadPaths;
pub(crate) use options::{DeltaOptions, Sending};
pub(crate) use settling::delta_at_rest;
pub(crate) use specials::{Specials, in_the_way, special_of, tell_if_in_the_way};
pub(crate) use stats::DeltaStats;
pub(crate) use unsent::Missing;
pub(crate) use walk::{EarlyWalk, Rows, Walk};
