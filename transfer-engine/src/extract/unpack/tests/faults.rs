//! The faults A1 to A21: malicious and damaged archives, each made here.

use std::io::Write;

use tar::EntryType;

use super::make::{self, Tar, Zipped};
use super::{Case, ExtractError, ExtractLimits, comes_out, dir, extract, file, link, refused, tree};

/// Writes a member with one name in each format.
fn everywhere(name: &str) -> [(&'static str, Vec<u8>); 3] {
    [
        ("x.tar", Tar::default().file("good", "x").file(name, "y").end()),
        ("x.zip", make::zip(&[Zipped::new("good", "x"), Zipped::new(name, "y")])),
        ("x.7z", make::seven(&[("good", 0o100_644, b"x"), (name, 0o100_644, b"y")])),
    ]
}

/// Writes a link in each format.
fn everywhere_linked(name: &str, target: &str) -> [(&'static str, Vec<u8>); 3] {
    [
        ("x.tar", Tar::default().symlink(name, target).end()),
        ("x.zip", make::zip(&[Zipped::link(name, target)])),
        ("x.7z", make::seven(&[(name, 0o120_777, target.as_bytes())])),
    ]
}

#[track_caller]
fn hostile(name: &str, bytes: &[u8]) -> String {
    let error = extract(name, bytes).unwrap_err();
    assert!(matches!(error, ExtractError::Hostile { .. }), "{name}: {error:?}");
    error.to_string()
}

#[track_caller]
fn damaged(name: &str, bytes: &[u8]) -> String {
    let error = extract(name, bytes).unwrap_err();
    assert!(matches!(error, ExtractError::Damaged { .. }), "{name}: {error:?}");
    error.to_string()
}

#[test]
fn a1_dot_dot() {
    for name in ["../out", "a/../../out", "a/..", ".."] {
        for (archive, bytes) in everywhere(name) {
            let words = hostile(archive, &bytes);
            assert_eq!(words, format!("the archive is refused: `{name}` leads outside with `..`"));
        }
    }
    let pax = Tar::default().pax(&[("path", b"a/../../out")]).file("a", "x").end();
    hostile("x.tar", &pax);
    let long = Tar::default().long(EntryType::GNULongName, b"../out").file("a", "x").end();
    hostile("x.tar", &long);
}

#[test]
fn a2_absolute() {
    for name in ["/etc/passwd", "//a"] {
        for (archive, bytes) in everywhere(name) {
            assert_eq!(
                hostile(archive, &bytes),
                format!("the archive is refused: `{name}` has an absolute path")
            );
        }
    }
    for (archive, bytes) in everywhere_linked("l", "/etc") {
        hostile(archive, &bytes);
    }
}

#[test]
fn a3_written_through_a_symlink() {
    // The link stays inside, but nothing may be written through it.
    let tar = Tar::default().dir("d/", 0o755).symlink("l", "d").file("l/x", "y").end();
    insta::assert_snapshot!(hostile("x.tar", &tar), @"the archive is refused: `l/x` is written through the link `l`");
    let zip = make::zip(&[Zipped::new("d/", ""), Zipped::link("l", "d"), Zipped::new("l/x", "y")]);
    hostile("x.zip", &zip);
    hostile("x.7z", &make::seven(&[("l", 0o120_777, b"."), ("l/x", 0o100_644, b"y")]));
    // The link is refused even if it is left out.
    let case = Case { keep: &|path, _| path.as_bytes() != b"l", ..Case::new("x.tar") };
    assert!(matches!(case.run(&tar), Err(ExtractError::Hostile { .. })));
}

#[test]
fn a3_symlinks_that_lead_outside_and_those_that_do_not() {
    for (archive, bytes) in everywhere_linked("a/l", "../../out") {
        insta::allow_duplicates! {
            insta::assert_snapshot!(hostile(archive, &bytes), @"the archive is refused: `a/l` is a link that leads outside, to `../../out`");
        }
    }
    // The link's text stays inside, but the link that it leads through takes it outside.
    let tar = Tar::default().symlink("a/b/up", "../..").symlink("a/b/out", "up/..").end();
    hostile("x.tar", &tar);
    // In the other order, and through a link that comes later.
    let tar = Tar::default().symlink("a/b/out", "up/../secret").symlink("a/b/up", "../..").end();
    hostile("x.tar", &tar);
    // The link's text seems to lead outside, but the link does not.
    let tar = Tar::default().symlink("s", "a/b/c").symlink("t", "s/../..").dir("a/b/c/", 0o755).end();
    assert_eq!(comes_out("x.tar", &tar)[b"t".as_slice()], link("s/../.."));
    // A missing path may be created later, and would then be a directory.
    hostile("x.tar", &Tar::default().symlink("l", "missing/../../out").end());
    let kept =
        Tar::default().symlink("l", "missing/../x").symlink("d/l", "..").symlink("d/m", ".././l").end();
    assert_eq!(comes_out("x.tar", &kept).len(), 4);
}

#[test]
fn a4_hard_link_outside() {
    for target in ["../out", "/etc/passwd", "a/../../x"] {
        hostile("x.tar", &Tar::default().hard_link("l", target).end());
    }
    insta::assert_snapshot!(refused("x.tar", &Tar::default().hard_link("l", "../out").end()), @"the archive is refused: `l` is a link to `../out`, which leads outside with `..`");
    // Hard links through a symbolic link, to a later member, to a directory, to itself.
    let tar = Tar::default().dir("d/", 0o755).file("d/x", "y").symlink("s", "d").hard_link("l", "s/x").end();
    damaged("x.tar", &tar);
    damaged("x.tar", &Tar::default().hard_link("l", "a").file("a", "x").end());
    damaged("x.tar", &Tar::default().dir("d/", 0o755).hard_link("l", "d").end());
    damaged("x.tar", &Tar::default().hard_link("l", "l").end());
}

#[test]
fn a5_chmod_through_a_symlink() {
    let tar = Tar::default().dir("d/", 0o700).symlink("l", "d").dir("l/", 0o777).end();
    insta::assert_snapshot!(hostile("x.tar", &tar), @"the archive is refused: `l` is in it as two different things");
    let tar = Tar::default().file("f", "x").symlink("l", "f").file("l", "y").end();
    hostile("x.tar", &tar);
    hostile("x.zip", &make::zip(&[Zipped::link("l", "d"), Zipped::new("d/", ""), Zipped::new("l/", "")]));
}

#[test]
fn a6_overlapping_bomb() {
    let kernel = Zipped::new("a", vec![0; 1 << 16]);
    let mut bytes = make::zip(std::slice::from_ref(&kernel));
    bytes.truncate(bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap());
    let names: Vec<_> = (0..100).map(|i| Zipped { name: format!("m{i}").into(), ..kernel.clone() }).collect();
    let all: Vec<_> = names.iter().map(|member| (member, 0)).collect();
    let bomb = make::zip_end(bytes.clone(), &all);
    insta::assert_snapshot!(refused("x.zip", &bomb), @"the archive is refused: it holds members that share their bytes, as bombs do; the limit is 0");
    // The last member lies within the first one.
    let partly = make::zip_end(bytes.clone(), &[(&kernel, 0), (&Zipped::new("b", "x"), 20)]);
    assert!(matches!(extract("x.zip", &partly), Err(ExtractError::Limit { .. })));
    assert_eq!(comes_out("x.zip", &make::zip_end(bytes, &[(&kernel, 0)])).len(), 1);
}

#[test]
fn a6_a_bomb_by_its_ratio() {
    let zeros = vec![0; 3 << 20];
    let limits = ExtractLimits { ratio_from: 2 << 20, ..ExtractLimits::default() };
    for suffix in ["zip", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "7z", "gz", "bz2", "xz", "zst"] {
        let name = format!("x.{suffix}");
        let bomb = match suffix {
            "gz" | "bz2" | "xz" | "zst" => make::pack(&name, &zeros),
            _ => make::archive(&name, &tree(&[("a", file("")), ("zeros", file(&zeros))])),
        };
        let error = Case { limits: limits.clone(), ..Case::new(&name) }.run(&bomb).unwrap_err();
        assert!(matches!(error, ExtractError::Limit { limit: 200, .. }), "{suffix}: {error:?}");
        // Below the size from which the ratio is checked, it is not a bomb.
        comes_out(&name, &bomb);
    }
}

#[test]
fn a7_nested() {
    let deep = |levels: usize| vec!["d"; levels].join("/");
    for (archive, bytes) in everywhere(&deep(65)) {
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused(archive, &bytes), @"the archive is refused: it holds folders nested too deeply; the limit is 64");
        }
    }
    for (archive, bytes) in everywhere(&deep(64)) {
        comes_out(archive, &bytes);
    }
    // An archive inside an archive is extracted as a file.
    let inner = make::zip(&[Zipped::new("a", "b")]);
    let outer = make::zip(&[Zipped::new("inner.zip", &inner)]);
    assert_eq!(comes_out("x.zip", &outer), tree(&[("inner.zip", file(inner))]));
}

#[test]
fn a8_encrypted() {
    let mut member = Zipped::new("secret", "x");
    member.flags |= 1;
    insta::assert_snapshot!(refused("x.zip", &make::zip(&[member])), @"the archive can't be extracted: `secret` is encrypted");
    let mut member = Zipped::new("secret", "x");
    member.method = 99;
    insta::assert_snapshot!(refused("x.zip", &make::zip(&[member])), @"the archive can't be extracted: `secret` is compressed by method 99");
    // A 7z that names AES as its coder, which is all that can be known without a password.
    let mut bytes = make::seven(&[("secret", 0o100_644, b"x")]);
    super::mutations::patch_seven(&mut bytes, &[0x21, 0x21, 1], &[0x24, 6, 0xf1, 7, 1, 1]);
    insta::assert_snapshot!(refused("x.7z", &bytes), @"the archive can't be extracted: it is encrypted");
}

#[test]
fn a9_truncated() {
    let whole = tree(&[("a", file("first")), ("b", file([1; 3000])), ("c", link("a"))]);
    for suffix in super::kinds::SUFFIXES {
        let name = format!("x.{suffix}");
        let bytes = make::archive(&name, &whole);
        // The padding after a tar's end mark may be missing, but nothing else.
        let end = if suffix == "tar" { bytes.len() - 1023 } else { bytes.len() };
        for cut in (0..end).step_by(if bytes.len() > 2000 { 97 } else { 7 }).chain([end - 1]) {
            let error = extract(&name, &bytes[..cut]).expect_err(&format!("{suffix} cut at {cut}"));
            assert!(matches!(error, ExtractError::Damaged { .. }), "{suffix} cut at {cut}: {error:?}");
        }
    }
    for suffix in ["gz", "bz2", "xz", "zst"] {
        let name = format!("x.{suffix}");
        let bytes = make::pack(&name, b"hello hello hello");
        for cut in 0..bytes.len() {
            damaged(&name, &bytes[..cut]);
        }
    }
}

#[test]
fn a10_the_same_member_twice() {
    let tar = Tar::default().file("a", "one").file("./a", "two").end();
    insta::assert_snapshot!(hostile("x.tar", &tar), @"the archive is refused: `a` is in it twice");
    hostile("x.zip", &make::zip(&[Zipped::new("a", "one"), Zipped::new("b", ""), Zipped::new("a", "two")]));
    hostile("x.7z", &make::seven(&[("a", 0o100_644, b"one"), ("a", 0o100_644, b"two")]));
    hostile("x.tar", &Tar::default().symlink("a", "b").symlink("a", "c").end());
    // The usual library returns one member, without an error.
    let twice = make::zip(&[Zipped::new("a", "one"), Zipped::new("a", "two")]);
    assert_eq!(zip::ZipArchive::new(std::io::Cursor::new(&twice)).unwrap().len(), 1);
    // A directory may occur twice: nothing is lost, and the last mode counts.
    let tar = Tar::default().dir("d/", 0o700).file("d/x", "y").dir("d/", 0o755).end();
    assert_eq!(comes_out("x.tar", &tar), tree(&[("d", dir()), ("d/x", file("y"))]));
}

#[test]
fn a11_device_nodes() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        hostile("x.tar", &Tar::default().kind(kind, "dev").end());
    }
    for kind in [0o020_000, 0o060_000, 0o010_000, 0o140_000] {
        hostile("x.zip", &make::zip(&[Zipped::new("dev", "").with_mode(kind | 0o644)]));
        hostile("x.7z", &make::seven(&[("dev", kind | 0o644, b"x")]));
    }
}

#[test]
fn a12_setuid() {
    let mut header = Tar::header(EntryType::Regular, b"su", 1);
    header.set_mode(0o6755);
    let tar = Tar::default().add(header, b"x").dir("t/", 0o1777).end();
    let zip =
        make::zip(&[Zipped::new("su", "x").with_mode(0o106_755), Zipped::new("t/", "").with_mode(0o041_777)]);
    let seven = make::seven(&[("su", 0o106_755, b"x"), ("t", 0o041_777, b"")]);
    for (name, bytes) in [("x.tar", tar), ("x.zip", zip), ("x.7z", seven)] {
        let (extracted, found) = extract(name, &bytes).unwrap();
        let su = super::Node::File { content: b"x".to_vec(), mode: 0o755, mtime: make::MTIME };
        assert_eq!(found, tree(&[("su", su), ("t", super::Node::Dir { mode: 0o777 })]), "{name}");
        assert_eq!(extracted.warnings, ["setuid, setgid and sticky bits were taken off 2 members"]);
    }
}

#[test]
fn a13_too_many_members() {
    let limits = ExtractLimits { members: 10, ..ExtractLimits::default() };
    let names: Vec<_> = (0..11).map(|i| format!("f{i}")).collect();
    for count in [10, 11] {
        let tar = names[..count].iter().fold(Tar::default(), |tar, name| tar.file(name, "")).end();
        let zip = make::zip(&names[..count].iter().map(|name| Zipped::new(name, "")).collect::<Vec<_>>());
        let members: Vec<_> =
            names[..count].iter().map(|name| (name.as_str(), 0o100_644, b"".as_slice())).collect();
        for (name, bytes) in [("x.tar", tar), ("x.zip", zip), ("x.7z", make::seven(&members))] {
            match (Case { limits: limits.clone(), ..Case::new(name) }).run(&bytes) {
                Ok((_, tree)) => assert_eq!((count, tree.len()), (10, 10), "{name}"),
                Err(ExtractError::Limit { limit: 10, .. }) => assert_eq!(count, 11, "{name}"),
                Err(e) => panic!("{name}: {e}"),
            }
        }
    }
}

#[test]
fn a14_name_encodings() {
    let named = |raw: &[u8], flags| Zipped {
        name: raw.into(),
        local_name: raw.into(),
        flags,
        ..Zipped::new("", "x")
    };
    // "ü" in UTF-8 with the flag, in UTF-8 without it, and in CP437.
    let zip = make::zip(&[named("ü1".as_bytes(), 1 << 11), named("ü2".as_bytes(), 0), named(b"\x813", 0)]);
    assert_eq!(comes_out("x.zip", &zip), tree(&[("ü1", file("x")), ("ü2", file("x")), ("ü3", file("x"))]));
    // A second name in UTF-8, which counts only if its checksum is that of the first name.
    let mut crc = flate2::Crc::new();
    crc.update(b"\x81");
    for (sum, name) in [(crc.sum(), "日本"), (crc.sum() ^ 1, "ü")] {
        let mut member = named(b"\x81", 0);
        let field = [b"\x01".as_slice(), &sum.to_le_bytes(), "日本".as_bytes()].concat();
        member
            .extra
            .extend([b"up".as_slice(), &u16::try_from(field.len()).unwrap().to_le_bytes(), &field].concat());
        assert_eq!(comes_out("x.zip", &make::zip(&[member])), tree(&[(name, file("x"))]));
    }
    // PAX names may contain any byte, even line ends; GNU's long names too.
    let long = format!("{}/{}", "d".repeat(200), "ü\n\n9".repeat(20));
    let odd = [b"odd \xff\n12 path=x\n".as_slice()].concat();
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.x", b"\n\n\0binary"),
            ("path", long.as_bytes()),
            ("mtime", b"1600000000.25"),
        ])
        .file("short", "x")
        .long(EntryType::GNULongName, &odd)
        .file("short", "y")
        .end();
    let found = comes_out("x.tar", &tar);
    assert_eq!(found[long.as_bytes()], file("x"));
    assert_eq!(found[&odd], file("y"));
    hostile("x.tar", &Tar::default().pax(&[("path", b"a\0b")]).file("a", "x").end());
    comes_out("x.7z", &make::seven(&[("ü/日本", 0o100_644, b"x")]));
}

#[test]
fn a15_pax_and_ustar_sizes_that_disagree() {
    let tar = Tar::default().pax(&[("size", b"1024")]).file("a", [0; 10]).file("b", "x").end();
    insta::assert_snapshot!(damaged("x.tar", &tar), @"the archive is damaged: `a` has 1024 bytes by one header and 10 by another");
    for value in [b"0".as_slice(), b"-1", b"10x", b"99999999999999999999999"] {
        damaged("x.tar", &Tar::default().pax(&[("size", value)]).file("a", [0; 10]).end());
    }
    // The size is given twice, once after what some readers take for the end of the header.
    damaged("x.tar", &Tar::default().pax(&[("size", b"10"), ("size", b"1024")]).file("a", [0; 10]).end());
    damaged(
        "x.tar",
        &Tar::default().pax(&[("comment", b"\n\n"), ("size", b"1024")]).file("a", [0; 10]).end(),
    );
    comes_out("x.tar", &Tar::default().pax(&[("size", b"10")]).file("a", [0; 10]).end());
    // Two long names for one member, and content where there must be none.
    let both =
        Tar::default().long(EntryType::GNULongName, b"one").pax(&[("path", b"two")]).file("a", "x").end();
    damaged("x.tar", &both);
    let fat = Tar::header(EntryType::Symlink, b"l", 512);
    damaged("x.tar", &Tar::default().add(fat, &[b'x'; 512]).end());
}

#[test]
fn a16_local_and_central_headers_that_disagree() {
    let good = Zipped::new("good", "x");
    let other_name = Zipped { local_name: b"evil".to_vec(), ..good.clone() };
    insta::assert_snapshot!(damaged("x.zip", &make::zip(&[other_name])), @"the archive is damaged: `good` has another name in its own header than in the directory");
    let other_size = Zipped { local_size: 2, ..good.clone() };
    damaged("x.zip", &make::zip(&[other_size]));
    // A change of any byte of the local header is detected, or the byte is unused.
    let bytes = make::zip(std::slice::from_ref(&good));
    for at in [6, 8, 14, 18, 22, 26, 28, 30] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let result = extract("x.zip", &changed);
        assert!(matches!(result, Err(ExtractError::Damaged { .. })), "byte {at}: {result:?}");
    }
    let moved = make::zip_end(
        bytes[..bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap()].to_vec(),
        &[(&good, 1)],
    );
    damaged("x.zip", &moved);
}

#[test]
fn a17_a_lying_size() {
    for size in [0, 5, 20, u32::MAX - 1] {
        let member = Zipped { size, local_size: size, ..Zipped::new("a", "ten bytes.") };
        let error = extract("x.zip", &make::zip(&[member])).unwrap_err();
        let limited = matches!(error, ExtractError::Limit { .. }) && size > 1 << 30;
        assert!(matches!(error, ExtractError::Damaged { .. }) || limited, "{size}: {error:?}");
    }
    let mut member = Zipped::new("a", "ten bytes.");
    member.crc ^= 1;
    insta::assert_snapshot!(damaged("x.zip", &make::zip(&[member])), @"the archive is damaged: `a` has a wrong checksum");
    let mut member = Zipped::new("a", "ten bytes.");
    member.packed.extend(b"smuggled");
    damaged("x.zip", &make::zip(&[member]));
    // A tar that claims more content than it has takes no memory for it.
    let header = Tar::header(EntryType::Regular, b"a", 60 << 20);
    damaged("x.tar", &Tar::default().add(header, b"x").end());
    let header = Tar::header(EntryType::Regular, b"a", u64::MAX - 511);
    assert!(matches!(
        extract("x.tar", &Tar::default().add(header, b"x").end()),
        Err(ExtractError::Limit { .. })
    ));
    let header = Tar::header(EntryType::GNULongName, b"a", 1 << 40);
    assert!(matches!(
        extract("x.tar", &Tar::default().add(header, b"x").end()),
        Err(ExtractError::Unsupported { .. })
    ));
}

#[test]
fn a18_names_that_some_file_systems_take_for_one() {
    let names = ["ß", "ss", "SS", "A", "a", "\u{e4}", "a\u{308}"];
    let tar = names.iter().fold(Tar::default(), |tar, name| tar.file(name, name)).end();
    // This file system distinguishes the names.
    assert_eq!(comes_out("x.tar", &tar).len(), names.len());
    // A file system that does not reports that the name is taken.
    struct Folds;
    impl crate::FileFaults for Folds {
        fn before(&self, operation: &'static str, path: &std::path::Path) -> std::io::Result<()> {
            if matches!(operation, "openat" | "mkdirat" | "symlinkat") && path.ends_with("ss") {
                return Err(std::io::Error::from_raw_os_error(rustix::io::Errno::EXIST.raw_os_error()));
            }
            Ok(())
        }
    }
    for member in
        [Tar::default().file("ss", "x"), Tar::default().dir("ss/", 0o755), Tar::default().symlink("ss", "ß")]
    {
        let tar = Tar { bytes: [Tar::default().file("ß", "x").bytes, member.bytes].concat() }.end();
        let env = crate::Env::real().with_file_faults(std::sync::Arc::new(Folds));
        let error = Case { env, ..Case::new("x.tar") }.run(&tar).unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"the archive is refused: `ss` has a name that this file system takes for the same as another member's");
        }
    }
}

#[test]
fn a19_a_symlink_chain_at_path_max() {
    // Each link leads one long name deeper, until a resolver that gives up at PATH_MAX would trust the rest.
    let long = "d".repeat(247);
    let deep = |steps: &str, up: usize| {
        let (mut tar, mut at, mut way) = (Tar::default(), String::new(), String::new());
        for step in steps.chars() {
            tar = tar.symlink(&format!("{at}{step}"), &long);
            at = format!("{at}{long}/");
            way = format!("{way}{step}/");
        }
        tar.symlink("out", &format!("{way}{}secret", "../".repeat(up))).end()
    };
    assert_eq!(comes_out("x.tar", &deep("abcdefghijklmno", 15)).len(), 30);
    hostile("x.tar", &deep("abcdefghijklmno", 16));
    for up in [0, 16, 17, 18] {
        hostile("x.tar", &deep("abcdefghijklmnopq", up));
    }
    // More links than the kernel follows, and a cycle.
    let chain = (0..50).fold(Tar::default(), |tar, i| tar.symlink(&format!("l{i}"), &format!("l{}", i + 1)));
    insta::assert_snapshot!(hostile("x.tar", &chain.end()).replace(char::is_numeric, "N"), @"the archive is refused: `lN` is a link through more links, or to a longer path, than can be followed");
    hostile("x.tar", &Tar::default().symlink("a", "b").symlink("b", "a").end());
    hostile("x.tar", &Tar::default().pax(&[("linkpath", &[b'x'; 4096])]).symlink("a", "x").end());
    for (archive, bytes) in everywhere_linked("l", &"x/".repeat(2048)) {
        hostile(archive, &bytes);
    }
}

#[test]
fn a20_file_and_directory_of_one_name() {
    hostile("x.tar", &Tar::default().file("a", "x").file("a/b", "y").end());
    hostile("x.tar", &Tar::default().file("a/b", "y").file("a", "x").end());
    hostile("x.tar", &Tar::default().dir("a/", 0o755).file("a", "x").end());
    hostile("x.tar", &Tar::default().file("a", "x").dir("a/", 0o755).end());
    insta::assert_snapshot!(hostile("x.zip", &make::zip(&[Zipped::new("a", "x"), Zipped::new("a/b", "y")])), @"the archive is refused: `a/b` lies below the file `a`");
    hostile("x.7z", &make::seven(&[("a", 0o100_644, b"x"), ("a/b", 0o100_644, b"y")]));
}

#[test]
fn a21_data_after_the_end() {
    let members = tree(&[("a", file("x"))]);
    for suffix in super::kinds::SUFFIXES {
        let name = format!("x.{suffix}");
        let mut bytes = make::archive(&name, &members);
        bytes.extend(b"GARBAGE behind the end".repeat(60));
        let (extracted, found) = extract(&name, &bytes).unwrap();
        assert_eq!(found.len(), 1, "{suffix}");
        assert_eq!(extracted.warnings.len(), 1, "{suffix}");
        assert!(extracted.warnings[0].contains("1320 bytes after"), "{suffix}: {:?}", extracted.warnings);
    }
    for suffix in ["gz", "bz2", "xz", "zst"] {
        let name = format!("x.{suffix}");
        let mut bytes = make::pack(&name, b"x");
        // Zeros are padding.
        bytes.extend([0; 512]);
        comes_out(&name, &bytes);
        bytes.extend(b"GARBAGE");
        let (extracted, _) = extract(&name, &bytes).unwrap();
        assert_eq!(extracted.warnings, ["7 bytes after the archive's end were left alone"], "{suffix}");
    }
    // After the end mark of a compressed tar, inside the compressed stream.
    let tar = [Tar::default().file("a", "x").end(), b"hidden".to_vec()].concat();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar).unwrap();
    let (extracted, _) = extract("x.tgz", &encoder.finish().unwrap()).unwrap();
    assert_eq!(extracted.warnings, ["6 bytes after the last member were left alone"]);
}
