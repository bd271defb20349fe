//! The data of the benchmarks, which is the same in every run.
//!
//! ```text
//! Random ──┬─► text, sizes ──► SmallFiles, LargeFile      (push, pull)
//!          ├─► paths ──┬─► rows                         (planning)
//!          │           └─► entries                      (segments, snapshots)
//!          └─► bytes                                    (chunking, packing)
//! ```
//!
//! Everything comes from a seed, so that two runs, and two versions of the code, work on the same bytes.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't be set up has nothing to measure")]

mod entries;
mod part;
mod paths;
mod random;
mod rows;
mod text;
mod tree;

pub use entries::{entries, pack_uses};
pub use part::{bytes_per_second, machine, per_second, time, write_part};
pub use paths::{PROJECT, paths};
pub use random::Random;
pub use rows::{Row, RowRef, rows, with_changes};
pub use text::text;
pub use tree::{LargeFile, SmallFiles, Tree, settle, write_empty_dirs, write_equal_files};
