//! Exit codes.

use std::process::ExitCode;

use transfer_engine::{ErrorKind, SyncReport};

/// An exit code, as the table in `docs/cli.md` lists them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    pub(crate) const DONE: Self = Self(0);
    pub(crate) const FAILED: Self = Self(1);
    pub(crate) const USAGE: Self = Self(2);
    pub(crate) const INCOMPLETE: Self = Self(3);
    pub(crate) const CONFLICTS: Self = Self(4);
    pub(crate) const HELD_BACK: Self = Self(8);
    pub(crate) const NOT_FOUND: Self = Self(10);
    pub(crate) const BEATEN: Self = Self(11);
    pub(crate) const NOT_EXECUTABLE: Self = Self(126);
    pub(crate) const NO_COMMAND: Self = Self(127);

    /// Returns the code that a shell shows for a process ended by this signal.
    pub(crate) fn signal(number: i32) -> Self {
        Self(u8::try_from(number).unwrap_or(0).saturating_add(128))
    }

    /// Returns the code for the failure of another process.
    pub(crate) fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NoStore | ErrorKind::NoContext | ErrorKind::NotFound => Self::NOT_FOUND,
            ErrorKind::Beaten => Self::BEATEN,
            ErrorKind::OutOfTime => Self::INCOMPLETE,
            ErrorKind::Policy | ErrorKind::BadRequest => Self::USAGE,
            _ => Self::FAILED,
        }
    }

    /// Returns the code of a sync that reached its end. The first that applies counts: incomplete, conflicts,
    /// deletions held back.
    pub(crate) fn of(report: &SyncReport) -> Self {
        if report.is_incomplete() {
            Self::INCOMPLETE
        } else if report.conflicts > 0 || report.stopped_by_conflict {
            Self::CONFLICTS
        } else if report.held_back > 0 || report.unmounted > 0 {
            Self::HELD_BACK
        } else {
            Self::DONE
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_applies() {
        let mut report = SyncReport::default();
        assert_eq!(Exit::of(&report), Exit::DONE);
        report.held_back = 1;
        assert_eq!(Exit::of(&report), Exit::HELD_BACK);
        report.conflicts = 1;
        assert_eq!(Exit::of(&report), Exit::CONFLICTS);
        report.failed = 1;
        assert_eq!(Exit::of(&report), Exit::INCOMPLETE);
    }

    #[test]
    fn signals_as_shells_show_them() {
        assert_eq!((Exit::signal(15).0, Exit::signal(2).0), (143, 130));
    }
}
