//! What is known of a failure in another process.

use std::error::Error as StdError;

use serde::{Deserialize, Serialize};

/// The kinds of failures that callers tell apart, for exit codes and hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// There is no store.
    NoStore,
    /// There is no such context.
    NoContext,
    /// There is no such snapshot, path or mount.
    NotFound,
    /// Other writers kept winning; nothing was written.
    Beaten,
    /// It is unknown whether the commit landed.
    CommitUnknown,
    /// More would be sent than is allowed.
    UploadTooLarge,
    /// The policy or the mounts can't be used.
    Policy,
    /// The mount is in use.
    Locked,
    /// The session has ended.
    Ended,
    /// What was asked of the session makes no sense.
    BadRequest,
    /// Anything else.
    #[serde(other)]
    Failed,
}

/// One link of the chain of causes of a failure in another process.
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

/// Returns the words of an error's causes, outermost first.
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
        let kind = |text| serde_json::from_str::<FailureKind>(text).ok();
        assert_eq!(kind("\"beaten\""), Some(FailureKind::Beaten));
        assert_eq!(kind("\"no_such_kind\""), Some(FailureKind::Failed));
    }
}
