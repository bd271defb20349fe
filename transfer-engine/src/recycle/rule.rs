//! Applies a recycle rule to files.

use std::sync::Arc;

use policy_core::Expiry;

use super::{Due, DueFile, is_file, placeholder};
use crate::edit::Rewrite;
use crate::format::TreeEntry;
use crate::monitor::Monitor;
use crate::plan::Filter;
use crate::tree::Part;

/// A running recycling: its rule, its time, and the figures so far.
pub(crate) struct Recycling<'m> {
    rule: Expiry,
    /// The time by the store's clock, in seconds since 1970.
    now: i64,
    /// Paths outside this scope of a mount are left alone. The rule and the scope are of the part that the mount has.
    scope: Option<Arc<Filter>>,
    part: Part,
    pub(crate) due: Due,
    /// Each file is reported to it once, even if the commit is retried.
    monitor: &'m dyn Monitor,
    told: bool,
}

impl<'m> Recycling<'m> {
    pub(crate) fn new(rule: Expiry, now: i64, monitor: &'m dyn Monitor) -> Self {
        Self { rule, now, scope: None, part: Part::default(), due: Due::default(), monitor, told: false }
    }

    /// Restricts the recycling to the scope of a mount, which has this part of the context.
    pub(crate) fn in_scope(self, scope: Arc<Filter>, part: Part) -> Self {
        Self { scope: Some(scope), part, ..self }
    }

    /// Returns what the rule means for an entry; `None` if the rule does not apply to it.
    pub(crate) fn due<'e>(&self, entry: &'e TreeEntry) -> Option<DueFile<'e>> {
        // What the store has lost may be whole in older snapshots, so it expires as well.
        if !is_file(entry) && !entry.is_lost() {
            return None;
        }
        let (path, size, uploaded) = (&entry.path, entry.entry.size(), entry.entry.uploaded);
        let inner = self.part.inner(path)?;
        let moment = self.rule.moment(&inner, uploaded)?;
        if self.scope.as_ref().is_some_and(|scope| !scope.in_scope(&inner, false)) {
            return None;
        }
        Some(DueFile { path, size, uploaded, moment, is_expired: moment <= self.now })
    }
}

/// Replaces expired files by placeholders.
impl Rewrite for Recycling<'_> {
    fn begin(&mut self) {
        self.due = Due::default();
    }

    fn takes(&mut self, entry: &TreeEntry) -> bool {
        let Some(file) = self.due(entry) else { return false };
        self.due.count(&file);
        if file.is_expired && !self.told {
            let path = &self.part.inner(&entry.path).unwrap_or_default();
            DueFile { path, ..file }.tell(self.now, self.monitor);
        }
        file.is_expired
    }

    fn end(&mut self) {
        self.told = true;
    }

    fn replacement(&self, entry: &TreeEntry) -> Option<TreeEntry> {
        self.due(entry).is_some_and(|file| file.is_expired).then(|| placeholder(entry.clone()))
    }
}
