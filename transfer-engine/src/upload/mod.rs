//! From the mount to the store.

mod commit;
mod delta;
mod files;
mod merge;
mod new_tree;
mod packs;
mod push;
mod reading;
mod tally;

pub(crate) use delta::{DeltaOptions, DeltaStats, LocalDelta, local_delta};
pub(crate) use packs::{Chunks, PackSink};
