//! The protocol of the socket: one JSON object per line. A client sends requests. Each is answered by events;
//! the last of them is a report, a status or an error.

use std::io;
use std::time::Duration;

use policy_core::{ConflictPolicy, MaxDelete, TreePath};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::Instant;

use crate::error::Error;
use crate::failure::{Cause, ErrorKind, causes};
use crate::monitor::{Action, Phase, Progress, Side};
use crate::options::SyncOptions;
use crate::report::SyncReport;
use crate::status::TaskStatus;

/// The longest request, in bytes.
pub(super) const MAX_REQUEST: usize = 1 << 20;
/// The longest event, in bytes.
pub(super) const MAX_EVENT: usize = 16 << 20;

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verb {
    Push,
    Pull,
    Sync,
    Fetch,
    Status,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) request: Verb,
    /// The paths to fetch, or those to which a sync is restricted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) paths: Vec<WirePath>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) dry_run: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) checksum: bool,
    /// The name of a conflict policy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) conflict: Option<String>,
    /// A number, or a percentage such as `10%`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) max_delete: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) allow_empty_mount: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) one_file_system: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) strict: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) max_upload: Option<u64>,
    /// How long a push may take, in milliseconds from now.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) deadline_ms: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A path below the mount: text if it is UTF-8, otherwise its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum WirePath {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&TreePath> for WirePath {
    fn from(path: &TreePath) -> Self {
        match std::str::from_utf8(path.as_bytes()) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(path.as_bytes().to_vec()),
        }
    }
}

impl WirePath {
    pub(super) fn decode(self) -> Result<TreePath, policy_core::PathError> {
        match self {
            Self::Text(text) => TreePath::new(text.into_bytes()),
            Self::Bytes(bytes) => TreePath::new(bytes),
        }
    }
}

/// The events that a session sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// The first line of a connection.
    Hello {
        session: String,
        context: String,
        /// The context's name when the session was opened, if it was another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<String>,
        /// The part of the context that the mount has; empty if that is the whole context.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        part: String,
    },
    Phase {
        phase: Phase,
    },
    Progress(Progress),
    Path {
        path: WirePath,
        action: Action,
        side: Side,
        reason: String,
        size: u64,
    },
    Warning {
        message: String,
    },
    Problem {
        path: WirePath,
        message: String,
        hint: String,
    },
    Report {
        report: Box<SyncReport>,
    },
    Status {
        tasks: Vec<TaskStatus>,
    },
    Error {
        kind: ErrorKind,
        message: String,
        hint: String,
        causes: Vec<String>,
    },
}

impl Event {
    pub(super) fn error(error: &Error) -> Self {
        let hint = match error {
            Error::Remote { hint, .. } => hint.clone(),
            _ => String::new(),
        };
        Self::Error { kind: error.kind(), message: error.to_string(), hint, causes: causes(error) }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        let kind = ErrorKind::BadRequest;
        Self::Error { kind, message: message.into(), hint: String::new(), causes: Vec::new() }
    }

    /// Returns the event as a line.
    pub(super) fn line(&self) -> Vec<u8> {
        // The types have neither maps with odd keys nor numbers that JSON lacks, so this does not fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Returns the error for an [`Event::Error`].
pub(super) fn remote(kind: ErrorKind, message: String, hint: String, causes: Vec<String>) -> Error {
    Error::Remote { kind, message, hint, source: Cause::chain(causes) }
}

impl Request {
    pub(super) fn new(request: Verb, paths: &[TreePath]) -> Self {
        Self {
            request,
            paths: paths.iter().map(WirePath::from).collect(),
            dry_run: false,
            checksum: false,
            conflict: None,
            max_delete: None,
            allow_empty_mount: false,
            one_file_system: false,
            strict: false,
            max_upload: None,
            deadline_ms: None,
        }
    }

    /// Returns a request for a sync, with the options that the caller chooses. The others are the session's.
    pub(super) fn sync(verb: Verb, options: &SyncOptions) -> Self {
        let conflict = options.conflict.map(|conflict| format!("{conflict:?}"));
        let max_delete = options.max_delete.map(|most| match most {
            MaxDelete::Count(count) => count.to_string(),
            MaxDelete::Percent(percent) => format!("{percent}%"),
        });
        let left = options.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        Self {
            dry_run: options.dry_run,
            checksum: options.checksum,
            conflict,
            max_delete,
            allow_empty_mount: options.allow_empty_mount,
            one_file_system: options.one_file_system,
            strict: options.strict,
            max_upload: options.max_upload,
            deadline_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            ..Self::new(verb, &options.only)
        }
    }

    /// Whether the request has no options.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::new(self.request, &[])
    }

    /// Whether the request has paths but no other options.
    pub(super) fn is_of_paths(&self) -> bool {
        let plain = Self { paths: Vec::new(), ..self.clone() };
        !self.paths.is_empty() && plain.is_plain()
    }

    pub(super) fn tree_paths(&self) -> Result<Vec<TreePath>, String> {
        let paths = self.paths.iter().cloned().map(WirePath::decode).collect::<Result<_, _>>();
        paths.map_err(|e| e.to_string())
    }

    /// Returns the session's options, changed as the request says.
    pub(super) fn options(&self, session: &SyncOptions) -> Result<SyncOptions, String> {
        let conflict = self.conflict.as_deref().map(conflict_policy).transpose()?;
        let max_delete = self.max_delete.as_deref().map(max_delete).transpose()?;
        let left = self.deadline_ms.map(Duration::from_millis);
        Ok(SyncOptions {
            dry_run: self.dry_run,
            only: self.tree_paths()?,
            checksum: self.checksum || session.checksum,
            conflict: conflict.or(session.conflict),
            max_delete: max_delete.or(session.max_delete),
            allow_empty_mount: self.allow_empty_mount || session.allow_empty_mount,
            one_file_system: self.one_file_system || session.one_file_system,
            strict: self.strict || session.strict,
            max_upload: self.max_upload.or(session.max_upload),
            deadline: left.and_then(|left| Instant::now().checked_add(left)),
            ..session.clone()
        })
    }
}

fn conflict_policy(word: &str) -> Result<ConflictPolicy, String> {
    use ConflictPolicy::{Fail, KeepBoth, PreferLocal, PreferRemote};
    let known = [KeepBoth, PreferLocal, PreferRemote, Fail];
    let found = known.into_iter().find(|policy| format!("{policy:?}") == word);
    found.ok_or_else(|| format!("conflict: `{word}` is none of {known:?}"))
}

fn max_delete(text: &str) -> Result<MaxDelete, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(|p| *p <= 100).map(MaxDelete::Percent),
        None => text.parse().ok().map(MaxDelete::Count),
    };
    parsed.ok_or_else(|| format!("max_delete: `{text}` is neither a number nor a share such as `10%`"))
}

/// Reads a line without its end; `None` at the end of the stream.
///
/// # Errors
/// `InvalidData` if the line is longer than `limit` bytes; the rest of it is not read.
pub(super) async fn read_line(
    from: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let bytes = from.fill_buf().await?;
        if bytes.is_empty() {
            // A line without an end was not sent completely.
            return Ok(None);
        }
        let end = bytes.iter().position(|b| *b == b'\n');
        let take = end.unwrap_or(bytes.len());
        if line.len() + take > limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line is longer than {limit} bytes"),
            ));
        }
        line.extend_from_slice(&bytes[..take]);
        from.consume(end.map_or(take, |end| end + 1));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_through() {
        let path = |bytes: &[u8]| TreePath::new(bytes).unwrap();
        let asked = SyncOptions {
            dry_run: true,
            only: vec![path(b"a/b"), path(b"\xff")],
            checksum: true,
            conflict: Some(ConflictPolicy::PreferRemote),
            max_delete: Some(MaxDelete::Percent(10)),
            allow_empty_mount: true,
            one_file_system: true,
            strict: true,
            max_upload: Some(7),
            ..SyncOptions::default()
        };
        let line = serde_json::to_vec(&Request::sync(Verb::Push, &asked)).unwrap();
        let request: Request = serde_json::from_slice(&line).unwrap();
        assert!(!request.is_plain() && !request.is_of_paths());
        let session = SyncOptions { session: "s".to_owned(), create: true, ..SyncOptions::default() };
        let got = request.options(&session).unwrap();
        assert_eq!(
            format!("{:?}", SyncOptions { session: String::new(), create: false, ..got }),
            format!("{asked:?}")
        );
        for conflict in ["KeepBoth", "PreferLocal", "PreferRemote", "Fail"] {
            assert_eq!(format!("{:?}", conflict_policy(conflict).unwrap()), conflict);
        }
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        let parse = |text: &str| serde_json::from_str::<Request>(text).map_err(|e| e.to_string());
        assert!(parse(r#"{"request":"dance"}"#).unwrap_err().contains("dance"));
        assert!(parse(r#"{"request":"push","dryrun":true}"#).unwrap_err().contains("dryrun"));
        let options = |text: &str| parse(text).unwrap().options(&SyncOptions::default()).unwrap_err();
        assert!(options(r#"{"request":"push","conflict":"no"}"#).contains("KeepBoth"));
        assert!(options(r#"{"request":"push","max_delete":"101%"}"#).contains("101%"));
        assert!(options(r#"{"request":"push","paths":["../x"]}"#).contains(".."));
        assert!(parse(r#"{"request":"push"}"#).unwrap().is_plain());
        assert!(parse(r#"{"request":"pull","paths":["x"]}"#).unwrap().is_of_paths());
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let mut from = &b"one\n\nthree3\nrest"[..];
        assert_eq!(read_line(&mut from, 5).await.unwrap().unwrap(), b"one");
        assert_eq!(read_line(&mut from, 5).await.unwrap().unwrap(), b"");
        let mut long = from;
        assert_eq!(read_line(&mut long, 5).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read_line(&mut from, 6).await.unwrap().unwrap(), b"three3");
        assert_eq!(read_line(&mut from, 6).await.unwrap(), None);
    }
}
