//! Expired files are recycled: they leave the context, and the machines that have them keep them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ctxsync_tests::clock::{Clocked, HandClock};
use ctxsync_tests::compare::paths;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::random::Random;
use ctxsync_tests::repairing::repairing;
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::format::{StoreKey, TreeEntry};
use transfer_engine::recycle::{Due, Recycled, due, recycle};
use transfer_engine::{
    Action, CollectOptions, ContextName, ContextService, Env, Error, Gathering, ReadData, Silent, Store,
    SyncOptions, WriteOptions,
};

const DAY: i64 = 86_400;
const ONE_DAY: &str = r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day"}}"#;

/// A world in which the store and all machines share a clock that the test sets.
struct Yard {
    world: World,
    clock: HandClock,
}

impl Yard {
    async fn new() -> Self {
        let clock = HandClock::default();
        // After the timestamps of all files, so that their stats can be trusted.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        clock.pass(now.cast_signed() - clock.secs() + DAY);
        let objects = Clocked::new(Arc::new(InMemory::new()), &clock);
        Self { world: World::over(objects).await, clock }
    }

    fn machine(&self, name: &str, policy: &str) -> Machine {
        let mut machine = self.world.machine(name).with_policy(policy);
        machine.env = Env::real().with_clock(Arc::new(self.clock.clone()));
        machine
    }

    fn days(&self, days: i64) {
        self.clock.pass(days * DAY);
    }

    /// Returns the files of the head, each with whether it is recycled.
    async fn files(&self) -> BTreeMap<String, bool> {
        let head = self.world.head().await;
        let mut files = BTreeMap::new();
        let each = |e: TreeEntry| {
            files.insert(e.path.to_string(), e.recycled);
        };
        self.world.store().entries(&head, &TreePath::root(), each).await.unwrap();
        files
    }

    /// Returns the numbers of the snapshots that are not forgotten, newest first.
    async fn log(&self) -> Vec<u64> {
        self.world.store().log(&context()).await.unwrap().iter().map(|s| s.number).collect()
    }

    async fn recycle(&self) -> Result<Recycled, Error> {
        let options = SyncOptions::default();
        recycle(&self.world.store(), &context(), self.clock.secs(), &options, &Silent).await
    }

    async fn due(&self) -> (Due, Vec<(String, bool)>) {
        let mut files = Vec::new();
        let each = |f: &transfer_engine::recycle::DueFile<'_>| files.push((f.path.to_string(), f.is_expired));
        let due = due(&self.world.store(), &context(), self.clock.secs(), each).await.unwrap();
        (due, files)
    }
}

fn gone(files: &[&str], there: &[&str]) -> BTreeMap<String, bool> {
    let gone = files.iter().map(|f| ((*f).to_owned(), true));
    gone.chain(there.iter().map(|f| ((*f).to_owned(), false))).collect()
}

/// A machine whose file `old` was recycled when it pushed `new`.
async fn recycled() -> (Yard, Machine) {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("old", Random::new(1).bytes(300_000));
    a.push().await.clean();
    yard.days(1);
    a.mount.write("new", "x");
    let report = a.push().await.clean().clone();
    assert_eq!((report.snapshot, report.parent, report.added, report.recycled), (Some(4), Some(2), 1, 1));
    assert_eq!(yard.files().await, gone(&["old"], &["new"]));
    (yard, a)
}

#[tokio::test]
async fn what_is_expired_leaves_with_the_next_commit_and_so_do_its_bytes() {
    let (yard, a) = recycled().await;
    let head = yard.world.head().await;
    assert_eq!((head.totals.files, head.totals.bytes, head.changes.deleted), (1, 1, 1));
    // The empty first snapshot is kept: it never had the file.
    assert_eq!(yard.log().await, [4, 1]);
    // Only files that are in scope and young enough are due later.
    assert_eq!(yard.due().await.0.next, Some(yard.clock.secs() + DAY));

    // There is no other writer, so no grace period is needed. A day later `new` would be expired as well.
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    store.collect(&CollectOptions { exclusive: true, ..CollectOptions::default() }, &Silent).await.unwrap();
    let packs = yard.world.objects.list(Some(&"packs".into())).try_collect::<Vec<_>>();
    let bytes: u64 = packs.await.unwrap().iter().map(|p| p.size).sum();
    assert!(bytes < 10_000, "{bytes}");
    let fresh = yard.machine("fresh", "{}");
    fresh.pull().await.clean();
    assert_eq!(paths(&fresh.mount.0), ["new"]);
}

/// Whether the content is in a pack of the store. It must not compress.
async fn holds(yard: &Yard, content: &[u8]) -> bool {
    let objects = &yard.world.objects;
    let packs: Vec<_> = objects.list(Some(&"packs".into())).try_collect().await.unwrap();
    for pack in packs {
        let bytes = objects.get(&pack.location).await.unwrap().bytes().await.unwrap();
        if bytes.windows(32).any(|part| part == &content[..32]) {
            return true;
        }
    }
    false
}

/// Issue 21: the next collection deletes the bytes, whatever else is in their pack, and whatever is kept.
#[tokio::test]
async fn i21_what_is_recycled_leaves_packs_that_are_mostly_alive() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs"]}}"#);
    let content = |seed, len| Random::new(seed).bytes(len);
    // One pack with a short secret and much other data.
    let secret = content(1, 3_000);
    a.mount.write("logs/secret", &secret);
    let stays: Vec<_> = (2..30).map(|seed| (format!("d/{seed}"), content(seed, 20_000))).collect();
    for (path, bytes) in &stays {
        a.mount.write(path, bytes);
    }
    a.push().await.clean();
    yard.days(1);
    // Older and newer snapshots use that pack, and all are kept.
    a.mount.write("logs/next", content(40, 3_000));
    let report = a.push().await.clean().clone();
    assert_eq!(report.recycled, 1);
    assert!(holds(&yard, &secret).await);
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    yard.clock.pass(DAY + 1);
    let report = store.collect(&CollectOptions::default(), &Silent).await.unwrap();
    assert_eq!((report.packs_lost, report.unreadable), (0, 0));
    assert!(!holds(&yard, &secret).await, "{report:?}");
    for (path, bytes) in &stays {
        assert!(holds(&yard, bytes).await, "{path}");
    }
    let fresh = yard.machine("fresh", "{}");
    fresh.pull().await.clean();
    for (path, bytes) in &stays {
        assert_eq!(std::fs::read(fresh.mount.0.join(path)).unwrap(), *bytes);
    }
    // Nothing is left to do.
    assert_eq!(a.push().await.clean().parent, None);
}

/// A damaged pack does not prevent files from being recycled.
#[tokio::test]
async fn i21_a_damaged_pack_does_not_stop_a_recycling() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs"]}}"#);
    a.mount.write("logs/old", Random::new(1).bytes(3_000));
    a.mount.write("stays", Random::new(2).bytes(3_000));
    a.push().await.clean();
    for pack in &yard.world.head().await.packs {
        let damaged = vec![0; pack.size as usize];
        yard.world.objects.put(&StoreKey::Pack(pack.id).path(), damaged.into()).await.unwrap();
    }
    yard.days(1);
    assert_eq!(yard.recycle().await.unwrap().files, 1);
    assert_eq!(yard.files().await, gone(&["logs/old"], &["stays"]));
}

/// A file that the store has lost expires as well: older snapshots may have its content in another pack.
#[tokio::test]
async fn what_was_left_out_by_a_repair_is_recycled_too_and_only_then_is_its_history_forgotten() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs"]}}"#);
    a.mount.write("logs/old", Random::new(1).bytes(3_000));
    a.push().await.clean();
    for pack in &yard.world.head().await.packs {
        yard.world.objects.delete(&StoreKey::Pack(pack.id).path()).await.unwrap();
    }
    let options = repairing(ReadData::None);
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    assert_eq!(store.repair(&options, &Silent).await.unwrap().left_out, 1);
    let before = yard.log().await;
    assert_eq!(
        yard.recycle().await.unwrap(),
        Recycled { next: yard.due().await.0.next, ..Recycled::default() }
    );
    assert_eq!(yard.log().await, before);
    yard.days(1);
    let recycled = yard.recycle().await.unwrap();
    assert_eq!((recycled.files, recycled.bytes, recycled.forgotten), (1, 3_000, vec![2]));
    assert_eq!(yard.recycle().await.unwrap(), Recycled::default());
    // It is kept where it is, and not sent any more.
    assert_eq!(a.push().await.clean().withheld, 1);
}

#[tokio::test]
async fn a_collection_tells_of_it_though_it_fails_to_gather_after_it() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["old"]}}"#);
    for path in ["old", "x", "y"] {
        a.mount.write(path, path);
        a.push().await.clean();
    }
    yard.days(1);
    for pack in &yard.world.head().await.packs {
        let damaged = vec![0; pack.size as usize];
        yard.world.objects.put(&StoreKey::Pack(pack.id).path(), damaged.into()).await.unwrap();
    }
    let store = Store::new(Arc::clone(&yard.world.objects), "test:", a.env.clone());
    let gathering = Gathering { many: 2, ..Gathering::default() };
    let options = CollectOptions { gathering, ..CollectOptions::default() };
    let report = store.collect(&options, &Silent).await.unwrap();
    assert_eq!((report.files_recycled, report.packs_gathered), (1, 0));
    assert_eq!(yard.files().await, gone(&["old"], &["x", "y"]));
}

#[tokio::test]
async fn a_machine_that_has_it_keeps_it_and_does_not_upload_it() {
    let (yard, a) = recycled().await;
    for _ in 0..2 {
        let ended = a.sync().await;
        let report = ended.clean();
        assert_eq!((report.parent, report.withheld, report.pending, report.recycled), (None, 1, 0, 0));
        assert!(a.mount.has("old"));
    }
    // A push only checks that there is nothing new, and sends nothing.
    let again = a.push().await.clean().clone();
    assert_eq!((again.requests, again.bytes_sent), (1, 0));
    let plan = Machine { options: SyncOptions { dry_run: true, ..a.options.clone() }, ..a.clone() };
    for ended in [plan.push().await, plan.pull().await] {
        assert_eq!(ended.noted.events, [("old".parse().unwrap(), Action::Skip)]);
    }
    // Neither another timestamp or mode nor a lost state changes that.
    a.mount.time("old", 5, 5).mode("old", 0o600);
    assert_eq!(a.push().await.clean().parent, None);
    a.lose_state();
    for _ in 0..2 {
        let report = a.push().await.clean().clone();
        assert_eq!((report.parent, report.withheld), (None, 1));
    }
    // Once it is in the base again, it is neither read nor sent.
    let again = a.push().await.clean().clone();
    assert_eq!((again.bytes_read, again.bytes_sent), (0, 0));
    a.pull().await.clean();
    assert!(a.mount.has("old"));
    assert_eq!(yard.files().await, gone(&["old"], &["new"]));
}

#[tokio::test]
async fn what_is_changed_is_uploaded_again() {
    let (yard, a) = recycled().await;
    a.mount.write("old", "quite another");
    let report = a.push().await.clean().clone();
    assert_eq!((report.added, report.changed, report.withheld, report.recycled), (1, 0, 0, 0));
    assert_eq!(yard.files().await, gone(&[], &["new", "old"]));
    let fresh = yard.machine("fresh", "{}");
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("old"), "quite another");
    assert_eq!(a.push().await.clean().requests, 1);
}

#[tokio::test]
async fn what_is_removed_here_stays_a_placeholder_and_returns_only_if_it_is_another() {
    let (yard, a) = recycled().await;
    let content = std::fs::read(a.mount.at("old")).unwrap();
    a.mount.remove("old");
    let report = a.push().await.clean().clone();
    assert_eq!((report.parent, report.withheld, report.deleted), (None, 0, 0));
    a.mount.write("old", &content);
    assert_eq!(a.push().await.clean().withheld, 1);
    assert_eq!(yard.files().await, gone(&["old"], &["new"]));
}

#[tokio::test]
async fn a_machine_that_was_away_keeps_what_it_has() {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("old", "1").write("older", "1");
    a.push().await.clean();
    b.pull().await.clean();
    a.mount.write("older", "2");
    a.push().await.clean();
    yard.days(2);
    a.push().await.clean();
    assert_eq!(yard.files().await, gone(&["old", "older"], &[]));
    // Neither is the version before the recycled one, which nothing has changed here.
    for _ in 0..2 {
        assert_eq!(b.pull().await.clean().withheld, 2);
        assert_eq!(b.push().await.clean().withheld, 2);
    }
    assert_eq!((b.mount.read("old"), b.mount.read("older")), ("1".into(), "1".into()));
    b.mount.write("older", "3");
    assert_eq!(b.push().await.clean().added, 1);
    assert_eq!(yard.files().await, gone(&["old"], &["older"]));
}

#[tokio::test]
async fn only_below_its_paths_and_only_what_is_in_scope() {
    let yard = Yard::new().await;
    let all = yard.machine("all", "{}");
    all.mount.write("logs/a", "1").write("logs2", "1").write("src/logs", "1").write("out/logs/b", "1");
    all.mount.link("logs/link", "a");
    all.push().await.clean();
    let a = yard.machine(
        "a",
        r#"{"recyclePolicy": {"lifecycle": "Lifecycle_3Days", "paths": ["logs", "out"]},
            "bwList": {"whiteLists": [{"path": "logs"}, {"path": "src"}]}}"#,
    );
    a.pull().await.clean();
    yard.days(2);
    a.mount.write("src/x", "1");
    assert_eq!(a.push().await.clean().recycled, 0);
    yard.days(1);
    assert_eq!(a.push().await.clean().recycled, 1);
    let there = ["logs/link", "logs2", "out/logs/b", "src/logs", "src/x"];
    assert_eq!(yard.files().await, gone(&["logs/a"], &there));
    // `gc`, which recycles by the head's rules, respects them, too.
    yard.days(100);
    assert_eq!(yard.recycle().await.unwrap(), Recycled::default());
}

#[tokio::test]
async fn for_ever_is_for_ever() {
    let yard = Yard::new().await;
    let a = yard.machine("a", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_Forever"}}"#);
    a.mount.write("old", "1");
    a.push().await.clean();
    yard.days(100_000);
    a.mount.write("new", "1");
    let report = a.push().await.clean().clone();
    assert_eq!((report.recycled, report.next_expiry), (0, None));
    assert_eq!(yard.recycle().await.unwrap(), Recycled::default());
    assert_eq!(yard.due().await, (Due { snapshot: 3, ..Due::default() }, vec![]));
    assert_eq!(yard.log().await, [3, 2, 1]);
}

#[tokio::test]
async fn a_push_with_nothing_to_do_is_one_request_until_something_is_expired() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("old", "1");
    a.push().await.clean();
    let expires = yard.clock.secs() + DAY;
    yard.clock.pass(DAY - 1);
    let report = a.push().await.clean().clone();
    assert_eq!((report.requests, report.next_expiry), (1, Some(expires)));
    let plan = Machine { options: SyncOptions { dry_run: true, ..a.options.clone() }, ..a.clone() };
    assert_eq!(plan.push().await.clean().recycled, 0);
    assert_eq!(yard.due().await.1, [("old".to_owned(), false)]);
    yard.clock.pass(1);
    let planned = plan.push().await;
    assert_eq!(planned.clean().recycled, 1);
    assert_eq!(planned.noted.events, [("old".parse().unwrap(), Action::Delete)]);
    let (due, files) = yard.due().await;
    assert_eq!((due.files, due.bytes, due.next, files), (1, 1, None, vec![("old".to_owned(), true)]));
    let ended = a.push().await;
    assert_eq!((ended.clean().recycled, ended.clean().snapshot), (1, Some(3)));
    assert_eq!(ended.noted.events, [("old".parse().unwrap(), Action::Delete)]);
    assert_eq!(yard.files().await, gone(&["old"], &[]));
}

#[tokio::test]
async fn only_new_content_counts_as_an_upload() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("touched", "1").write("again", "1").write("moved", "1").write("changed", "1");
    a.push().await.clean();
    yard.clock.pass(DAY - 10);
    a.mount.time("touched", 7, 7).remove("again").write("again", "1");
    a.mount.rename("moved", "moved-here").write("changed", "2");
    a.push().await.clean();
    yard.clock.pass(10);
    a.push().await.clean();
    assert_eq!(yard.files().await, gone(&["again", "touched"], &["changed", "moved-here"]));
}

#[tokio::test]
async fn the_stores_clock_counts() {
    let yard = Yard::new().await;
    // One machine's clock is far behind, the other one's far ahead.
    let wrong = |name: &str, days: i64| {
        let (mut machine, clock) = (yard.machine(name, ONE_DAY), HandClock::default());
        clock.pass(yard.clock.secs() - clock.secs() + days * DAY);
        machine.env = Env::real().with_clock(Arc::new(clock));
        machine
    };
    let (past, future) = (wrong("past", -1000), wrong("future", 1000));
    past.mount.write("p", "1");
    past.push().await.clean();
    future.pull().await.clean();
    future.mount.write("f", "1");
    future.push().await.clean();
    // The content of `q` is already in the store, so this push puts no pack.
    past.pull().await.clean();
    past.mount.write("q", "1");
    for machine in [&past, &future] {
        assert_eq!(machine.push().await.clean().recycled, 0);
    }
    assert_eq!(yard.files().await, gone(&[], &["f", "p", "q"]));
    assert_eq!(yard.due().await.0.next, Some(yard.clock.secs() + DAY));
    yard.days(1);
    assert_eq!(yard.recycle().await.unwrap().files, 3);
}

#[tokio::test]
async fn placeholders_are_in_nobodys_way() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("d/e/x", "1").write("d/y", "1").write("f", "1");
    a.push().await.clean();
    yard.days(1);
    a.push().await.clean();
    assert_eq!(yard.files().await, gone(&["d/e/x", "d/y", "f"], &[]));
    // A machine that never had them creates a file in the place of a directory, and the other way round.
    let b = yard.machine("b", "{}");
    b.pull().await.clean();
    assert_eq!(paths(&b.mount.0), [""; 0]);
    b.mount.write("d", "a file").write("f/in", "a directory").dir("empty");
    let report = b.push().await.clean().clone();
    assert_eq!((report.added, report.failed), (3, 0));
    assert_eq!(yard.files().await, gone(&[], &["d", "empty", "f/in"]));
    let fresh = yard.machine("fresh", "{}");
    fresh.pull().await.clean();
    assert_eq!((fresh.mount.read("d"), fresh.mount.read("f/in")), ("a file".into(), "a directory".into()));
}

#[tokio::test]
async fn a_writer_that_is_first_loses_nothing_and_hinders_nothing() {
    let yard = Yard::new().await;
    let (mut a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("old", "1").write("other", "1");
    a.push().await.clean();
    b.pull().await.clean();
    yard.days(1);
    b.mount.write("other", "2").write("theirs", "1");
    let once = AtomicBool::new(true);
    let rival = b.clone();
    a.objects = BeforePut::new(Arc::clone(&yard.world.objects), move |key| {
        let now = key.as_ref().starts_with("contexts") && once.swap(false, Ordering::SeqCst);
        let rival = rival.clone();
        async move {
            if now {
                rival.push_elsewhere().await.clean();
            }
        }
        .boxed()
    });
    assert_eq!(a.push().await.clean().recycled, 1);
    assert_eq!(yard.files().await, gone(&["old"], &["other", "theirs"]));
    // Every snapshot with the file is forgotten, including the rival's.
    assert_eq!(yard.log().await, [4, 1]);
    assert_eq!(b.sync().await.clean().withheld, 1);
    assert_eq!(yard.recycle().await.unwrap().forgotten, [0; 0]);
}

#[tokio::test]
async fn who_dies_before_forgetting_is_finished_by_the_next() {
    let yard = Yard::new().await;
    let mut a = yard.machine("a", ONE_DAY);
    a.mount.write("old", "1");
    a.push().await.clean();
    a.mount.write("old2", "1");
    a.push().await.clean();
    yard.days(1);
    let faulty = Faulty::new(Arc::clone(&yard.world.objects), 1);
    faulty.add(Rule::new(Fault::CrashBefore).on(Operation::Put).nth(3));
    a.objects = Arc::new(faulty);
    let ended = a.push().await;
    // The push itself is done, and the rest is reported as not done.
    assert!(ended.warned("expired files were not recycled"), "{:?}", ended.noted);
    assert_eq!(yard.files().await, gone(&["old", "old2"], &[]));
    assert!(yard.log().await.len() > 2, "it died too late");
    let finished = yard.recycle().await.unwrap();
    assert_eq!((finished.snapshot, finished.files), (None, 0));
    assert!(!finished.forgotten.is_empty());
    assert_eq!(yard.log().await, [4, 1]);
    assert_eq!(yard.recycle().await.unwrap(), Recycled::default());
}

#[tokio::test]
async fn another_context_keeps_its_own() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("old", "1");
    a.push().await.clean();
    let service = ContextService::new(&yard.world.store());
    let other = ContextName::new("other").unwrap();
    service.create(&other).await.unwrap();
    let path: TreePath = "old".parse().unwrap();
    service.write_file(&other, &path, &b"1"[..], &WriteOptions::default()).await.unwrap();
    yard.days(1);
    assert_eq!(yard.recycle().await.unwrap().files, 1);
    assert_eq!(service.list_files(&other, &TreePath::root()).await.unwrap().len(), 1);
    assert_eq!(yard.world.store().log(&other).await.unwrap().len(), 2);

    // Without a mount, a recycled file does not exist, apart from the error.
    assert!(service.list_files(&context(), &TreePath::root()).await.unwrap().is_empty());
    let read = service.read_file(&context(), &path, 0..1, |_| Ok(())).await;
    assert!(matches!(read, Err(Error::Recycled { .. })), "{read:?}");
    let removed = service.delete_file(&context(), &path).await;
    assert!(matches!(removed, Err(Error::Recycled { .. })), "{removed:?}");
    let head = yard.world.head().await;
    let restored = yard.world.outside();
    let restore = |paths: Vec<TreePath>| {
        let (store, head, dir) = (yard.world.store(), head.clone(), restored.0.clone());
        async move { store.restore(&head, &dir, &paths, &SyncOptions::default(), &Silent).await }
    };
    assert_eq!(restore(vec![]).await.unwrap().added, 0);
    assert!(matches!(restore(vec![path.clone()]).await, Err(Error::Recycled { .. })));
    // Once it is written again, it exists again.
    service.write_file(&context(), &path, &b"1"[..], &WriteOptions::default()).await.unwrap();
    assert_eq!(yard.files().await, gone(&[], &["old"]));
    assert_eq!(yard.recycle().await.unwrap().files, 0);
}

/// A mount of a part recycles what is in the part, and leaves the rules and the files of other parts alone.
#[tokio::test]
async fn a_part_recycles_its_own_files() {
    let yard = Yard::new().await;
    let whole = yard.machine(
        "whole",
        r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs", "d/tmp"]}}"#,
    );
    whole.mount.write("logs/old", "1").write("d/old", "2").write("d/tmp/old", "3");
    whole.push().await.clean();
    let part = yard.machine("part", ONE_DAY).of_part("d");
    part.pull().await.clean();
    part.mount.write("first", "4");
    assert_eq!(part.push().await.clean().recycled, 0);
    let rules = yard.world.head().await.recycle.clone();
    let paths: Vec<String> = rules.paths.iter().map(ToString::to_string).collect();
    assert_eq!((rules.lifecycle_days, paths), (Some(1), vec!["d".to_owned(), "logs".to_owned()]));
    yard.days(1);
    part.mount.write("new", "5");
    let pushed = part.push().await;
    assert_eq!(pushed.clean().recycled, 3);
    let told: Vec<String> = pushed.noted.events.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(told, ["new", "first", "old", "tmp/old"]);
    assert_eq!(yard.files().await, gone(&["d/first", "d/old", "d/tmp/old"], &["d/new", "logs/old"]));
    // `gc` goes by all rules.
    assert_eq!(yard.recycle().await.unwrap().files, 1);
    // Without a rule of its own, the part only takes back its rules.
    let plain = yard.machine("plain", "{}").of_part("d");
    plain.pull().await.clean();
    plain.mount.write("plain", "6");
    assert!(!plain.push().await.warned("lifecycle"));
    assert_eq!(yard.world.head().await.recycle.paths, ["logs".parse().unwrap()]);
    // A context has one lifecycle: with another one, the part's rule is not noted, and that is said.
    let other = yard.machine("other", r#"{"recyclePolicy": {"lifecycle": "Lifecycle_3Days"}}"#).of_part("d");
    other.pull().await.clean();
    other.mount.write("other", "7");
    assert!(other.push().await.warned("another lifecycle"));
    let rules = yard.world.head().await.recycle.clone();
    assert_eq!((rules.lifecycle_days, rules.paths), (Some(1), vec!["logs".parse().unwrap()]));
    yard.days(3);
    other.mount.write("last", "8");
    assert_eq!(other.push().await.clean().recycled, 3);
}

/// A machine that has the last copy of a recycled file, and another one of the same context.
async fn last_copy() -> (Yard, Machine, Machine) {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("d/x", "the last copy");
    a.push().await.clean();
    yard.days(1);
    a.mount.write("k", "1");
    assert_eq!(a.push().await.clean().recycled, 1);
    b.pull().await.clean();
    assert_eq!(yard.files().await, gone(&["d/x"], &["k"]));
    (yard, a, b)
}

#[tokio::test]
async fn the_last_copy_survives_another_file_in_its_place() {
    let (yard, a, b) = last_copy().await;
    b.mount.write("d/x", "another");
    b.push().await.clean();
    // A push alone leaves both as they are.
    assert_eq!(a.push().await.clean().withheld, 1);
    assert_eq!(a.sync().await.report().conflicts, 1);
    let there: Vec<String> = paths(&a.mount.0)
        .into_iter()
        .map(|path| a.mount.at(&path))
        .filter(|at| at.is_file())
        .map(|at| std::fs::read_to_string(at).unwrap())
        .collect();
    assert_eq!(there, ["the last copy", "another", "1"]);
    b.sync().await.clean();
    assert_eq!(paths(&b.mount.0), paths(&a.mount.0));
    assert_eq!(a.sync().await.clean().conflicts, 0);
    drop(yard);
}

#[tokio::test]
async fn the_last_copy_survives_a_file_in_the_place_of_its_directory() {
    let (_yard, a, b) = last_copy().await;
    b.mount.write("d", "a file");
    b.push().await.clean();
    assert_eq!(a.push().await.clean().withheld, 1);
    for _ in 0..3 {
        a.sync().await;
        assert_eq!(a.mount.read("d/x"), "the last copy");
        b.sync().await;
    }
    let there = paths(&a.mount.0);
    let copy = there.iter().find(|path| path.starts_with("d.conflict-")).unwrap();
    assert_eq!(a.mount.read(copy), "a file");
    assert!(a.sync().await.clean().parent.is_none() && b.sync().await.clean().parent.is_none());
}

#[tokio::test]
async fn the_last_copy_survives_that_nothing_tells_of_it_any_more() {
    let (yard, a, _) = last_copy().await;
    let store = yard.world.store();
    let service = ContextService::new(&store);
    let path: TreePath = "d/x".parse().unwrap();
    service.write_file(&context(), &path, &b"z"[..], &WriteOptions::default()).await.unwrap();
    service.delete_file(&context(), &path).await.unwrap();
    assert_eq!(yard.files().await, gone(&[], &["d", "k"]), "`d` is left as an empty directory");
    for _ in 0..2 {
        assert_eq!(a.pull().await.clean().withheld, 1);
        let pushed = a.push().await.clean().clone();
        assert_eq!((pushed.withheld, pushed.parent), (1, None));
        assert_eq!(a.mount.read("d/x"), "the last copy");
    }
    // Changed, it is a file like any other.
    a.mount.write("d/x", "the last copy, changed");
    assert_eq!(a.push().await.clean().added, 1);
    assert_eq!(yard.files().await, gone(&[], &["d/x", "k"]));
    assert_eq!(a.sync().await.clean().withheld, 0);
    service.delete_file(&context(), &path).await.unwrap();
    assert_eq!(a.pull().await.clean().deleted, 1);
    assert!(!a.mount.has("d/x"));
}

#[tokio::test]
async fn a_directory_of_nothing_but_placeholders_takes_no_files_place() {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("d", "a file").write("k", "1");
    a.push().await.clean();
    b.pull().await.clean();
    a.mount.remove("d").write("d/x", "in a directory");
    a.push().await.clean();
    yard.days(1);
    a.mount.write("k", "2");
    a.push().await.clean();
    assert_eq!(yard.files().await, gone(&["d/x"], &["k"]));
    let pulled = b.pull().await.clean().clone();
    assert_eq!((pulled.changed, pulled.deleted), (1, 1), "`k` is changed, and `d` is deleted");
    assert_eq!(paths(&b.mount.0), ["k"]);
}

/// The version of the context moves to a new name in a conflict, so that somebody can look at it. A new name counts as
/// an upload.
#[tokio::test]
async fn a_conflict_copy_counts_as_uploaded_when_it_is_made() {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", "{}"), yard.machine("b", ONE_DAY));
    a.mount.write("notes", "theirs");
    a.push().await.clean();
    yard.days(1);
    b.mount.write("notes", "mine");
    let report = b.push().await.report().clone();
    assert_eq!((report.conflicts, report.recycled), (1, 0));
    assert_eq!(yard.recycle().await.unwrap().files, 0);
    // The machine that wrote it has it too, and does not lose it.
    a.pull().await.clean();
    assert_eq!(a.mount.files().len(), 2);
    yard.days(1);
    assert_eq!(yard.recycle().await.unwrap().files, 2);
}

/// The context lists a directory in which a machine has nothing but what was recycled. That is no change.
#[tokio::test]
async fn a_directory_with_nothing_but_what_was_recycled_is_added_once() {
    let yard = Yard::new().await;
    let policy = r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs"]}}"#;
    let (a, b) = (yard.machine("a", policy), yard.machine("b", policy));
    a.mount.write("logs/old", "old").write("stays", "x");
    a.push().await.clean();
    yard.days(1);
    a.mount.write("new", "x");
    assert_eq!(a.push().await.clean().recycled, 1);
    b.mount.write("logs", "a file");
    b.sync().await.clean();
    assert_eq!(a.sync().await.report().conflicts, 1);
    for _ in 0..3 {
        let report = a.sync().await.clean().clone();
        assert_eq!((report.added, report.changed, report.withheld), (0, 0, 1));
    }
}

#[tokio::test]
async fn a_machine_that_was_away_keeps_the_last_copy_too() {
    for in_place in ["d/x", "d"] {
        let yard = Yard::new().await;
        let (a, b) = (yard.machine("a", "{}"), yard.machine("b", ONE_DAY));
        a.mount.write("d/x", "the last copy").write("d/y", "1");
        a.push().await.clean();
        yard.days(1);
        b.mount.write("k", "1");
        assert_eq!(b.push().await.clean().recycled, 2);
        b.mount.write(in_place, "another");
        b.push().await.clean();
        // Snapshots after it remember it too.
        b.mount.write("k", "2");
        b.push().await.clean();
        assert_eq!(a.push().await.clean().deleted, 0);
        for _ in 0..3 {
            a.sync().await;
            assert_eq!(a.mount.read("d/x"), "the last copy");
            b.sync().await;
        }
        assert!(a.sync().await.clean().parent.is_none() && b.sync().await.clean().parent.is_none());
        let there = paths(&a.mount.0);
        let copy = there.iter().find(|path| path.contains(".conflict-")).unwrap();
        assert_eq!(a.mount.read(copy), "another", "{there:?}");
    }
}

/// What is written again is a file like any other, also for machines that were away.
#[tokio::test]
async fn what_came_back_can_be_changed_and_deleted() {
    let (yard, a, b) = last_copy().await;
    let away = yard.machine("away", "{}");
    away.mount.write("d/x", "the last copy");
    b.mount.write("d/x", "another");
    b.push().await.clean();
    b.mount.write("d/x", "the last copy");
    b.push().await.clean();
    assert_eq!(away.sync().await.clean().conflicts, 0);
    assert_eq!(a.sync().await.clean().withheld, 0);
    b.mount.remove("d/x");
    b.push().await.clean();
    for machine in [&a, &away] {
        assert_eq!(machine.pull().await.clean().deleted, 1);
        assert!(!machine.mount.has("d/x"));
    }
}
