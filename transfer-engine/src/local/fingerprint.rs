//! Fingerprints: what a stat says of a file, to find out later without reading whether the file was changed.

use policy_core::Timestamp;
use rustix::fs::Stat;

use crate::env::Env;
use crate::local::os;

/// The part of a stat that changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    pub(crate) inode: u64,
    /// The permission bits as the file system shows them, possibly fewer than were set.
    pub(crate) mode: u16,
}

/// Local file systems take times from a clock that ticks every few milliseconds.
const GRAIN_NANOS: i128 = 20_000_000;
/// The same for file systems that keep only whole seconds, or only even ones.
const COARSE_GRAIN_NANOS: i128 = 2_000_000_000;

impl Fingerprint {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: timestamp(stat.st_mtime, stat.st_mtime_nsec),
            ctime: timestamp(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            mode: os::mode_of(stat),
        }
    }

    /// Returns the same fingerprint with the ctime by the clock of `env`, which may not be the kernel's.
    #[must_use]
    pub(crate) fn by_clock(&self, env: &Env) -> Self {
        Self { ctime: env.clock.of_change(self.inode, self.ctime), ..*self }
    }

    /// Whether a file could be written again after the stat at `moment` without a change in its fingerprint:
    /// if its times are closer to that moment than a tick of the clock, the next write may leave them as they
    /// are.
    pub(crate) fn is_racy(&self, moment: Timestamp) -> bool {
        let newest = if self.mtime > moment { self.ctime } else { self.mtime.max(self.ctime) };
        let grain =
            if self.ctime.nanos == 0 && self.mtime.nanos == 0 { COARSE_GRAIN_NANOS } else { GRAIN_NANOS };
        nanos(moment) - nanos(newest) < grain
    }

    /// Whether both are fingerprints of one file with the same content, perhaps renamed: a rename changes
    /// only the ctime.
    pub(crate) fn same_but_moved(&self, other: &Self) -> bool {
        Self { ctime: other.ctime, ..*self } == *other
    }
}

fn nanos(t: Timestamp) -> i128 {
    i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos)
}

pub(super) fn timestamp(secs: impl Into<i64>, nanos: impl TryInto<u32>) -> Timestamp {
    Timestamp { secs: secs.into(), nanos: nanos.try_into().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64, millis: u32) -> Timestamp {
        Timestamp { secs, nanos: millis * 1_000_000 + 1 }
    }

    fn print(mtime: Timestamp, ctime: Timestamp) -> Fingerprint {
        Fingerprint { size: 1, mtime, ctime, inode: 1, mode: 0o644 }
    }

    #[test]
    fn l21_a_file_touched_within_the_grain_is_racy() {
        assert!(print(at(100, 0), at(100, 0)).is_racy(at(100, 10)));
        assert!(!print(at(100, 0), at(100, 0)).is_racy(at(100, 30)));
        // The mtime was set back after the write, but the ctime shows the write.
        assert!(print(at(50, 0), at(100, 0)).is_racy(at(100, 10)));
    }

    #[test]
    fn l22_an_mtime_in_the_future_does_not_make_a_file_racy_for_ever() {
        assert!(!print(at(900, 0), at(100, 0)).is_racy(at(200, 0)));
    }

    #[test]
    fn whole_seconds_are_a_coarse_clock() {
        let whole = Timestamp { secs: 100, nanos: 0 };
        assert!(print(whole, whole).is_racy(at(101, 500)));
        assert!(!print(whole, whole).is_racy(at(102, 500)));
    }
}
