//! Operations of a user in a mount. They record the contents that they knowingly give up.

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ctxsync_tests::compare::{Content, Node, list};
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;

/// A file that exists from the start and never changes. Without it a mount could become empty, which counts
/// as lost.
pub(crate) const PINNED: &str = "pinned";

/// Lists the user's files in the mount. Staging that a sync left behind is not among them.
fn users(tree: &Tree) -> impl Iterator<Item = (PathBuf, Node)> {
    let is_ours = |path: &Path| path.as_os_str().as_bytes().starts_with(b".ctxsync-stage-");
    list(&tree.0).into_iter().filter(move |(path, _)| !is_ours(path))
}

/// Returns the contents of the files and links at and below `path`, as the ledger has them.
pub(crate) fn contents(tree: &Tree, path: &Path) -> BTreeSet<String> {
    let nodes = users(tree).filter(|(at, _)| at.starts_with(path));
    nodes
        .filter_map(|(_, node)| match node.content {
            Content::File(_, _, Some(bytes)) => Some(String::from_utf8(bytes).unwrap()),
            Content::Link(target) => Some(String::from_utf8_lossy(target.as_bytes()).into_owned()),
            _ => None,
        })
        .collect()
}

/// Makes a random change in a mount, adds the contents that it removes to `given_up`, and describes it.
pub(crate) fn change(
    tree: &Tree,
    random: &mut Random,
    fresh: &str,
    given_up: &mut BTreeSet<String>,
) -> String {
    let existing: Vec<PathBuf> =
        users(tree).map(|(path, _)| path).filter(|path| path.as_os_str() != PINNED).collect();
    let some = random.of(&existing).cloned();
    match (random.below(11), some) {
        (10, Some(path)) if tree.at(&path).is_file() => {
            let old = tree.read(&path);
            tree.write(&path, format!("{old} {fresh}"));
            given_up.insert(old);
            format!("append to {} {fresh}, which has more", path.display())
        }
        (0..=2, _) => {
            let path = place(random);
            make_room(tree, &path, given_up);
            tree.write(&path, fresh);
            format!("write {} {fresh}", path.display())
        }
        (3, Some(path)) if tree.at(&path).is_file() => {
            given_up.extend(contents(tree, &path));
            tree.write(&path, fresh);
            format!("edit {} {fresh}", path.display())
        }
        (4, Some(path)) => {
            given_up.extend(contents(tree, &path));
            tree.remove(&path);
            format!("remove {}", path.display())
        }
        (5, Some(from)) => {
            let to = place(random);
            if to.starts_with(&from) || from.starts_with(&to) {
                return "nothing".to_owned();
            }
            make_room(tree, &to, given_up);
            if !tree.has(&from) {
                return "nothing but room".to_owned();
            }
            tree.rename(&from, &to);
            format!("rename {} {}", from.display(), to.display())
        }
        (6, _) => {
            let path = place(random);
            if !tree.has(&path) {
                make_room(tree, &path, given_up);
                tree.dir(&path);
            }
            format!("mkdir {}", path.display())
        }
        (7, Some(path)) if !tree.at(&path).is_symlink() => {
            let modes: &[u32] =
                if tree.at(&path).is_dir() { &[0o755, 0o700, 0o711] } else { &[0o644, 0o755, 0o600] };
            let mode = *random.of(modes).unwrap();
            tree.mode(&path, mode);
            format!("chmod {mode:o} {}", path.display())
        }
        (8, _) => {
            let path = place(random);
            make_room(tree, &path, given_up);
            tree.link(&path, fresh);
            format!("link {} {fresh}", path.display())
        }
        _ => "nothing".to_owned(),
    }
}

/// Another program that works in the mount while it is pushed.
pub(crate) struct Meanwhile {
    /// Renames: when, from and to.
    moves: Vec<(usize, PathBuf, PathBuf)>,
    /// A file that grows, and from when on.
    grows: Option<(usize, PathBuf)>,
    given_up: Mutex<BTreeSet<String>>,
}

impl fmt::Display for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moves {:?}, grows {:?}", self.moves, self.grows)
    }
}

impl Meanwhile {
    pub(crate) fn plan(tree: &Tree, random: &mut Random) -> Arc<Self> {
        let existing: Vec<PathBuf> =
            users(tree).map(|(path, _)| path).filter(|path| path.as_os_str() != PINNED).collect();
        let mut moves = Vec::new();
        for _ in 0..random.below(4) {
            let (Some(from), to) = (random.of(&existing).cloned(), place(random)) else { continue };
            let moment = random.below(12);
            moves.push((moment, from.clone(), to.clone()));
            if random.below(3) == 0 {
                moves.push((moment + 1 + random.below(4), to, from));
            }
        }
        let grown = random.of(&existing).cloned().filter(|path| tree.at(path).is_file());
        let grows = grown.filter(|_| random.below(2) == 0).map(|path| (random.below(12), path));
        Arc::new(Self { moves, grows, given_up: Mutex::default() })
    }

    /// Performs what is due, unless that would remove something.
    pub(crate) fn act(&self, mount: &Path, asked: usize) {
        for (_, from, to) in self.moves.iter().filter(|(moment, ..)| *moment == asked) {
            if !mount.join(to).is_symlink() && !mount.join(to).exists() {
                // The source may be gone, or the target may be impossible.
                let _ = std::fs::rename(mount.join(from), mount.join(to));
            }
        }
        if let Some((from, path)) = &self.grows
            && asked >= *from
            && asked.is_multiple_of(3)
            && !mount.join(path).is_symlink()
            && let Ok(old) = std::fs::read_to_string(mount.join(path))
        {
            use std::io::Write;
            let file = std::fs::File::options().append(true).open(mount.join(path));
            self.given_up.lock().unwrap().insert(old);
            write!(file.unwrap(), " and {asked}").unwrap();
        }
    }

    /// Returns the contents that were overwritten.
    pub(crate) fn given_up(&self) -> BTreeSet<String> {
        self.given_up.lock().unwrap().clone()
    }
}

/// Returns a path from a small pool, so that changes collide.
fn place(random: &mut Random) -> PathBuf {
    let names = ["a", "a-b", "b.txt", "c"];
    let depth = 1 + random.below(3);
    (0..depth).map(|_| *random.of(&names).unwrap()).collect()
}

/// Removes what is at the path, and files and links in the place of its parents.
fn make_room(tree: &Tree, path: &Path, given_up: &mut BTreeSet<String>) {
    for above in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
        let in_the_way =
            if above == path { tree.has(above) } else { tree.has(above) && !is_dir(&tree.at(above)) };
        if in_the_way {
            given_up.extend(contents(tree, above));
            tree.remove(above);
        }
    }
}

fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|stat| stat.is_dir())
}
