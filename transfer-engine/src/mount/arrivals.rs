//! What a pull has put in place, on its way into the base: flushed, then folded.

use std::io;
use std::sync::Arc;

use super::Mount;
use policy_core::{Timestamp, Towards, TreePath};

use crate::error::Error;
use crate::local::{Flush, MountDir, end_writable, staged};
use crate::options::SyncOptions;
use crate::plan::Filter;
use crate::state::{Alone, BaseHeader, BaseRow, BaseWriter, Change, Held, Overlaid, Proof};

impl Mount {
    /// Makes durable what was put into the mount.
    pub(crate) async fn flush(&self, dir: &MountDir) -> Result<(), Error> {
        self.flushed(dir).await.map_err(|e| self.not_durable(e))
    }

    pub(crate) fn not_durable(&self, e: io::Error) -> Error {
        Error::local("make durable what was written to", &self.path, e)
    }

    pub(crate) async fn flushed(&self, dir: &MountDir) -> io::Result<()> {
        Flush::begin(dir, Vec::new()).end().await
    }

    /// Whether a sync has to wait for the disk. It need not if the next one can tell whether what was written was lost.
    pub(crate) fn waits_for_disk(&self, options: &SyncOptions) -> bool {
        if !options.flush_behind || self.files.cache_life().is_none() {
            return true;
        }
        // What comes out of an archive is in no snapshot that could tell whether it is whole.
        self.policy.extract_policy.as_ref().is_some_and(|policy| policy.extract)
            // A file that was deleted here is pulled again in the version that the base has, so that no half of it could
            // be told from an edit.
            || !self.policy.delete_policy.sync_local_file
            // What is lost of one context would be an edit to another one at the same mount.
            || self.state.others(&self.files).map_or(true, |others| !others.is_empty())
    }

    /// Whether a push flushes the mount, so that the base may list what it has read there.
    pub(crate) fn flushes_push(&self, options: &SyncOptions) -> Result<bool, Error> {
        Ok(self.waits_for_disk(options) || !self.files.has_room_unflushed()?)
    }

    /// Notes that a pull begins that need not wait for the disk, and returns whether it has to. `below` lists where
    /// other file systems begin.
    pub(crate) async fn begin_unflushed(
        &self,
        (dir, below): (&MountDir, Vec<TreePath>),
        header: &BaseHeader,
        fresh: bool,
        options: &SyncOptions,
    ) -> Result<bool, Error> {
        let waits = self.waits_for_disk(options) || !below.is_empty();
        if !self.files.has_room_unflushed()? {
            Flush::begin(dir, below).end().await.map_err(|e| self.not_durable(e))?;
            self.files.settle(true)?;
        }
        if !waits || self.files.is_unflushed()? {
            self.files.note_unflushed(header, fresh)?;
        }
        Ok(waits)
    }

    /// Returns what a flush that begins now covers; `None` if there is nothing to flush, or if a pull is under way.
    pub(crate) fn flush_mark(&self) -> Result<Option<FlushMark>, Error> {
        if !self.files.is_unflushed()? || self.files.has_arrivals()? {
            return Ok(None);
        }
        self.files.recent_stat().map(|stat| Some(FlushMark(stat)))
    }

    /// Begins a flush of the mount.
    pub(crate) fn flush_begun(&self) -> Result<Flush, Error> {
        let dir = MountDir::open(&self.path, self.store.env());
        Ok(Flush::begin(&dir.map_err(|e| Error::local("open the mount", &self.path, e))?, Vec::new()))
    }

    /// Notes how a flush of the mount has ended. A success counts if nothing was synced since it began. After a failure,
    /// the next sync compares what was written since the last one.
    pub(crate) fn note_flush(&self, mark: &FlushMark, flushed: io::Result<()>) -> Result<(), Error> {
        match flushed {
            Err(_) => self.files.doubt(),
            Ok(()) if self.flush_mark()?.as_ref() == Some(mark) => self.files.settle(true),
            Ok(()) => Ok(()),
        }
    }

    /// Writes into the base what a pull has put in place, and ends its journal. `header` is that of the base if the
    /// pull is complete. The mount was flushed before, or it is noted that it was not.
    pub(crate) fn fold_arrivals(
        &self,
        alone: &Alone<'_>,
        dir: Option<&MountDir>,
        header: Option<BaseHeader>,
    ) -> Result<(), Error> {
        let is_ours = self.arriving.head().is_some();
        alone.end();
        if !is_ours {
            self.note_half_done()?;
        }
        let Some((begun, fresh, arrivals)) = self.files.read_arrivals()? else {
            return self.files.drop_arrivals();
        };
        tracing::debug!(complete = header.is_some(), "what a pull has put in place is written into the base");
        if arrivals.is_torn() {
            tracing::warn!("the journal of the last download was cut short; what came last is compared anew");
        }
        // Of another life of the context, a row says nothing.
        let other = self.files.header()?.is_some_and(|h| h.lineage != begun.lineage);
        let proof = match dir {
            None if is_ours => Ok(Proof::All),
            None => Ok(Proof::None),
            Some(dir) if is_ours => staged(dir).map(|(staged, _)| Proof::NotStaged(staged)),
            Some(dir) => Proof::in_mount(dir),
        };
        let proof = proof.map_err(|e| Error::local("look at", &self.path, e))?;
        let filter = self.filter(&SyncOptions::default(), Towards::Mount);
        let old = self.old_rows(fresh || other)?;
        let folded = self.files.folded_base();
        let fold = || {
            self.store.env().check_fault("write", &folded)?;
            let mut base = BaseWriter::create(&folded)?;
            for row in Overlaid::new(old, arrivals, proof) {
                let row = row?;
                if let Some(dir) = dir.filter(|_| row.entry.is_dir() && self.arriving.is_half_done(&row.path))
                {
                    // A mode that a killed pull left behind would count as a change.
                    let _ = dir.dir(&row.path).and_then(|dir| end_writable(dir, row.entry.mode));
                }
                if filter.in_scope(&row.path, row.entry.is_dir()) {
                    base.push(row)?;
                }
            }
            base.finish(header.unwrap_or(begun))
        };
        fold().map_err(|e| Error::local("write", &folded, e))?;
        self.files.adopt_folded()
    }

    /// Notes the directories that the pull of this journal changed. It was killed, and may not have set their times.
    fn note_half_done(&self) -> Result<(), Error> {
        let Some((.., rows)) = self.files.read_arrivals()? else { return Ok(()) };
        let cannot = |e| Error::local("read", self.files.arrivals(), e);
        let mut last = None;
        for row in rows {
            let row = row.map_err(cannot)?;
            let parent = row.path.parent().filter(|_| !matches!(row.change, Change::Set(_) | Change::Void));
            if let Some(dir) = parent.filter(|parent| last.as_ref() != Some(parent)) {
                self.arriving.note_half_done(&dir);
                last = Some(dir);
            }
        }
        Ok(())
    }

    /// Returns the base's rows that this sync deals with, with what has arrived since the base was written.
    pub(crate) fn rows_by_now(
        &self,
        filter: &Arc<Filter>,
    ) -> Result<Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>, Error> {
        use crate::local::ScanFilter;
        let opened = self.files.read_arrivals()?;
        let filter = filter.clone();
        let contains = move |row: &io::Result<BaseRow>| {
            row.as_ref()
                .map_or(true, |row| row.held != Held::Here && filter.contains(&row.path, row.entry.is_dir()))
        };
        let old = self.old_rows(opened.as_ref().is_some_and(|(_, fresh, _)| *fresh))?;
        Ok(match opened {
            Some((_, _, rows)) => Box::new(Overlaid::new(old, rows, Proof::All).filter(contains)),
            None => Box::new(old.filter(contains)),
        })
    }

    fn old_rows(&self, fresh: bool) -> Result<Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>, Error> {
        let header = if fresh { None } else { self.files.header()? };
        let rows = self.all_base_rows(header.as_ref())?;
        Ok(rows.map_or_else(|| Box::new(std::iter::empty()) as Box<_>, |rows| Box::new(rows) as Box<_>))
    }
}

/// Says that a flush of the mount failed.
pub(crate) fn may_lack(e: &io::Error) -> String {
    format!("the mount's disk may not have all of it yet: {e}")
}

/// The state of a mount's base when a flush began.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FlushMark(Option<(u64, Timestamp)>);
