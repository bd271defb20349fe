//! Where the symbolic links of an archive lead when the whole archive is extracted.
//!
//! The text of a link does not say where it leads: with `a -> b/c`, the link `d -> a/..` leads to `b`. So
//! links are followed as the kernel does, through other links, with two differences. A missing path counts as
//! a directory, because it may be created later. And no link may ever leave the directory into which the
//! archive is extracted.

use policy_core::{TreePath, escape};
use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use super::ExtractError;
use super::Extraction;
use crate::local::{MountDir, open_dir, read_link_at};

/// How many links one path may lead through; as in Linux.
const HOPS: usize = 40;
/// How long a path may become on the way. Other programs that resolve paths give up there, and trust the
/// rest.
const PATH_MAX: usize = 4096;

/// Refuses a target that no link in an archive may have, wherever the link is.
pub(super) fn check_target(link: &TreePath, target: &[u8]) -> Result<(), ExtractError> {
    if target.is_empty() || target.contains(&0) {
        return Err(ExtractError::damaged(format!("`{link}` is a link to nowhere")));
    }
    if target.starts_with(b"/") {
        return Err(outside(link, target));
    }
    if target.len() >= PATH_MAX {
        return Err(tangled(link));
    }
    Ok(())
}

/// Refuses a target that leads outside even without any other link.
pub(super) fn check_alone(link: &TreePath, target: &[u8]) -> Result<(), ExtractError> {
    follow(link, target, |_| Ok(None))
}

/// Refuses an archive if one of its links leads outside.
pub(super) fn check_all(job: &Extraction<'_>) -> Result<(), ExtractError> {
    let read = |e: Errno| ExtractError::local("read what came out", e);
    let root = job.into.root();
    let mut open = vec![(TreePath::root(), Dir::read_from(root).map_err(read)?)];
    while let Some((path, dir)) = open.last_mut() {
        if (job.stop)() {
            return Err(ExtractError::Stopped);
        }
        let Some(entry) = dir.next() else {
            open.pop();
            continue;
        };
        let entry = entry.map_err(read)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let here = path.join(name).map_err(|e| ExtractError::hostile(name, e.to_string()))?;
        let handle = dir.fd().map_err(read)?;
        match entry.file_type() {
            FileType::Directory => {
                let below =
                    open_dir(handle, name).map_err(|e| ExtractError::local("read what came out", e))?;
                open.push((here, Dir::new(below).map_err(read)?));
            }
            FileType::Symlink => check(job.into, &here)?,
            FileType::Unknown => {
                // Some file systems do not report the type.
                match read_link_at(handle, name) {
                    Ok(_) => check(job.into, &here)?,
                    Err(_) => {
                        if let Ok(below) = open_dir(handle, name) {
                            open.push((here, Dir::new(below).map_err(read)?));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check(into: &MountDir, link: &TreePath) -> Result<(), ExtractError> {
    let read = |path: &[u8]| match rustix::fs::readlinkat(into.root(), path, Vec::with_capacity(256)) {
        Ok(target) => Ok(Some(target.into_bytes())),
        // There is no link, or nothing at all.
        Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(Errno::NAMETOOLONG | Errno::LOOP) => Err(tangled(link)),
        Err(e) => Err(ExtractError::local(format!("read `{link}`"), e)),
    };
    match read(link.as_bytes())? {
        Some(target) => follow(link, &target, read),
        None => Ok(()),
    }
}

/// Follows a link with the given target. `read` returns the target of the link at a path, which itself leads
/// through no other link; `None` if there is no link.
fn follow(
    link: &TreePath,
    target: &[u8],
    mut read: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, ExtractError>,
) -> Result<(), ExtractError> {
    // The path so far, and the remaining components, last one first.
    let mut at = link.parent().unwrap_or_default().as_bytes().to_vec();
    let mut ahead: Vec<Vec<u8>> = target.rsplit(|&b| b == b'/').map(<[u8]>::to_vec).collect();
    let mut ahead_len = target.len();
    let mut hops = 0;
    while let Some(name) = ahead.pop() {
        ahead_len = ahead_len.saturating_sub(name.len() + 1);
        match &*name {
            b"" | b"." => continue,
            b".." => {
                if at.is_empty() {
                    return Err(outside(link, target));
                }
                at.truncate(at.iter().rposition(|&b| b == b'/').unwrap_or(0));
                continue;
            }
            name => {
                if !at.is_empty() {
                    at.push(b'/');
                }
                at.extend_from_slice(name);
            }
        }
        if at.len() + ahead_len >= PATH_MAX {
            return Err(tangled(link));
        }
        let Some(next) = read(&at)? else { continue };
        hops += 1;
        if hops > HOPS {
            return Err(tangled(link));
        }
        if next.starts_with(b"/") {
            return Err(outside(link, target));
        }
        at.truncate(at.iter().rposition(|&b| b == b'/').unwrap_or(0));
        ahead_len += next.len() + 1;
        ahead.extend(next.rsplit(|&b| b == b'/').map(<[u8]>::to_vec));
    }
    Ok(())
}

fn outside(link: &TreePath, target: &[u8]) -> ExtractError {
    ExtractError::hostile(link.as_bytes(), format!("is a link that leads outside, to `{}`", escape(target)))
}

fn tangled(link: &TreePath) -> ExtractError {
    ExtractError::hostile(
        link.as_bytes(),
        "is a link through more links, or to a longer path, than can be followed",
    )
}
