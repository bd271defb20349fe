//! Creates archives.

use std::io::{Cursor, Write};

/// The suffixes of archives with members.
pub const FORMATS: [&str; 10] =
    ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz", "tar.zst", "7z"];
/// The suffixes of single compressed files.
pub const SINGLES: [&str; 4] = ["gz", "bz2", "xz", "zst"];

/// Creates an archive of files in the format of `suffix`. A single compressed file has the content of the
/// first.
pub fn archive(suffix: &str, files: &[(&str, &str)]) -> Vec<u8> {
    match suffix {
        "zip" => zip(files),
        "7z" => seven(files),
        "tar" => tar(files),
        "gz" | "bz2" | "xz" | "zst" => pack(suffix, files[0].1.as_bytes()),
        _ => pack(suffix.trim_start_matches("tar."), &tar(files)),
    }
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = ::zip::write::SimpleFileOptions::default().unix_permissions(0o644);
    for (name, content) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn seven(files: &[(&str, &str)]) -> Vec<u8> {
    let mut seven = sevenz_rust2::ArchiveWriter::new(Cursor::new(Vec::new())).unwrap();
    for (name, content) in files {
        let entry = sevenz_rust2::ArchiveEntry::new_file(name);
        seven.push_archive_entry(entry, Some(content.as_bytes())).unwrap();
    }
    seven.finish().unwrap().into_inner()
}

fn pack(suffix: &str, bytes: &[u8]) -> Vec<u8> {
    match suffix {
        "gz" | "tgz" => {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(bytes).unwrap();
            gz.finish().unwrap()
        }
        "bz2" | "tbz2" => {
            let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            bz2.write_all(bytes).unwrap();
            bz2.finish().unwrap()
        }
        "xz" | "txz" => {
            let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
            xz.write_all(bytes).unwrap();
            xz.finish().unwrap()
        }
        "zst" => zstd::encode_all(bytes, 1).unwrap(),
        other => panic!("no format `{other}`"),
    }
}
