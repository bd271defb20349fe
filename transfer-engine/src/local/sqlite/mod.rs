//! SQLite databases: a file with its journal and write-ahead log. They are read at one moment, under the
//! locks that SQLite's own readers take (www.sqlite.org/lockingv3.html, www.sqlite.org/walformat.html).

mod held;
mod locks;
mod take;

pub(crate) use held::{is_held, let_go};
pub(crate) use take::{Content, Taken, TakenFile, Trouble, Wanted, take};

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use policy_core::TreePath;

use super::mount_dir::open_file_at;

const MAGIC: &[u8] = b"SQLite format 3\0";
/// The length of a database's header.
const HEADER: usize = 100;

/// A file's role for its database. All but the first are named like the database, with a suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Member {
    Database,
    Journal,
    /// The write-ahead log.
    Wal,
    /// The index of the log, which SQLite recreates if it is missing.
    Shm,
}

impl Member {
    const SUFFIXED: [Self; 3] = [Self::Journal, Self::Wal, Self::Shm];

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Database => "",
            Self::Journal => "-journal",
            Self::Wal => "-wal",
            Self::Shm => "-shm",
        }
    }

    /// Returns the role of a file with this name, and the length of its database's name; `None` if the name
    /// has no such suffix.
    pub(crate) fn of(name: &[u8]) -> Option<(Self, usize)> {
        let of = |member: Self| Some((member, name.strip_suffix(member.suffix().as_bytes())?.len()));
        Self::SUFFIXED.into_iter().find_map(of).filter(|(_, len)| *len > 0)
    }
}

/// Returns the database of which `path` is, by its name, the log or the journal. A request for a database
/// includes both, because without them it is another version.
pub(crate) fn database_of(path: &TreePath) -> Option<TreePath> {
    let (member, _) = Member::of(path.name()).filter(|(member, _)| *member != Member::Shm)?;
    TreePath::new(path.as_bytes().strip_suffix(member.suffix().as_bytes())?).ok()
}

/// Returns the paths for which [`database_of`] returns `asked`.
pub(crate) fn companions(asked: &TreePath) -> impl Iterator<Item = TreePath> {
    [Member::Journal, Member::Wal]
        .into_iter()
        .filter_map(|member| TreePath::new([asked.as_bytes(), member.suffix().as_bytes()].concat()).ok())
        .filter(|path| Member::of(path.name()).is_some())
}

/// Whether a file that begins with these bytes is a database. If its header has values that no version of
/// SQLite writes, it is none: SQLite would not open it either.
pub(crate) fn is_database(begin: &[u8]) -> bool {
    let Some(header) = begin.first_chunk::<HEADER>() else { return false };
    let page = u16::from_be_bytes([header[16], header[17]]);
    let is_page = page == 1 || (page >= 512 && page.is_power_of_two());
    header.starts_with(MAGIC) && is_page && header[18..20].iter().all(|version| matches!(version, 1 | 2))
}

/// Whether the file `name` in `dir` is a database now.
pub(crate) fn stands_for_database(dir: &OwnedFd, name: &[u8]) -> bool {
    if is_held(dir, name) {
        return true;
    }
    let Ok((file, _)) = open_file_at(dir, name) else { return false };
    let mut begin = [0; HEADER];
    let is = file.read_exact_at(&mut begin, 0).is_ok() && is_database(&begin);
    if is {
        let_go(file);
    }
    is
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_sqlite_is_known_by_what_it_says() {
        let mut header = [0; HEADER];
        header[..16].copy_from_slice(MAGIC);
        (header[16], header[18], header[19]) = (0x10, 2, 2);
        assert!(is_database(&header) && !is_database(&header[..99]));
        for (at, byte, is) in [(18, 1, true), (19, 3, false), (17, 1, false), (16, 0, false), (15, 1, false)]
        {
            let mut other = header;
            other[at] = byte;
            assert_eq!(is_database(&other), is, "{at}");
        }
        (header[16], header[17]) = (0, 1);
        assert!(is_database(&header));
    }

    #[test]
    fn members_are_known_by_their_names() {
        assert_eq!(Member::of(b"a.db-wal"), Some((Member::Wal, 4)));
        assert_eq!(Member::of(b"a.db-journal"), Some((Member::Journal, 4)));
        assert_eq!(Member::of(b"a-shm"), Some((Member::Shm, 1)));
        assert_eq!([Member::of(b"a.db"), Member::of(b"-wal"), Member::of(b"a-WAL")], [None; 3]);
    }
}
