//! Objects of git repositories that a pull brings again although they were deleted here.

use policy_core::{GitChanges, LocalRow, Towards, TreePath, Verdict};

use crate::changes::LocalDelta;
use crate::error::Error;
use crate::mount::Mount;
use crate::plan::Plan;

impl Mount {
    /// Returns what the mount has changed in git repositories.
    pub(super) fn git_here(&self, delta: &mut LocalDelta) -> Result<GitChanges, Error> {
        let cannot_read = |e| Error::local("read", self.files.dir(), e);
        let mut git = GitChanges::default();
        for row in delta.read().map_err(cannot_read)? {
            let row = row.map_err(cannot_read)?;
            git.note_here(&row.path, row.base.as_ref(), row.local());
        }
        Ok(git)
    }
}

/// Returns the objects of git repositories that were deleted here, and that are pulled again because the context has
/// changed their repository.
pub(super) async fn kept_objects(mut plan: Plan<'_>, git: &mut GitChanges) -> Result<Vec<TreePath>, Error> {
    let mut deleted = Vec::new();
    while let Some(step) = plan.next().await? {
        git.note(&step);
        if GitChanges::concerns(&step) {
            deleted.push(step);
        }
    }
    deleted.retain(|step| git.keeps(step, Towards::Mount).is_some_and(|kept| kept.verdict == Verdict::Write));
    Ok(deleted.into_iter().map(|step| step.path).collect())
}
