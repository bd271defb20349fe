//! Holes of sparse files: ranges that take no disk space and read as zeros.

use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::Errno;

/// Whether a file takes less disk space than its length, so that it may have holes.
pub(crate) fn is_sparse(stat: &Stat) -> bool {
    u64::try_from(stat.st_blocks).unwrap_or(u64::MAX).saturating_mul(512)
        < u64::try_from(stat.st_size).unwrap_or(0)
}

/// Returns where the first data at or after `at` begins in a file of `size` bytes; `size` if there is none.
/// On a file system that does not support holes, everything is data. Moves the file's offset.
pub(crate) fn data_from(file: impl AsFd, at: u64, size: u64) -> u64 {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => data.clamp(at, size.max(at)),
        Err(Errno::NXIO) => size.max(at),
        Err(_) => at,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn l7_data_is_found_behind_a_hole() {
        let file = tempfile::tempfile().unwrap();
        let size = 64 << 20;
        file.set_len(size).unwrap();
        file.write_all_at(&[1; 4096], 32 << 20).unwrap();
        let data = |file: &File, at| data_from(file, at, size);
        assert_eq!([data(&file, 0), data(&file, 33 << 20)], [32 << 20, size]);
        assert_eq!(data(&file, (32 << 20) + 7), (32 << 20) + 7);
        assert_eq!(data(&file, size + 1), size + 1);
        assert!(is_sparse(&rustix::fs::fstat(&file).unwrap()));
        let whole = tempfile::tempfile().unwrap();
        whole.write_all_at(&[1; 4096], 0).unwrap();
        assert!(!is_sparse(&rustix::fs::fstat(&whole).unwrap()));
        assert_eq!(data(&whole, 5), 5);
    }
}
