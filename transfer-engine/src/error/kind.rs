//! The kind of an error, and whether a retry may help.

use std::io;

use super::Error;
use crate::failure::ErrorKind;

impl Error {
    /// Returns the kind of the error, which is known even if it happened in another process.
    ///
    /// ```
    /// use transfer_engine::{Error, ErrorKind};
    ///
    /// fn advice(error: &Error) -> &'static str {
    ///     match error.kind() {
    ///         ErrorKind::StorageFull => "make room",
    ///         ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => "check the credentials",
    ///         _ if error.is_retryable() => "try again later",
    ///         _ => "see the error's sources",
    ///     }
    /// }
    /// # let error = Error::NoStore { location: "memory:".into() };
    /// # assert_eq!(advice(&error), "see the error's sources");
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoStore { .. } => ErrorKind::NoStore,
            Self::NoContext { .. } | Self::NoPart { .. } => ErrorKind::NoContext,
            Self::NoSnapshot { .. }
            | Self::NoTag { .. }
            | Self::NoPath { .. }
            | Self::Recycled { .. }
            | Self::NoMount { .. }
            | Self::Required { .. }
            | Self::Moved { .. } => ErrorKind::NotFound,
            Self::Beaten { .. } => ErrorKind::Beaten,
            Self::CommitUnknown { .. } => ErrorKind::CommitUnknown,
            Self::UploadTooLarge { .. } => ErrorKind::UploadTooLarge,
            Self::OutOfTime { .. } => ErrorKind::OutOfTime,
            Self::Policy(_)
            | Self::NotBuilt { .. }
            | Self::Overlap { .. }
            | Self::OwnPlace { .. }
            | Self::ReadOnly { .. } => ErrorKind::Policy,
            Self::SameStore { .. } => ErrorKind::BadRequest,
            Self::ContextExists { .. }
            | Self::TagElsewhere { .. }
            | Self::IsDirectory { .. }
            | Self::NotADirectory { .. }
            | Self::Diverged { .. }
            | Self::Unrelated { .. }
            | Self::NewerMount { .. } => ErrorKind::Conflict,
            Self::OtherStore { .. } | Self::StoreGone { .. } => ErrorKind::OtherStore,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::Ended { .. } => ErrorKind::Ended,
            Self::Format { .. } | Self::DamagedHead { .. } if self.is_of_later_format() => {
                ErrorKind::Unsupported
            }
            Self::Format { .. } | Self::Corrupt { .. } | Self::DamagedHead { .. } => ErrorKind::Damaged,
            Self::Local { .. } if self.is_later_state() => ErrorKind::Unsupported,
            Self::Local { .. } if self.is_damaged_state() => ErrorKind::Damaged,
            Self::Local { source, .. } => kind_of_io(source.kind()).unwrap_or(ErrorKind::Failed),
            Self::Store { source, .. } => kind_of_store(source),
            Self::Shared(error) => error.kind(),
            Self::Remote { kind, .. } => *kind,
            Self::TooLate { .. }
            | Self::ClockSkew { .. }
            | Self::Exchanged { .. }
            | Self::Quiesce { .. }
            | Self::BadListing { .. } => ErrorKind::Failed,
        }
    }

    /// Whether the same operation may succeed when it is retried, without anything else being done about the error.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TooLate { .. } | Self::OutOfTime { .. } | Self::Exchanged { .. } | Self::Quiesce { .. } => {
                true
            }
            Self::Store { .. } => matches!(self.kind(), ErrorKind::Unreachable | ErrorKind::Conflict),
            Self::Shared(error) => error.is_retryable(),
            _ => matches!(
                self.kind(),
                ErrorKind::Beaten | ErrorKind::CommitUnknown | ErrorKind::Locked | ErrorKind::Unreachable
            ),
        }
    }
}

/// Returns the kind of an error of the store.
fn kind_of_store(error: &object_store::Error) -> ErrorKind {
    match error {
        object_store::Error::NotFound { .. } => ErrorKind::Damaged,
        object_store::Error::PermissionDenied { .. } => ErrorKind::PermissionDenied,
        object_store::Error::Unauthenticated { .. } => ErrorKind::Unauthenticated,
        object_store::Error::AlreadyExists { .. }
        | object_store::Error::Precondition { .. }
        | object_store::Error::NotModified { .. } => ErrorKind::Conflict,
        object_store::Error::InvalidPath { .. }
        | object_store::Error::NotSupported { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => ErrorKind::Unsupported,
        // The store is a directory, or its library says more than `object_store` can.
        _ => std::iter::successors(std::error::Error::source(error), |e| e.source())
            .find_map(|e| kind_of_io(e.downcast_ref::<io::Error>()?.kind()))
            .unwrap_or(ErrorKind::Unreachable),
    }
}

/// Returns the kind of a system's error that a retry does not help against.
fn kind_of_io(kind: io::ErrorKind) -> Option<ErrorKind> {
    Some(match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::NotFound => ErrorKind::NoPlace,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => ErrorKind::Conflict,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn of_store(source: object_store::Error) -> Error {
        Error::Store { action: "write", key: "k".to_owned(), source }
    }

    fn of_disk(kind: io::ErrorKind) -> Error {
        let source = Box::new(io::Error::from(kind));
        of_store(object_store::Error::Generic { store: "LocalFileSystem", source })
    }

    #[test]
    fn an_error_of_the_store_has_the_kind_of_its_cause() {
        let (path, source) = (String::new(), || Box::<dyn std::error::Error + Send + Sync>::from("no"));
        let denied = object_store::Error::PermissionDenied { path: path.clone(), source: source() };
        let unknown = object_store::Error::Unauthenticated { path, source: source() };
        let away = object_store::Error::Generic { store: "S3", source: source() };
        let kinds = [
            (of_store(denied), ErrorKind::PermissionDenied, false),
            (of_store(unknown), ErrorKind::Unauthenticated, false),
            (of_store(away), ErrorKind::Unreachable, true),
            (of_disk(io::ErrorKind::StorageFull), ErrorKind::StorageFull, false),
            (of_disk(io::ErrorKind::QuotaExceeded), ErrorKind::StorageFull, false),
            (of_disk(io::ErrorKind::PermissionDenied), ErrorKind::PermissionDenied, false),
            (of_disk(io::ErrorKind::ReadOnlyFilesystem), ErrorKind::PermissionDenied, false),
            (of_disk(io::ErrorKind::NotFound), ErrorKind::NoPlace, false),
            (of_disk(io::ErrorKind::TimedOut), ErrorKind::Unreachable, true),
        ];
        for (error, kind, may_pass) in kinds {
            assert_eq!((error.kind(), error.is_retryable()), (kind, may_pass), "{error:?}");
            let shared = Error::Shared(Arc::new(error));
            assert_eq!((shared.kind(), shared.is_retryable()), (kind, may_pass), "{shared:?}");
        }
    }

    #[test]
    fn an_error_in_another_process_is_retryable_as_it_was_there() {
        let remote = |kind| Error::Remote { kind, message: String::new(), hint: String::new(), source: None };
        assert!(remote(ErrorKind::Unreachable).is_retryable());
        assert!(remote(ErrorKind::Locked).is_retryable());
        assert!(!remote(ErrorKind::StorageFull).is_retryable());
        assert!(!Error::local("write", "/f", io::ErrorKind::StorageFull).is_retryable());
    }
}
