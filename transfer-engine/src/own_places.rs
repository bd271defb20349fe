//! The program's own files: its state, a local store, the files that it writes. They never take part in a
//! sync, wherever in a mount they are.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use policy_core::TreePath;

use crate::error::Error;
use crate::local::absolute;

const STATE: &str = "the directory of the local state";
const STORE: &str = "the store's own directory";
const IN_STORE: &str = "in the store's own directory";
const FILE: &str = "a file that ctxsync writes";

/// The paths of a mount that never take part, whatever a policy says.
#[derive(Debug, Clone, Default)]
pub struct OwnPlaces {
    places: Vec<(TreePath, &'static str)>,
    /// Device and inode of the directories that exist: a bind mount gives a directory a second path.
    inodes: Vec<(u64, u64)>,
}

impl OwnPlaces {
    /// Finds the program's own files in a mount. The paths may be relative, and may lead through links.
    ///
    /// # Errors
    /// [`Error::OwnPlace`] if the mount is the state's directory, or the store's, or lies inside the store's.
    pub fn find(
        mount: &Path,
        state_dir: Option<&Path>,
        store_dir: Option<&Path>,
        files: &[PathBuf],
    ) -> Result<Self, Error> {
        let mount = absolute(mount).map_err(|e| Error::local("find", mount, e))?;
        let dirs = [(state_dir, STATE), (store_dir, STORE)];
        let dirs = dirs.into_iter().filter_map(|(dir, what)| Some((dir?, what)));
        let mut places = Self::default();
        for (place, what) in dirs.chain(files.iter().map(|file| (file.as_path(), FILE))) {
            if what != FILE {
                places.inodes.extend(inode(place));
            }
            for place in names_of(place) {
                if place == mount {
                    return Err(Error::OwnPlace { mount, what });
                }
                // A pull there could replace heads, and a push would save packs again.
                if what == STORE && mount.starts_with(&place) {
                    return Err(Error::OwnPlace { mount, what: IN_STORE });
                }
                places.places.extend(below(&mount, &place).map(|path| (path, what)));
            }
        }
        Ok(places)
    }

    /// Returns what a path belongs to; `None` if it may take part.
    pub fn holding(&self, path: &TreePath) -> Option<&'static str> {
        self.places.iter().find(|(place, _)| path.is_within(place)).map(|(_, what)| *what)
    }

    /// Whether the directory with this device and inode is one of them, whatever path leads to it.
    pub(crate) fn is_one(&self, dev: u64, inode: u64) -> bool {
        self.inodes.contains(&(dev, inode))
    }

    /// Adds the places of `more`.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.places.extend(more.places);
        self.inodes.extend(more.inodes);
        self
    }
}

fn inode(dir: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(dir).ok().map(|found| (found.dev(), found.ino()))
}

/// Returns a path by its own name and, if that is a link, also the link's target.
fn names_of(place: &Path) -> Vec<PathBuf> {
    let text = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
    let by_name = match (text.parent(), text.file_name()) {
        (Some(parent), Some(name)) => absolute(parent).map(|parent| parent.join(name)).ok(),
        _ => None,
    };
    let led_to = absolute(&text).unwrap_or(text);
    by_name.into_iter().filter(|name| *name != led_to).chain([led_to.clone()]).collect()
}

/// Returns `place` as a path of the mount, if it is inside.
fn below(mount: &Path, place: &Path) -> Option<TreePath> {
    let rest = place.strip_prefix(mount).ok()?;
    TreePath::new(rest.as_os_str().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_found_through_links_and_under_their_own_names() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let mount = top.join("mount");
        for made in ["mount/state", "mount/logs", "mount/s\tt\u{e9}"] {
            std::fs::create_dir_all(top.join(made)).unwrap();
        }
        symlink(mount.join("state"), top.join("way")).unwrap();
        symlink("logs/real", mount.join("log")).unwrap();
        std::fs::write(mount.join("logs/real"), "").unwrap();
        let files = [mount.join("log"), mount.join("logs/../new")];
        let store = mount.join("s\tt\u{e9}");
        let own = OwnPlaces::find(&mount, Some(&top.join("way")), Some(&store), &files).unwrap();
        for (text, what) in [
            ("state/mounts/x", Some(STATE)),
            ("log", Some(FILE)),
            ("logs/real", Some(FILE)),
            ("new", Some(FILE)),
            ("s\tt\u{e9}/packs", Some(STORE)),
            ("logs", None),
            ("logs/other", None),
            ("states", None),
        ] {
            assert_eq!(own.holding(&path(text)), what, "{text}");
        }
        let outside = OwnPlaces::find(&mount, Some(&top), None, &[]).unwrap();
        assert_eq!(outside.holding(&path("state")), None);
    }

    #[test]
    fn a_mount_is_not_the_place_of_the_store() {
        let dir = tempfile::tempdir().unwrap();
        symlink(dir.path(), dir.path().join("self")).unwrap();
        std::fs::create_dir(dir.path().join("packs")).unwrap();
        for mount in ["self", "packs", "self/packs/new", "packs/..", "packs/../new"] {
            let found = OwnPlaces::find(&dir.path().join(mount), None, Some(dir.path()), &[]);
            assert!(
                matches!(found, Err(Error::OwnPlace { what: STORE | IN_STORE, .. })),
                "{mount}: {found:?}"
            );
        }
        let beside = dir.path().with_extension("beside");
        assert!(OwnPlaces::find(&beside, None, Some(dir.path()), &[]).is_ok());
    }
}
