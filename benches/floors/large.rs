//! One large file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use ctxsync_benches::Random;

use crate::{Floor, Result, flush, rounds};

const BUFFER: usize = 1 << 20;

pub(crate) fn measure(work: &Path, mib: u64, count: u32, floors: &mut Vec<Floor>) -> Result<()> {
    let bytes = Random::new(2).bytes(BUFFER);
    let mut buffer = vec![0; BUFFER];
    let mut reads = Vec::new();
    let name = format!("write {mib} MiB and fsync");
    rounds(floors, &name, (0, mib << 20), count, |_| {
        let path = work.join("large");
        flush(work)?;
        let start = Instant::now();
        let mut file: File = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        (0..mib).try_for_each(|_| file.write_all(&bytes))?;
        file.sync_all()?;
        let written = start.elapsed();
        file.seek(SeekFrom::Start(0))?;
        let start = Instant::now();
        while file.read(&mut buffer)? > 0 {}
        reads.push(start.elapsed());
        // One inode to skip does not matter, but the space of all rounds might.
        fs::remove_file(&path)?;
        Ok(written)
    })?;
    floors.push(Floor {
        name: format!("read {mib} MiB from the page cache"),
        files: 0,
        bytes: mib << 20,
        rounds: reads,
    });
    Ok(())
}
