//! SQLite databases: their files have a meaning only together, so they are found together and read at one
//! moment.
//!
//! The walk finds the files one after the other, and unchanged ones have no row. So if one file of a database
//! changed, the walk passes all of them on, and their rows come separately from the others.

use std::io;
use std::iter::Peekable;
use std::time::Duration;

use policy_core::TreePath;
use tokio::time::Instant;

use super::batch::LONG;
use super::delta::Reading;
use super::files::{Blocks, FileRead, LongError, Read, Readers, Told, finish_file, stream};
use super::reading::{LongFile, Parents, ReadError};
use super::stats::count_row;
use super::together::by_database;
use crate::env::JobLost;
use crate::error::Error;
use crate::local::Fingerprint;
use crate::local::sqlite::{self, Content, Member, Taken, Trouble, Wanted};
use crate::monitor::PathProblem;
use crate::state::{DeltaRow, DeltaState, MemberRow, Runs};

/// A group of databases that one job reads ends at this many bytes, or at this many databases.
const GROUP_BYTES: u64 = 4 << 20;
const GROUP: usize = 256;
/// How long one push waits for locks of other processes.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// A database and what is known of its files.
#[derive(Debug)]
pub(crate) struct Unit {
    database: TreePath,
    members: Vec<MemberRow>,
}

impl Unit {
    fn member(&self, member: Member) -> Option<&MemberRow> {
        self.members.iter().find(|row| row.member == member)
    }

    fn path(&self, member: Member) -> Option<TreePath> {
        TreePath::new([self.database.as_bytes(), member.suffix().as_bytes()].concat()).ok()
    }

    fn size(&self) -> u64 {
        self.members.iter().map(|row| row.size).sum()
    }

    /// Returns a row for each file.
    fn rows(self, state: impl Fn(&MemberRow) -> DeltaState) -> impl Iterator<Item = DeltaRow> {
        self.members.into_iter().map(move |row| DeltaRow {
            state: state(&row),
            path: row.path,
            base: row.base,
        })
    }
}

/// The result of reading a group of databases.
#[derive(Default)]
pub(crate) struct UnitsRead {
    read: Read,
    /// Databases with long files.
    long: Vec<(Unit, Taken)>,
    /// Databases that another process had locked.
    again: Vec<(Unit, Trouble)>,
}

type MemberRead = (Member, Option<(Fingerprint, bool, Vec<(crate::format::ChunkId, u32)>)>);

impl Readers {
    fn read_units(&self, units: Vec<Unit>, short: u64) -> UnitsRead {
        let mut result = UnitsRead::default();
        let mut parents = Parents::new(&self.mount);
        let mut blocks = Blocks::new();
        for unit in units {
            let known = |member| unit.member(member).and_then(|row| row.known);
            let taken = parents.of(&unit.database).map_err(Trouble::from).and_then(|dir| {
                sqlite::take(&Wanted {
                    dir: &dir,
                    name: unit.database.name(),
                    known: &known,
                    short,
                    spool_dir: &self.spool_dir,
                    env: self.mount.env(),
                })
            });
            match taken {
                Ok(taken) if taken.files.iter().any(|(_, f)| matches!(f.content, Content::Long(_))) => {
                    result.long.push((unit, taken));
                }
                Ok(taken) => {
                    let files = self.chunk_short(&unit, taken, &mut blocks, &mut result.read);
                    self.finish_unit(unit, files, &mut result.read);
                }
                Err(trouble @ (Trouble::Locked | Trouble::Moving)) => result.again.push((unit, trouble)),
                Err(trouble) => fail(unit, &trouble, &mut result.read),
            }
        }
        result.read.blocks = blocks.finish_of(result.read.stats.bytes_read);
        result
    }

    /// Cuts and hashes the files that are in memory.
    fn chunk_short(
        &self,
        unit: &Unit,
        taken: Taken,
        blocks: &mut Blocks,
        read: &mut Read,
    ) -> Vec<MemberRead> {
        let mut files = Vec::new();
        for (member, file) in taken.files {
            let chunks = match (file.content, unit.path(member)) {
                (Content::Short(bytes), Some(path)) => {
                    read.stats.bytes_read += bytes.len() as u64;
                    Some((file.print, file.trusted, self.chunk(&path, bytes, None, blocks, read)))
                }
                _ => None,
            };
            files.push((member, chunks));
        }
        files
    }

    /// Makes the rows of a database that was read; files without chunks have not changed.
    fn finish_unit(&self, unit: Unit, files: Vec<MemberRead>, read: &mut Read) {
        let mut rows = Vec::new();
        let mut files: Vec<(Member, Option<_>)> = files.into_iter().map(|(m, f)| (m, Some(f))).collect();
        for member in [Member::Database, Member::Journal, Member::Wal] {
            let Some(path) = unit.path(member) else { continue };
            let base = unit.member(member).and_then(|row| row.base.clone());
            let file = files.iter_mut().find(|(m, _)| *m == member).and_then(|(_, file)| file.take());
            let is_outside = member != Member::Database && !self.filter.contains(&path, false);
            if is_outside {
                read.together.outside.insert(path.clone());
            }
            match file {
                Some(_) if is_outside => {}
                Some(None) => read.stats.unchanged += 1,
                Some(Some(file)) => {
                    rows.push(path.clone());
                    finish_file(path, base, Ok(file), read);
                }
                None if base.is_some() => {
                    rows.push(path.clone());
                    read.together.folded.insert(path.clone());
                    push_row(DeltaRow { path, base, state: DeltaState::Absent }, read);
                }
                None => {}
            }
        }
        read.together.members.extend(rows.iter().cloned());
        if rows.len() > 1 {
            read.together.units.push(rows);
        }
    }
}

/// Reports a database that could not be read. It stays as it is in the context.
fn fail(unit: Unit, trouble: &Trouble, read: &mut Read) {
    if !matches!(trouble, Trouble::Gone) {
        read.problems.push(PathProblem {
            path: unit.database.clone(),
            message: format!("the database can't be pushed: {trouble}"),
            hint: "the context keeps its last version; the next sync tries again".to_owned(),
        });
        read.stats.failed += 1;
    }
    let is_gone = matches!(trouble, Trouble::Gone);
    for row in unit.rows(|row| match row.member {
        Member::Database if is_gone => DeltaState::InDoubt { met: true },
        _ => DeltaState::Unreadable,
    }) {
        if row.state == DeltaState::Unreadable {
            read.stats.note_unread(row.path.clone());
        } else if row.base.is_none() {
            continue;
        }
        push_row(row, read);
    }
}

fn push_row(row: DeltaRow, read: &mut Read) {
    count_row(&row, &mut read.stats);
    read.rows.push(row);
}

/// Groups rows by database.
struct Units<I: Iterator<Item = io::Result<MemberRow>>>(Peekable<I>);

impl<I: Iterator<Item = io::Result<MemberRow>>> Units<I> {
    fn next(&mut self) -> io::Result<Option<Unit>> {
        let Some(first) = self.0.next().transpose()? else { return Ok(None) };
        let mut unit = Unit {
            database: TreePath::new(first.database()).map_err(io::Error::other)?,
            members: vec![first],
        };
        let belongs = |row: &io::Result<MemberRow>| {
            row.as_ref().map_or(true, |row| row.database() == unit.database.as_bytes())
        };
        while let Some(row) = self.0.next_if(belongs) {
            let row = row?;
            // If a file was found twice, the row with a base counts.
            if unit.members.last().is_none_or(|last| last.member != row.member) {
                unit.members.push(row);
            }
        }
        Ok(Some(unit))
    }

    fn next_group(&mut self) -> io::Result<Vec<Unit>> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP && bytes < GROUP_BYTES {
            let Some(unit) = self.next()? else { break };
            bytes += unit.size();
            group.push(unit);
        }
        Ok(group)
    }
}

impl Reading<'_, '_, '_> {
    /// Reads the databases that were found so far.
    pub(crate) async fn read_units(&mut self) -> Result<(), Error> {
        if self.units.is_empty() {
            return Ok(());
        }
        self.learn_chunks().await?;
        let cannot_read = |e: io::Error| Error::local("read", self.options.spool_dir, e);
        let mut rows = std::mem::replace(&mut self.units, Runs::new(self.options.spool_dir, by_database));
        let mut units = Units(rows.read().map_err(cannot_read)?.peekable());
        let mut patience = None;
        loop {
            let group = units.next_group().map_err(cannot_read)?;
            if group.is_empty() {
                return Ok(());
            }
            let mut wait = Duration::from_millis(2);
            let mut again = self.read_group(group).await?;
            while !again.is_empty() {
                let until = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
                if Instant::now() >= until || self.is_closed() {
                    let mut read = Read::default();
                    again.into_iter().for_each(|(unit, trouble)| fail(unit, &trouble, &mut read));
                    self.accept(Ok(read), true).await?;
                    break;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                again = self.read_group(again.into_iter().map(|(unit, _)| unit).collect()).await?;
            }
        }
    }

    /// Reads some databases, and returns those that should be retried.
    async fn read_group(&mut self, group: Vec<Unit>) -> Result<Vec<(Unit, Trouble)>, Error> {
        if self.is_closed() {
            group.into_iter().try_for_each(|unit| self.leave_out_unit(unit))?;
            return Ok(Vec::new());
        }
        let (readers, env) = (self.readers.clone(), self.options.mount.env().clone());
        let short = LONG;
        let result = env.blocking(move || readers.read_units(group, short)).await;
        let UnitsRead { read, long, again } = result.map_err(|e| self.lost(e))?;
        self.accept(Ok(read), true).await?;
        for (unit, taken) in long {
            self.read_long_unit(unit, taken).await?;
        }
        Ok(again)
    }

    /// Sends a database with a long file, from its copy.
    async fn read_long_unit(&mut self, unit: Unit, taken: Taken) -> Result<(), Error> {
        if let Some(limit) = self.options.max_upload {
            self.readers.allowance = limit.saturating_sub(self.new_bytes);
        }
        let env = self.options.mount.env().clone();
        let mut read = Read::default();
        let mut files = Vec::new();
        let (mut short, mut long) = (Taken::default(), Vec::new());
        for (member, file) in taken.files {
            match file.content {
                Content::Long(copy) => long.push((member, file.print, file.trusted, copy)),
                content => short.files.push((member, sqlite::TakenFile { content, ..file })),
            }
        }
        for (member, print, trusted, copy) in long {
            let Some(path) = unit.path(member) else { continue };
            let opened = LongFile::of_copy(copy, print, trusted, &self.readers.buffers);
            let result: Result<FileRead, LongError> = match opened {
                Ok(file) => {
                    let sending = &mut self.sending.as_mut();
                    let mut told = Told { progress: &mut self.progress, monitor: self.monitor };
                    stream(&self.readers, &path, file, sending, &mut read, &mut told).await
                }
                Err(e) => Ok(Err(ReadError::from(e))),
            };
            match result {
                Ok(Ok(file)) => files.push((member, Some(file))),
                Ok(Err(ReadError::OutOfTime { .. })) => {
                    self.accept(Ok(read), true).await?;
                    return self.leave_out_unit(unit);
                }
                Ok(Err(error)) => {
                    read.stats.sent_in_vain = true;
                    fail(unit, &Trouble::Io(io::Error::other(error.to_string())), &mut read);
                    return self.accept(Ok(read), true).await;
                }
                Err(LongError::Lost(e)) => return Err(self.lost(e)),
                Err(LongError::Store(e)) => return Err(e),
                // The caller adds up the bytes and reports the error.
                Err(LongError::TooMuch) => return self.accept(Ok(read), true).await,
            }
        }
        let readers = self.readers.clone();
        let finish = move || {
            let mut blocks = Blocks::new();
            let (so_far, mut shorts) = (read.stats.bytes_read, Read::default());
            files.extend(readers.chunk_short(&unit, short, &mut blocks, &mut shorts));
            read.blocks = blocks.finish_of(shorts.stats.bytes_read);
            read.new_bytes += shorts.new_bytes;
            read.stats.bytes_read = so_far + shorts.stats.bytes_read;
            readers.finish_unit(unit, files, &mut read);
            read
        };
        let read = env.blocking(finish).await;
        self.accept(read, true).await
    }

    fn lost(&self, e: JobLost) -> Error {
        Error::local("read", self.options.mount.path(), io::Error::from(e))
    }

    /// Notes a database for which there is no time.
    fn leave_out_unit(&mut self, unit: Unit) -> Result<(), Error> {
        self.delta.cut_short = true;
        unit.rows(|row| DeltaState::Unsent { size: row.size }).try_for_each(|row| self.push(row, true))
    }
}
