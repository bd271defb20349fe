//! How long the program waits for a store that does not answer. All requests share one time limit.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A failure that passes sooner is not reported.
const WORTH_TELLING: Duration = Duration::from_secs(1);
/// The same failure is not reported again before this time has passed.
const TOLD_FOR: Duration = Duration::from_secs(30);

/// What is reported of a store that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Requests fail and are retried.
    Waiting {
        /// Why the last request failed.
        cause: String,
        /// How long requests will be retried from now on.
        left: Duration,
    },
    /// The store answers again.
    Back {
        /// How long the store did not answer.
        after: Duration,
    },
}

/// Is called with each [`Notice`].
pub type Listener = Arc<dyn Fn(&Notice) + Send + Sync>;

/// How long failed requests are retried. Clones share their state.
///
/// A request is given up when the time limit has passed since its first failure, or since the store stopped
/// answering any request. So a command that sends a thousand requests does not wait a thousand times.
#[derive(Clone)]
pub struct Patience(Arc<Shared>);

struct Shared {
    bounds: Bounds,
    listener: Option<Listener>,
    state: Mutex<State>,
}

/// How often and how long requests are retried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) time: Duration,
    /// The maximum number of retries of one request.
    pub(crate) retries: Option<usize>,
    /// The first pause.
    pub(crate) shortest: Duration,
    /// The longest pause.
    pub(crate) longest: Duration,
}

#[derive(Default)]
struct State {
    /// Since when the store has not answered any request.
    since: Option<Instant>,
    told: Option<Instant>,
    /// A deadline for all retries, which replaces the usual time limit.
    until: Option<Instant>,
    /// Whether the store has ever answered.
    met: bool,
}

impl Patience {
    pub(crate) fn new(bounds: Bounds, listener: Option<Listener>) -> Self {
        Self(Arc::new(Shared { bounds, listener, state: Mutex::default() }))
    }

    /// Starts over: earlier failures no longer count, and new ones are retried until `deadline`, or for the
    /// usual time if it is `None`.
    pub fn renew(&self, deadline: Option<Instant>) {
        let mut state = self.state();
        (state.since, state.until) = (None, deadline);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the store answered.
    pub(crate) fn answered(&self) {
        let mut state = self.state();
        state.met = true;
        let since = state.since.take();
        if let (Some(since), Some(_)) = (since, state.told.take()) {
            drop(state);
            self.tell(&Notice::Back { after: since.elapsed() });
        }
    }

    /// Begins the attempts to send one request.
    pub(crate) fn begin(&self) -> Trial<'_> {
        Trial { patience: self, first: None, most: None, sent: 0 }
    }

    fn end(&self, state: &State, since: Instant) -> Instant {
        state.until.unwrap_or_else(|| far(since, self.0.bounds.time))
    }

    fn tell_once(&self, mut state: MutexGuard<'_, State>, cause: String, left: Duration) {
        let now = Instant::now();
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < TOLD_FOR) {
            return;
        }
        state.told = Some(now);
        drop(state);
        self.tell(&Notice::Waiting { cause, left });
    }

    fn tell(&self, notice: &Notice) {
        if let Some(listener) = &self.0.listener {
            listener(notice);
        }
    }
}

/// What requests over HTTP ask and note.
#[cfg(feature = "cloud")]
impl Patience {
    /// Whether the store has ever answered.
    pub(crate) fn has_met(&self) -> bool {
        self.state().met
    }

    /// Returns how long one attempt may wait for an answer. Before a deadline there must be time for a few
    /// attempts.
    pub(crate) fn share(&self, timeout: Duration) -> Duration {
        const LEAST: Duration = Duration::from_secs(1);
        match self.state().until {
            Some(until) => timeout.min((until.saturating_duration_since(Instant::now()) / 3).max(LEAST)),
            None => timeout,
        }
    }

    /// Notes that nothing has come for the time `silent`, although no request has failed yet.
    pub(crate) fn is_silent(&self, silent: Duration) {
        let began = Instant::now().checked_sub(silent).unwrap_or_else(Instant::now);
        let mut state = self.state();
        let since = *state.since.get_or_insert(began);
        let left = self.end(&state, since).saturating_duration_since(Instant::now());
        self.tell_once(state, format!("nothing came for {} s", silent.as_secs()), left);
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Patience({:?})", self.0.bounds.time)
    }
}

/// One request, which may be sent more than once.
pub(crate) struct Trial<'a> {
    patience: &'a Patience,
    first: Option<Instant>,
    /// A time limit for this request that is shorter than the usual one.
    most: Option<Duration>,
    sent: u32,
}

impl Trial<'_> {
    /// Sets a time limit for this request; it has an effect only if it is shorter than the usual one.
    pub(crate) fn at_most(&mut self, time: Duration) {
        self.most = Some(time);
    }

    /// Notes that the request failed because of `cause`, and waits for the next attempt. Returns false if the
    /// request is given up.
    pub(crate) async fn again(&mut self, cause: &(dyn fmt::Display + Sync)) -> bool {
        let Bounds { retries, shortest, longest, .. } = self.patience.0.bounds;
        self.sent += 1;
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        let pause = {
            let mut state = self.patience.state();
            let since = *state.since.get_or_insert(first);
            let own = self.most.map(|most| far(first, most));
            let end =
                own.into_iter().chain([self.patience.end(&state, since.min(first))]).min().unwrap_or(now);
            let left = end.saturating_duration_since(now);
            if left.is_zero() || retries.is_some_and(|most| self.sent as usize > most) {
                return false;
            }
            let grown = shortest.saturating_mul(1u32.checked_shl(self.sent - 1).unwrap_or(u32::MAX));
            let pause = grown.min(longest).mul_f64(jitter());
            // A failure that the next attempt may well end is not reported.
            if pause.max(first.min(since).elapsed()) >= WORTH_TELLING {
                self.patience.tell_once(state, cause.to_string(), left);
            }
            pause.min(left)
        };
        tokio::time::sleep(pause).await;
        true
    }
}

fn far(from: Instant, time: Duration) -> Instant {
    from.checked_add(time).unwrap_or(from + Duration::from_hours(24 * 365))
}

/// Returns a number from 0.5 to 1, so that many machines do not retry at the same moment.
fn jitter() -> f64 {
    let mut byte = [0];
    // Without randomness the pause is just the longest.
    let drawn = getrandom::fill(&mut byte).map_or(u8::MAX, |()| byte[0]);
    0.5 + f64::from(drawn) / 510.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(time: u64, retries: Option<usize>) -> (Patience, Arc<Mutex<Vec<Notice>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener: Listener = {
            let heard = heard.clone();
            Arc::new(move |notice: &Notice| heard.lock().unwrap().push(notice.clone()))
        };
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        let bounds = Bounds { time: Duration::from_secs(time), retries, shortest, longest };
        (Patience::new(bounds, Some(listener)), heard)
    }

    async fn fail(patience: &Patience) -> u32 {
        let mut trial = patience.begin();
        while trial.again(&"refused").await {}
        trial.sent
    }

    #[tokio::test(start_paused = true)]
    async fn n19_the_budget_is_a_time_that_all_requests_share() {
        let (patience, heard) = patience(120, None);
        let begun = Instant::now();
        assert!(fail(&patience).await > 20);
        assert_eq!(begun.elapsed().as_secs(), 120);
        // The store is known not to answer, so other requests are tried only once.
        assert_eq!(fail(&patience).await, 1);
        assert!(matches!(&heard.lock().unwrap()[0], Notice::Waiting { cause, .. } if cause == "refused"));
        assert!(heard.lock().unwrap().len() < 6);
        // A release has its own deadline, even after the time limit has passed.
        let begun = Instant::now();
        patience.renew(Some(begun + Duration::from_secs(300)));
        fail(&patience).await;
        assert_eq!(begun.elapsed().as_secs(), 300);
        patience.renew(None);
        assert!(fail(&patience).await > 20);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_at_once_is_not_told() {
        let (patience, heard) = patience(120, None);
        let mut trial = patience.begin();
        assert!(trial.again(&"slow down").await);
        patience.answered();
        assert_eq!(*heard.lock().unwrap(), []);
        for _ in 0..6 {
            assert!(trial.again(&"slow down").await);
        }
        patience.answered();
        let heard = heard.lock().unwrap();
        assert!(matches!(&heard[..], [Notice::Waiting { .. }, Notice::Back { .. }]), "{heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_always_fails_ends_though_others_do_not() {
        let (patience, _) = patience(60, None);
        let (begun, mut trial) = (Instant::now(), patience.begin());
        while trial.again(&"500").await {
            patience.answered();
        }
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_and_a_shorter_time_bound_it_too() {
        let (patience, _) = patience(60, Some(3));
        assert_eq!(fail(&patience).await, 4);
        patience.renew(None);
        let (begun, mut trial) = (Instant::now(), patience.begin());
        trial.at_most(Duration::from_millis(150));
        while trial.again(&"html").await {}
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
