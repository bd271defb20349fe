//! Reads files when there is a deadline: the most important ones first, until the time for sending is over.
//!
//! Files are gathered for a part of the remaining time, or until the scan ends. They are sorted on the disk
//! and read, and then the next part begins.

use std::cmp::{Ordering, Reverse};
use std::collections::VecDeque;
use std::io;
use std::iter::Peekable;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::batch::{Batch, LONG, Work};
use super::delta::Reading;
use super::files::Read;
use crate::error::Error;
use crate::state::{Candidate, Runs};

/// Files of up to this many bytes are in one size class; each further class reaches 16 times as far.
const SMALL: u32 = 16;
/// A batch has files for this many packs, and at most this many bytes or files. These limits bound how much
/// has been read for nothing at the cutoff.
const PACKS: u64 = 2;
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_PATHS: usize = 256;

/// Smaller size classes come first, since more small files than large ones can be pushed in a short time. In a
/// class, newer files come first.
pub(crate) fn by_importance(a: &Candidate, b: &Candidate) -> Ordering {
    let key = |c: &Candidate| (size_class(c.print.size), Reverse(c.print.mtime));
    key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
}

fn size_class(size: u64) -> u32 {
    size.checked_ilog2().unwrap_or(0).saturating_sub(SMALL).div_ceil(4)
}

impl Reading<'_, '_, '_> {
    pub(crate) async fn by_importance(&mut self, incoming: &mut mpsc::Receiver<Batch>) -> Result<(), Error> {
        let mut ended = false;
        while !ended {
            let mut gathered = Runs::new(self.options.spool_dir, by_importance);
            let slice = self.sending.as_ref().and_then(|s| s.sink.pace().slice());
            loop {
                let batch = match slice {
                    Some(slice) => timeout_at(slice, incoming.recv()).await,
                    None => Ok(incoming.recv().await),
                };
                match batch {
                    Ok(Some(batch)) => {
                        self.sizes.iter_mut().for_each(|sizes| sizes.note(&batch));
                        self.gather(batch, &mut gathered).await?;
                    }
                    Ok(None) => {
                        ended = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
            self.read_gathered(gathered, ended).await?;
            if !ended && self.is_closed() {
                // What was not scanned counts as unchanged.
                incoming.close();
                (self.delta.is_whole, self.delta.cut_short) = (false, true);
                break;
            }
        }
        self.read_units().await
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        self.sending.as_mut().is_some_and(|s| s.sink.is_closed() || s.sink.is_round_over())
    }

    /// Processes what need not be read of a batch, and keeps the rest.
    async fn gather(&mut self, batch: Batch, gathered: &mut Runs<Candidate>) -> Result<(), Error> {
        let mut rows = Vec::new();
        for work in batch.work.into_iter().chain(batch.long) {
            match work {
                Work::Row(row) => rows.push(row),
                Work::File { path, print, base } => {
                    let kept = gathered.push(Candidate { path, print, base });
                    kept.map_err(|e| Error::local("write to", self.options.spool_dir, e))?;
                }
            }
        }
        let (problems, stats, members) = (batch.problems, batch.stats, batch.members);
        let read = Read { rows, problems, stats, members, ..Read::default() };
        self.accept(Ok(read), false).await
    }

    /// Reads the files that were gathered. `ended` says that no more follow.
    async fn read_gathered(&mut self, mut gathered: Runs<Candidate>, ended: bool) -> Result<(), Error> {
        if gathered.is_empty() {
            return Ok(());
        }
        self.learn_chunks().await?;
        let env = self.options.mount.env().clone();
        let cannot_read = |e: io::Error| Error::local("read", self.options.spool_dir, e);
        let mut candidates = gathered.read().map_err(cannot_read)?.peekable();
        let mut reading = FuturesOrdered::new();
        let width = env.parallelism() + 1;
        let mut long: VecDeque<Work> = VecDeque::new();
        let mut more = true;
        while more || !reading.is_empty() || !long.is_empty() {
            while more && long.is_empty() && reading.len() < width && !self.is_closed() {
                let mut batch = Batch::default();
                more = self.next_batch(&mut candidates, &mut batch, &mut long)?;
                let readers = self.readers.clone();
                let env = env.clone();
                reading.push_back(async move { env.blocking(move || readers.read(batch)).await });
            }
            if let Some(read) = reading.next().await {
                self.accept(read, true).await?;
                long.extend(std::mem::take(&mut self.delta.grown));
            } else if ended && !self.units.is_empty() && !self.is_closed() {
                // All members of the databases were found, and databases are usually small.
                self.read_units().await?;
            } else if let Some(work) = long.pop_front() {
                if self.is_closed() { self.leave_out(work)? } else { self.read_long(work).await? }
            } else if self.is_closed() {
                break;
            }
        }
        if more {
            for candidate in candidates {
                let candidate = candidate.map_err(|e| Error::local("read", self.options.spool_dir, e))?;
                self.leave_out(work_of(candidate))?;
            }
        }
        Ok(())
    }

    /// Fills a batch up to its size or up to the next long file; false at the end.
    fn next_batch(
        &self,
        candidates: &mut Peekable<impl Iterator<Item = io::Result<Candidate>>>,
        batch: &mut Batch,
        long: &mut VecDeque<Work>,
    ) -> Result<bool, Error> {
        let target = self.sending.as_ref().map_or(BATCH_BYTES, |s| s.sink.pace().pack_target());
        let most = target.saturating_mul(PACKS).min(BATCH_BYTES);
        while batch.bytes < most && batch.work.len() < BATCH_PATHS {
            // A file that is too large for this batch begins the next batch, and with it a new pack.
            let fits = |c: &io::Result<Candidate>| {
                c.as_ref().map_or(true, |c| batch.work.is_empty() || batch.bytes + c.print.size <= most)
            };
            if candidates.peek().is_some_and(|candidate| !fits(candidate)) {
                break;
            }
            let Some(candidate) = candidates.next() else { return Ok(false) };
            let candidate = candidate.map_err(|e| Error::local("read", self.options.spool_dir, e))?;
            let size = candidate.print.size;
            let work = work_of(candidate);
            if size > LONG {
                long.push_back(work);
                break;
            }
            batch.bytes += size.max(1);
            batch.work.push(work);
        }
        Ok(true)
    }
}

fn work_of(candidate: Candidate) -> Work {
    let Candidate { path, print, base } = candidate;
    Work::File { path, print, base }
}

#[cfg(test)]
mod tests {
    use policy_core::Timestamp;

    use super::*;
    use crate::local::Fingerprint;

    fn candidate(path: &str, size: u64, secs: i64) -> Candidate {
        let mtime = Timestamp { secs, nanos: 0 };
        let print = Fingerprint { size, mtime, ctime: mtime, inode: 1, mode: 0o644 };
        Candidate { path: path.parse().unwrap(), print, base: None }
    }

    #[test]
    fn small_and_recent_files_come_first() {
        let mut all = [
            candidate("huge", 1 << 40, 9),
            candidate("a/old", 10, 1),
            candidate("large", 3 << 20, 9),
            candidate("z/new", 60_000, 8),
            candidate("empty", 0, 5),
            candidate("b/old", 10, 1),
        ];
        all.sort_by(by_importance);
        let order: Vec<String> = all.iter().map(|c| c.path.to_string()).collect();
        assert_eq!(order, ["z/new", "empty", "a/old", "b/old", "large", "huge"]);
    }

    #[test]
    fn classes_of_size_are_wide() {
        assert_eq!([0, 1, 1 << 16, (1 << 17) - 1].map(size_class), [0, 0, 0, 0]);
        assert_eq!([1 << 17, (1 << 21) - 1].map(size_class), [1, 1]);
        assert_eq!([1 << 21, u64::MAX].map(size_class), [2, 12]);
    }
}
