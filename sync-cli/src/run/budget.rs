//! Divides the time between the signal to stop and the program's end.

use std::time::Duration;

use tokio::time::Instant;

/// How long to wait for killed processes to be gone.
const BURIAL: Duration = Duration::from_secs(3);

/// The time that a command has to end, and the time that is left for the last push.
///
/// With `total`, both share it: the command gets at most half, so that at least half is left for the push.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// From the signal, or from the command's end, to the program's end.
    pub(crate) total: Option<Duration>,
    /// From SIGTERM to SIGKILL, unless `total` shortens it.
    pub(crate) kill_after: Duration,
}

impl Budget {
    /// Returns the time between SIGTERM and SIGKILL.
    pub(crate) fn grace(self) -> Duration {
        self.total.map_or(self.kill_after, |total| self.kill_after.min(total / 2))
    }

    /// Returns how long to wait for killed processes to be gone.
    pub(crate) fn burial(self) -> Duration {
        self.total.map_or(BURIAL, |total| BURIAL.min(total / 10))
    }

    /// Returns the deadlines of a release whose time limit started at `begun`.
    pub(crate) fn moments(self, begun: Instant) -> Option<Moments> {
        let total = self.total?;
        let end = begun + total;
        let before = |share: u32, most: u64| end - (total / share).min(Duration::from_millis(most));
        Some(Moments { commit: before(10, 500), give_up: before(20, 250), exit: before(40, 120) })
    }
}

/// The deadlines of a release, in order. Each step leaves a little time for the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    /// Everything that can be pushed is committed.
    pub(crate) commit: Instant,
    /// Work that is still running is given up.
    pub(crate) give_up: Instant,
    /// The program ends in any case.
    pub(crate) exit: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(total: u64, kill_after: u64) -> Budget {
        Budget { total: Some(Duration::from_millis(total)), kill_after: Duration::from_millis(kill_after) }
    }

    #[test]
    fn the_command_never_gets_more_than_half() {
        assert_eq!(budget(25_000, 5000).grace(), Duration::from_secs(5));
        assert_eq!(budget(6000, 5000).grace(), Duration::from_secs(3));
        assert_eq!(budget(0, 5000).grace(), Duration::ZERO);
        let alone = Budget { total: None, kill_after: Duration::from_secs(5) };
        assert_eq!((alone.grace(), alone.burial()), (Duration::from_secs(5), BURIAL));
    }

    #[tokio::test]
    async fn the_moments_come_in_order_and_in_time() {
        let begun = Instant::now();
        for total in [1, 10, 100, 1000, 25_000, 3_600_000] {
            let budget = budget(total, 5000);
            let Moments { commit, give_up, exit } = budget.moments(begun).unwrap();
            let end = begun + Duration::from_millis(total);
            assert!(begun <= commit && commit <= give_up && give_up <= exit && exit <= end, "{total}");
            assert!(begun + budget.grace() + budget.burial() <= commit, "{total}");
        }
    }
}
