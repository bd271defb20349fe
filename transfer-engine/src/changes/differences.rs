//! The local differences: rows in tree order, and rows that were read out of order.

use std::io;
use std::iter::Peekable;
use std::sync::Arc;

use policy_core::{GitChanges, ListMarks};

use super::away::AwayOnes;
use super::batch::Work;
use super::landed::Landed;
use super::options::DeltaOptions;
use super::stats::{DeltaStats, count};
use super::together::Together;
use crate::local::{FileSystems, Look};
use crate::state::{DeltaRow, DeltaState, Runs, Spool};

/// The local differences and their figures.
pub(crate) struct LocalDelta {
    pub(crate) rows: Spool<DeltaRow>,
    /// Rows that were not read in tree order: those of long files, and with a deadline all rows.
    pub(crate) others: Runs<DeltaRow>,
    pub(crate) stats: DeltaStats,
    /// The white lists that matched something.
    pub(crate) marks: ListMarks,
    /// Short files that had become long when they were read.
    pub(crate) grown: Vec<Work>,
    pub(crate) together: Together,
    /// What each side has changed in git repositories, once the plan of a sync needs to know.
    pub(crate) git: Arc<GitChanges>,
    /// Where other file systems begin.
    pub(crate) file_systems: Arc<FileSystems>,
    /// Paths on file systems that are not mounted now.
    pub(crate) away: AwayOnes,
    /// Whether reading stopped before everything was read.
    pub(crate) cut_short: bool,
    /// Whether the mount was scanned to its end.
    pub(crate) is_whole: bool,
    /// The chunks that are in the store, if not all of them are.
    pub(crate) landed: Option<Landed>,
    /// The record of changes during the scan.
    pub(crate) look: Arc<Look>,
    /// The result of the previous scan.
    pub(crate) before: Option<Box<LocalDelta>>,
    /// Whether the mount was still changing in the last scan. If so, paths in doubt do not count as deleted.
    pub(crate) unsettled: bool,
    /// The results of parts of the mount that were read separately; nothing else here covers those parts.
    pub(crate) parts: Vec<LocalDelta>,
}

impl LocalDelta {
    pub(crate) fn new(options: &DeltaOptions<'_>, look: Arc<Look>) -> Self {
        Self {
            rows: Spool::new(options.spool_dir),
            others: Runs::new(options.spool_dir, |a, b| a.path.cmp(&b.path)),
            stats: DeltaStats::default(),
            marks: ListMarks::new(&options.scope),
            grown: Vec::new(),
            together: Together::default(),
            git: Arc::default(),
            file_systems: Arc::default(),
            away: AwayOnes::default(),
            cut_short: false,
            is_whole: true,
            landed: None,
            look,
            before: None,
            unsettled: false,
            parts: Vec::new(),
        }
    }

    /// Whether there are rows other than those of files that no context can store.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows.len() > self.stats.specials.total
            || !self.others.is_empty()
            || self.parts.iter().any(Self::has_rows)
    }

    /// Adds the result of a part of the mount that was read separately.
    pub(crate) fn add_part(&mut self, mut part: LocalDelta) {
        self.together.absorb(std::mem::take(&mut part.together));
        count(&mut self.stats, &part.stats);
        self.away.absorb(std::mem::take(&mut part.away));
        self.stats.unmounted = self.away.rows();
        self.marks.merge(&part.marks);
        self.cut_short |= part.cut_short;
        self.is_whole &= part.is_whole;
        self.parts.push(part);
    }

    /// Decides, after the last scan, about the paths in doubt.
    pub(crate) fn decide_doubts(&mut self) {
        self.before = None;
        if self.unsettled {
            let stats = &mut self.stats;
            stats.deleted = stats.deleted.saturating_sub(stats.in_doubt);
            stats.present += stats.in_doubt;
        } else {
            self.stats.in_doubt = 0;
        }
    }

    /// Reads all rows in order. A file with chunks that are not in the store counts as not sent.
    pub(crate) fn read(&mut self) -> io::Result<impl Iterator<Item = io::Result<DeltaRow>> + Send> {
        let landed = self.landed.as_ref().map(Landed::judge);
        let stays = self.away.without();
        let tops = self.away.tops().into_iter().map(Ok).peekable();
        let rows = self.decided()?.map(move |row| match &landed {
            Some(judge) => row.map(|row| judge.check(row)),
            None => row,
        });
        let rows = rows.filter(move |row| row.as_ref().map_or(true, &stays));
        Ok(MergedRows { in_order: rows.peekable(), others: tops })
    }

    /// Reads all rows in order, including those of the parts, with the decision about the paths in doubt.
    fn decided(&mut self) -> io::Result<Decided<'_>> {
        let believes = !self.unsettled;
        let found =
            MergedRows { in_order: self.rows.read()?.peekable(), others: self.others.read()?.peekable() };
        let mut all: Decided<'_> = Box::new(found.map(move |row| {
            let mut row = row?;
            if believes && matches!(row.state, DeltaState::InDoubt { .. }) {
                row.state = DeltaState::Absent;
            }
            Ok(row)
        }));
        for part in &mut self.parts {
            let part = part.decided()?.peekable();
            all = Box::new(MergedRows { in_order: all.peekable(), others: part });
        }
        Ok(all)
    }

    /// Reads all rows in order, as they were found.
    pub(crate) fn found(&mut self) -> io::Result<impl Iterator<Item = io::Result<DeltaRow>>> {
        let others = self.others.read()?.peekable();
        Ok(MergedRows { in_order: self.rows.read()?.peekable(), others })
    }
}

type Decided<'a> = Box<dyn Iterator<Item = io::Result<DeltaRow>> + Send + 'a>;

struct MergedRows<A: Iterator, B: Iterator> {
    in_order: Peekable<A>,
    others: Peekable<B>,
}

impl<A, B> Iterator for MergedRows<A, B>
where
    A: Iterator<Item = io::Result<DeltaRow>>,
    B: Iterator<Item = io::Result<DeltaRow>>,
{
    type Item = io::Result<DeltaRow>;

    fn next(&mut self) -> Option<Self::Item> {
        // The row that was read out of order counts: the file may have turned out to be a database only then.
        if let (Some(Ok(a)), Some(Ok(b))) = (self.in_order.peek(), self.others.peek())
            && a.path == b.path
        {
            self.in_order.next();
        }
        match (self.in_order.peek(), self.others.peek()) {
            (_, Some(Err(_))) | (None, Some(_)) => self.others.next(),
            (Some(Ok(a)), Some(Ok(b))) if b.path < a.path => self.others.next(),
            _ => self.in_order.next(),
        }
    }
}
