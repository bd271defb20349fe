//! Sparse files in a tar: data, and a map of their positions.

use std::collections::BTreeMap;
use std::io::{self, Read};

use ::tar::{GnuExtSparseHeader, GnuSparseHeader, Header};
use policy_core::escape;

use super::ExtractError;
use super::blocks::{BLOCK, Blocks, HEADERS};
use super::place::{Member, Placer};

/// Writes a sparse file in GNU's old format: a map of positions, and the data.
pub(super) fn place_gnu(
    blocks: &mut Blocks<'_>,
    header: &Header,
    member: &Member<'_>,
    size: u64,
    placer: &mut Placer<'_>,
) -> Result<(), ExtractError> {
    let bad = || bad(member);
    let gnu = header.as_gnu().ok_or_else(bad)?;
    let real = gnu.real_size().map_err(|_| bad())?;
    let mut map = Vec::new();
    add_runs(&gnu.sparse, &mut map).ok_or_else(bad)?;
    let mut more = gnu.is_extended();
    while more {
        if map.len() as u64 * 16 > HEADERS {
            return Err(ExtractError::unsupported(format!("`{}` has too many holes", escape(member.name))));
        }
        let mut ext = GnuExtSparseHeader::new();
        let mut block = [0; 512];
        if !blocks.block(&mut block)? {
            return Err(bad());
        }
        ext.as_mut_bytes().copy_from_slice(&block);
        add_runs(&ext.sparse, &mut map).ok_or_else(bad)?;
        more = ext.is_extended();
    }
    place_runs(blocks, map, real, member, size, placer)
}

/// Reads the real size of a sparse file in PAX format 1.0, which today's programs write.
pub(super) fn by_pax(pax: &BTreeMap<Vec<u8>, Vec<u8>>, shown: &str) -> Result<u64, ExtractError> {
    let get = |key: &str| pax.get(key.as_bytes()).and_then(|value| std::str::from_utf8(value).ok());
    let known = get("GNU.sparse.major") == Some("1") && get("GNU.sparse.minor") == Some("0");
    if !known || get("GNU.sparse.name").is_none() {
        return Err(ExtractError::unsupported(format!(
            "`{shown}` is stored sparse, in a form that is not read"
        )));
    }
    let real = get("GNU.sparse.realsize").and_then(|value| value.parse().ok());
    real.ok_or_else(|| ExtractError::damaged(format!("`{shown}` has no real size")))
}

/// Writes a sparse file in PAX format 1.0: its content begins with the map, as lines of digits.
pub(super) fn place_pax(
    blocks: &mut Blocks<'_>,
    real: u64,
    member: &Member<'_>,
    size: u64,
    placer: &mut Placer<'_>,
) -> Result<(), ExtractError> {
    let bad = || bad(member);
    let (mut numbers, mut digits) = (Vec::new(), String::new());
    let mut read = 0;
    let mut expected = None;
    while expected.is_none_or(|expected| (numbers.len() as u64) < expected) {
        let mut block = [0; 512];
        if read >= HEADERS || read + BLOCK > size || !blocks.block(&mut block)? {
            return Err(bad());
        }
        read += BLOCK;
        for byte in block {
            match byte {
                b'0'..=b'9' if digits.len() < 20 => digits.push(char::from(byte)),
                b'\n' => {
                    let number: u64 = digits.parse().map_err(|_| bad())?;
                    digits.clear();
                    match expected {
                        None => expected = Some(number.checked_mul(2).ok_or_else(bad)?),
                        Some(_) => numbers.push(number),
                    }
                }
                _ => return Err(bad()),
            }
            if expected.is_some_and(|expected| numbers.len() as u64 == expected) {
                break;
            }
        }
    }
    let map = numbers.chunks_exact(2).map(|run| (run[0], run[1])).collect();
    place_runs(blocks, map, real, member, size - read, placer)
}

/// Writes a file of data and holes. `map` has the offset and length of each run of data, in order.
fn place_runs(
    blocks: &mut Blocks<'_>,
    map: Vec<(u64, u64)>,
    real: u64,
    member: &Member<'_>,
    size: u64,
    placer: &mut Placer<'_>,
) -> Result<(), ExtractError> {
    let bad = || bad(member);
    let mut end = 0;
    let mut data = 0_u64;
    for (at, len) in &map {
        // All runs but the last fill whole blocks, so there is no padding between them.
        if *at < end || (!data.is_multiple_of(BLOCK) && *len > 0) {
            return Err(bad());
        }
        end = at.checked_add(*len).ok_or_else(bad)?;
        data = data.checked_add(*len).ok_or_else(bad)?;
    }
    if end > real || data != size {
        return Err(bad());
    }
    let mut content =
        Sparse { stream: &mut *blocks.stream, map: map.into_iter(), hole: 0, data: 0, at: 0, real };
    placer.file(member, Some(real), &mut content)?;
    blocks.padding(size)
}

fn bad(member: &Member<'_>) -> ExtractError {
    ExtractError::damaged(format!("`{}` has a map of holes that can't be", escape(member.name)))
}

/// Adds the runs (offset, length) of a sparse header; `None` if one is unreadable.
fn add_runs(runs: &[GnuSparseHeader], map: &mut Vec<(u64, u64)>) -> Option<()> {
    for run in runs.iter().filter(|run| !run.is_empty()) {
        map.push((run.offset().ok()?, run.length().ok()?));
    }
    Some(())
}

/// The content of a sparse file, including holes.
struct Sparse<'s> {
    stream: &'s mut dyn Read,
    map: std::vec::IntoIter<(u64, u64)>,
    /// The rest of the current hole, and of the data after it.
    hole: u64,
    data: u64,
    at: u64,
    real: u64,
}

impl Read for Sparse<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.hole == 0 && self.data == 0 {
            match self.map.next() {
                Some((at, len)) => (self.hole, self.data) = (at - self.at, len),
                None if self.at == self.real => return Ok(0),
                None => self.hole = self.real - self.at,
            }
        }
        let most = if self.hole > 0 { self.hole } else { self.data };
        let n = usize::try_from(most).unwrap_or(usize::MAX).min(buf.len());
        if self.hole > 0 {
            buf[..n].fill(0);
            self.hole -= n as u64;
            self.at += n as u64;
            return Ok(n);
        }
        let n = self.stream.read(&mut buf[..n])?;
        self.data -= n as u64;
        self.at += n as u64;
        Ok(n)
    }
}
