//! The directory at the end of a zip.

use std::io::{BufReader, Read};

use super::super::ExtractError;
use super::super::source::Source;
use super::super::trouble::Trouble;
use super::record::{Record, u16_at, u32_at, u64_at};

const END: usize = 22;
const END64: usize = 56;
const LOCATOR: usize = 20;
/// How far from the file's end the end record is searched for. Its comment is at most 64 KiB, and other bytes
/// may follow.
const SEARCHED: u64 = 1 << 20;

/// The position of the directory.
pub(super) struct Directory {
    /// Its offset in the file; all members come before it.
    pub(super) at: u64,
    len: u64,
    /// The number of members.
    pub(super) count: u64,
    /// The number of bytes after the archive.
    pub(super) left_over: Option<u64>,
}

fn bad(what: &str) -> ExtractError {
    ExtractError::damaged(what)
}

impl Directory {
    /// Finds the last end record that has a directory right before it.
    pub(super) fn find(source: &Source<'_>) -> Result<Self, ExtractError> {
        let size = source.end();
        let from = size.saturating_sub(SEARCHED);
        let mut tail = vec![0; usize::try_from(size - from).unwrap_or_default()];
        source.exact(from, &mut tail)?;
        let mut problem = bad("it has no directory at its end: it was cut short");
        for i in (0..=tail.len().saturating_sub(END)).rev() {
            if !tail[i..].starts_with(b"PK\x05\x06") || tail.len() < i + END {
                continue;
            }
            match Self::parse(source, &tail[i..], from + i as u64) {
                Ok(directory) => return Ok(directory),
                // A sequence in a comment, or after the end, may just look like an end record.
                Err(e @ ExtractError::Damaged { .. }) => problem = e,
                Err(e) => return Err(e),
            }
        }
        Err(problem)
    }

    fn parse(source: &Source<'_>, end: &[u8], at: u64) -> Result<Self, ExtractError> {
        let comment = u64::from(u16_at(end, 20));
        let behind = (source.end() - at - END as u64).checked_sub(comment);
        let behind = behind.ok_or_else(|| bad("its end record is cut short"))?;
        let disks = [u16_at(end, 4), u16_at(end, 6)];
        let (here, all) = (u16_at(end, 8), u16_at(end, 10));
        let (mut count, mut len, mut start) =
            (u64::from(all), u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        let plain = (count, len, start);
        let mut directory_end = at;
        let mut locator = [0; LOCATOR];
        let has_locator = at >= LOCATOR as u64
            && source.exact(at - LOCATOR as u64, &mut locator)?
            && locator.starts_with(b"PK\x06\x07");
        let is_big = all == u16::MAX || u32_at(end, 12) == u32::MAX || u32_at(end, 16) == u32::MAX;
        if has_locator {
            let at64 = u64_at(&locator, 8);
            let mut end64 = [0; END64];
            if !source.exact(at64, &mut end64)? || !end64.starts_with(b"PK\x06\x06") {
                return Err(bad("its large end record is not where it should be"));
            }
            let record_end = at64.checked_add(12).and_then(|at| at.checked_add(u64_at(&end64, 4)));
            if record_end != Some(at - LOCATOR as u64) {
                return Err(bad("its two end records don't follow each other"));
            }
            if u32_at(&end64, 16) != 0 || u32_at(&end64, 20) != 0 {
                return Err(ExtractError::unsupported("it is one part of several"));
            }
            (count, len, start) = (u64_at(&end64, 32), u64_at(&end64, 40), u64_at(&end64, 48));
            directory_end = at64;
            let agree = |small: u64, most: u64, big: u64| small == most || small == big;
            if !agree(plain.0, u16::MAX.into(), count)
                || !agree(plain.1, u32::MAX.into(), len)
                || !agree(plain.2, u32::MAX.into(), start)
            {
                return Err(bad("its two end records disagree"));
            }
        } else if is_big && (disks != [0, 0] && disks != [u16::MAX; 2]) {
            return Err(ExtractError::unsupported("it is one part of several"));
        }
        if !has_locator && (disks != [0, 0] || here != all) {
            return Err(ExtractError::unsupported("it is one part of several"));
        }
        if start.checked_add(len) != Some(directory_end) {
            return Err(bad("its directory is not where its end record says"));
        }
        if len / 46 < count {
            return Err(bad("its directory is too small for its members"));
        }
        let left_over = (behind > 0).then_some(behind);
        Ok(Self { at: start, len, count, left_over })
    }

    /// Returns an iterator over the records.
    pub(super) fn records<'a>(&self, source: &Source<'a>, trouble: &'a Trouble) -> Records<'a> {
        let input = BufReader::with_capacity(64 << 10, source.part(self.at, self.at + self.len));
        Records { input, left: self.len, count: self.count, trouble }
    }
}

/// The records of a directory.
pub(super) struct Records<'a> {
    input: BufReader<Source<'a>>,
    left: u64,
    count: u64,
    trouble: &'a Trouble,
}

impl Records<'_> {
    /// Returns the next record; `None` after the last one, where the directory must end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, ExtractError> {
        match (self.count, self.left) {
            (0, 0) => return Ok(None),
            (0, _) => return Err(bad("its directory has more members than it says")),
            _ => self.count -= 1,
        }
        let mut fixed = [0; 46];
        self.read(&mut fixed)?;
        if !fixed.starts_with(b"PK\x01\x02") {
            return Err(bad("its directory has a bad record"));
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(&fixed, at)));
        let mut rest = vec![0; name + extra + comment];
        self.read(&mut rest)?;
        Record::parse(&fixed, &rest[..name], &rest[name..name + extra]).map(Some)
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<(), ExtractError> {
        self.left = self
            .left
            .checked_sub(buf.len() as u64)
            .ok_or_else(|| bad("its directory ends within a record"))?;
        self.input.read_exact(buf).map_err(|e| self.trouble.explain(&e, "its directory"))
    }
}
