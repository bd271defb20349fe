//! The limits of an archive: bytes, memory, windows.

use std::io::{Read, Write};

use super::make::{self, Tar};
use super::mutations::Dice;
use super::{Case, ExtractError, ExtractLimits, file, refused, tree};

#[test]
fn no_more_than_the_total_comes_out() {
    let content = vec![1; 3000];
    let limits = ExtractLimits { total_bytes: 5000, ..ExtractLimits::default() };
    for suffix in super::kinds::SUFFIXES {
        let name = format!("x.{suffix}");
        let one = make::archive(&name, &tree(&[("a", file(&content))]));
        let two = make::archive(&name, &tree(&[("a", file(&content)), ("b", file(&content))]));
        let case = Case { limits: limits.clone(), ..Case::new(&name) };
        assert!(case.run(&one).is_ok(), "{suffix}");
        assert!(matches!(case.run(&two), Err(ExtractError::Limit { limit: 5000, .. })), "{suffix}");
    }
    // The copies that hard links become count as well.
    let tar = Tar::default().file("a", &content).hard_link("b", "a").end();
    let case = Case { limits, ..Case::new("x.tar") };
    assert!(matches!(case.run(&tar), Err(ExtractError::Limit { .. })));
}

#[test]
fn larger_windows_are_refused_by_word() {
    let limits = ExtractLimits { window: 1 << 20, ..ExtractLimits::default() };
    let data = b"some text".repeat(10);
    let mut options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
    options.dict_size(64 << 20);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream =
        liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
    let mut xz = Vec::new();
    liblzma::read::XzEncoder::new_stream(&data[..], stream).read_to_end(&mut xz).unwrap();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&data).unwrap();
    let zst = encoder.finish().unwrap();
    let seven = make::seven(&[("a", 0o100_644, &data)]);
    for (name, bytes) in [("x.xz", xz), ("x.zst", zst), ("x.7z", seven)] {
        let error = Case { limits: limits.clone(), ..Case::new(name) }.run(&bytes).unwrap_err();
        assert!(
            matches!(&error, ExtractError::Unsupported { what } if what.contains("window")),
            "{name}: {error:?}"
        );
        assert!(Case::new(name).run(&bytes).is_ok(), "{name}");
    }
}

/// The directory of a 7z may claim as many members as it has bytes, and the library would take a hundred
/// bytes of memory for each.
#[test]
fn a_directory_of_7z_is_counted_before_memory_is_taken() {
    let mut bytes = make::seven(&[("a", 0o100_644, b"x")]);
    super::mutations::patch_seven(&mut bytes, &[5, 1], &[5, 0xdf, 0xff, 0xff]);
    insta::assert_snapshot!(refused("x.7z", &bytes), @"the archive is damaged: its directory is not of the form that it should have");
}

/// A member far larger than the available memory: 160 MiB, with a decoder that may take a few.
#[test]
fn memory_does_not_grow_with_a_member() {
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    const SIZE: usize = 160 << 20;
    // Content that is not uniform, but quick to generate.
    let mut dice = Dice(7);
    let block: Vec<u8> =
        (0..1 << 16).map(|i| if i % 8 == 0 { u8::try_from(dice.below(256)).unwrap() } else { 0 }).collect();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("x.tar.zst");
    let mut encoder = zstd::Encoder::new(std::fs::File::create(&path).unwrap(), 1).unwrap();
    encoder.window_log(20).unwrap();
    let mut header = Tar::header(tar::EntryType::Regular, b"big", SIZE as u64);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    for i in 0..SIZE >> 16 {
        let mut block = block.clone();
        block[..8].copy_from_slice(&i.to_le_bytes());
        encoder.write_all(&block).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap();

    let archive = std::fs::File::open(&path).unwrap();
    // The result is not read back, since that would take the memory to be measured.
    let target = out.path().join("into");
    std::fs::create_dir(&target).unwrap();
    let into = crate::local::MountDir::open(&target, &crate::Env::real()).unwrap();
    let kind = super::super::ArchiveKind::Tar(super::super::Compression::Zstd);
    let limits = ExtractLimits { ratio: 100_000, ..ExtractLimits::default() };
    let before = peak();
    let job = super::Extraction {
        archive: &archive,
        kind,
        name: b"x.tar.zst",
        into: &into,
        limits: &limits,
        keep: &|_, _| true,
        stop: &|| false,
    };
    assert_eq!(job.run().unwrap().bytes, SIZE as u64);
    // Without nextest, other tests run in this process and use memory too.
    if std::env::var_os("NEXTEST").is_some() {
        let grown = peak() - before;
        assert!(grown < 32 << 10, "{grown} KiB");
    }
}
