//! Writes sparse files: holes are ranges that take no disk space and read as zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::holes::data_from;
use crate::local::os;

/// The smallest hole, and the alignment of holes: the block size of most file systems.
const BLOCK: usize = 4 << 10;

/// Writes bytes at an offset, with a hole for each block of zeros. If the file has nothing there yet
/// (`is_fresh`), such blocks are just skipped. Returns whether the bytes end in a hole: then the caller has
/// to extend the file to that length.
pub(crate) fn write_sparse(file: &File, bytes: &[u8], at: u64, is_fresh: bool) -> io::Result<bool> {
    let mut from = 0;
    let mut ends_in_hole = false;
    while from < bytes.len() {
        let (len, is_zero) = run(&bytes[from..], at + from as u64);
        let place = at + from as u64;
        let is_hole = is_zero && (is_fresh || punch(file, place, len as u64)?);
        if !is_hole {
            file.write_all_at(&bytes[from..from + len], place)?;
        }
        ends_in_hole = is_hole;
        from += len;
    }
    Ok(ends_in_hole)
}

/// Returns the length of the first run in these bytes, which belong at `at`, and whether the run consists of
/// whole blocks of zeros.
fn run(bytes: &[u8], at: u64) -> (usize, bool) {
    let to_boundary = (BLOCK - (at % BLOCK as u64) as usize) % BLOCK;
    let mut blocks = bytes.get(to_boundary..).unwrap_or_default().chunks_exact(BLOCK);
    if to_boundary == 0 {
        let zeros = blocks.clone().take_while(|block| is_zero(block)).count();
        if zeros > 0 {
            return (zeros * BLOCK, true);
        }
    }
    let data = blocks.position(is_zero).map_or(bytes.len(), |blocks| to_boundary + blocks * BLOCK);
    (data, false)
}

fn is_zero(block: &[u8]) -> bool {
    // The first bytes already rule out nearly every block of data.
    block[..16] == [0; 16] && block.iter().all(|byte| *byte == 0)
}

/// Makes a hole where the file has content; false if the file system can't.
fn punch(file: &File, at: u64, len: u64) -> io::Result<bool> {
    if file.metadata()?.len() <= at {
        return Ok(true);
    }
    os::punch_hole(file, at, len)
}

/// Whether a range of a file, which must not reach beyond its end, is in a hole.
pub(crate) fn is_hole(file: &File, at: u64, len: u64) -> bool {
    data_from(file, at, at + len) == at + len
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const K: usize = 1 << 10;

    #[test]
    fn l7_blocks_of_zeros_are_holes_and_everything_reads_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut content = vec![0; 256 * K];
        content[5 * K] = 1;
        content[70 * K..80 * K].fill(2);
        content[100 * K + 17..100 * K + 4 * K].fill(3);
        for at in [0, 1, 4095, 4096, 70_000] {
            for is_fresh in [true, false] {
                let mut options = File::options();
                options.read(true).write(true).create(true).truncate(true);
                let file = options.open(dir.path().join("f")).unwrap();
                if !is_fresh {
                    // The content that an interrupted write may have left.
                    file.write_all_at(&vec![9; 300 * K], at).unwrap();
                }
                for (n, part) in content.chunks(50 * K).enumerate() {
                    write_sparse(&file, part, at + (n * 50 * K) as u64, is_fresh).unwrap();
                }
                file.set_len(at + content.len() as u64).unwrap();
                let mut read = vec![1; content.len()];
                file.read_exact_at(&mut read, at).unwrap();
                assert!(read == content, "{at} {is_fresh}");
                file.sync_all().unwrap();
                assert!(file.metadata().unwrap().blocks() * 512 < 60_000, "{at} {is_fresh}");
            }
        }
    }

    #[test]
    fn the_end_of_what_was_written_is_told() {
        let file = tempfile::tempfile().unwrap();
        assert!(write_sparse(&file, &[0; 8 * K], 0, true).unwrap());
        assert!(!write_sparse(&file, &[0; 8 * K + 1], 0, true).unwrap());
        assert!(!write_sparse(&file, &[0; 100], 0, true).unwrap());
        assert_eq!(file.metadata().unwrap().len(), 8 * K as u64 + 1);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"x", 1 << 20).unwrap();
        assert!(is_hole(&file, 0, 1 << 20) && !is_hole(&file, 0, (1 << 20) + 1));
        assert!(!is_hole(&file, 1 << 20, 1));
    }
}
