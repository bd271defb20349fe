//! A member's records in a zip: in the directory, and before its content.

use policy_core::{Timestamp, escape};
use rustix::fs::FileType;

use super::super::ExtractError;
use super::super::name::decode_zip;
use super::super::source::Source;
use crate::local::os;

const LOCAL: u64 = 30;
const ENCRYPTED: u16 = 1;
/// The sizes are not in the member's own header, but after its content.
const SIZES_FOLLOW: u16 = 1 << 3;
const STRONGLY_ENCRYPTED: u16 = 1 << 6;
const UTF8: u16 = 1 << 11;
const MASKED: u16 = 1 << 13;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Link,
}

/// A member as described in the directory.
pub(super) struct Record {
    /// The name's bytes.
    raw: Vec<u8>,
    /// The name, decoded.
    pub(super) name: Vec<u8>,
    flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    /// The size in the archive, and the unpacked size, in bytes.
    pub(super) packed: u64,
    pub(super) size: u64,
    /// The offset of the member's own header.
    pub(super) at: u64,
    pub(super) kind: Kind,
    pub(super) mode: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
}

impl Record {
    pub(super) fn parse(fixed: &[u8; 46], raw: &[u8], extra: &[u8]) -> Result<Self, ExtractError> {
        let flags = u16_at(fixed, 8);
        let extra = Extra::parse(raw, extra)?;
        let name = match extra.name {
            _ if flags & UTF8 != 0 => raw.to_vec(),
            // It belongs to this name only if it has the name's checksum.
            Some(unicode) if unicode.len() > 5 && unicode[0] == 1 && u32_at(unicode, 1) == crc(raw) => {
                unicode[5..].to_vec()
            }
            _ => decode_zip(raw),
        };
        let shown = escape(&name);
        if flags & (ENCRYPTED | STRONGLY_ENCRYPTED | MASKED) != 0 {
            return Err(ExtractError::unsupported(format!("`{shown}` is encrypted")));
        }
        let mut big = extra.big.unwrap_or_default();
        let mut large = |plain: u32| -> Result<u64, ExtractError> {
            if plain != u32::MAX {
                return Ok(plain.into());
            }
            let (value, rest) = big
                .split_first_chunk::<8>()
                .ok_or_else(|| ExtractError::damaged(format!("`{shown}` lacks its large sizes")))?;
            big = rest;
            Ok(u64::from_le_bytes(*value))
        };
        let size = large(u32_at(fixed, 24))?;
        let packed = large(u32_at(fixed, 20))?;
        let at = large(u32_at(fixed, 42))?;
        let (kind, mode) = kind(&name, fixed)?;
        Ok(Self {
            raw: raw.to_vec(),
            flags,
            method: u16_at(fixed, 10),
            crc: u32_at(fixed, 16),
            packed,
            size,
            at,
            kind,
            mode,
            mtime: extra.mtime.or_else(|| dos_time(u16_at(fixed, 14), u16_at(fixed, 12))),
            name,
        })
    }

    /// Returns an offset at or before the end of the member's content; `None` on overflow.
    pub(super) fn least_end(&self) -> Option<u64> {
        self.at.checked_add(LOCAL + self.raw.len() as u64)?.checked_add(self.packed)
    }
}

/// A member's own header.
pub(super) struct Local {
    /// The offset of the member's content.
    pub(super) data: u64,
}

impl Local {
    /// Reads the member's own header. It must agree with `record`, because some programs trust the one and
    /// some the other.
    pub(super) fn read(record: &Record, source: &Source<'_>) -> Result<Self, ExtractError> {
        let differs = |what: &str| {
            let shown = escape(&record.name);
            ExtractError::damaged(format!(
                "`{shown}` has another {what} in its own header than in the directory"
            ))
        };
        let mut fixed = [0; LOCAL as usize];
        if !source.exact(record.at, &mut fixed)? || !fixed.starts_with(b"PK\x03\x04") {
            return Err(differs("place"));
        }
        let [name, extra] = [26, 28].map(|at| usize::from(u16_at(&fixed, at)));
        let mut rest = vec![0; name + extra];
        if !source.exact(record.at + LOCAL, &mut rest)? || rest[..name] != record.raw[..] {
            return Err(differs("name"));
        }
        let flags = u16_at(&fixed, 6);
        if (flags ^ record.flags) & (ENCRYPTED | STRONGLY_ENCRYPTED) != 0 {
            return Err(differs("encryption"));
        }
        if u16_at(&fixed, 8) != record.method {
            return Err(differs("method"));
        }
        let extra = Extra::parse(&record.raw, &rest[name..])?;
        if u16_at(&fixed, 8) == record.method && flags & SIZES_FOLLOW == 0 {
            let mut big = extra.big.unwrap_or_default();
            let mut large = |plain: u32| match big.split_first_chunk::<8>() {
                Some((value, rest)) if plain == u32::MAX => {
                    big = rest;
                    u64::from_le_bytes(*value)
                }
                _ => plain.into(),
            };
            if large(u32_at(&fixed, 22)) != record.size || large(u32_at(&fixed, 18)) != record.packed {
                return Err(differs("size"));
            }
            if u32_at(&fixed, 14) != record.crc {
                return Err(differs("checksum"));
            }
        } else {
            // The sizes may be there nevertheless, and then they must be correct.
            let [crc, packed, size] = [14, 18, 22].map(|at| u32_at(&fixed, at));
            let wrong = |plain: u32, value: u64| plain != 0 && plain != u32::MAX && u64::from(plain) != value;
            if wrong(packed, record.packed) || wrong(size, record.size) || wrong(crc, record.crc.into()) {
                return Err(differs("size"));
            }
        }
        Ok(Self { data: record.at + LOCAL + (name + extra_len(&fixed)) as u64 })
    }
}

fn extra_len(local: &[u8]) -> usize {
    usize::from(u16_at(local, 28))
}

/// Returns the kind of a member, and its permission bits if the archive has any.
fn kind(name: &[u8], fixed: &[u8; 46]) -> Result<(Kind, Option<u32>), ExtractError> {
    const DOS: u8 = 0;
    const UNIX: u8 = 3;
    const DARWIN: u8 = 19;
    let attributes = u32_at(fixed, 38);
    let is_dir = name.ends_with(b"/");
    let host = fixed[5];
    if !matches!(host, UNIX | DARWIN) || attributes >> 16 == 0 {
        let dir = is_dir || (host == DOS && attributes & 0x10 != 0);
        return Ok((if dir { Kind::Dir } else { Kind::File }, None));
    }
    let mode = attributes >> 16;
    let bits = Some(mode & 0o7777).filter(|bits| *bits != 0);
    match os::kind_of(mode) {
        FileType::Directory => Ok((Kind::Dir, bits)),
        // The slash is more reliable than the type, which some programs set for every member.
        FileType::RegularFile if is_dir => Ok((Kind::Dir, None)),
        FileType::RegularFile => Ok((Kind::File, bits)),
        FileType::Symlink if !is_dir => Ok((Kind::Link, None)),
        FileType::Symlink => {
            Err(ExtractError::damaged(format!("`{}` is a link with a folder's name", escape(name))))
        }
        FileType::CharacterDevice | FileType::BlockDevice => Err(ExtractError::hostile(name, "is a device")),
        FileType::Fifo => Err(ExtractError::hostile(name, "is a FIFO")),
        FileType::Socket => Err(ExtractError::hostile(name, "is a socket")),
        // No type is given.
        FileType::Unknown if mode & 0o170_000 == 0 => Ok((if is_dir { Kind::Dir } else { Kind::File }, bits)),
        FileType::Unknown => Err(ExtractError::hostile(name, "is of a kind that no file has")),
    }
}

/// The relevant extra fields.
#[derive(Default)]
struct Extra<'e> {
    /// Sizes over 4 GiB.
    big: Option<&'e [u8]>,
    /// A name in UTF-8 besides the plain one.
    name: Option<&'e [u8]>,
    mtime: Option<Timestamp>,
}

impl<'e> Extra<'e> {
    fn parse(member: &[u8], mut bytes: &'e [u8]) -> Result<Self, ExtractError> {
        let mut extra = Self::default();
        // Some programs pad with a few bytes that are no field.
        while bytes.len() >= 4 {
            let (id, len) = (u16_at(bytes, 0), usize::from(u16_at(bytes, 2)));
            let Some(value) = bytes.get(4..4 + len) else { break };
            match id {
                0x0001 if extra.big.replace(value).is_some() => {
                    return Err(ExtractError::damaged(format!(
                        "`{}` has its large sizes twice",
                        escape(member)
                    )));
                }
                0x7075 => extra.name = Some(value),
                0x5455 if len >= 5 && value[0] & 1 != 0 => {
                    let secs = u32_at(value, 1).cast_signed();
                    extra.mtime = Some(Timestamp { secs: secs.into(), nanos: 0 });
                }
                0x000a if len >= 32 && u16_at(value, 4) == 1 => {
                    extra.mtime = extra.mtime.or(windows_time(u64_at(value, 8)));
                }
                _ => {}
            }
            bytes = &bytes[4 + len..];
        }
        Ok(extra)
    }
}

/// Reads a time in units of 100 ns since 1601; `None` if it is unset.
pub(in super::super) fn windows_time(ticks: u64) -> Option<Timestamp> {
    if ticks == 0 {
        return None;
    }
    let secs = i64::try_from(ticks / 10_000_000).ok()? - 11_644_473_600;
    Some(Timestamp { secs, nanos: u32::try_from(ticks % 10_000_000).ok()? * 100 })
}

/// Reads a DOS time. It has no time zone, and is taken as UTC, so that it is the same on each machine.
fn dos_time(date: u16, time: u16) -> Option<Timestamp> {
    let part = |value: u16, shift: u16, bits: u16| i8::try_from((value >> shift) & ((1 << bits) - 1)).ok();
    let year = i16::try_from(1980 + (date >> 9)).ok()?;
    let moment = jiff::civil::DateTime::new(
        year,
        part(date, 5, 4)?,
        part(date, 0, 5)?,
        part(time, 11, 5)?,
        part(time, 5, 6)?,
        part(time, 0, 5)? * 2,
        0,
    );
    let zoned = moment.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp { secs: zoned.timestamp().as_second(), nanos: 0 })
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Reads a number at an offset that is within `bytes`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Reads a number at an offset that is within `bytes`.
pub(in super::super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// Reads a number at an offset that is within `bytes`.
pub(in super::super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
