//! Operations of a user in a mount. They record the contents that they knowingly give up.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ctxsync_tests::compare::{Content, Node, list};
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;

use crate::archives::{members, parts, write_archive};

/// A file that exists from the start and never changes. Without it a mount could become empty, which counts
/// as lost.
pub(crate) const PINNED: &str = "pinned";

/// A longer file does not grow, because only short contents are compared.
const LONG: usize = 60;

/// A link with a longer target only makes the tree large.
pub(crate) const LONG_LINK: usize = 1000;

/// Makes the tree so large that its segments are not embedded in snapshots any more.
pub(crate) fn enlarge(tree: &Tree, random: &mut Random) {
    for number in 0..40 {
        let target: Vec<u8> = random.bytes(4000).into_iter().map(|byte| byte.max(1)).collect();
        let dir = ["a", "d"][number % 2];
        tree.link(format!("{dir}{number:02}"), OsStr::from_bytes(&target));
    }
}

/// Lists the user's files in the mount. Staging that a sync left behind is not among them.
pub(crate) fn users(tree: &Tree) -> impl Iterator<Item = (PathBuf, Node)> {
    let is_ours = |path: &Path| path.as_os_str().as_bytes().starts_with(b".ctxsync-stage-");
    list(&tree.0).into_iter().filter(move |(path, _)| !is_ours(path))
}

/// Returns the contents of the files and links at and below `path`, as the ledger has them.
pub(crate) fn contents(tree: &Tree, path: &Path) -> BTreeSet<String> {
    let nodes = users(tree).filter(|(at, _)| at.starts_with(path));
    nodes
        .flat_map(|(path, node)| match node.content {
            Content::File(_, _, Some(bytes)) => parts(&bytes),
            Content::File(..) => parts(&std::fs::read(tree.at(path)).unwrap()),
            Content::Link(target) if target.len() < LONG_LINK => {
                vec![String::from_utf8_lossy(target.as_bytes()).into_owned()]
            }
            _ => Vec::new(),
        })
        .collect()
}

/// What became of all contents.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What was ever in a file or link.
    pub(crate) written: BTreeSet<String>,
    /// What somebody knowingly changed or removed, or what was lost with a machine before it was pushed.
    pub(crate) given_up: BTreeSet<String>,
}

impl Ledger {
    /// Takes over what another one has.
    pub(crate) fn note(&mut self, other: Self) {
        self.written.extend(other.written);
        self.given_up.extend(other.given_up);
    }
}

/// Makes a random change in a mount, notes it in the ledger, and describes it.
pub(crate) fn change(tree: &Tree, random: &mut Random, fresh: &str, ledger: &mut Ledger) -> String {
    let existing: Vec<PathBuf> =
        users(tree).map(|(path, _)| path).filter(|path| path.as_os_str() != PINNED).collect();
    let some = random.of(&existing).cloned();
    let Ledger { written, given_up } = &mut *ledger;
    match (random.below(12), some) {
        (11, _) => write_archive(tree, random, fresh, ledger),
        (10, Some(path)) if is_short_text(&tree.at(&path)) => {
            let old = tree.read(&path);
            tree.write(&path, format!("{old} {fresh}"));
            written.insert(format!("{old} {fresh}"));
            given_up.insert(old);
            format!("append to {} {fresh}, which has more", path.display())
        }
        (0..=2, _) => {
            let path = place(random);
            make_room(tree, &path, given_up);
            tree.write(&path, fresh);
            written.insert(fresh.to_owned());
            format!("write {} {fresh}", path.display())
        }
        (3, Some(path)) if tree.at(&path).is_file() => {
            given_up.extend(contents(tree, &path));
            tree.write(&path, fresh);
            written.insert(fresh.to_owned());
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
            written.insert(fresh.to_owned());
            format!("link {} {fresh}", path.display())
        }
        _ => "nothing".to_owned(),
    }
}

/// Makes a random change at a path that another machine changes too, and describes it.
pub(crate) fn change_at(
    tree: &Tree,
    path: &Path,
    random: &mut Random,
    fresh: &str,
    ledger: &mut Ledger,
) -> String {
    let Ledger { written, given_up } = ledger;
    let is_there = tree.has(path);
    match random.below(5) {
        0 if is_there => {
            given_up.extend(contents(tree, path));
            tree.remove(path);
            format!("remove {}", path.display())
        }
        1 if is_there && !tree.at(path).is_symlink() => {
            let modes = if tree.at(path).is_dir() { [0o755, 0o700, 0o711] } else { [0o644, 0o755, 0o600] };
            let mode = *random.of(&modes).unwrap();
            tree.mode(path, mode);
            format!("chmod {mode:o} {}", path.display())
        }
        2 => {
            make_room(tree, path, given_up);
            tree.dir(path);
            format!("mkdir {}", path.display())
        }
        _ => {
            make_room(tree, path, given_up);
            tree.write(path, fresh);
            written.insert(fresh.to_owned());
            format!("write {} {fresh}", path.display())
        }
    }
}

/// Returns a path that two machines may change: one of this tree, or any.
pub(crate) fn path_for_two(tree: &Tree, random: &mut Random) -> PathBuf {
    let existing: Vec<PathBuf> =
        users(tree).map(|(path, _)| path).filter(|path| path.as_os_str() != PINNED).collect();
    let any = place(random);
    random.of(&existing).cloned().unwrap_or(any)
}

/// Another program that works in the mount during a sync.
pub(crate) struct Meanwhile {
    /// Renames: when, from and to.
    moves: Vec<(usize, PathBuf, PathBuf)>,
    /// A file that grows, and from when on.
    grows: Option<(usize, PathBuf)>,
    /// A file that is written: when, and what.
    writes: Option<(usize, PathBuf, String)>,
    /// A path that is removed, and when.
    removes: Option<(usize, PathBuf)>,
    /// A path that is moved there and back all the time: from when on, and the other place.
    restless: Option<(usize, PathBuf, PathBuf)>,
    ledger: Mutex<Ledger>,
}

impl fmt::Display for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moves {:?}, grows {:?}, ", self.moves, self.grows)?;
        write!(f, "writes {:?}, removes {:?}, restless {:?}", self.writes, self.removes, self.restless)
    }
}

impl Meanwhile {
    pub(crate) fn plan(tree: &Tree, random: &mut Random, fresh: &str) -> Self {
        let existing: Vec<PathBuf> =
            users(tree).map(|(path, _)| path).filter(|path| path.as_os_str() != PINNED).collect();
        let most = [12, 40][random.below(2)];
        let mut moves = Vec::new();
        for _ in 0..random.below(4) {
            let (Some(from), to) = (random.of(&existing).cloned(), place(random)) else { continue };
            let moment = random.below(most);
            moves.push((moment, from.clone(), to.clone()));
            if random.below(3) == 0 {
                moves.push((moment + 1 + random.below(4), to, from));
            }
        }
        let grown = random.of(&existing).cloned().filter(|path| tree.at(path).is_file());
        let grows = grown.filter(|_| random.below(2) == 0).map(|path| (random.below(most), path));
        let place = if random.below(2) == 0 {
            place(random)
        } else {
            random.of(&existing).cloned().unwrap_or_default()
        };
        let writes = (random.below(2) == 0).then(|| (random.below(most), place, fresh.to_owned()));
        let gone = random.of(&existing).cloned().filter(|_| random.below(3) == 0);
        let removes = gone.map(|path| (random.below(most), path));
        let other = PathBuf::from(["a", "b.txt", "x", "y"][random.below(4)]);
        let moving = random.of(&existing).cloned().filter(|path| random.below(4) == 0 && *path != other);
        let restless = moving.map(|path| (random.below(most), path, other));
        Self { moves, grows, writes, removes, restless, ledger: Mutex::default() }
    }

    /// Whether something never rests. Then a push may meet it nowhere, and the next one has it.
    pub(crate) fn never_rests(&self) -> bool {
        self.restless.is_some()
    }

    /// Performs what is due, and returns whether anything was. Nothing is replaced by a rename.
    pub(crate) fn act(&self, mount: &Path, moment: usize) -> bool {
        let mut acts = false;
        for (_, from, to) in self.moves.iter().filter(|(due, ..)| *due == moment) {
            if mount.join(to).symlink_metadata().is_err() {
                // The source may be gone, or the target may be impossible.
                acts |= std::fs::rename(mount.join(from), mount.join(to)).is_ok();
            }
        }
        if let Some((due, path)) = &self.grows
            && moment >= *due
            && moment.is_multiple_of(3)
        {
            let grown = |old: Option<&str>| old.map(|old| format!("{old} {moment}"));
            acts |= self.write(&mount.join(path), grown);
        }
        if let Some((_, here, there)) = self.restless.as_ref().filter(|(due, ..)| moment >= *due) {
            let (here, there) = (mount.join(here), mount.join(there));
            let (from, to) = if here.symlink_metadata().is_ok() { (here, there) } else { (there, here) };
            acts |= to.symlink_metadata().is_err() && std::fs::rename(from, to).is_ok();
        }
        if let Some((_, path, fresh)) = self.writes.as_ref().filter(|(due, ..)| *due == moment) {
            acts |= self.write(&mount.join(path), |_| Some(fresh.clone()));
        }
        if let Some((_, path)) = self.removes.as_ref().filter(|(due, _)| *due == moment) {
            acts |= self.remove(&mount.join(path));
        }
        acts
    }

    /// Writes a file in place, or creates it.
    fn write(&self, place: &Path, content: impl FnOnce(Option<&str>) -> Option<String>) -> bool {
        let old = match place.symlink_metadata() {
            Ok(stat) if stat.is_file() => std::fs::read(place).ok(),
            Ok(_) => return false,
            Err(_) => None,
        };
        let text = old.as_deref().filter(|_| is_short_text(place)).and_then(|old| str::from_utf8(old).ok());
        let Some(content) = content(text) else { return false };
        if std::fs::write(place, &content).is_err() {
            return false;
        }
        let mut ledger = self.ledger.lock().unwrap();
        ledger.given_up.extend(old.iter().flat_map(|old| parts(old)));
        ledger.written.insert(content);
        true
    }

    fn remove(&self, place: &Path) -> bool {
        let old = match place.symlink_metadata() {
            Ok(stat) if stat.is_file() => std::fs::read(place).ok().map(|old| parts(&old)),
            Ok(stat) if stat.is_symlink() => {
                std::fs::read_link(place).ok().map(|target| vec![target.to_string_lossy().into_owned()])
            }
            _ => return false,
        };
        let removed = std::fs::remove_file(place).is_ok();
        self.ledger.lock().unwrap().given_up.extend(old.into_iter().flatten().filter(|_| removed));
        removed
    }

    /// Returns what was written and removed.
    pub(crate) fn ledger(&self) -> Ledger {
        std::mem::take(&mut *self.ledger.lock().unwrap())
    }
}

/// Returns a path from a small pool, so that changes collide.
pub(crate) fn place(random: &mut Random) -> PathBuf {
    let names = ["a", "a-b", "b.txt", "c"];
    let depth = 1 + random.below(3);
    (0..depth).map(|_| *random.of(&names).unwrap()).collect()
}

/// Removes what is at the path, and files and links in the place of its parents.
pub(crate) fn make_room(tree: &Tree, path: &Path, given_up: &mut BTreeSet<String>) {
    for above in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
        let in_the_way =
            if above == path { tree.has(above) } else { tree.has(above) && !is_dir(&tree.at(above)) };
        if in_the_way {
            given_up.extend(contents(tree, above));
            tree.remove(above);
        }
    }
}

/// Whether a file has only text, and may grow.
fn is_short_text(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|stat| stat.is_file() && stat.len() < LONG as u64)
        && std::fs::read(path).is_ok_and(|bytes| str::from_utf8(&bytes).is_ok() && members(&bytes).is_none())
}

fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|stat| stat.is_dir())
}
