//! What a push learns about the age of files, and recycling afterwards.

use std::io;

use futures::future::BoxFuture;
use policy_core::{Expiry, Node, PathSet, Towards, TreePath, Verdict};
use tokio::time::timeout_at;

use crate::error::Error;
use crate::format::RecycleRules;
use crate::monitor::Monitor;
use crate::mount::Mount;
use crate::options::SyncOptions;
use crate::plan::PlanStep;
use crate::recycle::{DueFile, Recycled, Recycling, carry_out};
use crate::report::SyncReport;
use crate::state::BaseRow;
use crate::tree::Part;

/// The ages of the files to which the recycle policy applies, as far as a push sees them anyway.
pub(super) struct Aging {
    rule: Expiry,
    /// The current time, as far as known without asking the store.
    now: i64,
    expired: u64,
    /// When the first file expires or expired.
    first: Option<i64>,
    /// When the first file expires that is not expired yet.
    next: Option<i64>,
}

impl Aging {
    /// Returns the number of expired files.
    pub(super) fn expired(&self) -> u64 {
        self.expired
    }

    /// Returns when the first file expires or expired.
    pub(super) fn first(&self) -> Option<i64> {
        self.first
    }

    /// Returns when the first file expires that is not expired yet.
    pub(super) fn next(&self) -> Option<i64> {
        self.next
    }

    /// Counts the rows of the base, if base and head agree.
    pub(super) fn note_base(&mut self, rows: impl Iterator<Item = io::Result<BaseRow>>) -> Result<(), Error> {
        (self.expired, self.first, self.next) = (0, None, None);
        for row in rows {
            let row = row.map_err(|e| Error::local("read", "the local state", e))?;
            if matches!(row.entry.node, Node::File { .. })
                && let Some(moment) = self.rule.moment(&row.path, row.entry.uploaded)
            {
                self.count(moment);
            }
        }
        Ok(())
    }

    /// Counts a step of a plan, and reports the file if it would be recycled.
    pub(super) fn note(&mut self, step: &PlanStep, tell: Option<&dyn Monitor>) {
        let written = matches!(step.decision.verdict, Verdict::Write | Verdict::Delete | Verdict::KeepBoth);
        let Some(remote) = step.remote.as_ref().filter(|_| !written) else { return };
        let entry = &remote.0.entry;
        if !matches!(entry.node, Node::File { .. }) {
            return;
        }
        let Some(moment) = self.rule.moment(&step.path, entry.uploaded) else { return };
        if self.count(moment)
            && let Some(monitor) = tell
        {
            let (path, size, uploaded) = (&step.path, entry.size(), entry.uploaded);
            DueFile { path, size, uploaded, moment, is_expired: true }.tell(self.now, monitor);
        }
    }

    /// Counts a file; returns whether it is expired.
    fn count(&mut self, moment: i64) -> bool {
        let is_expired = moment <= self.now;
        self.first = self.first.into_iter().chain([moment]).min();
        self.next = self.next.into_iter().chain((!is_expired).then_some(moment)).min();
        self.expired += u64::from(is_expired);
        is_expired
    }
}

/// Joins a mount's recycle rules with those of the head for other parts of the context.
fn rules_beside(own: RecycleRules, head: &RecycleRules, part: &Part) -> (RecycleRules, bool) {
    let is_outside = |path: &&TreePath| part.inner(path).is_none() && *path != part.path();
    let outside: Vec<TreePath> = match (part.is_whole(), head.lifecycle_days) {
        (false, Some(_)) => head.paths.iter().filter(is_outside).cloned().collect(),
        _ => Vec::new(),
    };
    if outside.is_empty() {
        return (own, true);
    }
    let days = head.lifecycle_days;
    let fits = own.lifecycle_days.is_none_or(|own| Some(own) == days);
    let joins = own.lifecycle_days.is_some() && fits;
    let paths = outside.into_iter().chain(own.paths.into_iter().filter(|_| joins));
    let paths = PathSet::of_places(paths.collect::<Vec<_>>()).places().to_vec();
    (RecycleRules { lifecycle_days: days, paths }, fits)
}

impl Mount {
    /// Returns the context's next recycle rules: those of this mount's policy, and for paths outside of the part that
    /// the mount has, those of the head. A context has one lifecycle. If the two differ in it, only the head's rules
    /// are noted, and false is returned: then those of the mount are carried out by its own pushes alone.
    pub(super) fn recycle_rules(&self, head: &RecycleRules) -> (RecycleRules, bool) {
        let lifecycle = self.policy.recycle_policy.lifecycle;
        let own = RecycleRules {
            lifecycle_days: lifecycle.days().and_then(|d| u16::try_from(d).ok()),
            paths: self.recycle_paths().places().iter().map(|path| self.part.outer(path)).collect(),
        };
        rules_beside(own, head, &self.part)
    }

    /// Returns the paths to which the recycle policy applies, limited to the scope. White lists that are
    /// expressions do not name paths, so they do not limit anything here.
    fn recycle_paths(&self) -> PathSet {
        let paths = self.scope.recycle_paths();
        let lists: Option<Vec<_>> = self.scope.lists().iter().map(|list| list.resolved().cloned()).collect();
        match lists {
            Some(lists) if !lists.is_empty() => paths.within(&PathSet::of_places(lists)),
            _ => paths.clone(),
        }
    }

    fn expiry(&self) -> Option<Expiry> {
        Some(Expiry::new(self.policy.recycle_policy.lifecycle.days()?, self.recycle_paths()))
    }

    /// Starts to note the ages of files, if the policy lets any expire.
    pub(super) fn aging(&self, options: &SyncOptions) -> Result<Option<Aging>, Error> {
        let Some(rule) = self.expiry().filter(|_| options.only.is_empty()) else { return Ok(None) };
        let landed = self.files.header()?.map_or(0, |header| header.head.landed);
        let now = self.store.env().now().secs.max(landed);
        Ok(Some(Aging { rule, now, expired: 0, first: None, next: None }))
    }

    /// Recycles expired files, if the push that just ended has seen any. If this fails, the push has not
    /// failed: the next one, or `gc`, recycles the files.
    pub(super) async fn recycle_after(
        &self,
        report: &mut SyncReport,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) {
        let Some(rule) = self.expiry() else { return };
        let ended = options.dry_run || report.partial || report.stopped_by_conflict;
        let Some(next) = report.next_expiry.filter(|_| !ended) else { return };
        let committed = report.parent.is_some();
        let recycle: BoxFuture<'_, Result<Option<Recycled>, Error>> = Box::pin(async {
            // The store's time is known from the commit. Without one, it is asked for only if a file seems to
            // be expired.
            let header = if committed { self.files.header()? } else { None };
            let landed = header.map(|header| header.head.landed);
            if next > landed.unwrap_or_else(|| self.store.env().now().secs) {
                return Ok(None);
            }
            let now = match landed {
                Some(landed) => landed,
                None => self.store.time().await?.0,
            };
            if next > now {
                return Ok(None);
            }
            let recycling = Recycling::new(rule, now, monitor);
            let filter = self.filter(&SyncOptions::default(), Towards::Store);
            let recycling = recycling.in_scope(filter, self.part.clone());
            let head = self.store.require_head(&self.context).await?;
            let cache = Some(self.cache());
            carry_out(&self.store, &self.context, head, Some(recycling), options, cache).await.map(Some)
        });
        let recycled = match options.deadline {
            Some(end) => timeout_at(end, recycle).await.unwrap_or(Ok(None)),
            None => recycle.await,
        };
        match recycled {
            Ok(Some(recycled)) => {
                report.recycled = recycled.files;
                report.next_expiry = recycled.next;
                report.snapshot = recycled.snapshot.or(report.snapshot);
            }
            Ok(None) => {}
            Err(e) => {
                monitor.warning(&format!("expired files were not recycled; the next push tries again: {e}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(days: u16, paths: &[&str]) -> RecycleRules {
        let lifecycle_days = (days > 0).then_some(days);
        RecycleRules { lifecycle_days, paths: paths.iter().map(|path| path.parse().unwrap()).collect() }
    }

    #[test]
    fn rules_of_a_part_beside_those_of_others() {
        let part = Part::new("d".parse().unwrap());
        let beside = |own, head| rules_beside(own, &head, &part);
        let own = || rules(3, &["d/x"]);
        assert_eq!(beside(own(), rules(0, &[""])), (own(), true));
        assert_eq!(beside(own(), rules(9, &["d", "d/y"])), (own(), true));
        assert_eq!(beside(own(), rules(3, &["e"])), (rules(3, &["d/x", "e"]), true));
        // A rule for a directory above the part holds for the part, too.
        assert_eq!(beside(own(), rules(3, &[""])), (rules(3, &[""]), true));
        assert_eq!(beside(own(), rules(9, &["d/z", "e"])), (rules(9, &["e"]), false));
        assert_eq!(beside(rules(0, &["d"]), rules(9, &["d/z", "e"])), (rules(9, &["e"]), true));
        assert_eq!(beside(rules(0, &["d"]), rules(9, &["d/z"])), (rules(0, &["d"]), true));
        let (whole, head) = (Part::default(), rules(9, &["e"]));
        assert_eq!(rules_beside(own(), &head, &whole), (own(), true));
    }
}
