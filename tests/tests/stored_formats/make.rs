//! Creates a store with everything that the format can express, and records its content.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use ctxsync_tests::archive::archive;
use ctxsync_tests::clock::{Clocked, HandClock};
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::{Timestamp, TreePath};
use transfer_engine::{
    CollectOptions, ContextName, ContextService, ContextSync, Env, Mount, Retention, Silent, Store,
    SyncReport, WriteOptions,
};

use super::made::Made;
use super::manifest::{Context, Listing, Manifest, Node, Object, escaped, list, sha256};

const DAY: i64 = 86_400;

/// Creates the store.
pub(crate) async fn make() -> Made {
    let clock = HandClock::default();
    let objects = Clocked::new(Arc::new(InMemory::new()), &clock);
    let world = World::over(objects).await;
    let mut maker = Maker { world, clock, contexts: BTreeMap::new() };
    // This context comes first, because collecting applies to all contexts that exist.
    maker.work().await;
    maker.many_links().await;
    maker.moved().await;
    maker.recycled().await;
    maker.extracted().await;
    maker.written().await;
    maker.deleted().await;
    maker.finish().await
}

struct Maker {
    world: World,
    clock: HandClock,
    contexts: BTreeMap<ContextName, Context>,
}

fn name(name: &str) -> ContextName {
    name.parse().unwrap()
}

impl Maker {
    fn store(&self) -> Store {
        Store::new(Arc::clone(&self.world.objects), "test:", self.env())
    }

    fn env(&self) -> Env {
        Env::real().with_clock(Arc::new(self.clock.clone()))
    }

    fn machine(&self, machine: &str, policy: &str) -> Machine {
        let mut machine = self.world.machine(machine).with_policy(policy);
        machine.options.session = "made as a fixture".to_owned();
        machine
    }

    fn mount(&self, context: &str, machine: &Machine) -> Mount {
        let sync = ContextSync::new(name(context), &machine.mount.0, machine.policy.clone());
        Mount::open(&self.store(), sync, &machine.state).unwrap()
    }

    /// Pushes, and records what the snapshot must contain.
    async fn push(&mut self, context: &str, machine: &Machine) -> SyncReport {
        self.clock.pass(60);
        let report = self.mount(context, machine).push(&machine.options, &Silent).await.unwrap();
        self.note(context, list(&machine.mount.0)).await;
        report
    }

    async fn pull(&self, context: &str, machine: &Machine) -> SyncReport {
        self.mount(context, machine).pull(&machine.options, &Silent).await.unwrap()
    }

    /// Records that the head has the content of a directory, and adds the marks that only the store knows.
    async fn note(&mut self, context: &str, mut listing: Listing) {
        let store = self.store();
        let head = store.head(&name(context)).await.unwrap();
        let mark = |entry: transfer_engine::format::TreeEntry| {
            let path = escaped(entry.path.as_bytes());
            if entry.recycled {
                listing.insert(path, Node::Recycled { size: entry.entry.size() });
            } else if let Some(Node::File { extracted, .. }) = listing.get_mut(&path) {
                *extracted = entry.extracted;
            }
        };
        store.entries(&head, &TreePath::root(), mark).await.unwrap();
        self.contexts.entry(name(context)).or_default().snapshots.insert(head.number, listing);
    }

    /// Everything that a tree can contain, in both upload modes, with a conflict, and forgotten and erased
    /// snapshots.
    async fn work(&mut self) {
        let (a, b) = (self.machine("a", "{}"), self.machine("b", "{}"));
        fill(&a.mount);
        self.push("work", &a).await;
        self.pull("work", &b).await;
        a.mount.write("plain.txt", "a wrote this").remove("gone-soon").rename("old-name", "new-name");
        a.mount.mode("bin/tool", 0o700).write("long.txt", long_text(7));
        self.push("work", &a).await;
        b.mount.write("plain.txt", "b wrote this");
        // The push keeps both versions, so only `b`'s next pull gets the whole snapshot.
        let pushed = self.mount("work", &b).push(&b.options, &Silent).await.unwrap();
        assert_eq!(pushed.conflicts, 1);
        self.pull("work", &b).await;
        self.note("work", list(&b.mount.0)).await;
        self.pull("work", &a).await;
        let mut random = Random::new(3);
        for n in 0..120 {
            let text = format!("{{\"number\": {n}, \"name\": \"{:x}\"}}\n", random.bits());
            a.mount.write(format!("packages/{}/{n}.json", n % 20), text.repeat(60 + random.below(80)));
        }
        let archive = a.clone().with_policy(r#"{"uploadPolicy": {"uploadMode": "Archive"}}"#);
        self.push("work", &archive).await;
        for keep in [3, 2] {
            let last = NonZeroU64::new(keep);
            let retention = Retention { last, ..Retention::default() }.into();
            let options = CollectOptions { retention, ..CollectOptions::default() };
            self.store().collect(&options, &Silent).await.unwrap();
            self.clock.pass(2 * DAY);
        }
    }

    /// A tree whose segments are too large to be embedded.
    async fn many_links(&mut self) {
        let a = self.machine("links", "{}");
        let mut random = Random::new(4);
        for n in 0..200 {
            let target: Vec<u8> = random.bytes(900).into_iter().filter(|byte| *byte != 0).collect();
            a.mount.link(format!("{}/{n}", n % 7), OsStr::from_bytes(&target));
        }
        self.push("many-links", &a).await;
    }

    async fn moved(&mut self) {
        let a = self.machine("moved", "{}");
        for content in ["1", "2", "3"] {
            a.mount.write("d/file", content);
            self.push("project", &a).await;
        }
        self.clock.pass(60);
        let (from, to) = (name("project"), name(".team/Project_1"));
        let store = self.store();
        let before: Vec<u64> = store.log(&from).await.unwrap().iter().map(|s| s.number).collect();
        store.rename_context(&from, &to).await.unwrap();
        let after = store.log(&to).await.unwrap();
        assert_eq!(before.len(), after.len());
        let mut noted = std::mem::take(&mut self.contexts.entry(from.clone()).or_default().snapshots);
        let moved = before.iter().zip(&after);
        let snapshots = moved.filter_map(|(old, new)| Some((new.number, noted.remove(old)?))).collect();
        self.contexts.insert(to.clone(), Context { ended: None, snapshots });
        self.contexts.insert(from, Context { ended: Some(to.to_string()), ..Context::default() });
    }

    async fn recycled(&mut self) {
        let policy = r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["cache/old", "tmp"]}}"#;
        let a = self.machine("recycled", policy);
        a.mount.write("cache/old", Random::new(5).bytes(2000)).write("cache/new", "stays");
        self.push("recycled", &a).await;
        self.clock.pass(2 * DAY);
        a.mount.write("cache/newer", "makes a commit");
        assert_eq!(self.push("recycled", &a).await.recycled, 1);
    }

    async fn extracted(&mut self) {
        let (a, b) = (self.machine("packs", "{}"), self.machine("unpacks", "{}"));
        a.mount.write("data.tar.gz", archive("tar.gz", &[("one", "1"), ("sub/two", "22")]));
        self.push("archives", &a).await;
        let b = b.with_policy(r#"{"extractPolicy": {"deleteSrcFile": false}}"#);
        assert_eq!(self.pull("archives", &b).await.extracted, 1);
        self.push("archives", &b).await;
    }

    /// Files that were written without a mount.
    async fn written(&mut self) {
        let (context, store) = (name("written"), self.store());
        let service = ContextService::new(&store).with_session("made as a fixture");
        service.create(&context).await.unwrap();
        self.note("written", Listing::new()).await;
        let options =
            WriteOptions { mode: Some(0o640), mtime: Some(Timestamp { secs: 1_500_000_000, nanos: 1 }) };
        let path: TreePath = "docs/a".parse().unwrap();
        for content in ["first", "second"] {
            service.write_file(&context, &path, content.as_bytes(), &options).await.unwrap();
            let (mode, sha256) = ("0640".to_owned(), sha256(content.as_bytes()));
            let size = content.len() as u64;
            let file = Node::File { mode, mtime: (1_500_000_000, 1), size, sha256, extracted: false };
            let docs = Node::Dir { mode: "0755".to_owned() };
            let listing = [("docs".to_owned(), docs), ("docs/a".to_owned(), file)];
            self.note("written", listing.into()).await;
        }
        service.delete_file(&context, &path).await.unwrap();
        let docs = Node::Dir { mode: "0755".to_owned() };
        self.note("written", [("docs".to_owned(), docs)].into()).await;
    }

    async fn deleted(&mut self) {
        let a = self.machine("deletes", "{}");
        a.mount.write("x", "1");
        self.push("deleted", &a).await;
        self.store().delete_context(&name("deleted")).await.unwrap();
        let ended = Some("deleted".to_owned());
        self.contexts.insert(name("deleted"), Context { ended, ..Context::default() });
    }

    /// Reads the objects from the store.
    async fn finish(mut self) -> Made {
        let store = self.store();
        for (name, context) in self.contexts.iter_mut().filter(|(_, context)| context.ended.is_none()) {
            let log: Vec<_> = store.log(name).await.unwrap().iter().map(|s| s.number).collect();
            context.snapshots.retain(|number, _| log.contains(number));
            // Each context begins with an empty snapshot, unless it has been forgotten.
            if let Some(first) = log.iter().find(|number| !context.snapshots.contains_key(number)) {
                context.snapshots.insert(*first, Listing::new());
            }
            assert_eq!(context.snapshots.len(), log.len(), "{name}: {log:?}");
        }
        let contexts = self.contexts.into_iter().map(|(name, context)| (name.to_string(), context)).collect();
        let mut made =
            Made { objects: BTreeMap::new(), manifest: Manifest { contexts, ..Manifest::default() } };
        let listed: Vec<_> = self.world.objects.list(None).try_collect().await.unwrap();
        for meta in listed {
            let bytes = self.world.objects.get(&meta.location).await.unwrap().bytes().await.unwrap();
            let object = Object { landed: meta.last_modified.timestamp(), sha256: sha256(&bytes) };
            made.manifest.objects.insert(meta.location.to_string(), object);
            made.objects.insert(meta.location.to_string(), bytes);
        }
        made
    }
}

/// Writes all kinds of files, all of them small.
fn fill(tree: &ctxsync_tests::tree::Tree) {
    tree.write("plain.txt", "plain").time("plain.txt", 1_000_000_000, 123_456_789);
    tree.write("empty", "").time("empty", -5, 750_000_000);
    tree.write("later", "x").time("later", 4_000_000_000, 1);
    tree.write("bin/tool", "#!/bin/sh\n").mode("bin/tool", 0o755);
    tree.write("private", "secret").mode("private", 0o600).write("read-only", "r").mode("read-only", 0o444);
    tree.write("setuid", "s").mode("setuid", 0o4755).write("sticky/x", "s").mode("sticky", 0o1777);
    tree.dir("void").dir("a/b/c/void").dir("void-700").mode("void-700", 0o700);
    tree.write("closed/inside", "i").dir("closed/void").mode("closed", 0o555);
    tree.link("dangling", "no/such/thing").time("dangling", 1_234_567_890, 987_654_321);
    tree.link("absolute", "/etc/passwd").link("up", "../../outside").link("to-dir", "bin");
    tree.write("gone-soon", "g").write("old-name/1", "one").write("old-name/2", "two");
    let names: [&[u8]; 10] = [
        b"names/non-utf8-\xff\x80",
        b"names/new\nline",
        b"names/ leading and trailing ",
        b"names/back\\slash",
        b"names/a-b",
        b"names/a.b",
        b"names/a/b",
        b"names/.hidden",
        "names/\u{65e5}\u{672c}\u{8a9e}".as_bytes(),
        "names/e\u{301}".as_bytes(),
    ];
    for name in names {
        tree.write(OsStr::from_bytes(name), name);
    }
    tree.write(format!("names/{}", "n".repeat(255)), "long");
    // Binary content that does not compress.
    tree.write("random.bin", Random::new(1).bytes(20_000));
    let twice = Random::new(2).bytes(3_000);
    tree.write("twins/a", &twice).write("twins/b", &twice);
    tree.write("zeros", vec![0; 600_000]).write("long.txt", long_text(0));
}

/// Text of several chunks that compresses well. Versions differ in the last chunk.
fn long_text(version: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..300 {
        text.extend_from_slice(format!("line {n:08} is told many times\n").repeat(900).as_bytes());
    }
    text.extend_from_slice(format!("version {version}\n").as_bytes());
    text
}
