//! A model of what a plan is for: trees, a mount's file system, and the results of applying a plan to both.
//!
//! It follows the text of the specification, and shares only paths and entries with the crate.

#![expect(unreachable_pub, reason = "a module of a test program")]

pub mod edit;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};

use policy_core::{
    ConflictPolicy, Digest, Entry, Local, LocalRow, Next, Node, Reconciler, Rules, Source, Step, Timestamp,
    Towards, TreePath, TreeRow,
};

/// Entries by path. A context's tree is in canonical form: it lists directories only if they are empty or
/// their mode is not 0755. A mount's tree lists every directory.
pub type Tree = BTreeMap<TreePath, Entry>;

pub const DEFAULT: Rules =
    Rules { sync_local_file: true, conflict: ConflictPolicy::KeepBoth, hold_deletions: false };

pub fn path(s: &str) -> TreePath {
    s.parse().unwrap()
}

pub fn file(content: u32, mode: u16) -> Entry {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&content.to_be_bytes());
    entry(Node::File { size: u64::from(content), digest: Digest(digest) }, mode)
}

pub fn link(target: u32) -> Entry {
    entry(Node::Symlink { target: target.to_be_bytes().into() }, 0o777)
}

pub fn dir(mode: u16) -> Entry {
    entry(Node::Dir, mode)
}

fn entry(node: Node, mode: u16) -> Entry {
    // Times that must not matter.
    Entry { node, mode, mtime: Timestamp { secs: 7, nanos: 0 }, uploaded: 7 }
}

pub fn is_leaf(entry: &Entry) -> bool {
    !entry.is_dir()
}

fn ancestors(path: &TreePath) -> impl Iterator<Item = TreePath> {
    std::iter::successors(path.parent(), TreePath::parent).filter(|p| !p.is_root())
}

pub fn has_below(tree: &Tree, path: &TreePath) -> bool {
    tree.keys().any(|p| p.is_below(path))
}

/// Returns the canonical form; an error if something is below a file or link.
pub fn canonical(tree: &Tree) -> Result<Tree, String> {
    for p in tree.keys() {
        if let Some(up) = ancestors(p).find(|a| tree.get(a).is_some_and(is_leaf)) {
            return Err(format!("{p} lies below {up}, which is no directory"));
        }
    }
    Ok(without_implied(tree))
}

/// Removes directories that are implied by what is in them.
pub fn without_implied(tree: &Tree) -> Tree {
    let listed = |(p, e): &(&TreePath, &Entry)| is_leaf(e) || e.mode != 0o755 || !has_below(tree, p);
    tree.iter().filter(listed).map(|(p, e)| (p.clone(), e.clone())).collect()
}

/// Lists every directory.
pub fn expanded(tree: &Tree) -> Tree {
    let mut all = tree.clone();
    for up in tree.keys().flat_map(ancestors) {
        all.entry(up).or_insert_with(|| dir(0o755));
    }
    all
}

/// Whether two trees are equal, apart from times.
pub fn same(a: &Tree, b: &Tree) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((p, e), (q, f))| p == q && e.agrees_with(f))
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub path: TreePath,
    pub entry: Entry,
    pub recycled: bool,
}

impl TreeRow for Row {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn is_recycled(&self) -> bool {
        self.recycled
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Absent,
    Present(Entry),
    Pending,
    Unreadable,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub path: TreePath,
    pub state: State,
}

impl LocalRow for Difference {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn local(&self) -> Local<'_> {
        match &self.state {
            State::Absent => Local::Absent,
            State::Present(entry) => Local::Present(entry),
            State::Pending => Local::Pending,
            State::Unreadable => Local::Unreadable,
        }
    }
}

pub type PlanStep = Step<Row, Difference, Row>;

/// Returns what a scan finds, merged with the base as in the engine: rows only where the mount differs.
/// Nothing is known of the paths in `unreadable` and of those below.
pub fn differences(base: &Tree, mount: &Tree, unreadable: &BTreeSet<TreePath>) -> Vec<Difference> {
    let hidden = |p: &TreePath| unreadable.iter().any(|u| p.is_below(u));
    let seen = canonical(mount).unwrap();
    let found: BTreeMap<&TreePath, Option<&Entry>> = seen
        .iter()
        .filter(|(p, _)| !unreadable.contains(*p) && !hidden(p))
        .map(|(p, e)| (p, Some(e)))
        .chain(mount.keys().filter(|p| unreadable.contains(*p) && !hidden(p)).map(|p| (p, None)))
        .collect();
    let paths: BTreeSet<&TreePath> = found.keys().copied().chain(base.keys()).collect();
    let mut rows = Vec::new();
    for p in paths {
        let state = match (found.get(p), base.get(p)) {
            (Some(None), _) => State::Unreadable,
            (Some(Some(e)), Some(b)) if e.agrees_with(b) => continue,
            (Some(Some(e)), _) => State::Present((*e).clone()),
            (None, _) if hidden(p) && mount.keys().any(|u| unreadable.contains(u) && p.is_below(u)) => {
                State::Unreadable
            }
            (None, Some(b)) if found.keys().any(|f| f.is_below(p)) => {
                if b.agrees_with(&Entry::IMPLIED_DIR) {
                    continue;
                }
                State::Present(Entry::IMPLIED_DIR)
            }
            (None, _) => State::Absent,
        };
        rows.push(Difference { path: p.clone(), state });
    }
    rows
}

pub fn rows(tree: &Tree) -> Vec<Row> {
    tree.iter().map(|(p, e)| Row { path: p.clone(), entry: e.clone(), recycled: false }).collect()
}

/// Runs the reconciler. `chunks` says how many rows each push has.
pub fn plan_rows(
    rules: Rules,
    towards: Towards,
    base: Vec<Row>,
    local: Vec<Difference>,
    remote: Vec<Row>,
    chunks: &[usize],
) -> Vec<PlanStep> {
    let (mut base, mut local, mut remote) = (base.into_iter(), local.into_iter(), remote.into_iter());
    let mut chunks = chunks.iter().copied().cycle();
    let mut reconciler = Reconciler::new(rules, towards);
    let mut steps = Vec::new();
    loop {
        match reconciler.next() {
            Next::End => return steps,
            Next::Step(step) => steps.push(step),
            Next::Need(source) => {
                for _ in 0..chunks.next().unwrap_or(1).max(1) {
                    match source {
                        Source::Base => reconciler.push_base(base.next()),
                        Source::Local => reconciler.push_local(local.next()),
                        Source::Remote => reconciler.push_remote(remote.next()),
                    }
                }
            }
        }
    }
}

pub fn plan(
    rules: Rules,
    towards: Towards,
    base: &Tree,
    local: &[Difference],
    remote: &Tree,
) -> Vec<PlanStep> {
    plan_rows(rules, towards, rows(base), local.to_vec(), rows(remote), &[1])
}
