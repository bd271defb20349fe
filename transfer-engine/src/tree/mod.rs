//! The tree of a snapshot: reads its segments, finds chunks in it, compares it with another, and makes the next
//! tree.

mod budget;
mod differences;
mod index;
mod part;
mod read;
mod sink;
mod update;

pub(crate) use differences::{Difference, Differences};
pub(crate) use index::{ChunkIndex, Lookup};
pub(crate) use part::{Part, PartTree, Segments};
pub(crate) use read::{OwnTree, Tree};
pub(crate) use sink::{PutPack, SegmentSink};
pub(crate) use update::{Listed, Resolved, TreeUpdate, UpdatedTree};
