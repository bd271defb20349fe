//! Reading the files, and computing on their bytes.

use std::hint::black_box;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;

use crate::share::share;
use crate::tree::{Tree, open};
use crate::{Floor, Result, rounds};

/// The compression level and the block size, in bytes, of a push in `File` mode.
const LEVEL: i32 = 2;
const BLOCK: usize = 256 << 10;
/// Bytes to read at once.
const BUFFER: usize = 256 << 10;

pub(crate) fn measure(root: &Path, tree: &Tree, count: u32, floors: &mut Vec<Floor>) -> Result<()> {
    let size = tree.size();
    for threads in [1, 2] {
        let name = with_threads("open, fstat, read, close of all files, cached", threads);
        rounds(floors, &name, size, count, |_| {
            share(
                &tree.dirs,
                threads,
                || vec![0; BUFFER],
                |buffer, dir| {
                    let handle = open(root, &dir.path)?;
                    for (name, _) in &dir.files {
                        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let file = rustix::fs::openat(&handle, &**name, flags, Mode::empty())?;
                        let mut left = rustix::fs::fstat(&file)?.st_size;
                        while left > 0 {
                            match rustix::io::read(&file, buffer.as_mut_slice())? {
                                0 => break,
                                read => left -= read as i64,
                            }
                        }
                    }
                    Ok(())
                },
            )
        })?;
    }
    let files: Vec<&[u8]> = tree.files().collect();
    for threads in [1, 2] {
        rounds(floors, &with_threads("SHA-256 of each file, from memory", threads), size, count, |_| {
            share(
                &files,
                threads,
                || (),
                |(), bytes| {
                    black_box(Sha256::digest(bytes));
                    Ok(())
                },
            )
        })?;
    }
    let whole = files.concat();
    let blocks: Vec<&[u8]> = whole.chunks(BLOCK).collect();
    for threads in [1, 2] {
        let name = with_threads(&format!("zstd level {LEVEL} in blocks of 256 KiB, from memory"), threads);
        rounds(floors, &name, (0, size.1), count, |_| {
            share(&blocks, threads, Compression::default, |this, block| this.compress(block))
        })?;
    }
    Ok(())
}

/// A compressor and its output.
#[derive(Default)]
struct Compression {
    zstd: Option<Compressor<'static>>,
    out: Vec<u8>,
}

impl Compression {
    fn compress(&mut self, block: &[u8]) -> io::Result<()> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(Compressor::new(LEVEL)?),
        };
        self.out.clear();
        self.out.reserve(zstd::zstd_safe::compress_bound(block.len()));
        black_box(zstd.compress_to_buffer(block, &mut self.out)?);
        Ok(())
    }
}

/// Returns the name of a row.
pub(crate) fn with_threads(name: &str, threads: usize) -> String {
    if threads == 1 { name.to_owned() } else { format!("{name}, {threads} threads") }
}
