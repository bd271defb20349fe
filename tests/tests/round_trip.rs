//! What is pushed is pulled unchanged, and nothing is requested twice.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::machine::World;
use ctxsync_tests::random::Random;
use object_store::memory::InMemory;
use policy_core::SyncPolicy;
use storage_backends::layer::{Operation, Recording, Request};
use transfer_engine::{Env, Spawn};

/// A world whose store counts its requests.
async fn counted() -> (World, Recording) {
    let recording = Recording::new(Arc::new(InMemory::new()));
    (World::over(Arc::new(recording.clone())).await, recording)
}

async fn goes_round(world: World, mode: &str) {
    let mut a = world.machine("a");
    a.policy = SyncPolicy::from_json(&format!(r#"{{"uploadPolicy": {{"uploadMode": "{mode}"}}}}"#)).unwrap();
    let b = world.machine("b");
    a.mount.odd();
    let pushed = a.push().await;
    assert_eq!(pushed.clean().snapshot, Some(2));
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);

    for (name, ended) in [("a", a.push().await), ("b", b.push().await), ("b", b.pull().await)] {
        let report = ended.clean();
        assert_eq!(
            (report.snapshot, report.parent, report.requests),
            (Some(2), None, 1),
            "{name} {report:?}"
        );
    }
    // Now nearly everything is deleted.
    a.mount
        .rename("plain.txt", "../plain.txt")
        .clear()
        .rename("../plain.txt", "plain.txt")
        .write("only", "one");
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn l12_l13_l16_l19_an_odd_tree_comes_back_from_memory() {
    goes_round(World::memory().await, "File").await;
}

#[tokio::test]
async fn an_odd_tree_comes_back_from_a_directory() {
    goes_round(World::local().await, "Archive").await;
}

#[tokio::test]
async fn an_odd_tree_is_restored_without_a_mount() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.odd();
    a.push().await.clean();
    let restored = world.outside();
    let snapshot = world.head().await;
    let store = world.store();
    let options = transfer_engine::SyncOptions::default();
    store.restore(&snapshot, &restored.0, &[], &options, &transfer_engine::Silent).await.unwrap();
    assert_same(&a.mount.0, &restored.0);
}

#[tokio::test]
async fn a_push_with_nothing_to_do_is_one_request_that_sees_another_machines_commit() {
    let (world, recording) = counted().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("x", "1").write("d/y", "2").link("l", "x").dir("void");
    a.push().await.clean();
    recording.clear();
    a.push().await.clean();
    let requests = recording.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].operation, Operation::List);

    b.pull().await.clean();
    b.mount.write("z", "3");
    b.push().await.clean();
    recording.clear();
    let ended = a.push().await;
    assert_eq!(ended.clean().snapshot, Some(3));
    // The listing shows that there is a newer snapshot, and the next requests read it.
    assert_eq!(recording.requests()[0].operation, Operation::List);
    assert_eq!(recording.counts().puts, 0);
    a.pull().await.clean();
    assert_eq!(a.mount.read("z"), "3");
}

/// Records for each blocking job how many requests had been sent when it began.
struct Beginnings {
    recording: Recording,
    asked: Mutex<Vec<usize>>,
}

impl Spawn for Beginnings {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        self.asked.lock().unwrap().push(self.recording.requests().len());
        tokio::task::spawn_blocking(job);
    }

    fn parallelism(&self) -> usize {
        2
    }
}

#[tokio::test]
async fn the_walk_through_a_mount_does_not_wait_for_the_store() {
    let (world, recording) = counted().await;
    let mut a = world.machine("a");
    a.mount.write("x", "1").write("d/y", "2");
    let beginnings = Arc::new(Beginnings { recording: recording.clone(), asked: Mutex::default() });
    a.env = Env::real().with_spawn(beginnings.clone());
    for (change, commits) in [("first", true), ("first", false), ("second", true)] {
        a.mount.write("x", change);
        recording.clear();
        beginnings.asked.lock().unwrap().clear();
        assert_eq!(a.push().await.clean().parent.is_some(), commits);
        assert_eq!(beginnings.asked.lock().unwrap()[0], 0, "a push");
        recording.clear();
        beginnings.asked.lock().unwrap().clear();
        a.pull().await.clean();
        // Two jobs scan, and one reads what they found.
        let asked = beginnings.asked.lock().unwrap();
        assert_eq!((asked[0], asked.len()), (0, 3), "a pull");
    }
}

#[tokio::test]
async fn a_push_after_a_pull_is_one_request() {
    let (world, recording) = counted().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("x", "1").write("d/y", "2").dir("void");
    a.push().await.clean();
    b.pull().await.clean();
    for _ in 0..2 {
        recording.clear();
        b.push().await.clean();
        assert_eq!(recording.requests().len(), 1, "{:?}", recording.requests());
    }
    recording.clear();
    b.pull().await.clean();
    assert_eq!(recording.requests().len(), 1, "{:?}", recording.requests());
}

#[tokio::test]
async fn a_fresh_pull_of_a_small_tree_needs_no_more_than_four_trips_to_the_first_byte() {
    let (world, recording) = counted().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    for i in 0..50 {
        a.mount.write(format!("f{i}"), format!("content {i}"));
    }
    a.push().await.clean();
    recording.clear();
    b.pull().await.clean();
    let requests = recording.requests();
    let first = requests.iter().position(|r| r.key.as_ref().starts_with("packs/")).unwrap();
    assert!(first < 4, "{requests:?}");
    // One more request reads the store's id, for later syncs.
    assert!(requests.len() <= 5, "{requests:?}");
}

/// Leaves out the checks after a commit, which nothing waits for: whether the store is still the same, and
/// whether it has the head's packs.
fn without_looks(requests: Vec<Request>) -> Vec<Request> {
    let commit = requests
        .iter()
        .rposition(|r| r.operation == Operation::Put && r.key.as_ref().starts_with("contexts"));
    let beside = |at: usize, r: &Request| {
        commit.is_some_and(|commit| at > commit)
            && (r.key.as_ref() == "ctxsync.json" || r.key.as_ref().starts_with("packs/"))
    };
    requests.into_iter().enumerate().filter(|(at, r)| !beside(*at, r)).map(|(_, r)| r).collect()
}

#[tokio::test]
async fn a_commit_is_two_requests_after_the_last_pack() {
    let (world, recording) = counted().await;
    let a = world.machine("a");
    a.mount.write("x", "1");
    a.push().await.clean();
    a.mount.write("x", "2");
    recording.clear();
    a.push().await.clean();
    let requests = without_looks(recording.requests());
    let last_pack = requests.iter().rposition(|r| r.key.as_ref().starts_with("packs/")).unwrap();
    let commit: Vec<_> = requests[last_pack + 1..].iter().map(|r| r.operation).collect();
    assert_eq!(commit, [Operation::Put, Operation::Head], "{requests:?}");
    // The unchanged head is known, so there are only a listing, the pack, and the commit.
    assert!(requests.len() <= 5, "{requests:?}");
}

#[tokio::test]
async fn a_small_change_of_a_large_tree_sends_little() {
    let (world, recording) = counted().await;
    let a = world.machine("a");
    let mut random = Random::new(2);
    for i in 0..1200 {
        a.mount.write(format!("d{}/f{i}", i % 50), random.bytes(300));
    }
    a.mount.write("big", random.bytes(12 << 20));
    a.push().await.clean();
    let mut big = std::fs::read(a.mount.at("big")).unwrap();
    big.splice(6 << 20..6 << 20, random.bytes(1024));
    a.mount.write("big", &big).write("d7/f7", "seven").remove("d8/f8").rename("d9", "moved");
    recording.clear();
    let ended = a.push().await;
    assert!(ended.clean().bytes_sent < 4 << 20, "{:?}", ended.report());
    assert_eq!(recording.counts().bytes_sent, ended.report().bytes_sent);
    let b = world.machine("b");
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn l23_a_directory_of_many_files_goes_round() {
    let world = World::quick().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    for i in 0..4000 {
        a.mount.write(format!("d/a-file-with-the-number-{i}"), format!("{}", i % 10));
    }
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    a.mount.remove("d/a-file-with-the-number-3777").write("d/b", "new");
    let ended = a.push().await;
    assert_eq!((ended.clean().added, ended.clean().deleted), (1, 1));
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn l15_a_deep_tree_goes_round() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    // Created by directory handles, because the full path is longer than the system allows.
    let deep: Vec<String> = (0..300).map(|i| format!("directory-{i:06}")).collect();
    let mut dir =
        rustix::fs::open(&a.mount.0, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for name in &deep {
        rustix::fs::mkdirat(&dir, name.as_str(), rustix::fs::Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, name.as_str(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            .unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(&dir, "end", flags, rustix::fs::Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep down").unwrap();

    a.push().await.clean();
    b.pull().await.clean();
    let mut dir =
        rustix::fs::open(&b.mount.0, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for name in deep.iter().map(String::as_str).chain(["end"]) {
        dir = rustix::fs::openat(&dir, name, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    }
    let mut bytes = [0; 16];
    let read = rustix::io::read(&dir, &mut bytes[..]).unwrap();
    assert_eq!(&bytes[..read], b"deep down");
    assert_eq!(b.push().await.clean().requests, 1);
}

#[tokio::test]
async fn long_files_do_not_wait_for_the_others_in_memory_that_is_not_there() {
    let (world, mut random) = (World::memory().await, Random::new(9));
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    for i in 0..9 {
        a.mount.write(format!("d{}/long{i}", i % 2), random.bytes(5 << 20)).write(format!("short{i}"), "s");
    }
    a.push().await.clean();
    // Room for six of their chunks.
    b.options.memory = 7 << 10;
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn a_name_that_sorts_after_its_directory_stays_outside() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("a/b", "1").write("a-b", "2").write("a.b", "3").write(OsStr::from_bytes(b"a\x01b"), "4");
    a.push().await.clean();
    b.pull().await.clean();
    b.mount.write("a-b", "two").remove("a").write("a", "a file now");
    b.push().await.clean();
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

/// What is pulled for another user belongs to that user: files, links, and the directories created for them.
#[tokio::test]
async fn what_is_brought_is_given_to_its_owner() {
    use std::os::unix::fs::MetadataExt;
    if !ctxsync_tests::tree::is_root() {
        // Only root can change the owner of files.
        return;
    }
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    a.mount
        .write("d/file", "x")
        .mode("d/file", 0o640)
        .write("empty", "")
        .link("link", "d/file")
        .dir("nothing");
    a.push().await.clean();
    b.options.owner = Some((4242, 4343));
    b.pull().await.clean();
    for path in ["d", "d/file", "empty", "link", "nothing"] {
        let meta = b.mount.at(path).symlink_metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (4242, 4343), "{path}");
    }
    assert_eq!(b.mount.mode_of("d/file"), 0o640);
    assert!(b.push().await.clean().parent.is_none());
}
