//! Why an archive was not extracted.

use std::io;

/// Why an archive was not extracted. Then nothing of it is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The bytes are not a valid archive of this kind: truncated, changed, or contradictory.
    #[error("the archive is damaged: {what}")]
    Damaged {
        /// What is wrong, and with which member.
        what: String,
    },
    /// A member that no honest archive has: it leads outside, or two members have the same name.
    #[error("the archive is refused: `{member}` {what}")]
    Hostile {
        /// What the member does, as the rest of a sentence that starts with its name.
        what: String,
        /// The member's name, escaped for output.
        member: String,
    },
    /// A valid archive that needs something unsupported: a password, a method, a larger window.
    #[error("the archive can't be extracted: {what}")]
    Unsupported {
        /// What the archive needs.
        what: String,
    },
    /// The archive would expand to more than the limits allow.
    #[error("the archive is refused: it holds {what}; the limit is {limit}")]
    Limit {
        /// What exceeds the limit.
        what: &'static str,
        /// The limit, in the unit that `what` names.
        limit: u64,
    },
    /// A call of the local file system failed.
    #[error("cannot {action}")]
    Local {
        /// What was attempted, with the path.
        action: String,
        /// The system's error.
        source: io::Error,
    },
    /// The caller stopped the extraction.
    #[error("stopped before the end")]
    Stopped,
}
