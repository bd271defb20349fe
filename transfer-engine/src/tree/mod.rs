//! The tree of a snapshot: reading its segments, finding chunks in it, and making the next one.

mod index;
mod read;
mod sink;
mod update;

pub(crate) use index::{ChunkIndex, Lookup};
pub(crate) use read::Tree;
pub(crate) use sink::{PutPack, SegmentSink};
pub(crate) use update::{Listed, Resolved, TreeUpdate, UpdatedTree};
