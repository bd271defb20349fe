//! One byte of one object of a store is changed (faults N6 and S2 to S4): no machine gets a wrong content, no machine
//! deletes or changes a file because of it, and a check that reads everything finds it.
//!
//! `CTXSYNC_BYTES=1000000` sets how many bytes are changed. With `--nocapture` each test prints its figures.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use ctxsync_tests::compare::{Listing, Node, list, without_times};
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use transfer_engine::{CheckOptions, ContextService, Env, Error, ReadData, Silent, Store};

fn flips(otherwise: usize) -> usize {
    std::env::var("CTXSYNC_BYTES").map_or(otherwise, |value| value.parse().unwrap())
}

/// The objects of a store, from which any number of stores can be made.
struct Objects(Vec<(Path, Vec<u8>)>);

impl Objects {
    async fn of(world: &World) -> Self {
        let keys: Vec<Path> =
            world.objects.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
        let mut objects = Vec::new();
        for key in keys {
            let bytes = world.objects.get(&key).await.unwrap().bytes().await.unwrap();
            objects.push((key, bytes.to_vec()));
        }
        objects.sort();
        Self(objects)
    }

    /// Returns a store in which one byte is another, and what was changed. Each object is as likely as any other.
    async fn damaged(&self, random: &mut Random) -> (Arc<dyn ObjectStore>, Path, usize) {
        let changed = random.below(self.0.len());
        let at = random.below(self.0[changed].1.len());
        let store = InMemory::new();
        for (i, (key, bytes)) in self.0.iter().enumerate() {
            let mut bytes = bytes.clone();
            if i == changed {
                bytes[at] ^= 1 + random.below(255) as u8;
            }
            store.put(key, bytes.into()).await.unwrap();
        }
        (Arc::new(store), self.0[changed].0.clone(), at)
    }
}

/// Returns the kind of an object, for the figures.
fn kind(key: &Path) -> &'static str {
    match key.as_ref() {
        "ctxsync.json" => "description",
        key if key.starts_with("packs/") => "pack",
        _ => "snapshot",
    }
}

/// Whether a check that reads everything finds something.
async fn is_found(objects: &Arc<dyn ObjectStore>) -> bool {
    let options = CheckOptions {
        contexts: Vec::new(),
        read_data: ReadData::All,
        concurrency: NonZeroUsize::MIN,
        memory: 64 << 20,
    };
    let store = Store::new(Arc::clone(objects), "test:", Env::real());
    store.check(&options, &Silent).await.map_or(true, |report| !report.is_whole())
}

/// What became of the changed bytes, by the kind of their object.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, [usize; 3]>);

impl Figures {
    fn count(&mut self, key: &Path, refused: bool, found: bool) {
        let row = self.0.entry(kind(key)).or_default();
        row[0] += 1;
        row[1] += usize::from(refused);
        row[2] += usize::from(found);
    }

    #[expect(clippy::print_stdout, reason = "whoever asks for the figures reads them here")]
    fn print(&self) {
        for (kind, [all, refused, found]) in &self.0 {
            println!("{kind}: {all} bytes changed; {refused} refused by a sync; {found} found by a check");
        }
    }
}

/// A mount's files and its state, to be taken back.
struct Kept {
    machine: Machine,
    dirs: [(PathBuf, Vec<(PathBuf, Leaf)>); 2],
    listing: Listing,
}

enum Leaf {
    File(Vec<u8>),
    Link(PathBuf),
}

fn leaves(dir: &std::path::Path) -> Vec<(PathBuf, Leaf)> {
    let found = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap());
    let leaves = found.filter_map(|entry| {
        let leaf = match entry.file_type() {
            kind if kind.is_file() => Leaf::File(std::fs::read(entry.path()).unwrap()),
            kind if kind.is_symlink() => Leaf::Link(std::fs::read_link(entry.path()).unwrap()),
            _ => return None,
        };
        Some((entry.into_path(), leaf))
    });
    leaves.collect()
}

impl Kept {
    fn of(machine: Machine) -> Self {
        let dirs = [machine.state.clone(), machine.mount.0.clone()].map(|dir| (dir.clone(), leaves(&dir)));
        let listing = without_times(list(&machine.mount.0));
        Self { machine, dirs, listing }
    }

    /// Returns the machine with the given store, as it was.
    fn again(&self, objects: &Arc<dyn ObjectStore>) -> Machine {
        for (dir, leaves) in &self.dirs {
            std::fs::remove_dir_all(dir).unwrap();
            std::fs::create_dir(dir).unwrap();
            for (path, leaf) in leaves {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                match leaf {
                    Leaf::File(bytes) => std::fs::write(path, bytes).unwrap(),
                    Leaf::Link(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                }
            }
        }
        Machine { objects: Arc::clone(objects), ..self.machine.clone() }
    }
}

/// Fails unless each file of a mount is what it was before or what it should become.
fn is_old_or_new(mount: &std::path::Path, old: &Listing, new: &Listing, told: &str) {
    let found = without_times(list(mount));
    let is = |node: Option<&Node>, path: &PathBuf| node == old.get(path) || node == new.get(path);
    for path in found.keys().chain(old.keys()) {
        let node = found.get(path);
        // Directories come and go with the files in them.
        let is_dir = mount.join(path).is_dir();
        assert!(is_dir || is(node, path), "{told}: {} is {node:?}", path.display());
    }
}

#[tokio::test(start_paused = true)]
async fn n6_s2_s3_s4_a_changed_byte_is_never_taken_for_content() {
    let world = World::quick().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    for i in 0..6 {
        a.mount.write(format!("d{}/f{i}", i % 2), format!("content {i}"));
    }
    a.mount.write("random", Random::new(1).bytes(3000)).link("link", "d0/f0");
    a.push().await.clean();
    b.pull().await.clean();
    a.mount.remove("d0/f2").write("d1/f1", "edited").write("new", "new");
    a.push().await.clean();
    let all = Objects::of(&world).await;
    let c = world.machine("c");
    c.pull().await.clean();
    let new = without_times(list(&c.mount.0));
    b.mount.write("own", "own").write("d0/f0", "edited here");
    let kept = Kept::of(b.clone());
    b.push().await.clean();
    b.pull().await.clean();
    let merged = without_times(list(&b.mount.0));

    let (mut random, mut figures) = (Random::new(6), Figures::default());
    for n in 0..flips(150) {
        let (objects, key, at) = all.damaged(&mut random).await;
        let told = format!("byte {at} of {key}, number {n}");
        let fresh = Machine { objects: Arc::clone(&objects), ..world.machine("fresh") };
        let pulled = fresh.pull().await;
        is_old_or_new(&fresh.mount.0, &Listing::new(), &new, &told);
        let complete = |ended: &ctxsync_tests::machine::Ended| {
            ended.result.as_ref().is_ok_and(|report| !report.is_incomplete())
        };
        if complete(&pulled) {
            assert_eq!(without_times(list(&fresh.mount.0)), new, "{told}");
        }
        fresh.mount.clear();
        let _ = std::fs::remove_dir_all(&fresh.state);
        figures.count(&key, !complete(&pulled), is_found(&objects).await);
        let b = kept.again(&objects);
        let pushed = b.push().await;
        let pulled = b.pull().await;
        is_old_or_new(&b.mount.0, &kept.listing, &merged, &told);
        if complete(&pushed) && complete(&pulled) {
            assert_eq!(without_times(list(&b.mount.0)), merged, "{told}");
        }
    }
    figures.print();
    for (kind, [all, _, found]) in &figures.0 {
        // The digest in the description stands for its values. What is between them says nothing.
        assert!(found == all || *kind == "description", "{kind}: {found} of {all} were found");
    }
    assert_eq!(figures.0.len(), 3, "no object of some kind was changed: {:?}", figures.0.keys());
}

#[tokio::test(start_paused = true)]
async fn s4_a_changed_byte_of_a_long_list_of_files_is_refused() {
    let world = World::quick().await;
    let a = world.machine("a");
    for i in 0..4500 {
        a.mount.write(format!("some/directory/with/many/files-{}/file-{i}", i % 50), i.to_string());
    }
    a.push().await.clean();
    let packed = world.head().await.segments.iter().filter(|s| world_has_packed(s)).count();
    assert!(packed > 0, "the whole list is in the snapshot");
    let all = Objects::of(&world).await;
    let files = listed(&world.objects).await.unwrap();
    let (mut random, mut figures) = (Random::new(4), Figures::default());
    for n in 0..flips(150) / 10 {
        let (objects, key, at) = all.damaged(&mut random).await;
        let refused = match listed(&objects).await {
            Ok(again) => {
                assert_eq!(again, files, "byte {at} of {key}, number {n}");
                false
            }
            Err(_) => true,
        };
        figures.count(&key, refused, is_found(&objects).await);
    }
    figures.print();
}

fn world_has_packed(segment: &transfer_engine::format::SegmentRef) -> bool {
    matches!(segment.place, transfer_engine::format::Place::Pack { .. })
}

/// Returns all files of the context, as it lists them.
async fn listed(objects: &Arc<dyn ObjectStore>) -> Result<Vec<String>, Error> {
    let service = ContextService::new(&Store::new(Arc::clone(objects), "test:", Env::real()));
    let (mut all, mut ahead) = (Vec::new(), vec![TreePath::root()]);
    while let Some(dir) = ahead.pop() {
        for file in service.list_files(&context(), &dir).await? {
            all.push(format!("{file:?}"));
            if file.kind == transfer_engine::FileKind::Directory {
                ahead.push(file.path);
            }
        }
    }
    Ok(all)
}
