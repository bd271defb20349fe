//! The three sides of a merge, path by path, as the reconciler wants them. Only paths at which a side differs from
//! the base are read: at all others nothing happens.

use policy_core::{
    Decision, Entry, GitChanges, Local, LocalRow, Next, Node, Reason, Reconciler, Rules, Source, Step,
    Towards, TreePath, Verdict, copy_path,
};

use crate::error::Error;
use crate::format::TreeEntry;
use crate::local::sqlite;
use crate::plan::RemoteRow;
use crate::tree::{Difference, Differences, Tree};

/// A path at which the context that is merged into differs from the base.
#[derive(Debug, Clone)]
pub(super) struct IntoRow {
    path: TreePath,
    /// What it has there; a placeholder counts as nothing.
    entry: Option<TreeEntry>,
}

impl LocalRow for IntoRow {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn local(&self) -> Local<'_> {
        self.entry.as_ref().map_or(Local::Absent, |entry| Local::Present(&entry.entry))
    }
}

pub(super) type MergeStep = Step<RemoteRow, IntoRow, RemoteRow>;

/// Whether the step brings no more than the mark that an archive was extracted: the context that is merged into has the
/// same archive without it, and the base did not say so either.
pub(super) fn brings_mark(step: &MergeStep) -> bool {
    let base = step.base.as_ref().map(|row| &row.0);
    let here = step.local.as_ref().map_or(base, |row| row.entry.as_ref());
    let (Verdict::Nothing | Verdict::Keep, Some(there), Some(here)) =
        (step.decision.verdict, step.remote.as_ref().map(|row| &row.0), here)
    else {
        return false;
    };
    let is_same = |entry: &TreeEntry| entry.entry.node == there.entry.node;
    let was_marked = base.is_some_and(|base| base.extracted && is_same(base));
    there.extracted && !there.recycled && !here.extracted && is_same(here) && !was_marked
}

/// The decided paths of a merge, in tree order.
pub(super) struct Steps<'a> {
    reconciler: Reconciler<RemoteRow, IntoRow, RemoteRow>,
    into: Differences<'a>,
    from: Differences<'a>,
    /// The next difference of each side.
    next: (Option<Difference>, Option<Difference>),
    started: bool,
    only: &'a [TreePath],
    /// The trees of further newest common snapshots.
    others: Vec<Tree<'a>>,
    /// What each side has changed in git repositories.
    git: Option<&'a GitChanges>,
}

impl<'a> Steps<'a> {
    /// Begins to merge: what differs between `base` and `from` goes to `into`. If `only` has paths, nothing else.
    pub(super) fn new(
        rules: Rules,
        base: Option<&Tree<'a>>,
        into: &Tree<'a>,
        from: &Tree<'a>,
        only: &'a [TreePath],
    ) -> Self {
        Self {
            reconciler: Reconciler::new(rules, Towards::Mount),
            into: Differences::between(base, into),
            from: Differences::between(base, from),
            next: (None, None),
            started: false,
            only,
            others: Vec::new(),
            git: None,
        }
    }

    /// Lets further common snapshots have a say: see [`judge`].
    pub(super) fn beside(self, others: Vec<Tree<'a>>) -> Self {
        Self { others, ..self }
    }

    /// Says what each side has changed in git repositories.
    pub(super) fn with_git(self, git: &'a GitChanges) -> Self {
        Self { git: Some(git), ..self }
    }

    /// Returns the next path at which something differs.
    pub(super) async fn next(&mut self) -> Result<Option<MergeStep>, Error> {
        loop {
            match self.reconciler.next() {
                Next::Step(step) => {
                    let mut step = judge(&self.others, step).await?;
                    let kept = self.git.and_then(|git| git.keeps(&step, Towards::Mount));
                    step.decision = kept.unwrap_or(step.decision);
                    return Ok(Some(step));
                }
                Next::End => return Ok(None),
                Next::Need(source) => self.feed(source).await?,
            }
        }
    }

    /// Gives the reconciler the rows of the next path, whichever source it asks for.
    async fn feed(&mut self, _asked: Source) -> Result<(), Error> {
        if !self.started {
            self.started = true;
            self.next = (self.step_into().await?, self.step_from().await?);
        }
        let path = match (&self.next.0, &self.next.1) {
            (None, None) => {
                self.reconciler.push_base(None);
                self.reconciler.push_local(None);
                self.reconciler.push_remote(None);
                return Ok(());
            }
            (Some(one), None) | (None, Some(one)) => one.path.clone(),
            (Some(into), Some(from)) => into.path.clone().min(from.path.clone()),
        };
        let into = self.next.0.take_if(|into| into.path == path);
        let mut from = self.next.1.take_if(|from| from.path == path);
        if !self.has_members(&path)
            && let Some(entry) = from.as_mut().and_then(|from| from.right.as_mut())
        {
            entry.extracted &= entry.recycled;
        }
        if into.is_some() {
            self.next.0 = self.step_into().await?;
        }
        if from.is_some() {
            self.next.1 = self.step_from().await?;
        }
        let base = into.as_ref().or(from.as_ref()).and_then(|one| one.left.clone());
        // At a path where `from` does not differ, it is like the base.
        let remote = from.map_or_else(|| base.clone(), |from| from.right);
        if let Some(base) = base.filter(|base| !base.recycled) {
            self.reconciler.push_base(Some(RemoteRow(base)));
        }
        if let Some(into) = into {
            let entry = into.right.filter(|entry| !entry.recycled);
            self.reconciler.push_local(Some(IntoRow { path, entry }));
        }
        if let Some(remote) = remote {
            self.reconciler.push_remote(Some(RemoteRow(remote)));
        }
        Ok(())
    }

    /// Whether all that may have come out of an archive is merged as well: it comes out in the directory of the archive.
    /// Otherwise only the archive has all of its content, so it does not get the mark that it was extracted.
    fn has_members(&self, archive: &TreePath) -> bool {
        let place = archive.parent().unwrap_or_default();
        self.only.is_empty() || self.only.iter().any(|asked| place.is_within(asked))
    }

    async fn step_into(&mut self) -> Result<Option<Difference>, Error> {
        next_within(&mut self.into, self.only).await
    }

    async fn step_from(&mut self) -> Result<Option<Difference>, Error> {
        next_within(&mut self.from, self.only).await
    }
}

/// Lets another common snapshot overrule a deletion or a replacement: if what is merged is as that snapshot says,
/// and what is merged into is not, then the latter has changed the path since. A deletion is not carried out, and
/// a replacement becomes a conflict.
async fn judge(others: &[Tree<'_>], mut step: MergeStep) -> Result<MergeStep, Error> {
    let there = step.remote.as_ref().map(|row| &row.0.entry);
    let here = match &step.local {
        Some(row) => row.entry.as_ref().map(|entry| &entry.entry),
        None => step.base.as_ref().map(|row| &row.0.entry),
    };
    let (Verdict::Delete | Verdict::Write, Some(here)) = (step.decision.verdict, here) else {
        return Ok(step);
    };
    let same = |one: Option<&Entry>, other: Option<&Entry>| match (one, other) {
        (Some(one), Some(other)) => one.agrees_with(other),
        (one, other) => one.is_none() && other.is_none(),
    };
    for tree in others {
        let known = tree.find(&step.path).await?.filter(|entry| !entry.recycled).map(|entry| entry.entry);
        if !same(known.as_ref(), there) || same(known.as_ref(), Some(here)) {
            continue;
        }
        let copy = match there.map(|there| &there.node) {
            Some(Node::File { digest, .. }) => Some(copy_path(&step.path, &digest.short(), 1)),
            _ => None,
        };
        step.decision = match copy {
            Some(_) => Decision { verdict: Verdict::KeepBoth, reason: Reason::BothChanged },
            None => Decision { verdict: Verdict::Keep, reason: Reason::ChangeHereBeatsDeletion },
        };
        step.copy = copy;
        break;
    }
    Ok(step)
}

/// Returns the next difference at or below one of these paths. The journal and the log of a database belong to it.
async fn next_within(
    differences: &mut Differences<'_>,
    only: &[TreePath],
) -> Result<Option<Difference>, Error> {
    while let Some(next) = differences.next().await? {
        let is_dir = [&next.left, &next.right].into_iter().flatten().any(|row| row.entry.is_dir());
        let database = sqlite::database_of(&next.path).filter(|_| !is_dir && !only.is_empty());
        let is_asked = |asked: &TreePath| next.path.is_within(asked) || database.as_ref() == Some(asked);
        if only.is_empty() || only.iter().any(is_asked) {
            return Ok(Some(next));
        }
    }
    Ok(None)
}
