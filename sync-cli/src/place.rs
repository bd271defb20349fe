//! How a snapshot and what is in it are named: `NAME`, `NAME@N`, `NAME@-1`, `NAME[@N]:path`.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use policy_core::TreePath;
use transfer_engine::ContextName;

/// A context, or one snapshot of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextAt {
    /// The context.
    pub(crate) name: ContextName,
    /// The snapshot: a number, or negative to count back from the head; `None` is the head.
    pub(crate) at: Option<i64>,
}

/// What is inside a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathAt {
    /// The snapshot.
    pub(crate) context: ContextAt,
    /// The path; the root is the whole.
    pub(crate) path: TreePath,
}

impl FromStr for ContextAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, at) = match text.split_once('@') {
            None => (text, None),
            Some((name, at)) => match at.parse::<i64>() {
                Ok(n) if n != 0 => (name, Some(n)),
                _ => {
                    return Err(format!(
                        "`@{at}` names no snapshot: `NAME@7` is number 7, `NAME@-1` the one before the head"
                    ));
                }
            },
        };
        let name = name.parse::<ContextName>().map_err(|e| e.to_string())?;
        Ok(Self { name, at })
    }
}

impl fmt::Display for ContextAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        self.at.map_or(Ok(()), |at| write!(f, "@{at}"))
    }
}

impl PathAt {
    /// Parses bytes: what follows the first colon is a path and need not be UTF-8.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (context, path) = match bytes.iter().position(|&b| b == b':') {
            None => (bytes, &b""[..]),
            Some(colon) => (&bytes[..colon], &bytes[colon + 1..]),
        };
        let context =
            std::str::from_utf8(context).map_err(|_| "a context's name is ASCII".to_owned())?.parse()?;
        Ok(Self { context, path: tree_path(path)? })
    }
}

/// Parses a path as people type it: slashes at its ends and a leading `./` mean nothing.
pub(crate) fn tree_path(typed: &[u8]) -> Result<TreePath, String> {
    let mut path = typed;
    loop {
        path = match path {
            [b'/', rest @ ..] | [rest @ .., b'/'] | [b'.', b'/', rest @ ..] => rest,
            b"." => b"",
            _ => break,
        };
    }
    TreePath::new(path).map_err(|e| e.to_string())
}

/// Parses [`PathAt`] from an argument that need not be UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct PathAtParser;

impl TypedValueParser for PathAtParser {
    type Value = PathAt;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<PathAt, clap::Error> {
        PathAt::parse(value.as_bytes()).map_err(|why| {
            let arg = arg.map(|arg| format!(" for '{arg}'")).unwrap_or_default();
            let text = format!("invalid value '{}'{arg}: {why}", policy_core::escape(value.as_bytes()));
            clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

impl ValueParserFactory for PathAt {
    type Parser = PathAtParser;

    fn value_parser() -> PathAtParser {
        PathAtParser
    }
}

/// Returns a tree path as an argument of the operating system.
pub(crate) fn os_path(path: &TreePath) -> std::path::PathBuf {
    std::ffi::OsString::from_vec(path.as_bytes().to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<(String, Option<i64>), String> {
        text.parse::<ContextAt>().map(|c| (c.name.to_string(), c.at))
    }

    #[test]
    fn contexts_and_snapshots() {
        assert_eq!(at("a/b"), Ok(("a/b".into(), None)));
        assert_eq!(at("a@7"), Ok(("a".into(), Some(7))));
        assert_eq!(at("a@-1"), Ok(("a".into(), Some(-1))));
        for bad in ["a@", "a@0", "a@x", "@1", "", "a b"] {
            assert!(at(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_inside() {
        let path = |s: &str| PathAt::parse(s.as_bytes()).map(|p| p.path.to_string());
        assert_eq!(path("a"), Ok(String::new()));
        assert_eq!(path("a:"), Ok(String::new()));
        assert_eq!(path("a:/x/y/"), Ok("x/y".into()));
        assert_eq!(path("a@3:x:y"), Ok("x:y".into()));
        assert!(path("a:x/../y").is_err());
        assert_eq!(PathAt::parse(b"a:\xff").unwrap().path.as_bytes(), b"\xff");
    }
}
