//! The digest of a file's content.

use std::io::{self, Read};

use policy_core::{Digest, TreePath};

use super::fingerprint::Fingerprint;
use super::mount_dir::MountDir;
use crate::format::{CHUNK_MAX, ChunkId, cut, file_digest};

/// Returns the digest of a file; `None` if it is no file, or grows while it is read.
pub(crate) fn digest_of(dir: &MountDir, path: &TreePath) -> io::Result<Option<Digest>> {
    let Ok((file, stat)) = dir.open_file(path) else { return Ok(None) };
    let size = Fingerprint::of(&stat).size;
    // One byte more than expected shows that the file has grown.
    let mut file = file.take(size + 1);
    let mut chunks = Vec::new();
    let mut buf = Vec::new();
    let mut ended = false;
    loop {
        while let Some(len) = cut(&buf, ended).filter(|l| *l > 0) {
            chunks.push((ChunkId::of(&buf[..len]), len as u32));
            buf.drain(..len);
        }
        if ended {
            return Ok((file.limit() > 0).then(|| file_digest(chunks)));
        }
        let wanted = CHUNK_MAX;
        ended = (&mut file).take(wanted as u64).read_to_end(&mut buf)? < wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    #[test]
    fn l2_a_file_that_is_longer_than_its_stat_said_has_no_digest() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), vec![7; CHUNK_MAX + 9]).unwrap();
        let open = |path: &str| MountDir::open(path.as_ref(), &Env::real()).unwrap();
        let at = |name: &str| TreePath::new(name.as_bytes()).unwrap();
        let mount = open(dir.path().to_str().unwrap());
        let chunks = [vec![7; CHUNK_MAX + 9]].map(|bytes| {
            let len = cut(&bytes, true).unwrap();
            [&bytes[..len], &bytes[len..]].map(|chunk| (ChunkId::of(chunk), chunk.len() as u32))
        });
        assert_eq!(digest_of(&mount, &at("f")).unwrap(), Some(file_digest(chunks.into_iter().flatten())));
        assert_eq!(digest_of(&mount, &at("nothing")).unwrap(), None);
        // A file of the kernel's has length 0 but content.
        assert_eq!(digest_of(&open("/proc/self"), &at("status")).unwrap(), None);
    }
}
