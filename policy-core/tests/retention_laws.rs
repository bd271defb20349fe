//! Laws of retention, for any rules and any snapshots.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use policy_core::{KeptFor, Retention, Taken, kept};
use proptest::prelude::*;

const DAY: i64 = 86_400;
const NOW: i64 = 1_764_374_400; // 2025-11-29T00:00:00Z, a Saturday

fn number() -> impl Strategy<Value = Option<NonZeroU64>> {
    prop_oneof![3 => Just(None), 2 => (1u64..6).prop_map(NonZeroU64::new), 1 => Just(Some(NonZeroU64::MAX))]
}

prop_compose! {
    fn retention()(
        (last, hourly, daily) in (number(), number(), number()),
        (weekly, monthly, yearly) in (number(), number(), number()),
        within in prop::option::weighted(0.3, (0u64..400 * 86_400).prop_map(Duration::from_secs)),
    ) -> Retention {
        Retention { last, within, hourly, daily, weekly, monthly, yearly }
    }
}

prop_compose! {
    /// Snapshots from the newest to the oldest, mostly in order of time. Some landed late, and some are
    /// copies.
    fn history()(
        steps in prop::collection::vec((
            prop_oneof![0i64..3600, 0..DAY, 0..40 * DAY, -100i64..0],
            prop_oneof![9 => Just(true), 1 => Just(false)],
            prop_oneof![6 => 0i64..100, 1 => -DAY..500 * DAY],
            prop_oneof![9 => Just(false), 1 => Just(true)],
            prop_oneof![9 => Just(false), 1 => Just(true)],
        ), 1..60),
    ) -> Vec<Taken> {
        let mut at = NOW;
        steps.into_iter().map(|(step, in_time, ago, is_tagged, is_merge_base)| {
            at -= step;
            Taken { landed: at, created: at - ago, in_time, is_tagged, is_merge_base, is_replaced: false }
        }).collect()
    }
}

/// Returns each rule of `retention` alone.
fn alone(retention: &Retention) -> Vec<Retention> {
    let none = Retention::default();
    let all = [
        Retention { last: retention.last, ..none },
        Retention { within: retention.within, ..none },
        Retention { hourly: retention.hourly, ..none },
        Retention { daily: retention.daily, ..none },
        Retention { weekly: retention.weekly, ..none },
        Retention { monthly: retention.monthly, ..none },
        Retention { yearly: retention.yearly, ..none },
    ];
    all.into_iter().filter(|rule| !rule.keeps_all()).collect()
}

fn which(retention: &Retention, history: &[Taken]) -> Vec<bool> {
    kept(retention, NOW, history).iter().map(|reasons| !reasons.is_empty()).collect()
}

fn more(number: Option<NonZeroU64>, by: u64) -> Option<NonZeroU64> {
    number.map(|n| n.saturating_add(by))
}

proptest! {
    #[test]
    fn the_same_input_gives_the_same_output(rules in retention(), history in history()) {
        prop_assert_eq!(kept(&rules, NOW, &history), kept(&rules, NOW, &history));
    }

    #[test]
    fn the_head_and_the_newest_in_time_are_always_kept(rules in retention(), history in history()) {
        let kept = which(&rules, &history);
        prop_assert!(kept[0]);
        let in_time = history.iter().position(|taken| taken.in_time);
        prop_assert!(in_time.is_none_or(|at| kept[..=at].iter().all(|kept| *kept)));
    }

    #[test]
    fn rules_are_a_union(rules in retention(), history in history()) {
        let together = which(&rules, &history);
        let alone: Vec<_> = alone(&rules).iter().map(|rule| which(rule, &history)).collect();
        for (at, kept) in together.into_iter().enumerate() {
            prop_assert_eq!(kept, alone.is_empty() || alone.iter().any(|one| one[at]), "{}", at);
        }
    }

    #[test]
    fn more_keeps_what_less_keeps(rules in retention(), history in history(), by in 1u64..5) {
        let wider = Retention {
            last: more(rules.last, by),
            within: rules.within.map(|span| span + Duration::from_secs(by)),
            hourly: more(rules.hourly, by),
            daily: more(rules.daily, by),
            weekly: more(rules.weekly, by),
            monthly: more(rules.monthly, by),
            yearly: more(rules.yearly, by),
        };
        let pairs = which(&rules, &history).into_iter().zip(which(&wider, &history));
        prop_assert!(pairs.into_iter().all(|(less, more)| !less || more));
    }

    /// Whatever the rules say, a snapshot with a tag is kept, and so is a merge base, and no other one because of it.
    #[test]
    fn a_tag_keeps_its_snapshot_and_no_other(rules in retention(), history in history()) {
        let plain = |taken: &Taken| Taken { is_tagged: false, is_merge_base: false, ..*taken };
        let untagged: Vec<_> = history.iter().map(plain).collect();
        let without = kept(&rules, NOW, &untagged);
        for ((taken, mut reasons), without) in history.iter().zip(kept(&rules, NOW, &history)).zip(without) {
            prop_assert_eq!(reasons.contains(&KeptFor::Tag), taken.is_tagged);
            prop_assert_eq!(reasons.contains(&KeptFor::MergeBase), taken.is_merge_base);
            reasons.retain(|reason| ![KeptFor::Tag, KeptFor::MergeBase].contains(reason));
            prop_assert_eq!(reasons, without);
        }
    }

    /// If a collection has moved a snapshot's data, the newer snapshot is kept as the older one was, which is kept by no
    /// number any more; nothing else is kept or forgotten because of it.
    #[test]
    fn a_snapshot_that_takes_the_place_of_another_counts_as_that(
        rules in retention(), history in history(), at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(history.len());
        let newer = Taken { in_time: true, is_tagged: false, is_merge_base: false, ..history[at] };
        let mut before = history.clone();
        before[at] = newer;
        let mut after = before.clone();
        after.insert(at + 1, Taken { is_replaced: true, ..history[at] });
        let mut found = kept(&rules, NOW, &after);
        let replaced = found.remove(at + 1);
        prop_assert_eq!(found, kept(&rules, NOW, &before));
        let others = [KeptFor::Tag, KeptFor::MergeBase, KeptFor::NoRule, KeptFor::Within];
        prop_assert!(replaced.iter().all(|reason| others.contains(reason)), "{:?}", replaced);
    }

    /// A second run forgets nothing more.
    #[test]
    fn twice_forgets_no_more_than_once(rules in retention(), history in history()) {
        let reasons = kept(&rules, NOW, &history);
        let left = history.iter().zip(&reasons).filter(|(_, reasons)| !reasons.is_empty());
        let (left, first): (Vec<Taken>, Vec<Vec<KeptFor>>) =
            left.map(|(taken, reasons)| (*taken, reasons.clone())).unzip();
        prop_assert_eq!(kept(&rules, NOW, &left), first);
    }

    /// Against the text of the rule: of the newest N days with a snapshot, the newest one each.
    #[test]
    fn daily_is_the_newest_of_each_day(most in 1u64..8, mut history in history()) {
        for taken in &mut history {
            (taken.created, taken.in_time) = (taken.landed, true);
        }
        history.sort_by_key(|taken| std::cmp::Reverse(taken.landed));
        let mut days: BTreeMap<i64, usize> = BTreeMap::new();
        for (at, taken) in history.iter().enumerate() {
            days.entry(taken.landed.div_euclid(DAY)).or_insert(at);
        }
        let expected: Vec<usize> = days.into_values().rev().take(usize::try_from(most).unwrap()).collect();
        let rules = Retention { daily: NonZeroU64::new(most), ..Retention::default() };
        let reasons = kept(&rules, NOW, &history);
        let found: Vec<usize> =
            (0..history.len()).filter(|at| reasons[*at].contains(&KeptFor::Daily)).collect();
        prop_assert_eq!(found, expected);
    }
}

fn taken(landed: i64) -> Taken {
    Taken {
        landed,
        created: landed,
        in_time: true,
        is_tagged: false,
        is_merge_base: false,
        is_replaced: false,
    }
}

fn at(text: &str) -> Taken {
    taken(text.parse::<jiff::Timestamp>().unwrap().as_second())
}

fn kept_by(rules: Retention, times: &[&str]) -> Vec<usize> {
    let history: Vec<Taken> = times.iter().map(|text| at(text)).collect();
    let reasons = kept(&rules, NOW, &history);
    let by_rule = |at: &usize| reasons[*at].iter().any(|reason| *reason != KeptFor::Head);
    (0..times.len()).filter(by_rule).collect()
}

#[test]
fn periods_are_those_of_the_calendar_in_utc() {
    let two = NonZeroU64::new(2);
    let none = Retention::default();
    let hours =
        ["2025-11-28T10:00:00Z", "2025-11-28T09:59:59Z", "2025-11-28T09:00:00Z", "2025-11-28T08:59:59Z"];
    assert_eq!(kept_by(Retention { hourly: two, ..none }, &hours), [0, 1]);
    let days =
        ["2025-11-28T00:00:00Z", "2025-11-27T23:59:59Z", "2025-11-27T00:00:00Z", "2025-11-26T23:59:59Z"];
    assert_eq!(kept_by(Retention { daily: two, ..none }, &days), [0, 1]);
    // A Monday, and the Sunday before it. The week goes on across the end of the year.
    let weeks =
        ["2026-01-05T00:00:00Z", "2026-01-04T23:59:59Z", "2025-12-29T00:00:00Z", "2025-12-28T23:59:59Z"];
    assert_eq!(kept_by(Retention { weekly: two, ..none }, &weeks), [0, 1]);
    let months =
        ["2024-03-01T00:00:00Z", "2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z", "2024-01-31T23:59:59Z"];
    assert_eq!(kept_by(Retention { monthly: two, ..none }, &months), [0, 1]);
    let years =
        ["1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1969-01-01T00:00:00Z", "1968-12-31T23:59:59Z"];
    assert_eq!(kept_by(Retention { yearly: two, ..none }, &years), [0, 1]);
}

/// All copies that a rename makes land at the same time, but they were written at different times.
#[test]
fn a_renamed_context_keeps_its_history() {
    let copy = |days: i64| Taken { created: NOW - days * DAY, ..taken(NOW) };
    let history: Vec<Taken> = (0..10).map(|days| copy(days * 2)).collect();
    let rules = Retention { daily: NonZeroU64::new(4), ..Retention::default() };
    assert_eq!(which(&rules, &history).iter().filter(|kept| **kept).count(), 4);
    // A writer whose clock stopped long ago does not cause losses either.
    let stopped = |days: i64| Taken { created: 0, ..taken(NOW - days * DAY) };
    let history: Vec<Taken> = (0..10).map(stopped).collect();
    assert_eq!(which(&rules, &history).iter().filter(|kept| **kept).count(), 4);
}

#[test]
fn times_beyond_all_calendars_are_times() {
    let n = NonZeroU64::new(9);
    let rules = Retention { hourly: n, daily: n, weekly: n, monthly: n, yearly: n, ..Retention::default() };
    for now in [i64::MIN, 0, i64::MAX] {
        assert_eq!(kept(&rules, now, &[taken(i64::MAX), taken(0), taken(i64::MIN)]).len(), 3);
    }
}
