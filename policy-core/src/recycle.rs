//! Which files leave a context because of their age.

use crate::{PathSet, TreePath};

const DAY: i64 = 86_400;

/// A recycle policy in compiled form: how long files below some paths stay after their last push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    days: u32,
    paths: PathSet,
}

impl Expiry {
    /// Returns the rule that files in `paths` stay for `days` days.
    pub fn new(days: u32, paths: PathSet) -> Self {
        Self { days, paths }
    }

    /// Returns the number of days that a file stays.
    pub fn days(&self) -> u32 {
        self.days
    }

    /// Returns the paths to which the rule applies.
    pub fn paths(&self) -> &PathSet {
        &self.paths
    }

    /// Returns the first moment at which a file that was last pushed at `uploaded` is expired; `None` if the
    /// rule does not apply to its path. Both times are seconds since 1970 by the store's clock.
    pub fn moment(&self, path: &TreePath, uploaded: i64) -> Option<i64> {
        self.paths.contains(path).then(|| uploaded.saturating_add(i64::from(self.days) * DAY))
    }

    /// Whether the file is expired at `now`, in seconds since 1970 by the store's clock.
    pub fn is_expired(&self, path: &TreePath, uploaded: i64, now: i64) -> bool {
        self.moment(path, uploaded).is_some_and(|moment| moment <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_expires_to_the_second() {
        let rule = Expiry::new(3, PathSet::of_places(vec![path("logs"), path("tmp/x")]));
        let moment = 1_000 + 3 * DAY;
        for held in ["logs", "logs/a/b", "tmp/x"] {
            assert_eq!(rule.moment(&path(held), 1_000), Some(moment), "{held}");
            assert!(!rule.is_expired(&path(held), 1_000, moment - 1));
            assert!(rule.is_expired(&path(held), 1_000, moment));
        }
        for free in ["log", "logs2/a", "tmp/y", "tmp"] {
            assert_eq!(rule.moment(&path(free), 1_000), None, "{free}");
            assert!(!rule.is_expired(&path(free), i64::MIN, i64::MAX));
        }
    }

    #[test]
    fn the_root_is_everything_and_nothing_is_nothing() {
        let all = Expiry::new(1, PathSet::of_places(vec![path("a"), TreePath::root(), path("b/c")]));
        assert_eq!(all.paths().places(), [TreePath::root()]);
        assert!(all.is_expired(&path("x/y"), 0, DAY));
        assert!(!Expiry::new(1, PathSet::default()).is_expired(&path("x"), 0, i64::MAX));
        // A time near the maximum must not overflow.
        assert!(!all.is_expired(&path("x"), i64::MAX - 1, i64::MAX - 1));
    }
}
