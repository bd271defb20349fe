//! Decides which snapshots of one context are kept, from the newest to the oldest, and for which reasons.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU64;

use super::Retention;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The facts about a snapshot that the decision needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// When it landed, by the store's clock, in seconds since 1970.
    pub landed: i64,
    /// When it was written, by the writer's clock, in seconds since 1970. This only counts if it is more than
    /// a day before `landed`: renaming a context copies its snapshots, and all copies land at the same time.
    pub created: i64,
    /// Whether it landed in time. If not, its packs may be missing.
    pub in_time: bool,
    /// Whether it has a tag.
    pub is_tagged: bool,
    /// Whether another context was forked from it, or has merged it last: the next merge of the two compares with it.
    pub is_merge_base: bool,
    /// Whether a newer snapshot has the same files because a collection has moved their data. The two count as one: the
    /// newer one is given with the times of this one, and this one is kept by no number.
    pub is_replaced: bool,
}

/// A reason to keep a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeptFor {
    /// It is the head.
    Head,
    /// It is the newest one that landed in time, or newer.
    NewestInTime,
    /// It has a tag.
    Tag,
    /// A merge with another context needs it.
    MergeBase,
    /// No rule forgets anything.
    NoRule,
    /// It is one of the newest.
    Last,
    /// It landed a short time ago.
    Within,
    /// It is the newest of its hour.
    Hourly,
    /// It is the newest of its day.
    Daily,
    /// It is the newest of its week.
    Weekly,
    /// It is the newest of its month.
    Monthly,
    /// It is the newest of its year.
    Yearly,
}

impl KeptFor {
    /// Returns the reason's name, which is stable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::NewestInTime => "newest-in-time",
            Self::Tag => "tag",
            Self::MergeBase => "merge-base",
            Self::NoRule => "no-rule",
            Self::Last => "last",
            Self::Within => "within",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }
}

impl fmt::Display for KeptFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns the reasons to keep each of a context's snapshots, which are sorted from the head to the oldest. A
/// snapshot without a reason is to be forgotten. `now` is the store's time, in seconds since 1970.
///
/// Deciding again, at the same time, about the kept snapshots alone gives the same result.
///
/// ```
/// use policy_core::{KeptFor, Retention, Taken, kept};
///
/// let at = |landed| Taken {
///     landed,
///     created: landed,
///     in_time: true,
///     is_tagged: false,
///     is_merge_base: false,
///     is_replaced: false,
/// };
/// let rules = Retention { daily: "2".parse().ok(), ..Retention::default() };
/// // Two snapshots of one day, and one of the day before.
/// let kept = kept(&rules, 200_000, &[at(180_000), at(175_000), at(100_000)]);
/// assert_eq!(kept, [vec![KeptFor::Head, KeptFor::Daily], vec![], vec![KeptFor::Daily]]);
/// ```
pub fn kept(retention: &Retention, now: i64, snapshots: &[Taken]) -> Vec<Vec<KeptFor>> {
    let mut keeper = Keeper::new(retention, now);
    snapshots.iter().map(|snapshot| keeper.reasons(snapshot)).collect()
}

/// Decides like [`kept`], one snapshot after the other.
#[derive(Debug, Clone)]
pub struct Keeper {
    retention: Retention,
    now: i64,
    periods: Vec<Period>,
    /// The number of snapshots so far that landed in time.
    rank: u64,
    begun: bool,
}

/// A rule that keeps the newest snapshot of each period.
#[derive(Debug, Clone)]
struct Period {
    reason: KeptFor,
    /// Returns the number of the period that a time is in.
    number_of: fn(i64) -> i64,
    most: u64,
    /// The periods with a kept snapshot, by the landing time and by the writer's time.
    met: [BTreeSet<i64>; 2],
}

impl Keeper {
    /// Creates a keeper that has seen no snapshot.
    pub fn new(retention: &Retention, now: i64) -> Self {
        let period = |reason, most: Option<NonZeroU64>, number_of: fn(i64) -> i64| {
            Some(Period { reason, number_of, most: most?.get(), met: Default::default() })
        };
        let periods = [
            period(KeptFor::Hourly, retention.hourly, hour),
            period(KeptFor::Daily, retention.daily, day),
            period(KeptFor::Weekly, retention.weekly, week),
            period(KeptFor::Monthly, retention.monthly, month),
            period(KeptFor::Yearly, retention.yearly, year),
        ];
        let periods = periods.into_iter().flatten().collect();
        Self { retention: *retention, now, periods, rank: 0, begun: false }
    }

    /// Returns the reasons to keep the next older snapshot; none if it is to be forgotten.
    pub fn reasons(&mut self, snapshot: &Taken) -> Vec<KeptFor> {
        let mut reasons = Vec::new();
        let mut keep_if = |is_kept: bool, reason| reasons.extend(is_kept.then_some(reason));
        let is_head = !std::mem::replace(&mut self.begun, true);
        keep_if(is_head, KeptFor::Head);
        // All are kept until one has landed in time, because the head may have landed late.
        keep_if(!is_head && self.rank == 0, KeptFor::NewestInTime);
        keep_if(snapshot.is_tagged, KeptFor::Tag);
        keep_if(snapshot.is_merge_base, KeptFor::MergeBase);
        keep_if(self.retention.keeps_all(), KeptFor::NoRule);
        let is_last = self.retention.last.is_some_and(|last| self.rank < last.get());
        keep_if(is_last && !snapshot.is_replaced, KeptFor::Last);
        let age = u64::try_from(self.now.saturating_sub(snapshot.landed)).unwrap_or(0);
        keep_if(self.retention.within.is_some_and(|span| age < span.as_secs()), KeptFor::Within);
        // A snapshot that landed late does not use up a rule.
        if snapshot.in_time && !snapshot.is_replaced {
            self.rank += 1;
            let is_copy = snapshot.landed.saturating_sub(snapshot.created) > DAY;
            let times = [snapshot.landed, if is_copy { snapshot.created } else { snapshot.landed }];
            for period in &mut self.periods {
                keep_if(period.keeps(times), period.reason);
            }
        }
        reasons
    }
}

impl Period {
    /// Whether the rule keeps a snapshot, by either of its times.
    fn keeps(&mut self, times: [i64; 2]) -> bool {
        let mut keeps = false;
        for (met, secs) in self.met.iter_mut().zip(times) {
            keeps |= (met.len() as u64) < self.most && met.insert((self.number_of)(secs));
        }
        keeps
    }
}

fn hour(secs: i64) -> i64 {
    secs.div_euclid(HOUR)
}

fn day(secs: i64) -> i64 {
    secs.div_euclid(DAY)
}

fn week(secs: i64) -> i64 {
    // 1970 began on a Thursday.
    (day(secs) + 3).div_euclid(7)
}

fn month(secs: i64) -> i64 {
    let (year, month) = date(secs);
    year * 12 + month
}

fn year(secs: i64) -> i64 {
    date(secs).0
}

/// Returns the year and the month of a time, in UTC, by the Gregorian calendar.
fn date(secs: i64) -> (i64, i64) {
    // Days are counted from 1 March of the year 0, so that the day of a leap year is the last of its year. The calendar
    // repeats after 400 years, which have 146097 days.
    let days = day(secs) + 719_468;
    let (cycle, of_cycle) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_400 = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * of_400 + of_400 / 4 - of_400 / 100);
    // From March on, five months in a row have 153 days.
    let from_march = (5 * of_year + 2) / 153;
    let is_next = from_march >= 10;
    let month = if is_next { from_march - 9 } else { from_march + 3 };
    (cycle * 400 + of_400 + i64::from(is_next), month)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::Offset;
    use proptest::prelude::*;

    use super::*;

    fn by_jiff(secs: i64) -> (i64, i64) {
        let date = Offset::UTC.to_datetime(Timestamp::from_second(secs).unwrap()).date();
        (date.year().into(), date.month().into())
    }

    #[test]
    fn the_first_and_last_seconds_of_months_are_told_apart() {
        for year in -800..2800_i16 {
            for month in 1..=12 {
                let first = jiff::civil::date(year, month, 1).at(0, 0, 0, 0);
                let first = Offset::UTC.to_timestamp(first).unwrap().as_second();
                assert_eq!(date(first), (year.into(), month.into()));
                assert_eq!(date(first - 1), by_jiff(first - 1));
            }
        }
    }

    #[test]
    fn no_time_is_too_far() {
        assert_eq!(date(i64::MIN), (-292_277_022_657, 1));
        assert_eq!(date(i64::MAX), (292_277_026_596, 12));
    }

    proptest! {
        #[test]
        fn any_time_has_the_month_of_the_calendar(secs in Timestamp::MIN.as_second()..=Timestamp::MAX.as_second()) {
            prop_assert_eq!(date(secs), by_jiff(secs));
        }
    }
}
