//! How a snapshot and a path in it are named: `NAME`, `NAME@N`, `NAME@-1`, `NAME@TAG`, `NAME[@N]:path`; and a context
//! or a part of it that is mounted: `NAME[:PATH]`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use policy_core::TreePath;
use transfer_engine::{At, ContextName, ContextPart, TagName};

use crate::errors::Failure;

/// The longest path of a part of a context, in bytes: that of a path which Linux opens.
const MAX_PART: usize = 4096;
/// The longest name of a directory, in bytes, on the usual file systems.
const MAX_COMPONENT: usize = 255;
/// How names of staging directories begin; no sync looks into these.
const STAGING: &[u8] = b".ctxsync-stage-";

/// A context, or one snapshot of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextAt {
    /// The context.
    pub(crate) name: ContextName,
    /// The snapshot.
    pub(crate) at: At,
}

/// A path in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathAt {
    /// The snapshot.
    pub(crate) context: ContextAt,
    /// The path; the root stands for the whole tree.
    pub(crate) path: TreePath,
}

impl FromStr for ContextAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |at: &str| {
            format!(
                "`@{at}` names no snapshot: `NAME@7` is number 7, `NAME@-1` the one before the head, `NAME@TAG` the one \
                 with a tag"
            )
        };
        let (name, at) = match text.split_once('@') {
            None => (text, At::Head),
            Some((name, at)) => match (at.parse::<i64>(), TagName::new(at)) {
                (Ok(number), _) if number != 0 => (name, Some(number).into()),
                (Err(_), Ok(tag)) => (name, At::Tag(tag)),
                _ => return Err(bad(at)),
            },
        };
        let name = name.parse::<ContextName>().map_err(|e| e.to_string())?;
        Ok(Self { name, at })
    }
}

impl fmt::Display for ContextAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.at)
    }
}

impl From<ContextPart> for PathAt {
    fn from(part: ContextPart) -> Self {
        Self { context: ContextAt { name: part.context, at: At::Head }, path: part.path }
    }
}

impl fmt::Display for PathAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.context)?;
        if self.path.is_root() { Ok(()) } else { write!(f, ":{}", self.path) }
    }
}

impl PathAt {
    /// Returns the context, or the directory of it, without the snapshot.
    pub(crate) fn part(&self) -> ContextPart {
        ContextPart { context: self.context.name.clone(), path: self.path.clone() }
    }

    /// Parses bytes: the path follows the first colon and need not be UTF-8.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (context, path) = match bytes.iter().position(|&b| b == b':') {
            None => (bytes, &b""[..]),
            Some(colon) => (&bytes[..colon], &bytes[colon + 1..]),
        };
        let context =
            std::str::from_utf8(context).map_err(|_| "a context's name is ASCII".to_owned())?.parse()?;
        Ok(Self { context, path: tree_path(path)? })
    }
}

/// Parses what is synced: `NAME`, or `NAME:PATH` for a directory of the context.
pub(crate) fn context_part(text: &str) -> Result<ContextPart, String> {
    match mounted(text)? {
        PathAt { context: ContextAt { name: context, at: At::Head }, path } => {
            Ok(ContextPart { context, path })
        }
        _ => Err("this command syncs with the newest snapshot of a context: leave out `@`".to_owned()),
    }
}

/// Parses what a mount is a mount of: a context, a snapshot, or a directory of one of them.
pub(crate) fn mounted(text: &str) -> Result<PathAt, String> {
    let place = PathAt::parse(text.as_bytes())?;
    let path = &place.path;
    // It is shown, and read again, as text.
    if path.to_string().as_bytes() != path.as_bytes() || path.as_bytes().len() > MAX_PART {
        return Err(format!("the path of a part is printable text of at most {MAX_PART} bytes"));
    }
    // Others have to be able to have this directory.
    if let Some(name) = path.components().find(|name| name.len() > MAX_COMPONENT || name.starts_with(STAGING))
    {
        let name = policy_core::escape(name);
        return Err(format!(
            "the path of a part has names of at most {MAX_COMPONENT} bytes that don't begin with `.ctxsync-stage-`: `{name}`"
        ));
    }
    Ok(place)
}

/// Parses a path as people type it: slashes at its ends and a leading `./` are ignored.
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

/// Parses paths that were given as arguments.
///
/// # Errors
/// An empty one is refused: it comes from a script's variable that was not set, and would stand for everything.
pub(crate) fn tree_paths(typed: &[OsString]) -> Result<Vec<TreePath>, Failure> {
    if typed.iter().any(|path| path.is_empty()) {
        return Err(Failure::usage("a path is empty").hint("`.` stands for everything"));
    }
    typed.iter().map(|path| tree_path(path.as_bytes()).map_err(Failure::usage)).collect()
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

/// A mount's path: as typed, made absolute; and with links resolved as far as it exists. A sync applies
/// policies to the resolved one.
#[derive(Debug, Clone)]
pub(crate) struct MountPath {
    typed: PathBuf,
    /// The path with links resolved, which the sync uses.
    pub(crate) resolved: PathBuf,
}

impl MountPath {
    /// Resolves a path, which need not exist.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::local("resolve", path, &error);
        let mut typed = std::path::absolute(path).map_err(failed)?;
        let resolved = without_links(&typed).map_err(failed)?;
        // Only the file system knows where `..` leads.
        if typed.components().any(|part| part == Component::ParentDir) {
            typed.clone_from(&resolved);
        }
        Ok(Self { typed, resolved })
    }

    /// Returns the path as typed, made absolute.
    pub(crate) fn typed(&self) -> &Path {
        &self.typed
    }

    /// Returns the tree path for a typed path, which is relative to the mount, or absolute and below it.
    pub(crate) fn path_below(&self, typed: &Path) -> Result<TreePath, Failure> {
        let mut relative = typed;
        if typed.is_absolute() {
            let below = typed.strip_prefix(&self.typed).or_else(|_| typed.strip_prefix(&self.resolved));
            relative = below.map_err(|_| {
                Failure::usage(format!("{} is not below {}", typed.display(), self.typed.display()))
                    .hint("paths are read from the mount: give them relative to it, or below it")
            })?;
        }
        tree_path(relative.as_os_str().as_bytes()).map_err(Failure::usage)
    }
}

fn without_links(path: &Path) -> io::Result<PathBuf> {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(without_links(parent)?.join(name))
        }
        (found, ..) => found,
    }
}

/// Returns a tree path as an argument of the operating system.
pub(crate) fn os_path(path: &TreePath) -> PathBuf {
    OsString::from_vec(path.as_bytes().to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<(String, At), String> {
        text.parse::<ContextAt>().map(|c| (c.name.to_string(), c.at))
    }

    #[test]
    fn contexts_and_snapshots() {
        assert_eq!(at("a/b"), Ok(("a/b".into(), At::Head)));
        assert_eq!(at("a@7"), Ok(("a".into(), At::Number(7))));
        assert_eq!(at("a@-1"), Ok(("a".into(), At::Back(1))));
        assert_eq!(at("a@v1.0"), Ok(("a".into(), At::Tag("v1.0".parse().unwrap()))));
        for bad in ["a@", "a@0", "a@x y", "a@-x", "a@99999999999999999999", "a@b@c", "@1", "", "a b"] {
            assert!(at(bad).is_err(), "{bad:?}");
        }
        for text in ["a/b", "a@7", "a@-1", "a@v1.0"] {
            assert_eq!(text.parse::<ContextAt>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn parts_of_contexts() {
        let part =
            |text: &str| context_part(text).map(|part| (part.context.to_string(), part.path.to_string()));
        assert_eq!(part("a/b"), Ok(("a/b".into(), String::new())));
        assert_eq!(part("a:"), Ok(("a".into(), String::new())));
        assert_eq!(part("a:/x/y/"), Ok(("a".into(), "x/y".into())));
        assert_eq!(part("a:x:y"), Ok(("a".into(), "x:y".into())));
        for bad in [
            "",
            ":x",
            "a b:x",
            "a@3",
            "a@3:x",
            "a:x/../y",
            "a:x//y",
            "a:x\ny",
            &format!("a:{}", "x".repeat(4097)),
        ] {
            assert!(part(bad).is_err(), "{bad:?}");
        }
        for text in ["a/b", "a:x/y"] {
            assert_eq!(context_part(text).unwrap().to_string(), text);
        }
        assert_eq!(mounted("a@3:x/y").unwrap().to_string(), "a@3:x/y");
    }

    #[test]
    fn paths_below_a_mount_that_is_reached_by_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let mount = MountPath::new(&dir.path().join("link/new")).unwrap();
        assert!(mount.resolved.ends_with("real/new"));
        let below = |path: PathBuf| mount.path_below(&path).map(|path| path.to_string()).ok();
        assert_eq!(below("a/".into()).as_deref(), Some("a"));
        assert_eq!(below(dir.path().join("link/new/a")).as_deref(), Some("a"));
        assert_eq!(below(mount.resolved.join("a")).as_deref(), Some("a"));
        assert_eq!(below("/elsewhere".into()), None);
    }

    #[test]
    fn a_mount_above() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("real/sub")).unwrap();
        std::os::unix::fs::symlink("real/sub", top.join("link")).unwrap();
        let mount = |path: &str| MountPath::new(&top.join(path)).map(|mount| mount.typed).ok();
        assert_eq!(mount("real/sub/.."), Some(top.join("real")));
        assert_eq!(mount("link/.."), Some(top.join("real")));
        assert_eq!(mount("link/../new"), Some(top.join("real/new")));
        assert_eq!(mount("link"), Some(top.join("link")));
        assert_eq!(mount("missing/../real"), None);
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
