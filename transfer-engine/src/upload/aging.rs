//! What a push learns about the age of files, and recycling afterwards.

use std::io;

use futures::future::BoxFuture;
use policy_core::{Expiry, Node, PathSet, Verdict};
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

impl Mount {
    /// Returns the recycle rules that this mount's policy gives the context.
    pub(super) fn recycle_rules(&self) -> RecycleRules {
        let lifecycle = self.policy.recycle_policy.lifecycle;
        RecycleRules {
            lifecycle_days: lifecycle.days().and_then(|d| u16::try_from(d).ok()),
            paths: self.recycle_paths().places().to_vec(),
        }
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
            let recycling = recycling.in_scope(self.filter(&SyncOptions::default()));
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
