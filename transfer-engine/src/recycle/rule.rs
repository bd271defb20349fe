//! The rule by which a recycling judges files.

use std::sync::Arc;

use policy_core::Expiry;

use super::{Due, DueFile, is_file, placeholder};
use crate::edit::Rewrite;
use crate::format::TreeEntry;
use crate::monitor::Monitor;
use crate::plan::Filter;

/// A recycling: by which rule, when, and what it has come to.
pub(crate) struct Recycling<'m> {
    rule: Expiry,
    /// The store's time, in seconds since 1970.
    now: i64,
    /// What is not in scope is not touched.
    scope: Option<Arc<Filter>>,
    pub(crate) due: Due,
    /// Is told of each file once, however often it is tried.
    monitor: &'m dyn Monitor,
    told: bool,
}

impl<'m> Recycling<'m> {
    pub(crate) fn new(rule: Expiry, now: i64, monitor: &'m dyn Monitor) -> Self {
        Self { rule, now, scope: None, due: Due::default(), monitor, told: false }
    }

    /// Restricts it to what is in scope of a mount.
    pub(crate) fn in_scope(self, scope: Arc<Filter>) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// Returns what the rule says of an entry; `None` of one that it does not speak of.
    pub(crate) fn due<'e>(&self, entry: &'e TreeEntry) -> Option<DueFile<'e>> {
        if !is_file(entry) {
            return None;
        }
        let (path, size, uploaded) = (&entry.path, entry.entry.size(), entry.entry.uploaded);
        let moment = self.rule.moment(path, uploaded)?;
        if self.scope.as_ref().is_some_and(|scope| !scope.in_scope(path, false)) {
            return None;
        }
        Some(DueFile { path, size, uploaded, moment, is_expired: moment <= self.now })
    }

    /// Counts an entry, and says whether it is to be recycled.
    fn takes(&mut self, entry: &TreeEntry) -> bool {
        let Some(file) = self.due(entry) else { return false };
        self.due.count(&file);
        if file.is_expired && !self.told {
            file.tell(self.now, self.monitor);
        }
        file.is_expired
    }
}

/// Files that are expired give way to placeholders.
impl Rewrite for Recycling<'_> {
    fn begin(&mut self) {
        self.due = Due::default();
    }

    fn replace(&mut self, entry: TreeEntry) -> Option<TreeEntry> {
        self.takes(&entry).then(|| placeholder(entry))
    }

    fn end(&mut self) {
        self.told = true;
    }
}
