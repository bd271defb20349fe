//! The mounts of a session, as given on the command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use transfer_engine::ContextSync;

use super::paths::typed_paths;
use super::sync::{absolute, mount_of};
use crate::args::{OpeningArgs, RunArgs};
use crate::config::Origin;
use crate::errors::Failure;
use crate::means::Means;
use crate::place::{MountPath, PathAt, mounted};
use crate::policy;

/// The mounts that `run` works on.
#[derive(Debug)]
pub(super) struct Mounts {
    /// At least one; that of `--context` comes first.
    pub(super) syncs: Vec<ContextSync>,
    /// Where the command runs.
    pub(super) dir: PathBuf,
}

/// One of `--mounts`: `CONTEXT[@N][:PATH]=DIR[,policy=FILE][,read-only]`.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    context: PathAt,
    dir: PathBuf,
    policy: Option<PathBuf>,
    read_only: bool,
}

impl Mounts {
    /// Reads the arguments and the policies that they name.
    ///
    /// # Errors
    /// Two mounts of a session must not contain each other.
    pub(super) fn of_run(args: &RunArgs, means: Means<'_>) -> Result<Self, Failure> {
        let dir = absolute(args.dir.as_deref().unwrap_or(Path::new(".")))?;
        let mut syncs = Vec::new();
        if let Some(context) = &args.context {
            let policy = policy::chosen(means.settings)?;
            syncs.push(mount_of(context, dir.clone(), policy, args.opening.read_only)?);
        }
        let from_variable = matches!(means.settings.mounts_origin, Origin::Variable(_));
        for text in &args.mounts {
            let separator = |byte: &u8| *byte == b';' && from_variable;
            let texts = text.as_bytes().split(separator).filter(|text| !text.is_empty());
            for text in texts {
                let typed = Typed::parse(text).map_err(|why| {
                    Failure::usage(format!("--mounts {}: {why}", policy_core::escape(text))).hint(
                        "a mount is CONTEXT[@N][:PATH]=DIR, with ,policy=FILE and ,read-only where they are needed",
                    )
                })?;
                let policy = match &typed.policy {
                    Some(file) => policy::named(Some(file), means.settings)?,
                    None => policy::chosen(means.settings)?,
                };
                let read_only = typed.read_only || args.opening.read_only;
                syncs.push(mount_of(&typed.context, absolute(&typed.dir)?, policy, read_only)?);
            }
        }
        if syncs.is_empty() {
            return Err(Failure::usage("no context was given").hint("give one with --context NAME"));
        }
        refuse_overlaps(&syncs)?;
        refuse_sending(args, &syncs)?;
        require(&args.opening, &dir, &mut syncs, means)?;
        Ok(Self { syncs, dir })
    }
}

impl Typed {
    /// A context's name has no `=`, and the path of a part can't have any here. A directory whose name ends in `,policy=...` or `,read-only` is too unlikely to matter.
    fn parse(text: &[u8]) -> Result<Self, String> {
        const POLICY: &[u8] = b",policy=";
        const READ_ONLY: &[u8] = b",read-only";
        let equals = text.iter().position(|&byte| byte == b'=').ok_or("there is no `=`")?;
        let (context, rest) = (&text[..equals], &text[equals + 1..]);
        let context = std::str::from_utf8(context).map_err(|_| "a context and its part are text")?;
        let context = mounted(context)?;
        let without = rest.strip_suffix(READ_ONLY);
        let (rest, mut read_only) = (without.unwrap_or(rest), without.is_some());
        let at = rest.windows(POLICY.len()).rposition(|window| window == POLICY);
        let (dir, policy) = match at {
            None => (rest, None),
            Some(at) => (&rest[..at], Some(&rest[at + POLICY.len()..])),
        };
        // The two may be in any order.
        let without = dir.strip_suffix(READ_ONLY).filter(|_| policy.is_some());
        read_only |= without.is_some();
        let dir = without.unwrap_or(dir);
        if dir.is_empty() || policy.is_some_and(<[u8]>::is_empty) {
            return Err("a path is missing".to_owned());
        }
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        Ok(Self { context, dir: path(dir), policy: policy.map(path), read_only })
    }
}

/// Adds the paths of `--require`, which are relative to `dir`, to the mounts that they are in.
pub(super) fn require(
    args: &OpeningArgs,
    dir: &Path,
    syncs: &mut [ContextSync],
    means: Means<'_>,
) -> Result<(), Failure> {
    for typed in typed_paths("--require", &args.require, &means.settings.require_origin)? {
        let path = dir.join(typed);
        let mut found = false;
        for sync in &mut *syncs {
            if let Ok(below) = MountPath::new(&sync.path)?.path_below(&path) {
                sync.required.push(below);
                found = true;
                break;
            }
        }
        if !found {
            let shown = policy_core::escape(path.as_os_str().as_bytes());
            return Err(Failure::usage(format!("--require: {shown} is in no mount of the session"))
                .hint("give it relative to the directory in which the command runs, or absolute"));
        }
    }
    Ok(())
}

/// Fails if an option sends something of a mount that is read-only.
fn refuse_sending(args: &RunArgs, syncs: &[ContextSync]) -> Result<(), Failure> {
    let first = args.context.is_some() && syncs.first().is_some_and(|sync| sync.read_only);
    let sends = match args {
        _ if args.save && syncs.iter().all(|sync| sync.read_only) => "--save",
        _ if first && args.ephemeral => "--ephemeral",
        _ if first && args.fork_from.is_some() => "--fork-from",
        _ => return Ok(()),
    };
    Err(sends_something(sends))
}

/// Returns the failure of an option that writes to the store beside `--read-only`.
pub(super) fn sends_something(option: &str) -> Failure {
    Failure::usage(format!("{option} writes to the store, and --read-only never does"))
        .hint("leave one of the two out")
}

fn refuse_overlaps(syncs: &[ContextSync]) -> Result<(), Failure> {
    let mut seen: Vec<(PathBuf, &ContextSync)> = Vec::new();
    for sync in syncs {
        let path = MountPath::new(&sync.path)?.resolved;
        let clash = seen.iter().find(|(other, _)| path.starts_with(other) || other.starts_with(&path));
        if let Some((_, other)) = clash {
            let shown = |sync: &ContextSync| policy_core::escape(OsStr::as_bytes(sync.path.as_os_str()));
            return Err(Failure::usage(format!(
                "the mounts {} ({}) and {} ({}) contain each other",
                shown(other),
                other.place(),
                shown(sync),
                sync.place()
            ))
            .hint("mounts of a session lie beside each other; a policy's `bwList` leaves parts of one out"));
        }
        seen.push((path, sync));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, String, Option<String>, bool), String> {
        let shown = |path: PathBuf| path.display().to_string();
        Typed::parse(text.as_bytes()).map(|typed| {
            (typed.context.to_string(), shown(typed.dir), typed.policy.map(shown), typed.read_only)
        })
    }

    #[test]
    fn what_may_be_typed() {
        let ok = |context: &str, dir: &str, policy: Option<&str>| {
            Ok((context.to_owned(), dir.to_owned(), policy.map(str::to_owned), false))
        };
        assert_eq!(parse("a/b=dir"), ok("a/b", "dir", None));
        assert_eq!(parse("a@v1=d,policy=p"), ok("a@v1", "d", Some("p")));
        assert_eq!(parse("a=/x=y,z"), ok("a", "/x=y,z", None));
        assert_eq!(parse("a:b/c=d"), ok("a:b/c", "d", None));
        assert_eq!(parse("a=d,policy=p.json"), ok("a", "d", Some("p.json")));
        assert_eq!(parse("a=d,policy=x,policy=p"), ok("a", "d,policy=x", Some("p")));
        let read_only = |typed: &str, plain: &str| {
            assert_eq!(
                parse(typed),
                parse(plain).map(|(context, dir, policy, _)| (context, dir, policy, true))
            );
        };
        read_only("a=d,read-only", "a=d");
        read_only("a=d,policy=p,read-only", "a=d,policy=p");
        read_only("a=d,read-only,policy=p", "a=d,policy=p");
    }

    #[test]
    fn what_may_not() {
        for bad in [
            "",
            "a",
            "a=",
            "=d",
            "a b=d",
            "a@=d",
            "a=,policy=p",
            "a=d,policy=",
            "a=,read-only",
            "a=d,policy=,read-only",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
