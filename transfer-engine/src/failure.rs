//! Kinds of errors, and the description of a failure in another process.

use std::error::Error as StdError;

use serde::{Deserialize, Serialize};

/// What kind of error it is, for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store does not exist.
    NoStore,
    /// The context does not exist, or the part of it that the mount has.
    NoContext,
    /// The snapshot, path or mount does not exist.
    NotFound,
    /// Other writers were first, again and again; nothing was committed.
    Beaten,
    /// It is unknown whether the commit succeeded.
    CommitUnknown,
    /// The push would send more than is allowed.
    UploadTooLarge,
    /// The policy or the mounts can't be used.
    Policy,
    /// The mount is in use.
    Locked,
    /// The session has ended.
    Ended,
    /// What was asked for makes no sense.
    BadRequest,
    /// Something else is in the way: the context exists already, the tag is on another snapshot, the directory is a file.
    Conflict,
    /// A directory of this machine, or the store's bucket, does not exist.
    NoPlace,
    /// It is another store than the one that was used before, or its description is gone.
    OtherStore,
    /// A disk or a quota is full, here or at the store.
    StorageFull,
    /// The store, or the system, does not permit it.
    PermissionDenied,
    /// The store does not accept the credentials, or there are none.
    Unauthenticated,
    /// The store did not answer, or failed. It may be well again later.
    Unreachable,
    /// Data is damaged or missing, in the store or in the local state.
    Damaged,
    /// This version can't do it: a newer one wrote the data, or the store lacks what it takes.
    Unsupported,
    /// The deadline came before anything was committed.
    OutOfTime,
    /// Anything else.
    #[serde(other)]
    Failed,
}

/// One error in the chain of causes of a failure in another process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Cause {
    message: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    /// Returns a chain of causes, outermost first.
    pub(crate) fn chain(messages: Vec<String>) -> Option<Self> {
        let link = |source: Option<Self>, message| Some(Self { message, source: source.map(Box::new) });
        messages.into_iter().rev().fold(None, link)
    }
}

/// Returns the messages of an error's causes, outermost first.
pub(crate) fn causes(error: &dyn StdError) -> Vec<String> {
    let mut words = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_causes_comes_through() {
        let words = vec!["outer".to_owned(), "inner".to_owned()];
        let cause = Cause::chain(words.clone()).map(|c| (c.to_string(), causes(&c)));
        assert_eq!(cause, Some((words[0].clone(), words[1..].to_vec())));
        assert_eq!(Cause::chain(Vec::new()), None);
    }

    #[test]
    fn a_kind_of_a_later_version_is_a_failure() {
        let kind = |text| serde_json::from_str::<ErrorKind>(text).ok();
        assert_eq!(kind("\"beaten\""), Some(ErrorKind::Beaten));
        assert_eq!(kind("\"no_such_kind\""), Some(ErrorKind::Failed));
    }
}
