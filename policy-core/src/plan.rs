//! A plan from whole trees in memory.

use std::iter::Peekable;
use std::slice::Iter;

use crate::decide::{Decision, Local, Rules, Towards, Verdict};
use crate::git::GitChanges;
use crate::reconcile::{LocalRow, Next, Reconciler, Source, TreeRow};
use crate::{Entry, TreePath};

/// A path with which a sync does something, or which it leaves although the two sides differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Planned {
    /// The path.
    pub path: TreePath,
    /// What is done, and why.
    pub decision: Decision,
    /// With [`Verdict::KeepBoth`]: where the remote version is kept.
    pub copy: Option<TreePath>,
}

/// The paths of a tree are not sorted, or one is there twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path `{path}` is not in the order of a tree, or is there twice")]
pub struct NotSorted {
    /// The first such path.
    pub path: TreePath,
}

/// Returns what a sync does, path by path, so that the side `towards` gets what the other one has changed.
///
/// `base` is the state on which both sides last agreed; it is empty if they never did. Each tree is sorted by path.
/// Directories that have something in them and mode 0755 may be left out.
///
/// A [`Reconciler`] with [`GitChanges`] does the same in constant memory, and knows more states of a local path than
/// that it is there or not.
///
/// # Errors
/// [`NotSorted`] if the paths of one tree are not in ascending order.
///
/// ```
/// use policy_core::{ConflictPolicy, Digest, Entry, Node, Rules, Timestamp, Towards, TreePath, Verdict, plan};
///
/// let file = |path: &str, content: u8| {
///     let node = Node::File { size: 1, digest: Digest([content; 32]) };
///     let entry = Entry { node, mode: 0o644, mtime: Timestamp::default(), uploaded: 0 };
///     (path.parse::<TreePath>().unwrap(), entry)
/// };
/// let base = [file("kept", 1), file("notes", 1), file("old", 1)];
/// // Here, `notes` was changed and `old` was deleted; there, `notes` was changed as well.
/// let local = [file("kept", 1), file("notes", 2)];
/// let remote = [file("kept", 1), file("notes", 3), file("old", 1)];
///
/// let rules = Rules { sync_local_file: true, conflict: ConflictPolicy::KeepBoth, hold_deletions: false };
/// let plan = plan(&base, &local, &remote, rules, Towards::Store)?;
/// assert_eq!(plan[0].path.to_string(), "notes");
/// assert_eq!(plan[0].decision.verdict, Verdict::KeepBoth);
/// assert_eq!(plan[1].path.to_string(), "old");
/// assert_eq!(plan[1].decision.verdict, Verdict::Delete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(
    base: &[(TreePath, Entry)],
    local: &[(TreePath, Entry)],
    remote: &[(TreePath, Entry)],
    rules: Rules,
    towards: Towards,
) -> Result<Vec<Planned>, NotSorted> {
    for tree in [base, local, remote] {
        if let Some(pair) = tree.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(NotSorted { path: pair[1].0.clone() });
        }
    }
    let mut base_rows = Listed::new(base);
    let mut differences =
        Differences { base: Listed::new(base).peekable(), local: Listed::new(local).peekable() };
    let mut remote = Listed::new(remote);
    let mut reconciler = Reconciler::new(rules, towards);
    let (mut planned, mut git, mut objects) = (Vec::new(), GitChanges::default(), Vec::new());
    loop {
        match reconciler.next() {
            Next::Need(Source::Base) => reconciler.push_base(base_rows.next()),
            Next::Need(Source::Local) => reconciler.push_local(differences.next()),
            Next::Need(Source::Remote) => reconciler.push_remote(remote.next()),
            Next::Step(step) => {
                git.note(&step);
                let (path, copy) = (step.path.clone(), step.copy.clone());
                planned.push(Planned { path, decision: step.decision, copy });
                if GitChanges::concerns(&step) {
                    objects.push((planned.len() - 1, step));
                }
            }
            Next::End => break,
        }
    }
    for (at, object) in objects {
        planned[at].decision = git.keeps(&object, towards).unwrap_or(object.decision);
    }
    planned.retain(|planned| planned.decision.verdict != Verdict::Nothing);
    Ok(planned)
}

/// What has no entry of its own, as there is something in it.
static IMPLIED: Entry = Entry::IMPLIED_DIR;

/// The rows of a tree, without directories that are implied by what is in them.
struct Listed<'a>(Peekable<Iter<'a, (TreePath, Entry)>>);

impl<'a> Listed<'a> {
    fn new(tree: &'a [(TreePath, Entry)]) -> Self {
        Self(tree.iter().peekable())
    }
}

impl<'a> Iterator for Listed<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        loop {
            let (path, entry) = self.0.next()?;
            let is_implied =
                entry.agrees_with(&IMPLIED) && self.0.peek().is_some_and(|(next, _)| next.is_below(path));
            if !is_implied {
                return Some(Row { path, entry });
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Row<'a> {
    path: &'a TreePath,
    entry: &'a Entry,
}

impl TreeRow for Row<'_> {
    fn path(&self) -> &TreePath {
        self.path
    }

    fn entry(&self) -> &Entry {
        self.entry
    }
}

/// Where the local tree differs from the base.
struct Differences<'a> {
    base: Peekable<Listed<'a>>,
    local: Peekable<Listed<'a>>,
}

struct Difference<'a> {
    path: &'a TreePath,
    local: Local<'a>,
}

impl LocalRow for Difference<'_> {
    fn path(&self) -> &TreePath {
        self.path
    }

    fn local(&self) -> Local<'_> {
        self.local
    }
}

impl<'a> Iterator for Differences<'a> {
    type Item = Difference<'a>;

    fn next(&mut self) -> Option<Difference<'a>> {
        loop {
            let (base, local) = (self.base.peek().copied(), self.local.peek().copied());
            let path = base.into_iter().chain(local).map(|row| row.path).min()?;
            let base = self.base.next_if(|row| row.path == path);
            let found = self.local.next_if(|row| row.path == path);
            let holds = found.is_none() && local.is_some_and(|next| next.path.is_below(path));
            let now = if holds { Some(&IMPLIED) } else { found.map(|row| row.entry) };
            match (base, now) {
                (Some(base), Some(now)) if base.entry.agrees_with(now) => {}
                (_, Some(now)) => return Some(Difference { path, local: Local::Present(now) }),
                (_, None) => return Some(Difference { path, local: Local::Absent }),
            }
        }
    }
}
