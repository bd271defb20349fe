//! Writers of archives that an honest program would not write.

use std::io::Write;

use super::{Node, Tree};

/// The time of every member.
pub(in super::super) const MTIME: i64 = 1_600_000_000;

/// Writes a tar, header by header.
#[derive(Default)]
pub(super) struct Tar {
    pub(super) bytes: Vec<u8>,
}

impl Tar {
    pub(super) fn header(kind: tar::EntryType, name: &[u8], size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        // `set_path` would refuse the names that these tests need.
        let fits = name.len().min(100);
        header.as_old_mut().name[..fits].copy_from_slice(&name[..fits]);
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_mtime(MTIME.cast_unsigned());
        header
    }

    /// Adds a header with a correct checksum, and its content.
    pub(super) fn add(mut self, mut header: tar::Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let long = self.long_where_needed(tar::EntryType::GNULongName, name);
        long.add(Self::header(tar::EntryType::Regular, name.as_bytes(), content.len() as u64), content)
    }

    pub(super) fn dir(self, name: &str, mode: u32) -> Self {
        let mut header = Self::header(tar::EntryType::Directory, name.as_bytes(), 0);
        header.set_mode(mode);
        self.add(header, b"")
    }

    pub(super) fn links(self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, name.as_bytes(), 0);
        let fits = target.len().min(100);
        header.as_old_mut().linkname[..fits].copy_from_slice(&target.as_bytes()[..fits]);
        let long = self.long_where_needed(tar::EntryType::GNULongName, name);
        long.long_where_needed(tar::EntryType::GNULongLink, target).add(header, b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.links(tar::EntryType::Symlink, name, target)
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.links(tar::EntryType::Link, name, target)
    }

    pub(super) fn kind(self, kind: tar::EntryType, name: &str) -> Self {
        self.add(Self::header(kind, name.as_bytes(), 0), b"")
    }

    /// Adds an extended header for the next member.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut len = rest + 1;
            while len != rest + len.to_string().len() {
                len += 1;
            }
            body.extend_from_slice(format!("{len} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.add(Self::header(tar::EntryType::XHeader, b"pax", body.len() as u64), &body)
    }

    /// Adds GNU's header for a long name (or link) of the next member.
    pub(super) fn long(self, kind: tar::EntryType, text: &[u8]) -> Self {
        let body = [text, b"\0"].concat();
        self.add(Self::header(kind, b"././@LongLink", body.len() as u64), &body)
    }

    fn long_where_needed(self, kind: tar::EntryType, text: &str) -> Self {
        if text.len() > 100 { self.long(kind, text.as_bytes()) } else { self }
    }

    /// Adds the end mark.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// A member of a zip.
#[derive(Clone)]
pub(super) struct Zipped {
    pub(super) name: Vec<u8>,
    pub(super) local_name: Vec<u8>,
    /// The content, compressed with `method`.
    pub(super) packed: Vec<u8>,
    pub(super) method: u16,
    pub(super) flags: u16,
    pub(super) crc: u32,
    pub(super) size: u32,
    pub(super) local_size: u32,
    /// The Unix mode, including the file type.
    pub(super) mode: u32,
    pub(super) extra: Vec<u8>,
}

impl Zipped {
    pub(super) fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let size = u32::try_from(content.len()).unwrap();
        let time = [b"UT\x05\0\x01".as_slice(), &i32::try_from(MTIME).unwrap().to_le_bytes()].concat();
        Self {
            name: name.into(),
            local_name: name.into(),
            packed: encoder.finish().unwrap(),
            method: 8,
            flags: 1 << 11,
            crc: crc.sum(),
            size,
            local_size: size,
            mode: if name.ends_with('/') { 0o040_755 } else { 0o100_644 },
            extra: time,
        }
    }

    pub(super) fn link(name: &str, target: &str) -> Self {
        Self { mode: 0o120_777, ..Self::new(name, target) }
    }

    pub(super) fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    fn local(&self) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0".to_vec();
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.method.to_le_bytes());
        bytes.extend([0, 0, 0x21, 0x50]);
        bytes.extend(self.crc.to_le_bytes());
        bytes.extend(u32::try_from(self.packed.len()).unwrap().to_le_bytes());
        bytes.extend(self.local_size.to_le_bytes());
        bytes.extend(u16::try_from(self.local_name.len()).unwrap().to_le_bytes());
        bytes.extend(u16::try_from(self.extra.len()).unwrap().to_le_bytes());
        bytes.extend(&self.local_name);
        bytes.extend(&self.extra);
        bytes.extend(&self.packed);
        bytes
    }

    fn central(&self, at: usize) -> Vec<u8> {
        let mut bytes = b"PK\x01\x02\x14\x03\x14\0".to_vec();
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.method.to_le_bytes());
        bytes.extend([0, 0, 0x21, 0x50]);
        bytes.extend(self.crc.to_le_bytes());
        bytes.extend(u32::try_from(self.packed.len()).unwrap().to_le_bytes());
        bytes.extend(self.size.to_le_bytes());
        bytes.extend(u16::try_from(self.name.len()).unwrap().to_le_bytes());
        bytes.extend(u16::try_from(self.extra.len()).unwrap().to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend((self.mode << 16).to_le_bytes());
        bytes.extend(u32::try_from(at).unwrap().to_le_bytes());
        bytes.extend(&self.name);
        bytes.extend(&self.extra);
        bytes
    }
}

/// Writes a zip of these members.
pub(super) fn zip(members: &[Zipped]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = Vec::new();
    for member in members {
        at.push(bytes.len());
        bytes.extend(member.local());
    }
    let members: Vec<_> = members.iter().zip(at).collect();
    zip_end(bytes, &members)
}

/// Writes a directory after `bytes`; the members begin at the given offsets.
pub(super) fn zip_end(mut bytes: Vec<u8>, members: &[(&Zipped, usize)]) -> Vec<u8> {
    let start = bytes.len();
    for (member, at) in members {
        bytes.extend(member.central(*at));
    }
    let len = bytes.len() - start;
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    bytes.extend([count, count].concat());
    bytes.extend(u32::try_from(len).unwrap().to_le_bytes());
    bytes.extend(u32::try_from(start).unwrap().to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// Compresses `bytes` as the suffix of `name` says.
pub(super) fn pack(name: &str, bytes: &[u8]) -> Vec<u8> {
    if name.ends_with("gz") {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else if name.ends_with("bz2") {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else if name.ends_with("xz") {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else if name.ends_with("zst") {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else {
        bytes.to_vec()
    }
}

/// Converts a time to the Windows format.
fn windows(secs: i64) -> sevenz_rust2::NtTime {
    sevenz_rust2::NtTime::new((secs + 11_644_473_600).cast_unsigned() * 10_000_000)
}

/// Returns the 7z entry of a member.
pub(super) fn seven_entry(name: &str, mode: u32) -> sevenz_rust2::ArchiveEntry {
    let mut entry = match mode & 0o170_000 {
        0o040_000 => sevenz_rust2::ArchiveEntry::new_directory(name),
        _ => sevenz_rust2::ArchiveEntry::new_file(name),
    };
    entry.has_windows_attributes = true;
    entry.windows_attributes = 0x8000 | mode << 16;
    entry.has_last_modified_date = true;
    entry.last_modified_date = windows(MTIME);
    entry
}

/// Writes a 7z of these members: name, mode with file type, content.
pub(super) fn seven(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut writer = sevenz_rust2::ArchiveWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
    for (name, mode, content) in members {
        let content = (!content.is_empty()).then_some(*content);
        writer.push_archive_entry(seven_entry(name, *mode), content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Writes a tree in the format of the name's suffix.
pub(super) fn archive(name: &str, tree: &Tree) -> Vec<u8> {
    match name.rsplit_once('.').unwrap().1 {
        "zip" => zip_of(tree),
        "7z" => seven_of(tree),
        _ => pack(name, &tar_of(tree)),
    }
}

fn tar_of(tree: &Tree) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, node) in tree {
        let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path);
        let mut header = tar::Header::new_gnu();
        header.set_mtime(MTIME.cast_unsigned());
        header.set_size(0);
        match node {
            Node::File { content, mode, mtime } => {
                header.set_size(content.len() as u64);
                header.set_mode(*mode);
                header.set_mtime(mtime.cast_unsigned());
                builder.append_data(&mut header, path, &**content).unwrap();
            }
            Node::Dir { mode } => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                builder.append_data(&mut header, path, std::io::empty()).unwrap();
            }
            Node::Link { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                let target = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(target);
                builder.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn zip_of(tree: &Tree) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let methods = [
        zip::CompressionMethod::Stored,
        zip::CompressionMethod::Deflated,
        zip::CompressionMethod::Bzip2,
        zip::CompressionMethod::Zstd,
    ];
    for (i, (path, node)) in tree.iter().enumerate() {
        let path = String::from_utf8(path.clone()).unwrap();
        let options = zip::write::SimpleFileOptions::default().compression_method(methods[i % methods.len()]);
        match node {
            Node::File { content, mode, .. } => {
                writer.start_file(path, options.unix_permissions(*mode)).unwrap();
                writer.write_all(content).unwrap();
            }
            Node::Dir { mode } => writer.add_directory(path, options.unix_permissions(*mode)).unwrap(),
            Node::Link { target } => {
                writer.add_symlink(path, String::from_utf8(target.clone()).unwrap(), options).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

fn seven_of(tree: &Tree) -> Vec<u8> {
    let members: Vec<_> = tree
        .iter()
        .map(|(path, node)| {
            let path = std::str::from_utf8(path).unwrap();
            match node {
                Node::File { content, mode, .. } => (path, 0o100_000 | mode, content.as_slice()),
                Node::Dir { mode } => (path, 0o040_000 | mode, b"".as_slice()),
                Node::Link { target } => (path, 0o120_777, target.as_slice()),
            }
        })
        .collect();
    seven(&members)
}
