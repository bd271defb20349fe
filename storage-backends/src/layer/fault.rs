//! The faults that a layer can inject.

use std::fmt;
use std::time::Duration;

use object_store::Error;
use object_store::path::Path;

use super::Operation;

/// What goes wrong with a request. A fault that does not apply to the kind of request acts as
/// [`Fault::FailBefore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The request fails and has no effect.
    FailBefore,
    /// The request takes effect, but fails: its answer is lost.
    FailAfter,
    /// A put takes effect in a directory, but fails: the disk has not confirmed it.
    Unflushed,
    /// A put takes effect, but is reported as `AlreadyExists`: the answer was lost, and a retry found the
    /// object of the first attempt.
    AlreadyExistsThoughStored,
    /// A put is reported as `AlreadyExists` although there is no such object: a 409 on create.
    AlreadyExistsThoughAbsent,
    /// A read reports `NotFound`, whether or not there is such an object.
    NotFound,
    /// The request is refused for lack of permission.
    Denied,
    /// The request is refused because the credentials have expired.
    Expired,
    /// A body, or a listing, ends after this many bytes or items as if it were complete.
    Truncate(u64),
    /// A body, or a listing, ends with an error after this many bytes or items.
    Break(u64),
    /// One bit of a body is wrong, in the byte with this number (modulo the length).
    FlipBit(u64),
    /// A body is another one, such as the page of a proxy, and the answer is no error.
    OtherBody(&'static str),
    /// A listing lacks this many of the newest objects that were put through this layer.
    StaleList(usize),
    /// The request takes longer, by tokio's clock.
    Delay(Duration),
    /// The request has no effect and gets no answer: it fails after this time, by tokio's clock.
    NoAnswer(Duration),
    /// This request and all later ones fail without effect: the machine is gone, or its connection.
    CrashBefore,
    /// This request takes effect, and it and all later ones fail.
    CrashAfter,
}

/// The source of each error that a [`super::Faulty`] layer injects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectedFault {
    /// The kind of the request.
    pub operation: Operation,
    /// The object, or the prefix of a listing.
    pub key: Path,
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "injected fault in {} {}", self.operation, self.key)
    }
}

impl std::error::Error for InjectedFault {}

impl InjectedFault {
    pub(super) fn generic(self) -> Error {
        Error::Generic { store: "faulty", source: Box::new(self) }
    }

    pub(super) fn unflushed(self) -> Error {
        Error::Generic { store: "LocalFileSystem", source: Box::new(self) }
    }

    pub(super) fn already_exists(self) -> Error {
        Error::AlreadyExists { path: self.key.to_string(), source: Box::new(self) }
    }

    pub(super) fn not_found(self) -> Error {
        Error::NotFound { path: self.key.to_string(), source: Box::new(self) }
    }

    pub(super) fn denied(self) -> Error {
        Error::PermissionDenied { path: self.key.to_string(), source: Box::new(self) }
    }

    pub(super) fn expired(self) -> Error {
        Error::Unauthenticated { path: self.key.to_string(), source: Box::new(self) }
    }
}
