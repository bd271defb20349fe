//! Which files are archives, and the simple cases of each kind.

use super::super::kind::{ArchiveKind, Compression};
use super::make::{self, Tar, Zipped};
use super::{Case, Node, Tree, comes_out, dir, extract, file, link, refused, tree};

/// All suffixes of archives with members.
pub(super) const SUFFIXES: [&str; 10] =
    ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz", "tar.zst", "7z"];

fn sample() -> Tree {
    tree(&[
        ("a", dir()),
        ("a/one", file("first")),
        ("a/run", Node::File { content: b"#!/bin/sh\n".to_vec(), mode: 0o755, mtime: make::MTIME }),
        ("a/to one", link("one")),
        ("a/up", link("../b/ü")),
        ("b", Node::Dir { mode: 0o700 }),
        ("b/empty", file("")),
        ("b/ü", file(vec![7; 100_000])),
    ])
}

#[test]
fn every_kind_comes_out_as_it_went_in() {
    for suffix in SUFFIXES {
        let name = format!("x.{suffix}");
        let mut tree = comes_out(&name, &make::archive(&name, &sample()));
        if suffix == "zip" {
            // The writer stores no time, and a missing time is read as 1980.
            for node in tree.values_mut() {
                if let Node::File { mtime, .. } = node {
                    *mtime = make::MTIME;
                }
            }
        }
        assert_eq!(tree, sample(), "{suffix}");
    }
}

#[test]
fn single_files_take_the_name_of_their_archive_and_its_time() {
    for suffix in ["gz", "bz2", "xz", "zst"] {
        let name = format!("notes.txt.{suffix}");
        assert_eq!(
            comes_out(&name, &make::pack(&name, b"hello")),
            tree(&[("notes.txt", file("hello"))]),
            "{suffix}"
        );
    }
}

#[test]
fn streams_one_after_the_other_are_one() {
    for suffix in ["gz", "bz2", "xz", "zst"] {
        let name = format!("n.{suffix}");
        let both = [make::pack(&name, b"hello "), make::pack(&name, b"world")].concat();
        assert_eq!(comes_out(&name, &both), tree(&[("n", file("hello world"))]), "{suffix}");
        let name = format!("n.tar.{suffix}");
        let tar = Tar::default().file("f", "hello").end();
        let both = [make::pack(&name, &tar[..700]), make::pack(&name, &tar[700..])].concat();
        assert_eq!(comes_out(&name, &both), tree(&[("f", file("hello"))]), "{suffix}");
    }
}

#[test]
fn suffix_and_content_must_both_say_so() {
    let zip = make::zip(&[Zipped::new("a", "b")]);
    let gzip = make::pack("gz", b"x");
    let tar = Tar::default().file("a", "b").end();
    assert_eq!(ArchiveKind::of(b"x.zip", &zip), Some(ArchiveKind::Zip));
    assert_eq!(ArchiveKind::of(b"X.ZIP", &zip), Some(ArchiveKind::Zip));
    for name in ["x.docx", "x.jar", "x.whl", "x.npz", "x.apk", "x.zip.bak", "zip", "x", ""] {
        assert_eq!(ArchiveKind::of(name.as_bytes(), &zip), None, "{name}");
    }
    assert_eq!(ArchiveKind::of(b"x.zip", &gzip), None);
    assert_eq!(ArchiveKind::of(b"x.zip", b""), None);
    assert_eq!(ArchiveKind::of(b"x.gz", &zip), None);
    assert_eq!(ArchiveKind::of(b"x.tar", &gzip), None);
    assert_eq!(ArchiveKind::of(b"x.tar", &tar), Some(ArchiveKind::Tar(Compression::None)));
    assert_eq!(ArchiveKind::of(b"x.tar", &tar[..100]), None);
    assert_eq!(ArchiveKind::of(b"x.tar.gz", &gzip), Some(ArchiveKind::Tar(Compression::Gzip)));
    assert_eq!(ArchiveKind::of(b"x.gz", &gzip), Some(ArchiveKind::Single(Compression::Gzip)));
}

/// The name without the suffix has to be a valid name of a directory or file.
#[test]
fn a_name_that_is_only_a_suffix_is_no_archives() {
    let zip = make::zip(&[Zipped::new("a", "b")]);
    for name in [".zip", "..zip", "...zip"] {
        assert_eq!(ArchiveKind::of(name.as_bytes(), &zip), None, "{name}");
    }
    assert!(ArchiveKind::of(b"....zip", &zip).is_some());
}

#[test]
fn the_stem_lacks_all_of_the_suffix() {
    for (name, stem) in
        [("a.tar.gz", "a"), ("a.TGZ", "a"), ("a.b.zip", "a.b"), ("a.gz", "a"), ("a.txt", "a.txt")]
    {
        assert_eq!(ArchiveKind::stem(name.as_bytes()), stem.as_bytes());
    }
}

#[test]
fn a_compressed_file_that_holds_no_tar_is_a_damaged_one() {
    insta::assert_snapshot!(refused("x.tar.gz", &make::pack("gz", b"just text")), @"the archive is damaged: it ends within a block");
    insta::assert_snapshot!(refused("x.tar.gz", &make::pack("gz", &[b'x'; 5000])), @"the archive is damaged: a header has a wrong checksum, or it is no tar at all");
    insta::assert_snapshot!(refused("x.tar.gz", &make::pack("gz", &[vec![0; 512], vec![b'x'; 600]].concat())), @"the archive is damaged: what it holds is no tar");
}

#[test]
fn empty_archives_hold_nothing() {
    assert_eq!(comes_out("x.zip", &make::zip(&[])), Tree::new());
    assert_eq!(comes_out("x.tar", &[0; 10240]), Tree::new());
    assert_eq!(comes_out("x.tar.xz", &make::pack("xz", &[0; 1024])), Tree::new());
    assert_eq!(comes_out("x.gz", &make::pack("gz", b"")), tree(&[("x", file(""))]));
    assert_eq!(comes_out("x.7z", &make::seven(&[])), Tree::new());
}

#[test]
fn folders_keep_modes_that_forbid_writing_and_their_times() {
    let tar = Tar::default().dir("a/", 0o555).dir("a/b/", 0o500).file("a/b/c", "x").dir("./", 0o700).end();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("x.tar");
    std::fs::write(&path, tar).unwrap();
    let (_, tree) = Case::new("x.tar").run_in(out.path(), &std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(tree[b"a".as_slice()], Node::Dir { mode: 0o555 });
    assert_eq!(tree[b"a/b".as_slice()], Node::Dir { mode: 0o500 });
    for dir in ["into/a", "into/a/b"] {
        let meta = out.path().join(dir).metadata().unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mtime(&meta), make::MTIME);
        std::fs::set_permissions(out.path().join(dir), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
    }
}

#[test]
fn hard_links_become_files_of_their_own() {
    let tar = Tar::default()
        .file("a", "content")
        .hard_link("d/b", "./a")
        .symlink("l", "a")
        .hard_link("m", "l")
        .end();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("x.tar");
    std::fs::write(&path, tar).unwrap();
    let (extracted, found) =
        Case::new("x.tar").run_in(out.path(), &std::fs::File::open(&path).unwrap()).unwrap();
    let expected =
        [("a", file("content")), ("d", dir()), ("d/b", file("content")), ("l", link("a")), ("m", link("a"))];
    assert_eq!(found, tree(&expected));
    assert_eq!(extracted.bytes, 14);
    std::fs::write(out.path().join("into/a"), "edited").unwrap();
    assert_eq!(std::fs::read(out.path().join("into/d/b")).unwrap(), b"content");
}

#[test]
fn sparse_files_come_out_with_their_holes() {
    let mut header = Tar::header(tar::EntryType::GNUSparse, b"s", 1024);
    let gnu = header.as_gnu_mut().unwrap();
    for (i, (at, len)) in [(4096_u64, 512_u64), (8192, 512)].into_iter().enumerate() {
        gnu.sparse[i].offset[..12].copy_from_slice(format!("{at:011o}\0").as_bytes());
        gnu.sparse[i].numbytes[..12].copy_from_slice(format!("{len:011o}\0").as_bytes());
    }
    gnu.realsize[..12].copy_from_slice(format!("{:011o}\0", 10_000).as_bytes());
    let tar = Tar::default().add(header, &[b'x'; 1024]).file("after", "y").end();
    let mut content = vec![0; 10_000];
    content[4096..4608].fill(b'x');
    content[8192..8704].fill(b'x');
    let expected = tree(&[("after", file("y")), ("s", file(content))]);
    assert_eq!(comes_out("x.tar", &tar), expected);

    // In PAX format, the map comes before the data.
    let mut body = b"3\n4096\n512\n8192\n512\n10000\n0\n".to_vec();
    body.resize(512, 0);
    body.extend([b'x'; 1024]);
    let records = |real| {
        [
            ("GNU.sparse.major", b"1".as_slice()),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", real),
        ]
    };
    let tar = Tar::default().pax(&records(b"10000")).file("made-up", &body).file("after", "y").end();
    assert_eq!(comes_out("x.tar", &tar), expected);
    for real in [b"9000".as_slice(), b"x", b"99999999999999999"] {
        let tar = Tar::default().pax(&records(real)).file("made-up", &body).end();
        assert!(extract("x.tar", &tar).is_err());
    }
    for (at, byte) in [(0, b'9'), (1, b'x'), (2, b'9'), (7, b'9'), (11, b'1')] {
        let mut body = body.clone();
        body[at] = byte;
        let tar = Tar::default().pax(&records(b"10000")).file("made-up", &body).end();
        assert!(matches!(extract("x.tar", &tar), Err(super::ExtractError::Damaged { .. })), "byte {at}");
    }
}

#[test]
fn what_is_not_kept_is_left_out_and_said() {
    for suffix in SUFFIXES {
        let name = format!("x.{suffix}");
        let keep = |path: &policy_core::TreePath, _| {
            path.as_bytes().starts_with(b"a") && path.as_bytes() != b"a/one"
        };
        let case = Case { keep: &keep, ..Case::new(&name) };
        let (extracted, found) = case.run(&make::archive(&name, &sample())).unwrap();
        assert_eq!(extracted.left_out_total, 4, "{suffix}");
        let mut left: Vec<_> = extracted.left_out.iter().map(ToString::to_string).collect();
        left.sort();
        assert_eq!(left, ["a/one", "b", "b/empty", "b/ü"]);
        assert_eq!(extracted.members, 4);
        assert_eq!(found.len(), 4);
    }
    // A hard link to a member that was left out is left out too.
    let tar = Tar::default().file("a", "x").hard_link("b", "a").end();
    let case = Case { keep: &|path, _| path.as_bytes() != b"a", ..Case::new("x.tar") };
    let (extracted, found) = case.run(&tar).unwrap();
    assert_eq!((extracted.left_out_total, extracted.members, found.len()), (2, 0, 0));
}

#[test]
fn it_stops_when_it_is_told_to() {
    for suffix in SUFFIXES {
        let name = format!("x.{suffix}");
        let asked = std::cell::Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 5
        };
        let stopped = Case { stop: &stop, ..Case::new(&name) }.run(&make::archive(&name, &sample()));
        assert!(matches!(stopped, Err(super::ExtractError::Stopped)), "{suffix}: {stopped:?}");
    }
}

#[test]
fn a_full_disk_is_no_fault_of_the_archive() {
    struct Full(&'static str);
    impl crate::FileFaults for Full {
        fn before(&self, operation: &'static str, _: &std::path::Path) -> std::io::Result<()> {
            match operation == self.0 {
                true => Err(std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())),
                false => Ok(()),
            }
        }
    }
    for operation in ["mkdirat", "openat", "write", "fchmod", "symlinkat"] {
        let env = crate::Env::real().with_file_faults(std::sync::Arc::new(Full(operation)));
        let failed = Case { env, ..Case::new("x.zip") }.run(&make::archive("x.zip", &sample()));
        assert!(matches!(failed, Err(super::ExtractError::Local { .. })), "{operation}: {failed:?}");
    }
}

#[test]
fn names_of_over_255_bytes_are_refused_by_word() {
    let long = "n".repeat(256);
    let tar = Tar::default().long(tar::EntryType::GNULongName, long.as_bytes()).file("n", "x").end();
    insta::assert_snapshot!(refused("x.tar", &tar), @"the archive can't be extracted: `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…` is longer than the 255 bytes that a name may have");
    assert!(
        extract(
            "x.tar",
            &Tar::default().long(tar::EntryType::GNULongName, &long.as_bytes()[1..]).file("n", "x").end()
        )
        .is_ok()
    );
}
