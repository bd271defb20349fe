//! A store as files of the repository, and unpacked as a store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use ctxsync_tests::machine::World;
use futures::TryStreamExt;
use walkdir::WalkDir;

use super::manifest::{Manifest, sha256};

const MANIFEST: &str = "manifest.json";
const OBJECTS: &str = "objects";

/// A fixture: a store's objects by key, and what they must contain.
pub(crate) struct Made {
    pub(crate) objects: BTreeMap<String, Bytes>,
    pub(crate) manifest: Manifest,
}

/// A fixture as a store in a directory, whose objects have their original timestamps.
pub(crate) struct Unpacked {
    pub(crate) world: World,
    pub(crate) made: Made,
}

impl Made {
    /// Reads a fixture from a directory.
    pub(crate) fn read(dir: &Path) -> Self {
        let manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST)).unwrap()).unwrap();
        let mut objects = BTreeMap::new();
        let dir = dir.join(OBJECTS);
        for entry in WalkDir::new(&dir).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
            let key = entry.path().strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
            let bytes = fs::read(entry.path()).unwrap();
            assert_eq!(manifest.objects[&key].sha256, sha256(&bytes), "{key} is not as it was stored");
            objects.insert(key, bytes.into());
        }
        assert!(objects.keys().eq(manifest.objects.keys()), "an object is missing");
        Self { objects, manifest }
    }

    /// Writes the fixture into a new directory. Existing fixtures never change.
    pub(crate) fn write(&self, dir: &Path) {
        fs::create_dir(dir).unwrap();
        for (key, bytes) in &self.objects {
            let place = dir.join(OBJECTS).join(key);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, bytes).unwrap();
        }
        let manifest = serde_json::to_string_pretty(&self.manifest).unwrap();
        fs::write(dir.join(MANIFEST), manifest + "\n").unwrap();
    }

    /// Creates a store from it, which is deleted with the returned value.
    pub(crate) fn unpack(self) -> Unpacked {
        let world = World::stored(|place| {
            for (key, bytes) in &self.objects {
                let landed = self.manifest.objects[key].landed;
                place.write(key, bytes).time(key, landed, 0);
            }
        });
        Unpacked { world, made: self }
    }
}

/// Returns the keys of all objects, in order.
pub(crate) async fn objects_of(world: &World) -> Vec<String> {
    let listed: Vec<_> = world.objects.list(None).try_collect().await.unwrap();
    let mut keys: Vec<String> = listed.iter().map(|meta| meta.location.to_string()).collect();
    keys.sort();
    keys
}
