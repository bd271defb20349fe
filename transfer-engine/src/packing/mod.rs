//! From chunks to packs in the store, and from packs back to the ranges to read.

mod again;
mod chunks;
mod copy;
mod dense;
mod elsewhere;
mod moved;
mod pace;
mod packs;
mod ranges;

pub(crate) use again::{chunks_in, send_again};
pub(crate) use chunks::Chunks;
pub(crate) use copy::{detach, seal};
pub(crate) use dense::is_dense;
pub(crate) use elsewhere::chunks_of;
pub(crate) use moved::{Moved, telling};
pub(crate) use pace::Pace;
pub(crate) use packs::{Added, PackSink, put_whole};
pub(crate) use ranges::{BlockNeeds, Need, PackRange, plan_ranges, verified};
