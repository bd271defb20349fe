//! Recycles files because of their age: removes files that were not pushed for long from a context, and
//! forgets the snapshots that have their content.
//!
//! ```text
//! head ─► expired? ─► a snapshot with placeholders ─► snapshots with the content: `.gone`
//! ```
//!
//! Any number of processes may do both steps, in any order and repeatedly: the first is a normal commit, the
//! second a put-if-absent of a mark. If a process dies between the two, the next one that recycles sees the
//! placeholders and completes the second step. See `docs/recycling.md`.

mod foresee;
mod forget;
mod rule;

use futures::TryStreamExt;
use policy_core::{Expiry, Node, TreePath};

use crate::edit::{Change, Edit, EditOptions};
use crate::error::Error;
use crate::format::{ContextName, Snapshot, TreeEntry};
use crate::monitor::{Action, Monitor, PathEvent, Side, Silent};
use crate::options::SyncOptions;
use crate::state::Cache;
use crate::store::{Head, Store};
use crate::tree::Tree;

pub(crate) use foresee::{Foreseen, foresee};
pub(crate) use rule::Recycling;

/// Which files of a context expire, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// The number of the head.
    pub snapshot: u64,
    /// Days that files stay after their last push; `None` keeps them for ever.
    pub lifecycle_days: Option<u16>,
    /// The number of expired files.
    pub files: u64,
    /// The bytes of the expired files.
    pub bytes: u64,
    /// When the next file expires, in seconds since 1970 by the store's clock.
    pub next: Option<i64>,
}

impl Due {
    fn count(&mut self, file: &DueFile<'_>) {
        if file.is_expired {
            self.files += 1;
            self.bytes += file.size;
        } else {
            self.next = self.next.into_iter().chain([file.moment]).min();
        }
    }
}

/// A file to which the recycle rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DueFile<'a> {
    /// The file's path.
    pub path: &'a TreePath,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last pushed, in seconds since 1970 by the store's clock.
    pub uploaded: i64,
    /// From when on it is expired, in seconds since 1970.
    pub moment: i64,
    /// Whether it is expired now.
    pub is_expired: bool,
}

impl DueFile<'_> {
    /// Reports that the file is recycled.
    pub(crate) fn tell(&self, now: i64, monitor: &dyn Monitor) {
        let days = now.saturating_sub(self.uploaded) / 86_400;
        let reason = format!("recycled: last uploaded {days} {} ago", if days == 1 { "day" } else { "days" });
        let (action, side) = (Action::Delete, Side::Store);
        monitor.path(&PathEvent { path: self.path, action, side, reason: &reason, size: self.size });
    }
}

/// The result of a recycling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recycled {
    /// The snapshot without the expired files, if there were any.
    pub snapshot: Option<u64>,
    /// The number of files that were recycled.
    pub files: u64,
    /// The bytes of those files.
    pub bytes: u64,
    /// Snapshots that were marked as forgotten because they have the content of recycled files, newest first.
    pub forgotten: Vec<u64>,
    /// When the next file expires, in seconds since 1970 by the store's clock.
    pub next: Option<i64>,
}

/// Returns what the head's rules mean for the files of a context at `now`, in seconds since 1970 by the
/// store's clock. Calls `each` for every file that will ever expire, in tree order. Writes nothing.
///
/// # Errors
/// [`Error::NoContext`], [`Error::Moved`], and errors of the store.
pub async fn due(
    store: &Store,
    name: &ContextName,
    now: i64,
    mut each: impl FnMut(&DueFile<'_>),
) -> Result<Due, Error> {
    let head = store.require_head(name).await?;
    let rule = rule_of(&head.snapshot);
    let lifecycle_days = head.snapshot.recycle.lifecycle_days;
    let mut due = Due { snapshot: head.key.number, lifecycle_days, ..Due::default() };
    let Some(rule) = rule else { return Ok(due) };
    let recycling = Recycling::new(rule, now, &Silent);
    let tree = Tree { store, snapshot: &head.snapshot, cache: None };
    let mut segments = std::pin::pin!(tree.segments(0..head.snapshot.segments.len()));
    while let Some((_, entries)) = segments.try_next().await? {
        for entry in &entries {
            if let Some(file) = recycling.due(entry) {
                due.count(&file);
                each(&file);
            }
        }
    }
    Ok(due)
}

/// Recycles the files of a context that are expired at `now` by the head's rules, and forgets the snapshots
/// that have their content. `now` is in seconds since 1970, by the store's clock.
///
/// Also completes an earlier recycling that was interrupted between the two steps. Other contexts, including
/// forks, keep the content.
///
/// # Errors
/// [`Error::NoContext`], [`Error::Moved`], [`Error::Beaten`], [`Error::CommitUnknown`], [`Error::TooLate`],
/// and errors of the store. What was done before the error stays done, and the next recycling continues from
/// there.
pub async fn recycle(
    store: &Store,
    name: &ContextName,
    now: i64,
    options: &SyncOptions,
    monitor: &dyn Monitor,
) -> Result<Recycled, Error> {
    let head = store.require_head(name).await?;
    let recycling = rule_of(&head.snapshot).map(|rule| Recycling::new(rule, now, monitor));
    carry_out(store, name, head, recycling, options, None).await
}

/// Does what [`recycle`] does, by a rule that may differ from the head's.
pub(crate) async fn carry_out(
    store: &Store,
    name: &ContextName,
    head: Head,
    recycling: Option<Recycling<'_>>,
    options: &SyncOptions,
    cache: Option<Cache>,
) -> Result<Recycled, Error> {
    let mut done = Recycled::default();
    let mut head = head;
    // If the head landed too late, its own writer does not rely on it yet. Then this is left to a later
    // recycling.
    if let Some(mut recycling) = recycling
        && head.late_packs().is_empty()
    {
        let edit_options = EditOptions {
            session: options.session.clone(),
            concurrency: options.concurrency,
            memory: options.memory,
        };
        let edit = Edit::new(store, name, &edit_options).with_cache(cache.clone());
        let report = edit.commit(&mut Change::Rewrite(&mut recycling), head.clone()).await?;
        let due = recycling.due;
        done.next = due.next;
        if report.parent.is_some() {
            (done.snapshot, done.files, done.bytes) = (report.snapshot, due.files, due.bytes);
            head = store.require_head(name).await?;
        }
    }
    // If the head does not count because it landed too late, the state before it is the only one.
    if holds_placeholders(&head.snapshot) && head.late_packs().is_empty() {
        done.forgotten = forget::forget(store, name, &head, cache.as_ref()).await?;
    }
    Ok(done)
}

/// Returns the recycle rule of this snapshot.
fn rule_of(snapshot: &Snapshot) -> Option<Expiry> {
    let rules = &snapshot.recycle;
    let days = rules.lifecycle_days?;
    Some(Expiry::new(days.into(), policy_core::PathSet::of_places(rules.paths.clone())))
}

/// Whether the tree has placeholders of recycled or lost files: it lists more entries than it counts.
pub(crate) fn holds_placeholders(snapshot: &Snapshot) -> bool {
    let listed: u64 = snapshot.segments.iter().map(|s| u64::from(s.entries)).sum();
    let totals = &snapshot.totals;
    listed != totals.files + totals.dirs + totals.symlinks
}

/// Returns the placeholder of a recycled file.
fn placeholder(file: TreeEntry) -> TreeEntry {
    TreeEntry { extracted: false, recycled: true, chunks: Vec::new(), ..file }
}

/// Whether an entry is a file with content.
fn is_file(entry: &TreeEntry) -> bool {
    !entry.recycled && matches!(entry.entry.node, Node::File { .. })
}
