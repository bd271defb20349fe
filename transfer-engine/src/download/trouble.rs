//! Why a path was not pulled, and what to do about it.

use std::io;

use rustix::io::Errno;

use crate::error::Error;
use crate::extract::ExtractError;
use crate::local::Unstaged;

/// What is wrong with one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) message: String,
    /// What to do; `None` if a retry may help.
    pub(super) hint: Option<&'static str>,
}

impl Trouble {
    /// Returns trouble that may have passed by the next attempt.
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Returns the trouble of a journal or log: beside another version of the database, it would damage that.
    pub(super) fn without_database() -> Self {
        Self::passing("its database was not put in place")
    }

    /// Returns the trouble of a file whose staging directory another program removed.
    pub(super) fn unstaged() -> Self {
        Self::passing(Unstaged.to_string())
    }

    /// Returns the trouble for an error of the file system.
    pub(super) fn local(what: &str, e: &io::Error) -> Self {
        Self { message: format!("{what}: {e}"), hint: hint(e) }
    }

    /// Returns the trouble for data that is missing in the store.
    pub(super) fn store(message: impl Into<String>) -> Self {
        let hint = "push it again from a machine that has it, or restore it from another snapshot";
        Self { message: message.into(), hint: Some(hint) }
    }

    /// Returns the hint, or `retry` if there is none.
    pub(super) fn hint_or(&self, retry: &str) -> String {
        self.hint.unwrap_or(retry).to_owned()
    }
}

impl From<&Error> for Trouble {
    fn from(e: &Error) -> Self {
        let hint = match e {
            Error::Local { source, .. } => hint(source),
            _ => None,
        };
        Self { message: crate::error::chain(e), hint }
    }
}

impl From<&ExtractError> for Trouble {
    fn from(e: &ExtractError) -> Self {
        let hint = match e {
            ExtractError::Local { source, .. } => hint(source),
            _ => None,
        };
        Self { message: crate::error::chain(e), hint }
    }
}

/// Returns what to do about an error of the file system; `None` if a retry may help.
fn hint(e: &io::Error) -> Option<&'static str> {
    use io::ErrorKind;
    match e.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NAMETOOLONG | Errno::ILSEQ) => {
            return Some("this file system takes no such name; leave the path out by the policy");
        }
        Some(Errno::NOSYS | Errno::OPNOTSUPP) => {
            return Some("this file system can't hold such a file; leave the path out by the policy");
        }
        Some(Errno::FBIG) => {
            return Some("it is larger than this file system, or a limit such as `ulimit -f`, allows");
        }
        _ => {}
    }
    match e.kind() {
        ErrorKind::StorageFull => Some("free space on the mount's disk, then pull again"),
        ErrorKind::QuotaExceeded => Some("free space in the quota of the mount's disk, then pull again"),
        ErrorKind::ReadOnlyFilesystem => Some("make the mount's disk writable, then pull again"),
        ErrorKind::PermissionDenied => Some("give your user write access there, then pull again"),
        ErrorKind::DirectoryNotEmpty => Some("move away what is in it, then pull again"),
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            Some("move away what is in its place, then pull again")
        }
        ErrorKind::ResourceBusy => Some("unmount or end what uses it, then pull again"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_worth_another_try() {
        let trouble = |errno: Errno| Trouble::local("cannot be written", &errno.into());
        let full = trouble(Errno::NOSPC);
        assert_eq!(full.message, "cannot be written: No space left on device (os error 28)");
        let lasting = [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::ROFS,
            Errno::ACCESS,
            Errno::PERM,
            Errno::NOTEMPTY,
            Errno::NOTDIR,
            Errno::BUSY,
            Errno::FBIG,
            Errno::NAMETOOLONG,
        ];
        for errno in lasting {
            assert!(!trouble(errno).hint_or("again").contains("tries"), "{errno}");
            assert_ne!(trouble(errno).hint_or("again"), "again", "{errno}");
        }
        for errno in [Errno::IO, Errno::MFILE, Errno::INTR] {
            assert_eq!(trouble(errno).hint_or("again"), "again", "{errno}");
        }
    }
}
