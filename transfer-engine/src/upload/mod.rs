//! From the mount to the store.

mod aging;
mod away;
mod chunks;
mod commit;
mod conflict_copies;
mod copy;
mod deadline;
mod delta;
mod dense;
mod files;
mod git;
mod head_paths;
mod holding;
mod merge;
mod new_tree;
mod ordered;
mod pace;
mod packs;
mod push;
mod reading;
mod resume;
mod settling;
mod specials;
mod subtrees;
mod tally;
mod units;
mod unsent;
mod walk;

pub(crate) use chunks::Chunks;
pub(crate) use copy::{detach, seal};
pub(crate) use delta::{DeltaOptions, DeltaStats, LocalDelta, Purpose, local_delta};
pub(crate) use head_paths::HeadPaths;
pub(crate) use packs::PackSink;
pub(crate) use specials::{special_of, tell_if_in_the_way};
pub(crate) use walk::{EarlyWalk, Walk};
