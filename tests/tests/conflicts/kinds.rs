//! What may be at a path, and how a test gets it there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use ctxsync_tests::compare::{Content, Listing, Node};
use ctxsync_tests::tree::Tree;

/// What is at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Nothing,
    File,
    OtherFile,
    Executable,
    EmptyDir,
    Dir,
    OtherDir,
    PrivateDir,
    Link,
    OtherLink,
}

pub(crate) const KINDS: [Kind; 10] = [
    Kind::Nothing,
    Kind::File,
    Kind::OtherFile,
    Kind::Executable,
    Kind::EmptyDir,
    Kind::Dir,
    Kind::OtherDir,
    Kind::PrivateDir,
    Kind::Link,
    Kind::OtherLink,
];

/// What both sides may have had before.
pub(crate) const BASES: [Kind; 5] = [Kind::Nothing, Kind::File, Kind::EmptyDir, Kind::Dir, Kind::Link];

impl Kind {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::File => "file",
            Self::OtherFile => "other file",
            Self::Executable => "file, `chmod +x`",
            Self::EmptyDir => "empty dir",
            Self::Dir => "dir",
            Self::OtherDir => "other dir",
            Self::PrivateDir => "dir, 0700",
            Self::Link => "link",
            Self::OtherLink => "other link",
        }
    }

    fn is_file(self) -> bool {
        matches!(self, Self::File | Self::OtherFile | Self::Executable)
    }

    fn holds_files(self) -> bool {
        matches!(self, Self::Dir | Self::OtherDir | Self::PrivateDir)
    }
}

/// A path with a history: what both sides had, and what each of them changed it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) base: Kind,
    pub(crate) here: Kind,
    pub(crate) there: Kind,
}

/// The name of the path in question, in each cell's directory.
pub(crate) const NAME: &str = "p.txt";

impl Cell {
    pub(crate) fn all() -> Vec<Self> {
        let of_base = |base| KINDS.map(|here| KINDS.map(|there| Self { base, here, there }));
        BASES.into_iter().flat_map(of_base).flatten().collect()
    }

    /// The cell's directory, which always exists.
    pub(crate) fn dir(self) -> String {
        format!("{:?}-{:?}-{:?}", self.base, self.here, self.there)
    }

    pub(crate) fn of_dir(dir: &str) -> Option<Self> {
        static BY_DIR: LazyLock<BTreeMap<String, Cell>> =
            LazyLock::new(|| Cell::all().into_iter().map(|cell| (cell.dir(), cell)).collect());
        BY_DIR.get(dir).copied()
    }

    /// Creates what both sides had.
    pub(crate) fn begin(self, tree: &Tree) {
        tree.write(format!("{}/keep", self.dir()), "keep");
        self.turn(tree, Kind::Nothing, self.base);
    }

    /// Changes a path from one kind to another, with as few operations as possible. All content differs
    /// between cells.
    pub(crate) fn turn(self, tree: &Tree, from: Kind, to: Kind) {
        if from == to {
            return;
        }
        let dir = self.dir();
        let path = format!("{dir}/{NAME}");
        let stays = from.is_file() && to.is_file() || from.holds_files() && to.holds_files();
        if from != Kind::Nothing && !stays {
            tree.remove(&path);
        }
        match to {
            Kind::Nothing => {}
            Kind::File | Kind::Executable => {
                tree.write(&path, format!("file of {dir}"));
                tree.mode(&path, if to == Kind::File { 0o644 } else { 0o755 });
            }
            Kind::OtherFile => _ = tree.write(&path, format!("other file of {dir}")),
            Kind::EmptyDir => _ = tree.dir(&path),
            Kind::Dir | Kind::PrivateDir => {
                tree.write(format!("{path}/x"), format!("x of {dir}"));
                tree.mode(&path, if to == Kind::Dir { 0o755 } else { 0o700 });
            }
            Kind::OtherDir => {
                tree.write(format!("{path}/x"), format!("other x of {dir}"));
                tree.write(format!("{path}/y"), format!("y of {dir}"));
            }
            Kind::Link => _ = tree.link(&path, format!("link of {dir}")),
            Kind::OtherLink => _ = tree.link(&path, format!("other link of {dir}")),
        }
    }
}

/// What is in a cell, as a description for each path. The cell's name is left out, so that cells compare
/// equal.
pub(crate) type Standing = BTreeMap<String, String>;

/// Groups a listing by cell.
pub(crate) fn by_cell(listing: &Listing) -> BTreeMap<Cell, Standing> {
    let mut cells: BTreeMap<Cell, Standing> = BTreeMap::new();
    for (path, node) in listing {
        let mut components = path.components();
        let dir = components.next().unwrap().as_os_str().to_str().unwrap().to_owned();
        let rest: PathBuf = components.collect();
        let Some(cell) = Cell::of_dir(&dir) else { panic!("{path:?} is in no cell") };
        let standing = cells.entry(cell).or_default();
        let rest = rest.to_str().unwrap();
        if !rest.is_empty() && rest != "keep" {
            standing.insert(rest.to_owned(), describe(node, &dir));
        }
    }
    cells
}

fn describe(node: &Node, dir: &str) -> String {
    let of = format!(" of {dir}");
    match &node.content {
        Content::File(_, _, bytes) => {
            let text = String::from_utf8(bytes.clone().unwrap()).unwrap();
            let mode = if node.mode == 0o644 { String::new() } else { format!(" {:04o}", node.mode) };
            text.strip_suffix(&of).unwrap().to_owned() + &mode
        }
        Content::Dir => format!("dir {:04o}", node.mode),
        Content::Link(target) => format!("-> {}", target.to_str().unwrap().strip_suffix(&of).unwrap()),
        Content::Special => panic!("{dir}: what is it?"),
    }
}

/// The contents that could be lost: those of files and links, but not their modes.
pub(crate) fn contents(standing: &Standing) -> Vec<String> {
    let files = standing.values().filter(|what| !what.starts_with("dir "));
    files.map(|what| what.strip_suffix(" 0755").unwrap_or(what).to_owned()).collect()
}

/// Whether a path is a conflict copy or inside one.
pub(crate) fn is_copy(path: &str) -> bool {
    path.contains(".conflict-")
}

/// Splits a cell into what is no conflict copy, and the copies.
pub(crate) fn split(standing: &Standing) -> (Standing, Standing) {
    standing.clone().into_iter().partition(|(path, _)| !is_copy(path))
}
