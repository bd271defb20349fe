//! The running jobs of a pull: windows that are fetched, and one archive that is extracted.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::applying::Applying;
use super::dir_times::set_all;
use super::extracting::{Fate, PulledArchive, extract};
use super::fetch::{Fetched, Fetcher};
use super::item::Item;
use super::ledger::Ledger;
use crate::error::Error;
use crate::local::Stagings;
use crate::monitor::Phase;

/// The running jobs: windows that are fetched, and one archive that is extracted.
pub(super) struct Jobs<'a> {
    applying: &'a Applying<'a>,
    fetcher: &'a Fetcher<'a>,
    staging: &'a Arc<Stagings>,
    running: FuturesUnordered<BoxFuture<'a, Result<Job, Error>>>,
    windows: usize,
    extracting: bool,
    /// Archives whose directory conflicts with something that may still be deleted.
    late: Vec<PulledArchive>,
    is_late: bool,
}

enum Job {
    Fetched(Fetched),
    Extracted(Box<(PulledArchive, Fate)>),
    Timed,
}

impl<'a> Jobs<'a> {
    pub(super) fn new(
        applying: &'a Applying<'a>,
        fetcher: &'a Fetcher<'a>,
        staging: &'a Arc<Stagings>,
    ) -> Self {
        Self {
            applying,
            fetcher,
            staging,
            running: FuturesUnordered::new(),
            windows: 0,
            extracting: false,
            late: Vec::new(),
            is_late: false,
        }
    }

    pub(super) fn fetch(&mut self, items: Vec<Item>) {
        let fetcher = self.fetcher;
        self.windows += 1;
        self.running.push(async move { Ok(Job::Fetched(fetcher.fetch(items).await?)) }.boxed());
    }

    /// Processes finished jobs until at most `windows` windows are running.
    pub(super) async fn drain_to(&mut self, ledger: &mut Ledger, windows: usize) -> Result<(), Error> {
        while self.windows > windows {
            self.next(ledger).await?;
        }
        // Poll the new window, so that it sends its requests now.
        while let Some(Some(done)) = self.running.next().now_or_never() {
            self.take(ledger, done?)?;
        }
        self.begin_next(ledger)
    }

    /// Waits for something else, such as the plan's next step, while the jobs go on.
    pub(super) async fn beside<T>(
        &mut self,
        ledger: &mut Ledger,
        other: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                // The jobs come first, because the other future may always be ready.
                biased;
                Some(done) = self.running.next() => self.take(ledger, done?)?,
                other = &mut other => return Ok(other),
            }
        }
    }

    /// Processes finished jobs until none is running and no archive waits.
    pub(super) async fn finish(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        loop {
            self.begin_next(ledger)?;
            if self.running.is_empty() {
                return Ok(());
            }
            self.next(ledger).await?;
        }
    }

    /// The same, after all deletions are done.
    pub(super) async fn finish_late(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        self.is_late = true;
        ledger.archives.extend(self.late.drain(..));
        self.finish(ledger).await
    }

    fn begin_next(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        if self.extracting || self.applying.stop.is_cancelled() {
            return Ok(());
        }
        if let Some(archive) = ledger.archives.pop_front() {
            // The ledger's own rows are older than what is noted about the archive from now on.
            ledger.flush(self.applying)?;
            let (applying, staging, is_late) = (self.applying, self.staging, self.is_late);
            self.extracting = true;
            if self.running.is_empty() {
                applying.monitor.phase(Phase::Extracting);
            }
            let job = async move {
                let extracted = extract(applying, staging, archive, is_late).await?;
                Ok(Job::Extracted(Box::new(extracted)))
            };
            self.running.push(job.boxed());
        }
        Ok(())
    }

    /// Sets the times of the directories in which nothing more changes.
    fn set_times(&mut self, ledger: &mut Ledger) {
        let times = ledger.times.take_ready();
        if times.is_empty() {
            return;
        }
        let dir = self.applying.dir.clone();
        let job = async move {
            let (job_dir, cannot) = (dir.clone(), |e| Error::local("set the times in", dir.path(), e));
            dir.blocking(move || set_all(&job_dir, &times)).await.map_err(|e| cannot(io::Error::from(e)))?;
            Ok(Job::Timed)
        };
        self.running.push(job.boxed());
    }

    async fn next(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        match self.running.next().await {
            Some(done) => self.take(ledger, done?),
            None => Ok(()),
        }
    }

    fn take(&mut self, ledger: &mut Ledger, done: Job) -> Result<(), Error> {
        match done {
            Job::Fetched(fetched) => {
                self.windows -= 1;
                ledger.close_all(self.applying, &fetched)?;
                self.set_times(ledger);
            }
            Job::Timed => {}
            Job::Extracted(extracted) => {
                let (archive, fate) = *extracted;
                self.extracting = false;
                match fate {
                    Fate::Later if !self.is_late => self.late.push(archive),
                    fate => ledger.close_archive(self.applying, &archive, fate),
                }
            }
        }
        self.begin_next(ledger)
    }
}
