//! Guards that hold deletions back when there are more than anyone is likely to have meant.

/// The most deletions that a sync may carry out. If there are more, all of them are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxDelete {
    /// A number of entries.
    Count(u64),
    /// A share of the entries of the base, in percent.
    Percent(u8),
}

impl MaxDelete {
    /// Whether `deletions` are too many for a base of `base` entries.
    ///
    /// Exactly the limit is still allowed. With an empty base, a limit in percent allows no deletion at all.
    pub fn is_exceeded(self, deletions: u64, base: u64) -> bool {
        match self {
            Self::Count(most) => deletions > most,
            // In 128 bits, neither product overflows.
            Self::Percent(percent) => u128::from(deletions) * 100 > u128::from(percent) * u128::from(base),
        }
    }
}

/// Whether the mount counts as lost: it should have `base` entries, and none of them is `present`.
///
/// A mount with an empty base has nothing to lose.
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
