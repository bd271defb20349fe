//! How many bytes an archive may expand to.

use super::ExtractError;
use super::ExtractLimits;

/// Counts unpacked bytes, and checks them against the limits.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    limits: &'a ExtractLimits,
    /// The size of the archive in bytes.
    archive: u64,
    total: u64,
    out: u64,
}

impl<'a> Budget<'a> {
    /// Returns a budget for the content of members.
    pub(super) fn of_members(limits: &'a ExtractLimits, archive: u64) -> Self {
        Self { limits, archive, total: limits.total_bytes, out: 0 }
    }

    /// Returns a budget for a stream that has headers besides the content.
    pub(super) fn of_stream(limits: &'a ExtractLimits, archive: u64) -> Self {
        let headers = limits.members.saturating_mul(4096);
        Self { limits, archive, total: limits.total_bytes.saturating_add(headers), out: 0 }
    }

    /// Counts `n` more bytes, before or after they are unpacked.
    pub(super) fn take(&mut self, n: u64) -> Result<(), ExtractError> {
        self.out = self.out.saturating_add(n);
        self.would_fit(0)
    }

    /// Whether `n` more bytes would be within the limits.
    pub(super) fn would_fit(&self, n: u64) -> Result<(), ExtractError> {
        let out = self.out.saturating_add(n);
        if out > self.total {
            return Err(ExtractError::Limit {
                what: "more bytes in all than are allowed to come out",
                limit: self.limits.total_bytes,
            });
        }
        if out > self.limits.ratio_from && out > self.archive.saturating_mul(self.limits.ratio) {
            return Err(ExtractError::Limit {
                what: "many more bytes than it takes up itself, as bombs do",
                limit: self.limits.ratio,
            });
        }
        Ok(())
    }
}
