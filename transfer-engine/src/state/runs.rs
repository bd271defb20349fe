//! Sorts rows that come in any order: sorted runs are written, and merged when they are read.

use std::cmp::Ordering;
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use super::rows::Row;
use super::spool::Spool;

/// Roughly how many bytes of rows are kept in memory before they are written as one run.
const RUN: usize = 16 << 20;

/// Collects rows, with only one run in memory at a time.
#[derive(Debug)]
pub(crate) struct Runs<R> {
    dir: PathBuf,
    order: fn(&R, &R) -> Ordering,
    run: usize,
    held: Vec<R>,
    held_bytes: usize,
    spilled: Vec<Spool<R>>,
}

type Source<'a, R> = Peekable<Box<dyn Iterator<Item = io::Result<R>> + Send + 'a>>;

impl<R: Row + Clone + Send + Sync> Runs<R> {
    /// Starts without rows. Files are created in `dir` if needed.
    pub(crate) fn new(dir: &Path, order: fn(&R, &R) -> Ordering) -> Self {
        Self { dir: dir.to_owned(), order, run: RUN, held: Vec::new(), held_bytes: 0, spilled: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: R) -> io::Result<()> {
        self.held_bytes += row.weight();
        self.held.push(row);
        if self.held_bytes < self.run {
            return Ok(());
        }
        self.held.sort_by(self.order);
        let mut spool = Spool::in_file(&self.dir);
        for row in self.held.drain(..) {
            spool.push(&row)?;
        }
        self.held_bytes = 0;
        self.spilled.push(spool);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.spilled.is_empty()
    }

    /// Reads all rows in order.
    pub(crate) fn read(&mut self) -> io::Result<MergedRuns<'_, R>> {
        self.held.sort_by(self.order);
        let mut sources: Vec<Source<'_, R>> = Vec::with_capacity(self.spilled.len() + 1);
        for spool in &mut self.spilled {
            let rows: Box<dyn Iterator<Item = _> + Send> = Box::new(spool.read()?);
            sources.push(rows.peekable());
        }
        let held: Box<dyn Iterator<Item = _> + Send> = Box::new(self.held.iter().cloned().map(Ok));
        sources.push(held.peekable());
        Ok(MergedRuns { order: self.order, sources })
    }
}

/// The rows of all runs, merged.
pub(crate) struct MergedRuns<'a, R> {
    order: fn(&R, &R) -> Ordering,
    sources: Vec<Source<'a, R>>,
}

impl<R> Iterator for MergedRuns<'_, R> {
    type Item = io::Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        // If a run can't be read, nothing more is returned, since its rows would be missing.
        if let Some(error) = self.sources.iter_mut().find_map(|s| s.next_if(Result::is_err)) {
            self.sources.clear();
            return Some(error);
        }
        let mut first: Option<(usize, &R)> = None;
        for (at, source) in self.sources.iter_mut().enumerate() {
            if let Some(Ok(row)) = source.peek()
                && first.is_none_or(|(_, least)| (self.order)(row, least).is_lt())
            {
                first = Some((at, row));
            }
        }
        let (at, _) = first?;
        self.sources[at].next()
    }
}

#[cfg(test)]
mod tests {
    use policy_core::TreePath;
    use proptest::prelude::*;

    use super::super::rows::{DeltaRow, DeltaState};
    use super::*;

    proptest! {
        #[test]
        fn rows_come_in_order_however_many_runs_they_fill(
            names in prop::collection::btree_set("[a-d]{1,4}(/[a-d]{1,3})?", 0..60),
            seed in any::<u64>(),
            run in 1usize..4000,
        ) {
            let sorted: std::collections::BTreeSet<TreePath> =
                names.iter().map(|name| name.parse().unwrap()).collect();
            let mut mixed: Vec<&TreePath> = sorted.iter().collect();
            mixed.sort_by_key(|path| {
                path.as_bytes().iter().fold(seed, |h, b| h.rotate_left(7).wrapping_mul(31) ^ u64::from(*b))
            });
            let dir = tempfile::tempdir().unwrap();
            let mut runs = Runs::new(dir.path(), |a: &DeltaRow, b: &DeltaRow| a.path.cmp(&b.path));
            runs.run = run;
            for path in mixed {
                let row = DeltaRow { path: path.clone(), base: None, state: DeltaState::Absent };
                runs.push(row).unwrap();
            }
            prop_assert_eq!(runs.is_empty(), sorted.is_empty());
            for _ in 0..2 {
                let read: Vec<TreePath> = runs.read().unwrap().map(|row| row.unwrap().path).collect();
                prop_assert_eq!(&read, &sorted.iter().cloned().collect::<Vec<_>>());
            }
        }
    }
}
