//! The actors of one seed, the order of their requests, and what must be in the store afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::clock::{Clocked, HandClock};
use ctxsync_tests::landing::{is_late, landed};
use ctxsync_tests::random::Random;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use tokio::task::JoinHandle;
use transfer_engine::format::{Kind, LineageId, PackId, Snapshot, StoreKey};
use transfer_engine::{At, ContextName, Gathering, Store, TagName};

use crate::GRACE;
use crate::deeds::{Acked, Deed, Done, Outside, Seeded, store};
use crate::gate::Gate;

/// An operation in progress, and the machine that it runs on.
struct Actor {
    who: usize,
    task: JoinHandle<Result<Done, String>>,
    /// Whether it may delete the tags of others.
    untags: bool,
    /// Whether one that may was there since this one began.
    met_untagger: bool,
    /// The machine sleeps until this step.
    wakes: usize,
}

pub(crate) struct Model {
    seed: u64,
    random: Random,
    outside: Outside,
    objects: Arc<dyn ObjectStore>,
    gate: Gate,
    actors: Vec<Actor>,
    begun: usize,
    /// The names of forks that were begun.
    forks: Vec<ContextName>,
    /// Whether contexts are deleted often, and so long ago that nothing is left of them, while some sleep.
    forgetful: bool,
    /// In steps.
    longest_sleep: usize,
    acked: BTreeMap<(ContextName, u64), Acked>,
    /// The confirmed tags of each life of a context, each with the nonce of its snapshot: a rename keeps it. None of them
    /// has been deleted.
    tagged: BTreeMap<(TagName, LineageId), [u8; 16]>,
    trace: Vec<String>,
}

/// Returns the names of the contexts that are not forks.
fn names() -> [ContextName; 3] {
    ["a", "b", "c"].map(|name| name.parse().unwrap())
}

impl Model {
    pub(crate) async fn begin(seed: u64) -> Self {
        let clock = HandClock::default();
        let objects: Arc<dyn ObjectStore> = Clocked::new(Arc::new(InMemory::new()), &clock);
        // Content and ids have a seed of their own, so that they do not change the order of requests.
        let outside = Outside { clock, random: Seeded::new(seed ^ 0x5eed) };
        store(&objects, &outside).init(Duration::from_secs(GRACE.unsigned_abs())).await.unwrap();
        let mut random = Random::new(seed);
        let forgetful = seed % 4 == 3;
        Self {
            seed,
            forgetful,
            longest_sleep: if forgetful { 2000 } else { *random.of(&[60, 200, 600]).unwrap() },
            random,
            outside,
            objects,
            gate: Gate::default(),
            actors: Vec::new(),
            begun: 0,
            forks: Vec::new(),
            acked: BTreeMap::new(),
            tagged: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    fn told(&self) -> String {
        format!("seed {}:\n{}", self.seed, self.trace.join("\n"))
    }

    fn note(&mut self, what: String) {
        self.trace.push(format!("{:>6} {what}", self.outside.clock.secs() - 1_700_000_000));
    }

    /// Runs `deeds` operations, a few at a time. The seed decides the order of their requests.
    pub(crate) async fn run(&mut self, deeds: usize) {
        let together = 2 + self.random.below(3);
        let mut step = 0;
        loop {
            step += 1;
            // By then all actors wait, either at the gate or for the paused clock.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.note_ends().await;
            while self.actors.len() < together && self.begun < deeds {
                self.start();
            }
            if self.actors.is_empty() {
                return;
            }
            match self.random.below(40) {
                0 => {
                    let secs = *self.random.of(&[1, GRACE / 3, GRACE / 2, GRACE - 1, GRACE + 1]).unwrap();
                    self.outside.clock.pass(secs);
                }
                1 => {
                    let wakes = step + self.random.below(self.longest_sleep);
                    let at = self.random.below(self.actors.len());
                    self.actors[at].wakes = wakes;
                }
                2 if self.random.below(5) == 0 => {
                    let at = self.random.below(self.actors.len());
                    let dead = self.actors.swap_remove(at);
                    dead.task.abort();
                    self.gate.forget(dead.who);
                    self.note(format!("{} dies", dead.who));
                }
                3 if self.forgetful => self.outside.clock.pass(GRACE + 1),
                3..6 => self.outside.clock.pass(1 + self.random.below(20) as i64),
                _ => self.give_a_turn(step),
            }
        }
    }

    fn give_a_turn(&mut self, step: usize) {
        let waiting = self.gate.waiting();
        let awake = |who: &usize| self.actors.iter().any(|a| a.who == *who && a.wakes <= step);
        let ready: Vec<usize> = waiting.into_iter().filter(awake).collect();
        if let Some(who) = self.random.of(&ready).copied() {
            let nth = self.random.below(8);
            self.gate.release(who, nth);
        }
    }

    async fn note_ends(&mut self) {
        let mut at = 0;
        while at < self.actors.len() {
            if !self.actors[at].task.is_finished() {
                at += 1;
                continue;
            }
            let ended = self.actors.remove(at);
            match ended.task.await.unwrap() {
                Ok(Done::Nothing) => self.note(format!("{} is done", ended.who)),
                Ok(Done::Committed(acked)) => {
                    self.note(format!("{} is done: snapshot {}", ended.who, acked.number));
                    self.check_order(&acked).await;
                    let told = self.told();
                    let before = self.acked.insert((acked.name.clone(), acked.number), acked);
                    assert!(before.is_none(), "{told}\na number was used twice: {before:?}");
                }
                Ok(Done::Tagged { name, number, tag }) => {
                    self.note(format!("{} is done: {name}@{number} is {tag}", ended.who));
                    if !ended.met_untagger {
                        self.note_tag(name, number, tag).await;
                    }
                }
                Err(error) => self.note(format!("{} fails: {error}", ended.who)),
            }
        }
    }

    /// Takes note of a tag that nobody may have deleted before it was confirmed.
    async fn note_tag(&mut self, name: ContextName, number: u64, tag: TagName) {
        let key = StoreKey::Snapshot { context: name, number }.path();
        let bytes = self.objects.get(&key).await.unwrap().bytes().await.unwrap();
        let snapshot =
            Snapshot::decode(&bytes).unwrap_or_else(|_| panic!("{}\nit was erased", self.told())).0;
        let before = self.tagged.insert((tag, snapshot.lineage), snapshot.nonce);
        let told = self.told();
        assert!(before.is_none_or(|nonce| nonce == snapshot.nonce), "{told}\na tag was on two snapshots");
    }

    /// Fails if a snapshot that was just acknowledged landed below an older one: nobody would see it.
    async fn check_order(&self, acked: &Acked) {
        let listed = self.listed(&acked.name).await;
        let of = |key: StoreKey| listed.get(&key.path()).filter(|meta| meta.size > 0);
        // It may have been erased before its writer reported it.
        let Some(landed) = of(acked.key()) else { return };
        for (key, above) in &listed {
            let Some(StoreKey::Snapshot { number, .. }) = StoreKey::parse(key) else { continue };
            assert!(
                number <= acked.number || above.size == 0 || above.last_modified >= landed.last_modified,
                "{}\n{}@{} was acknowledged, and landed after {number}",
                self.told(),
                acked.name,
                acked.number
            );
        }
    }

    /// Returns the objects of a context.
    async fn listed(&self, name: &ContextName) -> BTreeMap<Path, ObjectMeta> {
        let listed: Vec<_> = self.objects.list(Some(&"contexts".into())).try_collect().await.unwrap();
        let is_of_name = |meta: &ObjectMeta| match StoreKey::parse(&meta.location) {
            Some(
                StoreKey::Snapshot { context, .. }
                | StoreKey::Gone { context, .. }
                | StoreKey::Tag { context, .. },
            ) => context == *name,
            _ => false,
        };
        listed.into_iter().filter(is_of_name).map(|meta| (meta.location.clone(), meta)).collect()
    }

    fn start(&mut self) {
        self.begun += 1;
        let deed = self.deed();
        let who = self.begun;
        let untags = matches!(deed, Deed::Untag { .. } | Deed::Delete { .. });
        if untags {
            self.tagged.clear();
            self.actors.iter_mut().for_each(|actor| actor.met_untagger = true);
        }
        let met_untagger = self.actors.iter().any(|actor| actor.untags);
        self.note(match &deed {
            Deed::Write { name, path, content } => {
                format!("{who} writes {name}:{path}, {} bytes", content.len())
            }
            deed => format!("{who} does {deed:?}"),
        });
        let objects = self.gate.before(&self.objects, who);
        let task = tokio::spawn(deed.done(objects, self.outside.clone()));
        self.actors.push(Actor { who, task, untags, met_untagger, wakes: 0 });
    }

    fn deed(&mut self) -> Deed {
        let names = if self.forgetful { ["a", "a"] } else { ["a", "b"] };
        let name: ContextName = self.random.of(&names).unwrap().parse().unwrap();
        let path: TreePath = self.random.of(&["x", "d/y", "z"]).unwrap().parse().unwrap();
        let mut what = self.random.below(35);
        if self.forgetful {
            // A write, a removal, a context that is made or deleted, a collection, or a tag.
            what = *self.random.of(&[0, 0, 10, 10, 12, 13, 13, 14, 18, 20, 30, 30, 30, 30]).unwrap();
        }
        match what {
            0..10 => {
                let len = 1 + self.random.below(300);
                Deed::Write { name, path, content: self.random.bytes(len) }
            }
            10..12 => Deed::Remove { name, path },
            12 => Deed::Create { name },
            13 => Deed::Delete { name },
            14 => {
                let to: ContextName = self.random.of(&["a", "b", "c"]).unwrap().parse().unwrap();
                Deed::Rename { name, to }
            }
            15..18 => {
                let to: ContextName = format!("fork-{}", self.begun).parse().unwrap();
                self.forks.push(to.clone());
                Deed::Fork { name, back: -(self.random.below(3) as i64), to }
            }
            // Each context has tags of its own, so that no rename meets another one's.
            18..21 => {
                let tag = format!("{name}-{}", self.random.below(3)).parse().unwrap();
                Deed::Tag { name, back: -(self.random.below(4) as i64), tag }
            }
            21 => {
                let tag = format!("{name}-{}", self.random.below(3)).parse().unwrap();
                Deed::Untag { name, tag }
            }
            22..26 => {
                let others = [name.clone()].into_iter().chain(self.forks.iter().cloned());
                let other = self.random.of(&others.collect::<Vec<_>>()).unwrap().clone();
                // Mostly back into what was forked, and sometimes the other way.
                let (from, into) = if self.random.below(4) == 0 { (name, other) } else { (other, name) };
                Deed::Merge { from, into }
            }
            26 => Deed::Revert { name, back: -1 - self.random.below(3) as i64 },
            _ => {
                // Collections may run at the same time, each with other options.
                let last = (self.random.below(3) > 0).then(|| 1 + self.random.below(2) as u64);
                let within = (self.random.below(4) == 0).then(|| self.random.below(GRACE as usize) as u64);
                // Other limits for small packs make other packs count as small or mostly dead.
                let small = *self.random.of(&[64, 1 << 20]).unwrap();
                let many = *self.random.of(&[2, 3, 1000]).unwrap();
                Deed::Collect { last, within, gathering: Gathering { small, many, most: 1 << 20 } }
            }
        }
    }

    /// Fails unless every snapshot that counts exists and is whole.
    pub(crate) async fn check(&self) {
        let store = store(&self.objects, &self.outside);
        for name in store.contexts().await.unwrap() {
            let mut counts = false;
            for snapshot in store.log(&name).await.unwrap() {
                let key = StoreKey::Snapshot { context: name.clone(), number: snapshot.number };
                let acked = self.acked.get(&(name.clone(), snapshot.number));
                let late = is_late(&snapshot, landed(&self.objects, &key).await.unwrap());
                let read = self.read(&store, &snapshot).await;
                counts |= read.is_ok();
                let files = match read {
                    Ok(files) => files,
                    Err(_) if late && acked.is_none() => continue,
                    Err(lost) => panic!("{}\n{name}@{} has lost {lost}", self.told(), snapshot.number),
                };
                if let Some(Acked { file: Some((path, content)), .. }) = acked {
                    assert!(
                        files.get(path) == Some(content),
                        "{}\n{name}@{} does not hold what was written to {path}",
                        self.told(),
                        snapshot.number
                    );
                }
            }
            // Each life of a context begins with a snapshot that is whole, unless it is a fork that landed
            // late.
            assert!(
                counts || name.as_str().starts_with("fork-"),
                "{}\nnothing of {name} is left that is whole",
                self.told()
            );
        }
    }

    /// Fails unless every confirmed tag names its snapshot, whatever the context is called now, and that one is whole.
    pub(crate) async fn check_tags(&self) {
        let store = store(&self.objects, &self.outside);
        for name in names() {
            // Whoever opens the old name of a renamed context finishes the rename.
            let _ = store.head(&name).await;
        }
        let mut found: BTreeMap<TagName, BTreeSet<[u8; 16]>> = BTreeMap::new();
        for name in store.contexts().await.unwrap() {
            let tags = store.tags(&name).await.unwrap();
            for tag in tags.into_values().flatten().filter(|tag| self.tagged.keys().any(|(t, _)| t == tag)) {
                let Ok(snapshot) = store.snapshot(&name, At::Tag(tag.clone())).await else { continue };
                let lost = self.read(&store, &snapshot).await.err();
                let key = StoreKey::Snapshot { context: name.clone(), number: snapshot.number };
                let late = is_late(&snapshot, landed(&self.objects, &key).await.unwrap());
                assert!(late || lost.is_none(), "{}\n{name}@{tag} has lost {lost:?}", self.told());
                found.entry(tag).or_default().insert(snapshot.nonce);
            }
        }
        for ((tag, _), nonce) in &self.tagged {
            let is_there = found.get(tag).is_some_and(|found| found.contains(nonce));
            assert!(is_there, "{}\nthe tag {tag} was confirmed and is lost", self.told());
        }
    }

    /// Returns the files of a snapshot, or a message about what can't be read.
    async fn read(&self, store: &Store, snapshot: &Snapshot) -> Result<BTreeMap<TreePath, Vec<u8>>, String> {
        let mut entries = Vec::new();
        let listed = store.entries(snapshot, &TreePath::root(), |entry| entries.push(entry)).await;
        listed.map_err(|e| format!("its tree: {e:?}"))?;
        let mut files = BTreeMap::new();
        for entry in entries.into_iter().filter(|entry| !entry.entry.is_dir()) {
            let mut bytes = Vec::new();
            let read = store.read_file(&entry, 0..u64::MAX, |part| {
                bytes.extend_from_slice(&part);
                Ok(())
            });
            read.await.map_err(|e| format!("{}: {e:?}", entry.path))?;
            files.insert(entry.path, bytes);
        }
        Ok(files)
    }

    /// Collects while nothing else runs and everything is old, and fails if anything unneeded is left.
    pub(crate) async fn tidy(&mut self) {
        for _ in 0..4 {
            self.outside.clock.pass(2 * GRACE);
            let store = store(&self.objects, &self.outside);
            let report = store.collect(&Default::default(), &transfer_engine::Silent).await.unwrap();
            assert_eq!((report.unreadable, report.failed), (0, 0), "{}", self.told());
        }
        let store = store(&self.objects, &self.outside);
        let mut needed: BTreeSet<PackId> = BTreeSet::new();
        for name in store.contexts().await.unwrap() {
            let log = store.log(&name).await.unwrap();
            needed.extend(log.iter().flat_map(|s| s.packs.iter().map(|p| p.id)));
        }
        let listed: Vec<_> = self.objects.list(Some(&"packs".into())).try_collect().await.unwrap();
        for meta in listed {
            let Some(StoreKey::Pack(id)) = StoreKey::parse(&meta.location) else { continue };
            assert!(needed.contains(&id), "{}\n{id} is needed by nobody and still there", self.told());
        }
        for name in names() {
            self.check_remains(&name).await;
        }
    }

    /// Fails if more is left of a deleted context than its deletion.
    async fn check_remains(&self, name: &ContextName) {
        let mut deletion = 0;
        let listed = self.listed(name).await;
        for (key, meta) in &listed {
            let bytes = self.objects.get(key).await.unwrap().bytes().await.unwrap();
            if meta.size > 0
                && let Ok((snapshot, _)) = Snapshot::decode(&bytes)
                && snapshot.kind == (Kind::Terminal { moved_to: None })
            {
                deletion = deletion.max(snapshot.number);
            }
        }
        let store = store(&self.objects, &self.outside);
        let live = store.head(name).await.ok().map(|head| head.lineage);
        for key in listed.keys() {
            if let Some(StoreKey::Tag { lineage, .. }) = StoreKey::parse(key) {
                let is_left = deletion > 0 && Some(lineage) != live;
                assert!(!is_left, "{}\n{key} is a tag of a deleted context and still there", self.told());
            }
            let Some(StoreKey::Snapshot { number, .. } | StoreKey::Gone { number, .. }) =
                StoreKey::parse(key)
            else {
                continue;
            };
            assert!(number >= deletion, "{}\n{key} is below a deletion and still there", self.told());
        }
    }
}
