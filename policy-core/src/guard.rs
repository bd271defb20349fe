//! Guards against the deletion of more than anybody meant to delete.

/// The most deletions that a sync may carry out; more are held back, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxDelete {
    /// A number of entries.
    Count(u64),
    /// A share of the entries that the mount last agreed with, in percent.
    Percent(u8),
}

impl MaxDelete {
    /// Whether `deletions` out of a base of `base` entries are too many.
    ///
    /// The limit itself is still allowed. Of an empty base any deletion is too many, whatever the share.
    pub fn is_exceeded(self, deletions: u64, base: u64) -> bool {
        match self {
            Self::Count(most) => deletions > most,
            // In 128 bits neither product can overflow.
            Self::Percent(percent) => u128::from(deletions) * 100 > u128::from(percent) * u128::from(base),
        }
    }
}

/// Whether a mount is to be taken as lost: of `base` entries that were brought none is `present` any more.
///
/// A mount to which nothing was ever brought has nothing to lose.
pub fn looks_lost(base: u64, present: u64) -> bool {
    base > 0 && present == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d3_more_deleted_than_the_guard_allows() {
        use MaxDelete::{Count, Percent};
        for (limit, deletions, base, exceeded) in [
            (Count(0), 0, 10, false),
            (Count(0), 1, 10, true),
            (Count(5), 5, 5, false),
            (Count(5), 6, 6, true),
            (Count(u64::MAX), u64::MAX, 0, false),
            (Percent(0), 0, 10, false),
            (Percent(0), 1, u64::MAX, true),
            (Percent(50), 5, 10, false),
            (Percent(50), 6, 10, true),
            // 1 of 3 is a bit more than 33 percent, and less than 34.
            (Percent(33), 1, 3, true),
            (Percent(34), 1, 3, false),
            (Percent(99), 100, 100, true),
            (Percent(100), 100, 100, false),
            (Percent(100), u64::MAX, u64::MAX, false),
            (Percent(50), 0, 0, false),
            (Percent(100), 1, 0, true),
        ] {
            assert_eq!(limit.is_exceeded(deletions, base), exceeded, "{limit:?}, {deletions} of {base}");
        }
    }

    #[test]
    fn d1_d2_a_mount_without_anything_that_was_brought_is_lost() {
        assert!(looks_lost(1, 0));
        assert!(!looks_lost(1_000_000, 1));
        assert!(!looks_lost(0, 0));
    }
}
