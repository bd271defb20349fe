//! Expired files are recycled: they leave the context, and the machines that have them keep them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod expiring;
mod keeping;
mod yard;
