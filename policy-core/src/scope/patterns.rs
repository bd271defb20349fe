//! The ignore patterns, in gitignore syntax.

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::policy::{FaultKind, PolicyFault};

/// The ignore patterns, compiled.
#[derive(Debug, Clone)]
pub(super) struct Patterns {
    matcher: Gitignore,
    /// For each glob of the matcher, by its text, the index of the last pattern with that text.
    sources: Vec<(String, usize)>,
}

impl Patterns {
    /// Compiles the patterns, and adds what is wrong to `faults`.
    pub(super) fn new(patterns: &[String], faults: &mut Vec<PolicyFault>) -> Self {
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        let mut sources = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let mut fault = |message: String| {
                faults.push(PolicyFault {
                    pointer: format!("/bwList/ignorePatterns/{index}"),
                    kind: FaultKind::BadPattern { pattern: pattern.clone(), message },
                });
            };
            if pattern.contains(['\n', '\r', '\0']) {
                fault("it has a line break or a NUL character; one entry is one pattern".into());
                continue;
            }
            let line = literal_braces(pattern);
            match builder.add_line(None, &line) {
                Ok(_) => sources.push((line.trim_end().to_owned(), index)),
                Err(error) => fault(message(&error)),
            }
        }
        let matcher = builder.build().unwrap_or_else(|error| {
            faults.push(PolicyFault {
                pointer: "/bwList/ignorePatterns".into(),
                kind: FaultKind::BadPattern { pattern: String::new(), message: message(&error) },
            });
            Gitignore::empty()
        });
        // Equal patterns mean the same, and the last one decides.
        sources.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        sources.dedup_by(|a, b| a.0 == b.0);
        Self { matcher, sources }
    }

    /// Returns the pattern that excludes `path` or a directory above it.
    ///
    /// As in git, the check goes from the top down: once a directory is ignored, nothing below it is included
    /// again.
    pub(super) fn ignoring(&self, path: &[u8], is_dir: bool) -> Option<usize> {
        if self.matcher.is_empty() || path.is_empty() {
            return None;
        }
        let above = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(end, _)| (end, true));
        above.chain([(path.len(), is_dir)]).find_map(|(end, is_dir)| self.matching(&path[..end], is_dir))
    }

    fn matching(&self, path: &[u8], is_dir: bool) -> Option<usize> {
        #[cfg(unix)]
        let path = {
            use std::os::unix::ffi::OsStrExt;
            std::ffi::OsStr::from_bytes(path)
        };
        #[cfg(not(unix))]
        let path = &*String::from_utf8_lossy(path);
        let Match::Ignore(glob) = self.matcher.matched(path, is_dir) else { return None };
        let found = self.sources.binary_search_by(|(line, _)| line.as_str().cmp(glob.original().trim_end()));
        Some(found.map_or(0, |i| self.sources[i].1))
    }
}

/// Returns the pattern with its braces escaped. Git takes braces literally; the matcher would take them as
/// alternatives.
fn literal_braces(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '{' | '}' if !in_class => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

fn message(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        error => error.to_string(),
    }
}
