//! Measures how fast packs are sent, and how long a push can go on sending before its deadline.
//!
//! ```text
//! began ────── packs are sent ────── cutoff ── tree, commit ── end ─ deadline
//!                                      └─ reserve: as measured ─┘
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::format::PACK_TARGET;

/// The smallest pack that is worth a request.
const MIN_PACK: u64 = 64 << 10;
/// How many bytes may be in flight before anything was measured.
const FIRST_WINDOW: u64 = 8 * MIN_PACK;
/// At most as many bytes are in flight as can be sent in this time, or in a few round trips. What has not
/// landed at the cutoff was sent for nothing.
const WINDOW: Duration = Duration::from_secs(2);
/// When this much time was spent sending, earlier measurements are halved.
const MEMORY: Duration = Duration::from_secs(4);
/// A longer time is not a round trip: the store was away. If it were reserved for each request of the commit,
/// a release that has just waited for the store would have no time left.
const LONGEST_TRIP: Duration = Duration::from_secs(1);
/// The estimated size of a tree entry with a chunk or two, in bytes of a segment.
const ENTRY: u64 = 120;
/// Segments of up to this many bytes are embedded in the snapshot, in one put.
const INLINE: u64 = 100 << 10;
/// The time for planning and encoding one local difference.
const PER_ROW: Duration = Duration::from_micros(5);
/// After this time, the commit first checks for a newer head.
const HEAD_IS_NEWS: Duration = Duration::from_secs(4);

/// The measured pace of one push, and its deadline if it has one.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    deadline: Option<Instant>,
    measured: Mutex<Measured>,
}

#[derive(Debug, Default)]
struct Measured {
    /// The duration of a request without a body.
    trip: Duration,
    /// The number of bytes in flight.
    under_way: u64,
    /// Since when something has been in flight.
    busy_since: Option<Instant>,
    /// How long something was in flight before that.
    busy: Duration,
    /// The bytes that landed in that time.
    landed: u64,
    rows: u64,
    /// The size of the parent's snapshot, in bytes.
    snapshot: u64,
}

impl Measured {
    fn busy(&self, now: Instant) -> Duration {
        self.busy + self.busy_since.map_or(Duration::ZERO, |since| now - since)
    }

    /// Returns bytes per second; `None` before anything has landed.
    fn rate(&self, now: Instant) -> Option<f64> {
        (self.landed > 0).then(|| self.landed as f64 / self.busy(now).as_secs_f64().max(1e-4))
    }
}

impl Pace {
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self { began: Instant::now(), deadline, measured: Mutex::default() }
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_deadline(&self) -> bool {
        self.deadline.is_some()
    }

    /// Returns the time from the start to the deadline.
    fn whole(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(self.began))
    }

    /// Returns when everything must have ended: shortly before the deadline.
    pub(crate) fn end(&self) -> Option<Instant> {
        let margin = (self.whole() / 50).clamp(Duration::from_millis(10), Duration::from_millis(250));
        self.deadline.map(|deadline| deadline.checked_sub(margin).unwrap_or(deadline))
    }

    /// Returns when sending has to stop, so that what has landed can be committed in time.
    pub(crate) fn cutoff(&self) -> Option<Instant> {
        let end = self.end()?;
        let now = Instant::now();
        let measured = self.measured();
        let tree = measured.rows * ENTRY;
        let packed = tree > INLINE;
        let stale = now - self.began > HEAD_IS_NEWS;
        let trips = 3 + if packed { 2 } else { 0 } + if stale { 3 } else { 0 };
        let bytes = (tree + measured.snapshot) as f64;
        let sending = measured.rate(now).map_or(Duration::ZERO, |rate| seconds(bytes / rate));
        let planning = PER_ROW.saturating_mul(u32::try_from(measured.rows).unwrap_or(u32::MAX));
        let margin = (self.whole() / 20).clamp(Duration::from_millis(20), Duration::from_secs(2));
        let reserve =
            measured.trip.saturating_mul(trips).saturating_add(sending).saturating_add(planning + margin);
        Some(end.checked_sub(reserve).unwrap_or(now).max(self.began))
    }

    /// Whether the time for sending is over.
    pub(crate) fn is_over(&self) -> bool {
        self.cutoff().is_some_and(|cutoff| Instant::now() >= cutoff)
    }

    /// Returns the end of the first quarter of the remaining time for sending.
    pub(crate) fn slice(&self) -> Option<Instant> {
        let now = Instant::now();
        self.cutoff().map(|cutoff| now + cutoff.saturating_duration_since(now) / 4)
    }

    /// Returns how many bytes may be in flight at once.
    fn window(&self, measured: &Measured, now: Instant) -> u64 {
        let Some(rate) = measured.rate(now) else { return FIRST_WINDOW };
        let left = self.deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(now));
        let time = WINDOW.min(left / 8).max(measured.trip.saturating_mul(4));
        ((rate * time.as_secs_f64()) as u64).max(MIN_PACK)
    }

    /// Returns the size at which a pack is full, in bytes.
    pub(crate) fn pack_target(&self) -> u64 {
        if !self.has_deadline() {
            return PACK_TARGET;
        }
        (self.window(&self.measured(), Instant::now()) / 4).clamp(MIN_PACK, PACK_TARGET)
    }

    /// Whether a pack of this size may be sent in addition to those in flight.
    pub(crate) fn has_room(&self, size: u64) -> bool {
        let measured = self.measured();
        !self.has_deadline()
            || measured.under_way == 0
            || measured.under_way + size <= self.window(&measured, Instant::now())
    }

    /// Notes that a pack is being sent.
    pub(crate) fn send(self: &Arc<Self>, size: u64) -> OnItsWay {
        let mut measured = self.measured();
        measured.under_way += size;
        measured.busy_since.get_or_insert_with(Instant::now);
        OnItsWay { pace: Arc::clone(self), size, landed: false }
    }

    /// Notes how long this many requests without bodies took, one after the other.
    pub(crate) fn note_trips(&self, took: Duration, requests: u64) {
        let Ok(requests @ 1..) = u32::try_from(requests) else { return };
        let mut measured = self.measured();
        let trip = (took / requests).min(LONGEST_TRIP);
        // A slower trip counts at once, a faster one gradually.
        measured.trip = trip.max((measured.trip * 3 + trip) / 4);
    }

    /// Notes the size of the parent's snapshot, in bytes.
    pub(crate) fn note_head(&self, bytes: u64) {
        self.measured().snapshot = bytes;
    }

    /// Notes further local differences, each of which is an entry of the new tree.
    pub(crate) fn note_rows(&self, rows: u64) {
        self.measured().rows += rows;
    }
}

fn seconds(secs: f64) -> Duration {
    Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX / 4)
}

/// A pack in flight, until this is dropped.
#[derive(Debug)]
pub(crate) struct OnItsWay {
    pace: Arc<Pace>,
    size: u64,
    landed: bool,
}

impl OnItsWay {
    /// Notes that the pack has landed.
    pub(crate) fn landed(mut self) {
        self.landed = true;
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut measured = self.pace.measured();
        measured.under_way = measured.under_way.saturating_sub(self.size);
        measured.landed += if self.landed { self.size } else { 0 };
        // The time of what is still in flight counts from now on.
        measured.busy = measured.busy(now);
        measured.busy_since = (measured.under_way > 0).then_some(now);
        if measured.busy > MEMORY {
            measured.busy /= 2;
            measured.landed = (measured.landed / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sends(pace: &Arc<Pace>, size: u64, takes: Duration) {
        let pack = pace.send(size);
        tokio::time::sleep(takes).await;
        pack.landed();
    }

    #[tokio::test(start_paused = true)]
    async fn n19_a_store_that_was_away_leaves_time_to_send() {
        let pace = Arc::new(Pace::new(Some(Instant::now() + Duration::from_secs(60))));
        tokio::time::sleep(Duration::from_secs(10)).await;
        pace.note_trips(Duration::from_secs(10), 1);
        assert!(pace.cutoff().unwrap() > Instant::now() + Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_nothing_is_held_back() {
        let pace = Arc::new(Pace::new(None));
        assert_eq!((pace.cutoff(), pace.end(), pace.slice(), pace.is_over()), (None, None, None, false));
        sends(&pace, 1 << 10, Duration::from_secs(100)).await;
        let _pack = pace.send(1 << 40);
        assert!(pace.has_room(1 << 40));
        assert_eq!(pace.pack_target(), PACK_TARGET);
    }

    #[tokio::test(start_paused = true)]
    async fn packs_grow_with_the_rate_and_shrink_towards_the_end() {
        let pace = Arc::new(Pace::new(Some(Instant::now() + Duration::from_secs(40))));
        assert_eq!(pace.pack_target(), 2 * MIN_PACK);
        // At 10 MiB/s, two seconds' worth may be in flight, in four packs.
        sends(&pace, 10 << 20, Duration::from_secs(1)).await;
        assert_eq!(pace.pack_target(), 5 << 20);
        let _pack = pace.send(19 << 20);
        assert!(pace.has_room(1 << 20) && !pace.has_room(2 << 20));
        drop(_pack);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(pace.pack_target(), 5 << 19);
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(pace.pack_target(), MIN_PACK);
    }

    #[tokio::test(start_paused = true)]
    async fn the_commit_is_left_the_time_that_it_needs() {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(10);
        let pace = Arc::new(Pace::new(Some(deadline)));
        let fast = pace.cutoff().unwrap();
        assert!(fast > began + Duration::from_secs(9) && fast < pace.end().unwrap());
        pace.note_trips(Duration::from_secs(2), 4);
        let far = pace.cutoff().unwrap();
        assert_eq!(fast - far, Duration::from_millis(1500));
        // 100 KiB/s, and a tree of 1.2 MB.
        pace.note_rows(10_000);
        sends(&pace, 100 << 10, Duration::from_secs(1)).await;
        assert!(pace.is_over());
        // The pace recovers gradually.
        let slow = pace.cutoff().unwrap();
        pace.note_trips(Duration::from_millis(10), 1);
        assert!(pace.cutoff().unwrap() >= slow);
    }
}
