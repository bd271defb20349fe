//! Malicious stores: whatever sizes they claim, the program uses little memory (fault S9).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use policy_core::Digest;
use sha2::{Digest as _, Sha256};
use transfer_engine::format::{Kind, PackBuilder, PackId, PackUse, Place, SegmentRef, Snapshot, StoreKey};

use crate::world::{Machine, World};

const MIB: u64 = 1 << 20;
const MOST_MEMORY: u64 = 256 * MIB;

/// Commits a snapshot of `count` equal segments on top of the head of the context `c`.
fn commit(store: &Path, count: usize, segment: &Bytes) {
    let mut pack = PackBuilder::new(PackId([7; 16]));
    let mut refs = Vec::new();
    for n in 0..count {
        let (digest, len) = (Digest(Sha256::digest(segment).into()), segment.len() as u32);
        let (offset, _) = pack.append_segment(segment.clone(), digest).unwrap();
        let (first, place) = (format!("{n:03}").parse().unwrap(), Place::Pack { pack: 0, offset });
        refs.push(SegmentRef { first, entries: 1, digest, len, place, packs: Vec::new() });
    }
    let pack = pack.finish();
    let (id, size, footer_len) = (pack.id, pack.size, pack.footer_len);
    std::fs::write(store.join(StoreKey::Pack(id).path().as_ref()), pack.parts.concat()).unwrap();
    let head = std::fs::read_dir(store.join("contexts/c")).unwrap().next().unwrap().unwrap();
    let (mut snapshot, digest) = Snapshot::decode(&std::fs::read(head.path()).unwrap().into()).unwrap();
    snapshot.number += 1;
    snapshot.parent = Some(digest);
    snapshot.kind = Kind::Normal;
    snapshot.packs =
        vec![PackUse { id, size, footer_len, live: size - u64::from(footer_len), land_by: None }];
    snapshot.segments = refs;
    snapshot.inline = Bytes::new();
    let key = StoreKey::Snapshot { context: snapshot.context.clone(), number: snapshot.number };
    std::fs::write(store.join(key.path().as_ref()), snapshot.encode().unwrap().bytes).unwrap();
}

/// A segment of some KiB that unpacks to 124 MiB of zeros, which are no valid entries.
fn zeros() -> Bytes {
    let mut bytes = b"CSsg\x01\x01".to_vec();
    // The counts: 1 entry, no chunks, recycled files, packs and blocks. Then the lengths of the columns.
    bytes.extend([1, 0, 0, 0, 0]);
    let mut lens = [0u64; 11];
    lens[3] = 124 * MIB;
    for mut len in lens {
        while len > 127 {
            bytes.push(len as u8 | 128);
            len >>= 7;
        }
        bytes.push(len as u8);
    }
    bytes.extend(zstd::bulk::compress(&vec![0; 124 << 20], 3).unwrap());
    bytes.into()
}

/// Runs a command; returns its exit code, its standard error, and its peak memory in bytes.
fn peak(machine: &Machine, args: &[&str]) -> (Option<i32>, String, u64) {
    let err = std::fs::File::create(machine.path("err")).unwrap();
    let mut child = machine.command(args).stdout(Stdio::null()).stderr(err).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        peak = peak.max(high_water(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    (status.code(), machine.read("err"), peak)
}

fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn s9_100_segments_that_claim_124_mib_each_stay_within_the_memory_bound() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    commit(&world.store(), 100, &zeros());
    let calls: [(&[&str], i32); 7] = [
        (&["ls", "c"], 1),
        (&["log", "c"], 0),
        (&["pull", "c", "new"], 1),
        (&["pull", "c", "work"], 1),
        (&["push", "c", "work"], 1),
        (&["restore", "c", "out"], 1),
        (&["gc"], 0),
    ];
    for (args, expected) in calls {
        let (code, err, peak) = peak(&machine, args);
        assert_eq!(code, Some(expected), "{args:?}: {err}");
        assert!(peak <= MOST_MEMORY, "{args:?}: {} MiB", peak / MIB);
    }
}
