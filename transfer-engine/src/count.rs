//! Numbers in messages.

/// Returns a number with its noun: `1 path`, `2 paths`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Returns a number with its noun and a verb: `1 path is`, `2 paths are`.
pub(crate) fn count_are(n: u64, noun: &str) -> String {
    format!("{} {}", count(n, noun), if n == 1 { "is" } else { "are" })
}
