//! Stores that earlier programs wrote stay readable for ever.
//!
//! Each directory `tests/fixtures/store-v*` has one: its objects as they were in the store, and a manifest of
//! what they must contain. `CTXSYNC_FIXTURE=store-v2 cargo test -p ctxsync-tests --test stored_formats`
//! creates another one with today's program. Existing ones never change.
//!
//! `tests/fixtures/base-v1` is the base, in version 1 of the local state, after a pull of the context `work`
//! of `store-v1`.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod made;
mod make;
mod manifest;

use std::path::PathBuf;
use std::sync::Arc;

use ctxsync_tests::guide::root;
use ctxsync_tests::machine::{Machine, World};
use policy_core::TreePath;
use sha2::{Digest, Sha256};
use transfer_engine::format::{ChunkRef, Codec, Kind, Place, Snapshot, TreeEntry};
use transfer_engine::{
    CollectOptions, CollectReport, ContextName, ContextSync, Env, Error, Mount, Silent, Store, SyncOptions,
    SyncReport,
};

use made::{Made, Unpacked};
use manifest::{Context, Listing, Node, escaped, list};

/// The name of a new fixture; see the module's documentation.
const NEW: &str = "CTXSYNC_FIXTURE";

fn place(fixture: &str) -> PathBuf {
    root().join("tests/fixtures").join(fixture)
}

/// Reads all fixtures.
fn fixtures() -> Vec<Made> {
    let all = std::fs::read_dir(place("")).unwrap().map(|entry| entry.unwrap().path());
    let all: Vec<PathBuf> = all.filter(|dir| dir.is_dir()).collect();
    assert!(all.contains(&place("store-v1")), "{all:?}");
    all.iter().map(|dir| Made::read(dir)).collect()
}

fn store(world: &World) -> Store {
    Store::new(Arc::clone(&world.objects), "test:", Env::real())
}

fn mount(world: &World, context: &ContextName, machine: &Machine) -> Mount {
    let sync = ContextSync::new(context.clone(), &machine.mount.0, machine.policy.clone());
    Mount::open(&store(world), sync, &machine.state).unwrap()
}

async fn push(world: &World, context: &ContextName, machine: &Machine) -> Result<SyncReport, Error> {
    mount(world, context, machine).push(&SyncOptions::default(), &Silent).await
}

async fn pull(world: &World, context: &ContextName, machine: &Machine) -> SyncReport {
    mount(world, context, machine).pull(&SyncOptions::default(), &Silent).await.unwrap()
}

/// Returns the snapshots of a context that are not forgotten, newest first.
async fn log(world: &World, context: &ContextName) -> Vec<Arc<Snapshot>> {
    store(world).log(context).await.unwrap()
}

async fn entries(world: &World, snapshot: &Snapshot) -> Vec<TreeEntry> {
    let mut entries = Vec::new();
    store(world).entries(snapshot, &TreePath::root(), |entry| entries.push(entry)).await.unwrap();
    entries
}

/// Fails unless the files on disk are those of the manifest, apart from what only the store knows.
#[track_caller]
fn assert_is(found: &Listing, expected: &Listing, of: &str) {
    let mut expected = expected.clone();
    expected.retain(|_, node| !matches!(node, Node::Recycled { .. }));
    for node in expected.values_mut() {
        if let Node::File { extracted, .. } = node {
            *extracted = false;
        }
    }
    let paths = found.keys().chain(expected.keys());
    for path in paths {
        assert_eq!(found.get(path), expected.get(path), "{of}: {path}");
    }
}

/// Fails unless a store contains what its manifest lists.
async fn assert_holds_what_it_should(unpacked: &Unpacked) {
    let Unpacked { world, made } = unpacked;
    let all: Vec<String> = store(world).contexts().await.unwrap().iter().map(ToString::to_string).collect();
    let live = made.manifest.contexts.iter().filter(|(_, context)| context.ended.is_none());
    assert_eq!(all, live.map(|(name, _)| name.clone()).collect::<Vec<_>>());
    for (name, context) in &made.manifest.contexts {
        let name: ContextName = name.parse().unwrap();
        match context.ended.as_deref() {
            None => assert_context(world, &name, context).await,
            Some("deleted") => {
                let error = store(world).head(&name).await.unwrap_err();
                assert!(matches!(error, Error::NoContext { .. }), "{error:?}");
            }
            Some(moved) => {
                let error = store(world).head(&name).await.unwrap_err();
                assert!(matches!(&error, Error::Moved { to, .. } if to.to_string() == moved), "{error:?}");
            }
        }
    }
}

async fn assert_context(world: &World, name: &ContextName, context: &Context) {
    let log = log(world, name).await;
    let numbers: Vec<u64> = log.iter().map(|snapshot| snapshot.number).collect();
    assert_eq!(numbers, context.snapshots.keys().rev().copied().collect::<Vec<_>>(), "{name}");
    for snapshot in &log {
        let (expected, of) = (&context.snapshots[&snapshot.number], format!("{name}@{}", snapshot.number));
        let place = world.machine(&format!("restored/{of}")).mount;
        let options = SyncOptions::default();
        let restored = store(world).restore(snapshot, &place.0, &[], &options, &Silent).await.unwrap();
        assert!(!restored.is_incomplete(), "{of}: {restored:?}");
        assert_is(&list(&place.0), expected, &of);
        // The marks that only the store has.
        for entry in entries(world, snapshot).await {
            match &expected[&escaped(entry.path.as_bytes())] {
                Node::Recycled { size } => {
                    assert_eq!((entry.recycled, entry.entry.size()), (true, *size), "{of}")
                }
                Node::File { extracted, .. } => {
                    assert_eq!(entry.extracted, *extracted, "{of}: {}", entry.path)
                }
                _ => {}
            }
        }
    }
    let fresh = world.machine(&format!("pulled/{name}"));
    let pulled = pull(world, name, &fresh).await;
    assert!(!pulled.is_incomplete() && pulled.snapshot == Some(numbers[0]), "{pulled:?}");
    assert_is(&list(&fresh.mount.0), &context.snapshots[&numbers[0]], &format!("{name}, pulled"));
}

#[tokio::test]
async fn what_an_earlier_program_wrote_is_read_exactly() {
    for made in fixtures() {
        assert_holds_what_it_should(&made.unpack()).await;
    }
}

#[tokio::test]
async fn an_earlier_programs_store_is_gone_on_with() {
    for made in fixtures() {
        let Unpacked { world, made } = made.unpack();
        for (name, _) in made.manifest.contexts.iter().filter(|(_, context)| context.ended.is_none()) {
            let name: ContextName = name.parse().unwrap();
            let (a, b) = (world.machine(&format!("a/{name}")), world.machine(&format!("b/{name}")));
            let before = pull(&world, &name, &a).await;
            a.mount.write("by a later program", "new").write("plain.txt", "changed");
            let pushed = push(&world, &name, &a).await.unwrap();
            assert_eq!((pushed.parent, pushed.conflicts), (before.snapshot, 0), "{name}: {pushed:?}");
            // What the context already has is not stored again.
            assert!(pushed.bytes_stored < 256 << 10, "{name}: {pushed:?}");
            pull(&world, &name, &b).await;
            assert_is(&list(&b.mount.0), &list(&a.mount.0), &name.to_string());
        }
        let options = CollectOptions { exclusive: true, ..CollectOptions::default() };
        let collected: CollectReport = store(&world).collect(&options, &Silent).await.unwrap();
        assert_eq!(collected.unreadable, 0, "{collected:?}");
        for (name, context) in &made.manifest.contexts {
            let name: ContextName = name.parse().unwrap();
            let Some((number, expected)) = context.snapshots.last_key_value() else { continue };
            let log = log(&world, &name).await;
            let old = log.iter().find(|snapshot| snapshot.number == *number).unwrap();
            let place = world.machine(&format!("later/{name}")).mount;
            store(&world).restore(old, &place.0, &[], &SyncOptions::default(), &Silent).await.unwrap();
            assert_is(&list(&place.0), expected, &name.to_string());
        }
    }
}

/// The recipe of a fixture. Each run tries it, so that it works when a new version of the format needs it.
#[tokio::test]
async fn what_a_fixture_is_made_of() {
    let made = make::make().await;
    match std::env::var(NEW) {
        Ok(name) => made.write(&place(&name)),
        Err(_) => {
            let unpacked = made.unpack();
            assert_covers_the_format(&unpacked).await;
            assert_holds_what_it_should(&unpacked).await;
        }
    }
}

#[tokio::test]
async fn version_1_holds_all_that_it_can_say() {
    assert_covers_the_format(&Made::read(&place("store-v1")).unpack()).await;
}

async fn assert_covers_the_format(unpacked: &Unpacked) {
    let Unpacked { world, made } = unpacked;
    let (mut snapshots, mut trees) = (Vec::new(), Vec::new());
    for (name, _) in made.manifest.contexts.iter().filter(|(_, context)| context.ended.is_none()) {
        for snapshot in log(world, &name.parse().unwrap()).await {
            trees.extend(entries(world, &snapshot).await);
            snapshots.push(snapshot);
        }
    }
    let places: Vec<Place> =
        snapshots.iter().flat_map(|s| s.segments.iter().map(|segment| segment.place)).collect();
    assert!(places.iter().any(|place| matches!(place, Place::Inline { .. })), "an embedded segment");
    assert!(places.iter().any(|place| matches!(place, Place::Pack { .. })), "a segment in a pack");
    assert!(snapshots.iter().all(|s| s.kind == Kind::Normal));
    assert!(snapshots.iter().all(|s| s.writer().is_some_and(|writer| writer.starts_with("ctxsync "))));
    assert!(snapshots.iter().any(|s| s.packs.iter().any(|pack| pack.land_by.is_none())), "an old pack");
    assert!(snapshots.iter().any(|s| s.packs.iter().any(|pack| pack.land_by.is_some())), "a new pack");
    assert!(snapshots.iter().any(|s| s.recycle.lifecycle_days.is_some() && s.recycle.paths.len() == 2));
    assert!(snapshots.iter().any(|s| s.parent.is_some()) && snapshots.iter().any(|s| s.parent.is_none()));
    let chunks = || trees.iter().flat_map(|entry| &entry.chunks);
    for codec in [Codec::Stored, Codec::Zstd] {
        assert!(chunks().any(|chunk| chunk.block.codec == codec), "{codec:?}");
    }
    let in_long_block = |chunk: &ChunkRef| chunk.len < 8 << 10 && chunk.block.raw_len > 300 << 10;
    assert!(chunks().any(in_long_block), "a block of `Archive`");
    assert!(trees.iter().any(|entry| entry.chunks.len() > 2), "a file of several chunks");
    assert!(trees.iter().any(|entry| entry.extracted) && trees.iter().any(|entry| entry.recycled));
    assert!(trees.iter().any(|entry| entry.path.to_string().contains(".conflict-")), "a conflict copy");
    let keys: Vec<&String> = made.manifest.objects.keys().collect();
    let is_tombstone = |key: &&&String| key.starts_with("contexts/") && !key.ends_with(".gone");
    assert!(keys.iter().filter(is_tombstone).any(|key| made.objects[*key].is_empty()), "a tombstone");
    assert!(keys.iter().any(|key| key.starts_with("contexts/~.team~Project_1/")), "an encoded name");
    let gone = keys.iter().filter_map(|key| key.strip_suffix(".gone"));
    assert!(
        gone.into_iter().any(|key| !made.objects[key].is_empty()),
        "a snapshot that is forgotten and there"
    );
}

/// Changes an object to how a later program would have written it.
fn of_version_2(key: &str, object: &[u8]) -> Vec<u8> {
    if key == "ctxsync.json" {
        let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(object).unwrap();
        members.remove("sha256");
        members.insert("formatVersion".to_owned(), 2.into());
        let digest = manifest::sha256(serde_json::to_string(&members).unwrap().as_bytes());
        members.insert("sha256".to_owned(), digest.into());
        return serde_json::to_vec_pretty(&members).unwrap();
    }
    let (body, _) = object.split_at(object.len() - 32);
    let mut body = body.to_vec();
    body[4] = 2;
    let digest = Sha256::digest(&body);
    [&body[..], &digest[..]].concat()
}

/// Returns the messages of an error and its causes.
fn chain(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn a_later_programs_snapshot_is_told_apart_and_nothing_is_lost_because_of_it() {
    let mut made = Made::read(&place("store-v1"));
    let key = made.objects.keys().find(|key| key.starts_with("contexts/work/")).unwrap().clone();
    let later = of_version_2(&key, &made.objects[&key]);
    made.objects.insert(key, later.into());
    let Unpacked { world, made } = made.unpack();
    let work: ContextName = "work".parse().unwrap();
    let machine = world.machine("old");
    machine.mount.write("mine", "1");
    let error = push(&world, &work, &machine).await.unwrap_err();
    assert!(
        chain(&error).ends_with("snapshot has format 2, and this program reads up to 1: upgrade it"),
        "{error:?}"
    );
    assert_eq!(made::objects_of(&world).await, made.objects.keys().cloned().collect::<Vec<_>>());
    // The other contexts still work.
    let others = made.manifest.contexts.iter().filter(|(_, c)| c.ended.is_none()).map(|(name, _)| name);
    for name in others.filter(|name| *name != "work") {
        log(&world, &name.parse().unwrap()).await;
    }
    let options = CollectOptions { exclusive: true, ..CollectOptions::default() };
    let collected = store(&world).collect(&options, &Silent).await;
    let after = made::objects_of(&world).await;
    assert!(made.objects.keys().filter(|key| key.starts_with("packs/")).all(|key| after.contains(key)));
    assert!(collected.is_err() || collected.unwrap().unreadable > 0);
}

/// The store of version 1, in which the head of `work` has a field of a later program.
fn with_field(tag: u64) -> Unpacked {
    let mut made = Made::read(&place("store-v1"));
    let key = made.objects.keys().find(|key| key.starts_with("contexts/work/")).unwrap().clone();
    let (mut head, _) = Snapshot::decode(&made.objects[&key]).unwrap();
    // This program can only write even tags, so the tag is changed in the encoded bytes.
    head.extensions.push((0x7e, "later".into()));
    let encoded = head.encode().unwrap().bytes;
    let at = encoded.windows(7).position(|w| w == b"\x7e\x05later").unwrap();
    let mut body = encoded[..encoded.len() - 32].to_vec();
    body[at] = tag.try_into().unwrap();
    let digest = Sha256::digest(&body);
    made.objects.insert(key, [&body[..], &digest[..]].concat().into());
    made.unpack()
}

#[tokio::test]
async fn a_later_programs_field_stays_with_its_snapshot() {
    let Unpacked { world, .. } = with_field(0x7e);
    let (work, moved): (ContextName, ContextName) = ("work".parse().unwrap(), "moved".parse().unwrap());
    let later = || (0x7e, bytes::Bytes::from("later"));
    let has_it = |snapshot: &Arc<Snapshot>| snapshot.extensions.contains(&later());
    let before = log(&world, &work).await;
    assert!(has_it(&before[0]) && !has_it(&before[1]));
    let machine = world.machine("old");
    pull(&world, &work, &machine).await;
    machine.mount.write("by an earlier program", "new");
    push(&world, &work, &machine).await.unwrap();
    store(&world).rename_context(&work, &moved).await.unwrap();
    let after = log(&world, &moved).await;
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after.iter().map(has_it).collect::<Vec<_>>()[..3], [false, true, false]);
    // A copy also says what it is a copy of.
    let own = |snapshot: &Snapshot| {
        let own = snapshot.extensions.iter().filter(|(tag, _)| *tag != 8);
        own.cloned().collect::<Vec<_>>()
    };
    assert_eq!(own(&after[1]), before[0].extensions);
    assert_eq!(own(&after[0]).len(), 1);
    for (copy, number) in [(&after[1], before[0].number), (&after[0], before[0].number + 1)] {
        let original = &copy.ancestors()[0];
        assert_eq!((&original.context, original.number, original.nonce), (&work, number, copy.nonce));
    }
}

#[tokio::test]
async fn a_later_programs_field_that_must_be_known_is_told_apart() {
    let Unpacked { world, made } = with_field(0x7f);
    let machine = world.machine("old");
    machine.mount.write("mine", "1");
    let error = push(&world, &"work".parse().unwrap(), &machine).await.unwrap_err();
    let words = "snapshot has a field with the tag 127, which this program does not know: upgrade it";
    assert!(chain(&error).ends_with(words), "{error:?}");
    assert_eq!(made::objects_of(&world).await, made.objects.keys().cloned().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_later_programs_store_is_told_apart() {
    let mut made = Made::read(&place("store-v1"));
    let later = of_version_2("ctxsync.json", &made.objects["ctxsync.json"]);
    made.objects.insert("ctxsync.json".to_owned(), later.into());
    let Unpacked { world, made } = made.unpack();
    let machine = world.machine("old");
    machine.mount.write("mine", "1");
    let error = push(&world, &"work".parse().unwrap(), &machine).await.unwrap_err();
    let words = "store description has format 2, and this program reads up to 1: upgrade it";
    assert!(chain(&error).ends_with(words), "{error:?}");
    let error = store(&world).collect(&CollectOptions::default(), &Silent).await.unwrap_err();
    assert!(chain(&error).ends_with(words), "{error:?}");
    assert_eq!(made::objects_of(&world).await, made.objects.keys().cloned().collect::<Vec<_>>());
}

/// A machine that pulled `work` with a program that wrote version 1 of the local state.
async fn of_base_version_1(world: &World, work: &ContextName) -> Machine {
    let machine = world.machine("old");
    pull(world, work, &machine).await;
    let base = std::fs::read(place("base-v1")).unwrap();
    assert_eq!((&base[..4], base[4]), (&b"CSba"[..], 1));
    std::fs::write(machine.state_file("base").unwrap(), base).unwrap();
    machine
}

#[tokio::test]
async fn local_state_of_version_1_is_read_as_before() {
    let work: ContextName = "work".parse().unwrap();
    let Unpacked { world, .. } = Made::read(&place("store-v1")).unpack();
    let machine = of_base_version_1(&world, &work).await;
    let files = machine.mount.files();
    // A file that the base lists and the mount lacks is deleted. A new mount would delete nothing.
    machine.mount.remove("plain.txt").write("new", "n");
    let pushed = push(&world, &work, &machine).await.unwrap();
    assert_eq!((pushed.added, pushed.changed, pushed.deleted), (1, 0, 1), "{pushed:?}");
    assert_eq!((pushed.conflicts, pushed.unmounted, pushed.held_back), (0, 0, 0), "{pushed:?}");
    let other = world.machine("other");
    pull(&world, &work, &other).await;
    assert_is(&list(&other.mount.0), &list(&machine.mount.0), "after a push");
    assert_eq!(other.mount.files().len(), files.len());

    // A file that another machine deleted is deleted here.
    let Unpacked { world, .. } = Made::read(&place("store-v1")).unpack();
    let machine = of_base_version_1(&world, &work).await;
    let other = world.machine("other");
    pull(&world, &work, &other).await;
    other.mount.remove("plain.txt");
    push(&world, &work, &other).await.unwrap();
    let pulled = pull(&world, &work, &machine).await;
    assert_eq!((pulled.deleted, pulled.conflicts, pulled.failed), (1, 0, 0), "{pulled:?}");
    assert_is(&list(&machine.mount.0), &list(&other.mount.0), "after a pull");
}
