//! The options of a repair.

use std::num::NonZeroUsize;

use transfer_engine::{ReadData, RepairOptions};

/// Returns the options of a repair of all contexts, which reads this to find damage.
pub fn repairing(read_data: ReadData) -> RepairOptions {
    RepairOptions {
        contexts: Vec::new(),
        read_data,
        dry_run: false,
        forget_damaged: false,
        concurrency: NonZeroUsize::MIN,
        memory: 64 << 20,
    }
}
