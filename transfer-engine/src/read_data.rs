//! Which contents a check of a store reads.

use globset::GlobSet;

/// Which contents a check reads, beside the structure.
#[derive(Debug, Clone, Default)]
pub enum ReadData {
    /// None: only the sizes and footers of packs, and all trees.
    #[default]
    None,
    /// All contents.
    All,
    /// The contents of about this percentage of the packs, drawn anew by each check.
    Percent(u8),
    /// The contents of files whose paths match.
    Paths(GlobSet),
}
