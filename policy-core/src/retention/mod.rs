//! Which snapshots of a context are kept, and why.

mod keeper;
mod names;

use std::num::NonZeroU64;
use std::time::Duration;

pub use keeper::{Keeper, KeptFor, Taken, kept};
pub use names::{NamePattern, NamePatternError, RetentionRules};

/// Rules by which snapshots of a context are kept, besides the head. A snapshot is kept if one of the rules keeps it;
/// without any rule all snapshots are kept.
///
/// The rules of hours, days, weeks, months and years keep the newest snapshot of each of the newest so many of them
/// that have one. All are in UTC; a week begins on Monday.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many.
    pub last: Option<NonZeroU64>,
    /// Those that landed less than this long ago.
    pub within: Option<Duration>,
    /// The newest of each hour, for so many hours.
    pub hourly: Option<NonZeroU64>,
    /// The newest of each day, for so many days.
    pub daily: Option<NonZeroU64>,
    /// The newest of each week, for so many weeks.
    pub weekly: Option<NonZeroU64>,
    /// The newest of each month, for so many months.
    pub monthly: Option<NonZeroU64>,
    /// The newest of each year, for so many years.
    pub yearly: Option<NonZeroU64>,
}

impl Retention {
    /// Whether all snapshots are kept.
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }
}
