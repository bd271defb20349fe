//! `ls`: what is in a snapshot.

use policy_core::{Entry, Node, TreePath, escape};
use transfer_engine::{Error, SyncReport};

use super::Finished;
use crate::args::LsArgs;
use crate::errors::Failure;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Ui;
use crate::output::json::{DirectoryLine, EntryLine, Line};
use crate::{exit::Exit, text};

pub(super) async fn ls(args: &LsArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let ui = means.ui;
    let (context, within) = (&args.place.context, &args.place.path);
    let store = open_store(means, false)?.store;
    let snapshot = store.snapshot(&context.name, context.at.clone()).await?;
    let (mut rows, mut sums) = (Rows::new(within), Sums::new(within, args.depth));
    let (mut any, mut recycled) = (false, false);
    store
        .entries(&snapshot, within, |found| {
            // A recycled file is gone, although the tree still has an entry for it.
            recycled |= found.recycled;
            if !found.recycled {
                any = true;
                match args.du {
                    true => sums.add(&found.path, &found.entry, ui),
                    false => rows.entry(&found.path, &found.entry, |path, entry| show(ui, path, entry)),
                }
            }
        })
        .await?;
    if !any && recycled && !within.is_root() {
        let (path, name, number) = (within.to_string(), context.name.clone(), snapshot.number);
        return Err(Error::Recycled { path, name, number }.into());
    }
    if !any && !within.is_root() {
        return Err(Failure::new(
            Exit::NOT_FOUND,
            format!("no `{within}` in `{}@{}`", context.name, snapshot.number),
        )
        .hint(format!("list files with `ctxsync ls {}@{}`", context.name, snapshot.number)));
    }
    if args.du {
        sums.end(ui);
    }
    let report = SyncReport { snapshot: Some(snapshot.number), ..SyncReport::default() };
    Ok(Finished { report: Some(report), ..Finished::of_context(&context.name) })
}

/// What the directories above the last entry hold, outermost first. Each is shown when it is complete, after those in
/// it, as `du` does.
struct Sums {
    open: Vec<Sum>,
    /// How many levels below the first one are shown.
    depth: usize,
}

struct Sum {
    dir: TreePath,
    files: u64,
    bytes: u64,
}

impl Sums {
    fn new(within: &TreePath, depth: Option<usize>) -> Self {
        let top = Sum { dir: within.clone(), files: 0, bytes: 0 };
        Self { open: vec![top], depth: depth.unwrap_or(usize::MAX) }
    }

    fn add(&mut self, path: &TreePath, entry: &Entry, ui: &Ui) {
        while self.open.len() > 1 && self.open.last().is_some_and(|sum| !path.is_below(&sum.dir)) {
            self.close(ui);
        }
        let top = self.open.last().map(|sum| sum.dir.clone()).unwrap_or_default();
        let mut above = Vec::new();
        let mut dir = if entry.is_dir() { Some(path.clone()) } else { path.parent() };
        while let Some(next) = dir.filter(|dir| dir.is_below(&top)) {
            dir = next.parent();
            above.push(next);
        }
        self.open.extend(above.into_iter().rev().map(|dir| Sum { dir, files: 0, bytes: 0 }));
        if let (Node::File { size, .. }, Some(sum)) = (&entry.node, self.open.last_mut()) {
            sum.files += 1;
            sum.bytes += size;
        }
    }

    /// Shows the innermost directory, and adds it to the one that it is in.
    fn close(&mut self, ui: &Ui) {
        let Some(Sum { dir, files, bytes }) = self.open.pop() else { return };
        if self.open.len() <= self.depth {
            match ui.is_json() {
                true => ui.object(&Line::Directory(DirectoryLine { path: (&dir).into(), files, bytes })),
                false => {
                    let name = if dir.is_root() { ".".to_owned() } else { dir.to_string() };
                    ui.line(&format!(
                        "{:>10} {:>14}  {name}",
                        text::bytes(bytes),
                        text::count(files, "file")
                    ));
                }
            }
        }
        if let Some(outer) = self.open.last_mut() {
            outer.files += files;
            outer.bytes += bytes;
        }
    }

    fn end(&mut self, ui: &Ui) {
        while !self.open.is_empty() {
            self.close(ui);
        }
    }
}

/// Adds the implied directories to the entries of a tree.
struct Rows {
    within: TreePath,
    /// The directories above the last row, outermost first.
    above: Vec<TreePath>,
}

impl Rows {
    fn new(within: &TreePath) -> Self {
        Self { within: within.clone(), above: Vec::new() }
    }

    fn entry(&mut self, path: &TreePath, entry: &Entry, mut row: impl FnMut(&TreePath, &Entry)) {
        while self.above.last().is_some_and(|dir| !path.is_below(dir)) {
            self.above.pop();
        }
        let mut implied = Vec::new();
        let mut next = path.parent();
        while let Some(dir) = next {
            let known = self.above.last() == Some(&dir);
            if known || dir.is_root() || !dir.is_within(&self.within) {
                break;
            }
            next = dir.parent();
            implied.push(dir);
        }
        for dir in implied.into_iter().rev() {
            row(&dir, &Entry::IMPLIED_DIR);
            self.above.push(dir);
        }
        row(path, entry);
        if entry.is_dir() {
            self.above.push(path.clone());
        }
    }
}

fn show(ui: &Ui, path: &TreePath, entry: &Entry) {
    let kind = match entry.node {
        Node::File { .. } => "file",
        Node::Dir => "dir",
        Node::Symlink { .. } => "symlink",
    };
    // An implied directory has no time.
    let known = *entry != Entry::IMPLIED_DIR;
    let target = match &entry.node {
        Node::Symlink { target } => Some(target),
        _ => None,
    };
    if ui.is_json() {
        ui.object(&Line::Entry(EntryLine {
            path: path.into(),
            kind,
            size: entry.size(),
            mode: format!("{:04o}", entry.mode),
            mtime: known.then(|| text::time(entry.mtime)),
            target: target.map(|target| String::from_utf8_lossy(target).into_owned()),
        }));
        return;
    }
    ui.header(&format!("{:<7} {:<4} {:>8} {:<20} path", "kind", "mode", "size", "time"));
    let time = if known { text::moment(entry.mtime) } else { "-".into() };
    let arrow = target.map(|target| format!(" -> {}", escape(target))).unwrap_or_default();
    ui.line(&format!(
        "{kind:<7} {:04o} {:>8} {time:<20} {path}{arrow}",
        entry.mode,
        text::bytes(entry.size())
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(within: &str, paths: &[&str]) -> Vec<String> {
        let mut rows = Rows::new(&within.parse().unwrap());
        let mut seen = Vec::new();
        for path in paths {
            let dir = path.ends_with('/');
            let node = if dir { Node::Dir } else { Node::Symlink { target: (*b"t").into() } };
            let entry = Entry { node, ..Entry::IMPLIED_DIR };
            let path = path.trim_end_matches('/').parse().unwrap();
            rows.entry(&path, &entry, |path, _| seen.push(path.to_string()));
        }
        seen
    }

    #[test]
    fn implied_directories_appear_once() {
        let seen = rows("", &["a/b/c", "a/b/d", "a/e/", "a/e/f", "g"]);
        assert_eq!(seen, ["a", "a/b", "a/b/c", "a/b/d", "a/e", "a/e/f", "g"]);
    }

    #[test]
    fn only_what_is_asked_for() {
        assert_eq!(rows("a/b", &["a/b/c/d"]), ["a/b", "a/b/c", "a/b/c/d"]);
        assert_eq!(rows("a/b", &["a/b"]), ["a/b"]);
    }
}
