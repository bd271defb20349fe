//! Extracted archives that the context still needs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use policy_core::{Reason, TreePath, Verdict};
use rustix::fs::FileType;

use super::attempt::{Attempt, Onto};
use crate::changes::LocalDelta;
use crate::error::Error;
use crate::local::{MountDir, names, stat_at};
use crate::mount::Mount;
use crate::plan::{Filter, PlanStep};
use crate::state::{Archive, DeltaRow, ScopeId};

/// An archive that was extracted here, and is not marked as extracted in the context.
#[derive(Debug)]
pub(super) struct Found {
    path: TreePath,
    /// The directory into which it was extracted.
    at: TreePath,
    scope: Option<ScopeId>,
}

impl Found {
    pub(super) fn of(step: &PlanStep) -> Option<Self> {
        let is_unmarked = step.remote.as_ref().is_some_and(|there| !there.0.extracted);
        match step.base.as_ref().map(|base| &base.archive) {
            Some(Archive::Extracted { at: Some(at), scope, .. }) if is_unmarked => {
                Some(Self { path: step.path.clone(), at: at.clone(), scope: *scope })
            }
            _ => None,
        }
    }
}

/// What a push leaves in the context where an archive was extracted.
#[derive(Debug, Default)]
struct Around {
    /// Whether there is anything after the push.
    is_saved: bool,
    /// Whether something is missing that the mount has.
    lacks: bool,
}

impl Around {
    fn note(&mut self, step: &PlanStep) {
        let is_here = step.local.as_ref().and_then(DeltaRow::present).is_some();
        self.is_saved |= match step.decision.verdict {
            Verdict::Write | Verdict::KeepBoth => is_here || step.remote.is_some(),
            Verdict::Delete => false,
            _ => step.remote.is_some(),
        };
        let reasons = [Reason::Recycled, Reason::Unmounted, Reason::NeedsDeletion];
        self.lacks |= step.decision.verdict == Verdict::Withhold && reasons.contains(&step.decision.reason);
    }
}

impl Mount {
    /// Returns the archives that stay unmarked in the context, because it lacks some of their files. The next push decides
    /// again.
    pub(super) async fn still_needed(
        &self,
        attempt: &Attempt<'_>,
        onto: &Onto<'_>,
        delta: &mut LocalDelta,
        found: Vec<Found>,
    ) -> Result<Arc<BTreeSet<TreePath>>, Error> {
        if found.is_empty() {
            return Ok(Arc::default());
        }
        let filter = &attempt.job.filter;
        let among_others = filter.extract.as_ref().is_some_and(|policy| policy.extract_to_current_folder);
        let place = |one: &Found| if among_others { parent(&one.path) } else { one.at.clone() };
        let paths: BTreeSet<&TreePath> = found.iter().map(|one| &one.path).collect();
        let mut around: BTreeMap<TreePath, Around> =
            found.iter().map(|one| (place(one), Around::default())).collect();
        let mut plan = self.plan(attempt, onto, delta)?;
        while let Some(step) = plan.next().await? {
            if paths.contains(&step.path) {
                continue;
            }
            let mut above = Some(step.path.clone());
            while let Some(dir) = above {
                if let Some(around) = around.get_mut(&dir) {
                    around.note(&step);
                }
                above = dir.parent();
            }
        }
        drop(plan);
        // Then a missing file does not count as deleted.
        let keeps_deleted =
            attempt.hold || attempt.cut.is_some() || !self.policy.delete_policy.sync_local_file;
        let mut needed = BTreeSet::new();
        for one in &found {
            let around = around.get(&place(one));
            let mut is_needed = around.is_none_or(|around| around.lacks || keeps_deleted && !around.is_saved);
            // Members among other files can't be told from these.
            if !among_others && !is_needed {
                let begin = |dir: &TreePath| delta.file_systems.begin_of(dir);
                is_needed = begin(&one.at) != begin(&parent(&one.path));
                if one.scope.is_some_and(|scope| scope != filter.scope_id) {
                    let (dir, filter, at) = (attempt.job.dir.clone(), filter.clone(), one.at.clone());
                    let is_out = attempt.job.dir.blocking(move || is_partly_out(&dir, &filter, &at)).await;
                    is_needed |= is_out.map_or(true, |is_out| is_out.unwrap_or(true));
                }
            }
            if is_needed {
                needed.insert(one.path.clone());
            }
        }
        Ok(Arc::new(needed))
    }
}

fn parent(path: &TreePath) -> TreePath {
    path.parent().unwrap_or_default()
}

/// Whether a directory, or something in it, is out of scope. A directory that does not exist is not.
fn is_partly_out(dir: &MountDir, filter: &Filter, path: &TreePath) -> io::Result<bool> {
    if !filter.in_scope(path, true) {
        return Ok(true);
    }
    let mut open = vec![path.clone()];
    while let Some(path) = open.pop() {
        let there = match dir.dir(&path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            there => there?,
        };
        for name in names(&there)? {
            let Some(stat) = stat_at(&there, &name)? else { continue };
            let (path, is_dir) =
                (path.join(&name).map_err(io::Error::other)?, FileType::from_raw_mode(stat.st_mode).is_dir());
            if !filter.in_scope(&path, is_dir) {
                return Ok(true);
            }
            if is_dir {
                open.push(path);
            }
        }
    }
    Ok(false)
}
