//! Which snapshots of a context are kept, and why.

mod keeper;
mod names;

use std::num::NonZeroU64;
use std::time::Duration;

pub use keeper::{Keeper, KeptFor, Taken, kept};
pub use names::{NamePattern, NamePatternError, RetentionRules};

/// Rules for the snapshots of a context that are kept besides the head. A snapshot is kept if any rule keeps
/// it; without any rule all snapshots are kept.
///
/// The rules for hours, days, weeks, months and years keep the newest snapshot of each period, for the given
/// number of periods that have one, newest first. Times are in UTC, and a week begins on Monday.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Keeps this many of the newest snapshots.
    pub last: Option<NonZeroU64>,
    /// Keeps the snapshots that landed less than this long ago.
    pub within: Option<Duration>,
    /// Keeps the newest of each hour, for this many hours.
    pub hourly: Option<NonZeroU64>,
    /// Keeps the newest of each day, for this many days.
    pub daily: Option<NonZeroU64>,
    /// Keeps the newest of each week, for this many weeks.
    pub weekly: Option<NonZeroU64>,
    /// Keeps the newest of each month, for this many months.
    pub monthly: Option<NonZeroU64>,
    /// Keeps the newest of each year, for this many years.
    pub yearly: Option<NonZeroU64>,
}

impl Retention {
    /// Whether all snapshots are kept.
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }
}
