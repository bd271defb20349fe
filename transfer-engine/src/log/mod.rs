//! The history of a context, or of some of its paths.

mod origins;

use std::sync::Arc;

use policy_core::TreePath;

use crate::contexts::{DamagedSnapshot, History};
use crate::error::Error;
use crate::format::{ContextName, Snapshot, TreeEntry};
use crate::store::Store;
use crate::tree::{Differences, PartTree, Tree};

pub use origins::Origins;

/// Which snapshots of a context are asked for.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Only so many, the newest.
    pub limit: Option<usize>,
    /// Only those in which one of these paths, or something below one, is not as in the snapshot before. If empty, all.
    pub paths: Vec<TreePath>,
    /// Whether to find out what the snapshots were forked from or have merged. That takes one snapshot more, and some for
    /// merges.
    pub origins: bool,
}

/// A row of a log.
#[derive(Debug)]
pub enum LogRow {
    /// A snapshot, and where its tree came from, if that was asked for.
    Snapshot(Arc<Snapshot>, Origins),
    /// A snapshot that can't be read.
    Damaged {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        error: Error,
    },
}

impl Store {
    /// Calls `each` for the snapshots of a context that are not forgotten, newest first, and returns how many there
    /// were that can be read. Those that are damaged are told, and passed over. The snapshot before another is the newest older one that is not forgotten; in the oldest one, everything is
    /// new. Times alone make no difference.
    ///
    /// No more snapshots are read than are needed, and of trees only what differs near the paths.
    ///
    /// # Errors
    /// [`Error::NoContext`] and [`Error::Moved`] before the first call; other errors may come later.
    pub async fn log_with(
        &self,
        name: &ContextName,
        options: &LogOptions,
        mut each: impl FnMut(LogRow) + Send,
    ) -> Result<usize, Error> {
        let LogOptions { limit, paths, origins } = options;
        let mut history = self.history(name).await?;
        let mut left = limit.unwrap_or(usize::MAX);
        let (mut shown, mut passed_over) = (0, 0);
        let (mut before, mut damaged) = (None, Vec::new());
        while left > 0 {
            let next = match before.take() {
                Some(before) => Some(before),
                None => next_readable(&mut history, left, &mut damaged).await?,
            };
            damaged.drain(..).for_each(&mut each);
            let Some(snapshot) = next else { break };
            if *origins || !paths.is_empty() {
                // If what is asked for is rare, it is looked for in more and more snapshots at once.
                before = next_readable(&mut history, left.max(passed_over), &mut damaged).await?;
            }
            if !paths.is_empty() && !self.differs(before.as_deref(), &snapshot, paths).await? {
                passed_over += 1;
                continue;
            }
            let origins = match origins {
                true => Origins::of(self, before.as_deref(), &snapshot).await?,
                false => Origins::default(),
            };
            each(LogRow::Snapshot(snapshot, origins));
            (shown, left, passed_over) = (shown + 1, left - 1, 0);
        }
        Ok(shown)
    }

    /// Whether two snapshots differ at or below one of these paths. Without `before`, whether there is anything.
    async fn differs(
        &self,
        before: Option<&Snapshot>,
        after: &Snapshot,
        paths: &[TreePath],
    ) -> Result<bool, Error> {
        let tree = |snapshot| PartTree::whole(Tree { store: self, snapshot, cache: None });
        let before = before.map(tree);
        let mut differences = Differences::within(paths, before.as_ref(), &tree(after));
        // A placeholder of a recycled file counts as nothing.
        let present = |entry: Option<TreeEntry>| entry.filter(|entry| !entry.recycled);
        while let Some(difference) = differences.next().await? {
            let differs = match (present(difference.left), present(difference.right)) {
                (Some(left), Some(right)) => !left.entry.agrees_with(&right.entry),
                (None, None) => false,
                _ => true,
            };
            if differs {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns the next snapshot that can be read, and notes those that are damaged.
async fn next_readable(
    history: &mut History<'_>,
    wanted: usize,
    damaged: &mut Vec<LogRow>,
) -> Result<Option<Arc<Snapshot>>, Error> {
    loop {
        match history.next_or_damaged(wanted).await? {
            Some(Ok(snapshot)) => return Ok(Some(snapshot)),
            Some(Err(DamagedSnapshot { number, error })) => damaged.push(LogRow::Damaged { number, error }),
            None => return Ok(None),
        }
    }
}
