//! How errors are made, and get through decoders.

use std::cell::RefCell;
use std::io;

use policy_core::escape;

use super::ExtractError;

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

/// Passes an [`ExtractError`] through decoders that only know [`io::Error`], and may wrap or copy it.
#[derive(Debug, Default)]
pub(super) struct Trouble(RefCell<Option<ExtractError>>);

impl Trouble {
    /// Keeps the real error, and returns one that stops the decoder.
    pub(super) fn keep(&self, error: ExtractError) -> io::Error {
        let text = error.to_string();
        self.0.borrow_mut().get_or_insert(error);
        io::Error::other(text)
    }

    /// Returns the error that was kept.
    pub(super) fn taken(&self) -> Option<ExtractError> {
        self.0.borrow_mut().take()
    }

    /// Returns the error that was kept. If there is none, the decoder itself failed with `e`, so the archive
    /// is at fault.
    pub(super) fn explain(&self, e: &io::Error, about: &str) -> ExtractError {
        if let Some(kept) = self.taken() {
            return kept;
        }
        if let Some(code) = e.raw_os_error() {
            return ExtractError::local(format!("read {about}"), io::Error::from_raw_os_error(code));
        }
        let lzma = e.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
        let text = e.to_string();
        // zstd's errors are only texts.
        if lzma == Some(&liblzma::stream::Error::MemLimit) || text.contains("too much memory") {
            return ExtractError::unsupported(format!("{about} needs a larger window than is allowed"));
        }
        match e.kind() {
            io::ErrorKind::UnexpectedEof => ExtractError::damaged(format!("{about} ends too early")),
            _ => ExtractError::damaged(format!("{about}: {text}")),
        }
    }
}
