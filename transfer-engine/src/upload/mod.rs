//! From the mount to the store.

mod delta;
mod packs;
mod push;
mod reading;

pub(crate) use delta::{DeltaOptions, DeltaStats, LocalDelta, local_delta};
pub(crate) use packs::PackSink;
