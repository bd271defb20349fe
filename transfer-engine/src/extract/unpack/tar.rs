//! Tar: a sequence of members, each after one or more headers.

use std::collections::BTreeMap;
use std::io::{self, Read};

use ::tar::{EntryType, Header};
use policy_core::{Timestamp, escape};

use super::ExtractError;
use super::blocks::Blocks;
use super::kind::checksum;
use super::place::{Member, Placer};
use super::sparse;
use super::trouble::Trouble;

/// The first size that does not fit a plain header. Only such a size may be given by an extended header
/// alone.
const PLAIN_SIZES: u64 = 1 << 33;
/// The end of the year 9999. A later time is a mistake, and some file systems refuse it.
const LAST_TIME: i64 = 253_402_300_799;

/// Writes the members of a tar with `placer`, to the very end of `stream`.
pub(super) fn extract(
    stream: &mut dyn Read,
    trouble: &Trouble,
    placer: &mut Placer<'_>,
) -> Result<(), ExtractError> {
    let mut blocks = Blocks { stream, trouble };
    let mut members = 0_u64;
    while let Some(headers) = blocks.headers()? {
        members += 1;
        place(&mut blocks, headers, placer)?;
    }
    let behind = blocks.not_zero()?;
    if behind > 0 {
        if members == 0 {
            return Err(ExtractError::damaged("what it holds is no tar"));
        }
        placer.warn(format!("{behind} bytes after the last member were left alone"));
    }
    Ok(())
}

/// Everything that the headers of one member say.
struct Headers {
    header: Header,
    name: Vec<u8>,
    link: Vec<u8>,
    /// The size of the content in the archive, in bytes.
    size: u64,
    mtime: Timestamp,
    /// The size of a sparse file in PAX format, including its holes.
    sparse: Option<u64>,
}

impl Blocks<'_> {
    /// Reads the headers of the next member; `None` at the end mark.
    fn headers(&mut self) -> Result<Option<Headers>, ExtractError> {
        let mut extended = Extended::default();
        loop {
            let mut block = [0; 512];
            if !self.block(&mut block)? {
                // Otherwise an archive that was truncated between two members would pass as complete.
                return Err(ExtractError::damaged("it ends without its end mark: it was cut short"));
            }
            if block.iter().all(|&b| b == 0) {
                if extended.is_empty() {
                    return Ok(None);
                }
                return Err(ExtractError::damaged("a header describes a member that does not follow"));
            }
            let header = Header::from_byte_slice(&block).clone();
            if header.cksum().ok() != Some(checksum(&block)) {
                return Err(ExtractError::damaged("a header has a wrong checksum, or it is no tar at all"));
            }
            let size = number(&header, header.entry_size())?;
            match header.entry_type() {
                EntryType::XGlobalHeader => check_global(&self.small(size)?)?,
                EntryType::XHeader => extended.add_pax(self.small(size)?)?,
                EntryType::GNULongName => extended.set_long(true, self.small(size)?)?,
                EntryType::GNULongLink => extended.set_long(false, self.small(size)?)?,
                _ => return extended.with(header, size).map(Some),
            }
        }
    }
}

/// Reads a number from a header.
fn number(header: &Header, value: io::Result<u64>) -> Result<u64, ExtractError> {
    value.map_err(|_| {
        ExtractError::damaged(format!(
            "`{}` has a header with an unreadable number",
            escape(&header.path_bytes())
        ))
    })
}

/// Headers that precede a member's own header.
#[derive(Default)]
struct Extended {
    pax: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extended {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }

    fn add_pax(&mut self, bytes: Vec<u8>) -> Result<(), ExtractError> {
        if self.pax.is_some() {
            return Err(ExtractError::damaged("two extended headers describe one member"));
        }
        self.pax = Some(parse_pax(&bytes)?);
        Ok(())
    }

    fn set_long(&mut self, is_name: bool, mut bytes: Vec<u8>) -> Result<(), ExtractError> {
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        let long = if is_name { &mut self.long_name } else { &mut self.long_link };
        if long.replace(bytes).is_some() {
            return Err(ExtractError::damaged("two long names describe one member"));
        }
        Ok(())
    }

    /// Combines these headers with the member's own. If two headers give the same field, they must agree,
    /// because programs differ in which one they trust.
    fn with(self, header: Header, plain_size: u64) -> Result<Headers, ExtractError> {
        let pax = self.pax.unwrap_or_default();
        let get = |key: &str| pax.get(key.as_bytes()).filter(|value| !value.is_empty());
        // The plain name of a sparse file is an artificial one, for programs that do not know the format.
        let path = get("GNU.sparse.name").or_else(|| get("path"));
        let name = either(path, self.long_name, || header.path_bytes().into_owned())?;
        let link = either(get("linkpath"), self.long_link, || {
            header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default()
        })?;
        let shown = escape(&name);
        let sparse = match pax.keys().any(|key| key.starts_with(b"GNU.sparse.")) {
            true => Some(sparse::by_pax(&pax, &shown)?),
            false => None,
        };
        let mut size = plain_size;
        if let Some(value) = get("size") {
            let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            size =
                text.ok_or_else(|| ExtractError::damaged(format!("`{shown}` has a size that is no number")))?;
            // A size that fits must be the same in both headers. If it does not fit, the plain field may have
            // any value.
            if size < PLAIN_SIZES && size != plain_size {
                return Err(ExtractError::damaged(format!(
                    "`{shown}` has {size} bytes by one header and {plain_size} by another"
                )));
            }
        }
        let mtime = match get("mtime") {
            Some(value) => parse_time(value)
                .ok_or_else(|| ExtractError::damaged(format!("`{shown}` has a time that is no number")))?,
            None => plain_time(&header)?,
        };
        Ok(Headers { header, name, link, size, mtime, sparse })
    }
}

/// Reads the time of a plain header. Times before 1970 are in GNU's binary format, which the library misreads
/// as very late ones.
fn plain_time(header: &Header) -> Result<Timestamp, ExtractError> {
    let secs = match header.as_old().mtime {
        [0xff, 0xff, 0xff, 0xff, secs @ ..] => i64::from_be_bytes(secs),
        _ => i64::try_from(number(header, header.mtime())?).unwrap_or(LAST_TIME),
    };
    Ok(Timestamp { secs: secs.clamp(-LAST_TIME, LAST_TIME), nanos: 0 })
}

/// Chooses a name: by PAX, by GNU, or by the plain header. The first two must not contradict each other.
fn either(
    pax: Option<&Vec<u8>>,
    gnu: Option<Vec<u8>>,
    plain: impl FnOnce() -> Vec<u8>,
) -> Result<Vec<u8>, ExtractError> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if *pax != gnu => {
            Err(ExtractError::damaged(format!("`{}` is also called `{}`", escape(pax), escape(&gnu))))
        }
        (Some(pax), _) => Ok(pax.clone()),
        (None, Some(gnu)) => Ok(gnu),
        (None, None) => Ok(plain()),
    }
}

/// Parses records such as `12 key=value\n`, where 12 is the length of the whole record: a value may contain
/// any byte.
fn parse_pax(mut bytes: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ExtractError> {
    let bad = || ExtractError::damaged("an extended header is not of the form that it should have");
    let mut records = BTreeMap::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|&b| b == b' ').ok_or_else(bad)?;
        let digits = std::str::from_utf8(&bytes[..space]).map_err(|_| bad())?;
        let len: usize = digits.parse().map_err(|_| bad())?;
        if len <= space + 2 || len > bytes.len() || bytes[len - 1] != b'\n' {
            return Err(bad());
        }
        let record = &bytes[space + 1..len - 1];
        let equals = record.iter().position(|&b| b == b'=').ok_or_else(bad)?;
        let (key, value) = (record[..equals].to_vec(), record[equals + 1..].to_vec());
        let decides = [&b"path"[..], b"linkpath", b"size"].contains(&&*key);
        if records.insert(key, value).is_some() && decides {
            return Err(ExtractError::damaged("an extended header says something twice"));
        }
        bytes = &bytes[len..];
    }
    Ok(records)
}

/// Refuses a global header that would give all members one name or size. Other global headers are comments.
fn check_global(bytes: &[u8]) -> Result<(), ExtractError> {
    let records = parse_pax(bytes)?;
    match records
        .keys()
        .find(|key| matches!(&key[..], b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU."))
    {
        Some(key) => Err(ExtractError::damaged(format!("one `{}` is given for all members", escape(key)))),
        None => Ok(()),
    }
}

/// Parses seconds since 1970 with a fraction.
fn parse_time(value: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let secs: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    let time = match (negative, nanos) {
        (true, 1..) => Timestamp { secs: secs.checked_sub(1)?, nanos: 1_000_000_000 - nanos },
        _ => Timestamp { secs, nanos },
    };
    Some(time.clamp(Timestamp { secs: -LAST_TIME, nanos: 0 }, Timestamp { secs: LAST_TIME, nanos: 0 }))
}

fn place(blocks: &mut Blocks<'_>, headers: Headers, placer: &mut Placer<'_>) -> Result<(), ExtractError> {
    let Headers { header, name, link, size, mtime, sparse } = headers;
    let mode = number(&header, header.mode().map(u64::from))?;
    let member = Member { name: &name, mode: u32::try_from(mode).ok(), mtime: Some(mtime) };
    let kind = header.entry_type();
    // Before there was a type for directories, they were names that end in a slash.
    let is_old_dir = kind == EntryType::Regular && name.ends_with(b"/") && header.as_ustar().is_none();
    let kind = if is_old_dir { EntryType::Directory } else { kind };
    match kind {
        EntryType::Regular | EntryType::Continuous => {
            if name.ends_with(b"/") {
                return Err(ExtractError::damaged(format!(
                    "`{}` is a file with a folder's name",
                    escape(&name)
                )));
            }
            if let Some(real) = sparse {
                return sparse::place_pax(blocks, real, &member, size, placer);
            }
            placer.file(&member, Some(size), &mut (&mut *blocks.stream).take(size))?;
            blocks.padding(size)
        }
        _ if sparse.is_some() => {
            Err(ExtractError::damaged(format!("`{}` has holes, which only files have", escape(&name))))
        }
        EntryType::GNUSparse => sparse::place_gnu(blocks, &header, &member, size, placer),
        EntryType::Directory | EntryType::Symlink | EntryType::Link if size > 0 => {
            Err(ExtractError::damaged(format!("`{}` has content, which only files have", escape(&name))))
        }
        EntryType::Directory => placer.dir(&member),
        EntryType::Symlink => placer.symlink(&member, &link),
        EntryType::Link => placer.hard_link(&member, &link),
        EntryType::Char | EntryType::Block => Err(ExtractError::hostile(&name, "is a device")),
        EntryType::Fifo => Err(ExtractError::hostile(&name, "is a FIFO")),
        other => Err(ExtractError::unsupported(format!(
            "`{}` is of the type `{}`",
            escape(&name),
            escape(&[other.as_byte()])
        ))),
    }
}
