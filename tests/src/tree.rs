//! Creates trees of files.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::random::Random;

/// Whether the tests run as root, for whom permission bits do not matter.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory for test files. Every method takes a path below it and creates the missing parents.
#[derive(Debug, Clone)]
pub struct Tree(pub PathBuf);

impl Tree {
    /// Returns the absolute path of something in the tree.
    pub fn at(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.0.join(path.as_ref())
    }

    fn make_room(&self, path: impl AsRef<OsStr>) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Writes a file, in place if it exists.
    pub fn write(&self, path: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.make_room(path), content).unwrap();
        self
    }

    /// Reads a file as text.
    pub fn read(&self, path: impl AsRef<OsStr>) -> String {
        let path = self.at(path);
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether the path exists; a dangling link counts.
    pub fn has(&self, path: impl AsRef<OsStr>) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// Returns the paths of all files, in order.
    pub fn files(&self) -> Vec<String> {
        let all = walkdir::WalkDir::new(&self.0).into_iter().map(Result::unwrap);
        let files = all.filter(|e| e.file_type().is_file());
        let below = |path: &Path| path.strip_prefix(&self.0).unwrap().to_string_lossy().into_owned();
        let mut files: Vec<String> = files.map(|e| below(e.path())).collect();
        files.sort();
        files
    }

    /// Creates a directory.
    pub fn dir(&self, path: impl AsRef<OsStr>) -> &Self {
        fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    /// Creates a symbolic link.
    pub fn link(&self, path: impl AsRef<OsStr>, target: impl AsRef<OsStr>) -> &Self {
        symlink(target.as_ref(), self.make_room(path)).unwrap();
        self
    }

    /// Sets permission bits.
    pub fn mode(&self, path: impl AsRef<OsStr>, mode: u32) -> &Self {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Returns the permission bits.
    pub fn mode_of(&self, path: impl AsRef<OsStr>) -> u32 {
        self.at(path).symlink_metadata().unwrap().permissions().mode() & 0o7777
    }

    /// Sets the time of a file or link, in seconds since 1970 and nanoseconds.
    pub fn time(&self, path: impl AsRef<OsStr>, secs: i64, nanos: i64) -> &Self {
        let time = Timespec { tv_sec: secs, tv_nsec: nanos };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, self.at(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        self
    }

    /// Removes a file, link or directory.
    pub fn remove(&self, path: impl AsRef<OsStr>) -> &Self {
        let path = self.at(path);
        if path.symlink_metadata().unwrap().is_dir() {
            unlock(&path);
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        self
    }

    /// Renames a path.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> &Self {
        fs::rename(self.at(from), self.make_room(to)).unwrap();
        self
    }

    /// Removes everything in the tree.
    pub fn clear(&self) -> &Self {
        for entry in fs::read_dir(&self.0).unwrap() {
            self.remove(entry.unwrap().file_name());
        }
        self
    }

    /// Creates files of all kinds, with everything that breaks careless tools.
    pub fn odd(&self) -> &Self {
        let mut random = Random::new(1);
        self.write("plain.txt", "plain").time("plain.txt", 1_000_000_000, 123_456_789);
        self.write("empty", "").time("empty", -5, 0);
        self.write("future", "x").time("future", 40_000_000_000, 1);
        self.write("bin/tool", "#!/bin/sh\n").mode("bin/tool", 0o755);
        self.write("private", "secret").mode("private", 0o600);
        self.write("read-only", "r").mode("read-only", 0o444);
        // Without the owner's read bit only root could read the file.
        self.write("nothing", "n").mode("nothing", if is_root() { 0o000 } else { 0o400 });
        self.write("setuid", "s").mode("setuid", 0o4755);
        self.write("sticky/x", "s").mode("sticky", 0o1777);
        self.write("shared/x", "s").mode("shared", 0o2775);
        self.write("closed/inside", "i").mode("closed", 0o700);
        self.dir("void").dir("a/b/c/void").dir("void-700").mode("void-700", 0o700);
        self.write("frozen/inside", "f").dir("frozen/void").mode("frozen", 0o555);
        self.link("dangling", "no/such/thing").link("absolute", "/etc/passwd").link("loop", "loop");
        self.link("up", "../../outside")
            .link("to-dir", "bin")
            .link("non-utf8-target", OsStr::from_bytes(b"\xff\xfe"));
        self.time("dangling", 1_234_567_890, 987_654_321);
        for name in [
            &b"non-utf8-\xff\x80"[..],
            b"new\nline",
            b"tab\tbell\x07escape\x1b[31m",
            b" leading and trailing ",
            b"-rf",
            b"back\\slash",
            b"quote\"'`$HOME",
            b"*?[x]",
            b"...",
            b".hidden",
            b"a-b",
            b"a.b",
            b"ab",
            "\u{e9}".as_bytes(),
            "e\u{301}".as_bytes(),
            "日本語".as_bytes(),
        ] {
            self.write(OsStr::from_bytes(name), name);
        }
        let long = "n".repeat(255);
        self.write(&long, "long").write(format!("long/{long}/{long}/x"), "deep");
        self.write(".ctxsync-stage-0123456789abcdef/mine", "no marker");
        self.write("x-1-2-3-4-5-6", "looks like ours").write("n-0", "likewise");
        for size in
            [1, 255, 4096, (1 << 16) - 1, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 1 << 20, (1 << 20) + 1]
        {
            self.write(format!("sizes/{size}"), random.bytes(size));
        }
        // Sizes around the limit between files that are read whole and those that are read in steps.
        for size in [(4 << 20) - 1, 4 << 20, (4 << 20) + 1, (8 << 20) + 3] {
            self.write(format!("sizes/{size}"), random.bytes(size));
        }
        self.write("sizes/zeros", vec![0; 5 << 20]);
        let twice = random.bytes(70_000);
        self.write("twins/a", &twice).write("twins/b", &twice);
        self
    }
}

/// Makes everything below `dir` removable, whatever its mode.
pub(crate) fn unlock(dir: &Path) {
    let is_open = |entry: &walkdir::DirEntry| {
        if entry.file_type().is_dir() {
            let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
        }
        true
    };
    walkdir::WalkDir::new(dir).into_iter().filter_entry(is_open).for_each(drop);
}
