//! What leaves a context by age: files that nobody uploads any more, and the snapshots that hold their bytes.
//!
//! ```text
//! head ─► expired? ─► a snapshot with placeholders instead ─► snapshots that hold the bytes: `.gone`
//! ```
//!
//! Both steps can be done by any number of processes, in any order and again: the first is a commit like any
//! other, the second a mark that is put if absent. One that dies between the two has lost nothing: whoever
//! recycles next sees the placeholders, and finishes. See `docs/recycling.md`.

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

pub(crate) use rule::Recycling;

/// What will leave a context by age, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// The head that was looked at.
    pub snapshot: u64,
    /// Days that files stay after their last upload; none keeps them for ever.
    pub lifecycle_days: Option<u16>,
    /// Files that are expired.
    pub files: u64,
    /// Their bytes.
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

/// A file of which the recycle rules speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueFile<'a> {
    /// Where it stands.
    pub path: &'a TreePath,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last uploaded, in seconds since 1970 by the store's clock.
    pub uploaded: i64,
    /// From when on it is expired.
    pub moment: i64,
    /// Whether it is.
    pub is_expired: bool,
}

impl DueFile<'_> {
    /// Tells that the file leaves the context.
    pub(crate) fn tell(&self, now: i64, monitor: &dyn Monitor) {
        let days = now.saturating_sub(self.uploaded) / 86_400;
        let reason = format!("recycled: last uploaded {days} {} ago", if days == 1 { "day" } else { "days" });
        let (action, side) = (Action::Delete, Side::Store);
        monitor.path(&PathEvent { path: self.path, action, side, reason: &reason, size: self.size });
    }
}

/// What a recycling came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recycled {
    /// The snapshot without the files, where there were any.
    pub snapshot: Option<u64>,
    /// Files that were taken out.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots that are marked as forgotten, newest first, because they hold what is recycled.
    pub forgotten: Vec<u64>,
    /// When the next file expires, in seconds since 1970 by the store's clock.
    pub next: Option<i64>,
}

/// Returns what the head's rules say of the files of a context at `now`, in seconds since 1970 by the store's
/// clock, and calls `each` for every file that ever expires, in tree order. Writes nothing.
///
/// # Errors
/// [`Error::NoContext`], [`Error::Moved`], and whatever the store says.
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

/// Takes what is expired at `now` out of the context, by the head's rules, and forgets the snapshots that hold
/// it. `now` is the store's time, in seconds since 1970.
///
/// Also finishes what a recycling left open that died between the two. Other contexts, forks among them, keep
/// what they hold.
///
/// # Errors
/// [`Error::NoContext`], [`Error::Moved`], [`Error::Beaten`], [`Error::CommitUnknown`], [`Error::TooLate`], and
/// whatever the store says. Whatever was done by then is done, and the next one goes on from there.
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

/// Does what [`recycle`] does, by a rule that need not be the head's.
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
    // What its own writer does not count on yet, because it landed late, is left to another time.
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
    // Without a head that counts, the state before it is the only one.
    if holds_placeholders(&head.snapshot) && head.late_packs().is_empty() {
        done.forgotten = forget::forget(store, name, &head, cache.as_ref()).await?;
    }
    Ok(done)
}

/// Returns the rule by which files leave a context after this snapshot.
fn rule_of(snapshot: &Snapshot) -> Option<Expiry> {
    let rules = &snapshot.recycle;
    let days = rules.lifecycle_days?;
    Some(Expiry::new(days.into(), policy_core::PathSet::of_places(rules.paths.clone())))
}

/// Whether the tree remembers files that were recycled: it lists more than it counts.
pub(crate) fn holds_placeholders(snapshot: &Snapshot) -> bool {
    let listed: u64 = snapshot.segments.iter().map(|s| u64::from(s.entries)).sum();
    let totals = &snapshot.totals;
    listed != totals.files + totals.dirs + totals.symlinks
}

/// Returns what replaces a recycled file in the tree.
fn placeholder(file: TreeEntry) -> TreeEntry {
    TreeEntry { extracted: false, recycled: true, chunks: Vec::new(), ..file }
}

/// Whether an entry is a file that is there.
fn is_file(entry: &TreeEntry) -> bool {
    !entry.recycled && matches!(entry.entry.node, Node::File { .. })
}
