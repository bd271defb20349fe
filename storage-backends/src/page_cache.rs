//! What the kernel keeps in memory of files that were written.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{Advice, fadvise};
use tokio::task::spawn_blocking;

/// Lets the kernel forget a file that is on the disk; what it can't forget it keeps, which harms nobody.
pub(crate) async fn leave(path: PathBuf) {
    let advise = move || -> io::Result<()> { Ok(fadvise(File::open(path)?, 0, None, Advice::DontNeed)?) };
    // A hint: nothing is lost where it fails.
    let _ = spawn_blocking(advise).await;
}

/// Returns whether the first page of a file is in memory; `None` where the file system does not tell, or
/// where the file is nowhere else.
#[cfg(test)]
pub(crate) fn holds(path: &std::path::Path) -> Option<bool> {
    use std::io::IoSliceMut;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    const TMPFS: u32 = 0x0102_1994;
    let file = File::open(path).unwrap();
    if u32::try_from(rustix::fs::fstatfs(&file).unwrap().f_type) == Ok(TMPFS) {
        return None;
    }
    let mut page = [0];
    match preadv2(&file, &mut [IoSliceMut::new(&mut page)], 0, ReadWriteFlags::NOWAIT) {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(Errno::OPNOTSUPP) => None,
        Err(error) => panic!("{error}"),
    }
}
