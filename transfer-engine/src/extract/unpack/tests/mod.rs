//! Archives that the tests make themselves, and what is extracted from them.

mod faults;
mod kinds;
mod laws;
mod limits;
mod make;
mod mutations;
mod real;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use policy_core::{Timestamp, TreePath};

use super::{ArchiveKind, ExtractError, ExtractLimits, Extracted, Extraction};
use crate::Env;
use crate::local::MountDir;

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    File { content: Vec<u8>, mode: u32, mtime: i64 },
    Dir { mode: u32 },
    Link { target: Vec<u8> },
}

/// A file of mode 0644 with any time.
pub(super) type Tree = BTreeMap<Vec<u8>, Node>;

pub(super) fn file(content: impl AsRef<[u8]>) -> Node {
    Node::File { content: content.as_ref().to_vec(), mode: 0o644, mtime: make::MTIME }
}

pub(super) fn link(target: &str) -> Node {
    Node::Link { target: target.as_bytes().to_vec() }
}

pub(super) fn dir() -> Node {
    Node::Dir { mode: 0o755 }
}

pub(super) fn tree(nodes: &[(&str, Node)]) -> Tree {
    nodes.iter().map(|(path, node)| (path.as_bytes().to_vec(), node.clone())).collect()
}

/// Reads a tree back, without its root.
pub(super) fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut ahead = vec![root.to_path_buf()];
    while let Some(dir) = ahead.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.mode() & 0o7777;
            let node = if meta.is_dir() {
                ahead.push(path.clone());
                Node::Dir { mode }
            } else if meta.is_symlink() {
                Node::Link { target: std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec() }
            } else {
                Node::File { content: std::fs::read(&path).unwrap(), mode, mtime: meta.mtime() }
            };
            tree.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), node);
        }
    }
    tree
}

/// An extraction with default settings, which a test can change.
pub(super) struct Case<'c> {
    pub(super) name: &'c str,
    pub(super) limits: ExtractLimits,
    pub(super) keep: &'c dyn Fn(&TreePath, bool) -> bool,
    pub(super) stop: &'c dyn Fn() -> bool,
    pub(super) env: Env,
}

impl<'c> Case<'c> {
    pub(super) fn new(name: &'c str) -> Self {
        Self { name, limits: ExtractLimits::default(), keep: &|_, _| true, stop: &|| false, env: Env::real() }
    }

    /// Extracts `bytes`, and checks that nothing outside the target changed.
    pub(super) fn run(&self, bytes: &[u8]) -> Result<(Extracted, Tree), ExtractError> {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("archive");
        std::fs::write(&path, bytes).unwrap();
        let archive = File::open(&path).unwrap();
        let time = Timestamp { secs: make::MTIME, nanos: 0 };
        rustix::fs::futimens(&archive, &super::place::times(time)).unwrap();
        let done = self.run_in(outer.path(), &archive);
        let mut around: Vec<_> =
            std::fs::read_dir(outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        around.sort();
        assert_eq!(around, ["archive", "into"], "something was written outside");
        done
    }

    pub(super) fn run_in(&self, outer: &Path, archive: &File) -> Result<(Extracted, Tree), ExtractError> {
        let target = outer.join("into");
        std::fs::create_dir(&target).unwrap();
        let outer = MountDir::open(outer, &self.env).unwrap();
        let into = outer.inside(outer.dir(&"into".parse().unwrap()).unwrap(), target.clone());
        let mut begin = vec![0; ArchiveKind::BEGIN];
        let n = std::os::unix::fs::FileExt::read_at(archive, &mut begin, 0).unwrap();
        let kind = ArchiveKind::of(self.name.as_bytes(), &begin[..n])
            .ok_or_else(|| ExtractError::damaged("it is no archive by its first bytes"))?;
        let job = Extraction {
            archive,
            kind,
            name: self.name.as_bytes(),
            into: &into,
            limits: &self.limits,
            keep: self.keep,
            stop: self.stop,
        };
        let extracted = job.run()?;
        Ok((extracted, read_tree(&target)))
    }
}

/// Extracts an archive with this name.
pub(super) fn extract(name: &str, bytes: &[u8]) -> Result<(Extracted, Tree), ExtractError> {
    Case::new(name).run(bytes)
}

/// Extracts an archive that must succeed without warnings, and returns the tree.
#[track_caller]
pub(super) fn comes_out(name: &str, bytes: &[u8]) -> Tree {
    let (extracted, tree) = extract(name, bytes).unwrap();
    assert_eq!(extracted.warnings, Vec::<String>::new());
    tree
}

/// Extracts an archive that must be refused, and returns the message.
#[track_caller]
pub(super) fn refused(name: &str, bytes: &[u8]) -> String {
    extract(name, bytes).unwrap_err().to_string()
}
