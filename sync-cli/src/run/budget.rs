//! The time between being told to stop and being gone, and who gets how much of it.

use std::time::Duration;

use tokio::time::Instant;

/// How long what was killed may take to be gone.
const BURIAL: Duration = Duration::from_secs(3);

/// The time that a command has to end, and that is left to save what it did.
///
/// With `total`, both share it: the command gets at most half, so that there is always as much for saving.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// From being told, or from the command's end, to being gone.
    pub(crate) total: Option<Duration>,
    /// Between SIGTERM and SIGKILL, if there is so much.
    pub(crate) kill_after: Duration,
}

impl Budget {
    /// Returns the time between SIGTERM and SIGKILL.
    pub(crate) fn grace(self) -> Duration {
        self.total.map_or(self.kill_after, |total| self.kill_after.min(total / 2))
    }

    /// Returns the time that is waited for what was killed.
    pub(crate) fn burial(self) -> Duration {
        self.total.map_or(BURIAL, |total| BURIAL.min(total / 10))
    }

    /// Returns the moments of a release for which the clock began at `begun`.
    pub(crate) fn moments(self, begun: Instant) -> Option<Moments> {
        let total = self.total?;
        let end = begun + total;
        let before = |share: u32, most: u64| end - (total / share).min(Duration::from_millis(most));
        Some(Moments { commit: before(10, 500), give_up: before(20, 250), exit: before(40, 120) })
    }
}

/// When a release has to be where. Each leaves a little for the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    /// What can be saved is committed.
    pub(crate) commit: Instant,
    /// What still goes on is given up.
    pub(crate) give_up: Instant,
    /// The program ends, whatever it is at.
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
