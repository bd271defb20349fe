//! Why an archive was not extracted.

use std::cell::RefCell;
use std::io;

use policy_core::escape;

/// Why an archive was not extracted. Nothing of it counts then.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The bytes are not what an archive of this kind may hold: cut short, changed, or contradicting themselves.
    #[error("the archive is damaged: {what}")]
    Damaged {
        /// What is wrong, and with which member.
        what: String,
    },
    /// A member that no honest archive has: it leads outside, or two members claim one name.
    #[error("the archive is refused: `{member}` {what}")]
    Hostile {
        /// What the member does, as the rest of a sentence that begins with its name.
        what: String,
        /// The member's name, escaped for showing.
        member: String,
    },
    /// A valid archive that needs something which is not offered: a password, a method, a larger window.
    #[error("the archive can't be extracted: {what}")]
    Unsupported {
        /// What it needs.
        what: String,
    },
    /// More would come out than the limits allow.
    #[error("the archive is refused: it holds {what}; the limit is {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed, in the unit that `what` names.
        limit: u64,
    },
    /// The local file system did not do what was asked.
    #[error("cannot {action}")]
    Local {
        /// What was tried, with the path.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// The caller wanted no more.
    #[error("stopped before the end")]
    Stopped,
}

impl ExtractError {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    pub(super) fn hostile(member: &[u8], what: impl Into<String>) -> Self {
        Self::Hostile { what: what.into(), member: escape(member) }
    }

    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    pub(super) fn local(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Local { action: action.into(), source: source.into() }
    }
}

/// Carries an [`ExtractError`] through decoders that only know [`io::Error`], and may wrap or copy it.
#[derive(Debug, Default)]
pub(super) struct Trouble(RefCell<Option<ExtractError>>);

impl Trouble {
    /// Keeps the true error and returns one for the decoder to stop at.
    pub(super) fn keep(&self, error: ExtractError) -> io::Error {
        let text = error.to_string();
        self.0.borrow_mut().get_or_insert(error);
        io::Error::other(text)
    }

    /// Returns what was kept.
    pub(super) fn taken(&self) -> Option<ExtractError> {
        self.0.borrow_mut().take()
    }

    /// Returns what was kept; else the decoder found `e` by itself, so that the archive is at fault.
    pub(super) fn explain(&self, e: &io::Error, about: &str) -> ExtractError {
        if let Some(kept) = self.taken() {
            return kept;
        }
        if let Some(code) = e.raw_os_error() {
            return ExtractError::local(format!("read {about}"), io::Error::from_raw_os_error(code));
        }
        let lzma = e.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
        let text = e.to_string();
        // zstd's errors are texts only.
        if lzma == Some(&liblzma::stream::Error::MemLimit) || text.contains("too much memory") {
            return ExtractError::unsupported(format!("{about} needs a larger window than is allowed"));
        }
        match e.kind() {
            io::ErrorKind::UnexpectedEof => ExtractError::damaged(format!("{about} ends too early")),
            _ => ExtractError::damaged(format!("{about}: {text}")),
        }
    }
}
