//! Many writers that commit to one context at the same time, while some of their puts fail (faults W2 and N7
//! to N10): every commit is in the history, none twice, and no writer starves.
//!
//! `CTXSYNC_WRITERS=50x100` sets how many writers there are, and how many commits each makes. With
//! `--nocapture`, each test prints its figures.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::machine::{Ended, Machine, World, context};
use ctxsync_tests::random::Random;
use ctxsync_tests::s3::{PutFault, S3Server};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use policy_core::TreePath;
use storage_backends::layer::{Fault, Faulty, Latency, Operation, Recording, Request, Rule};
use storage_backends::{StoreOptions, StoreUrl};
use tokio::time::Instant;
use transfer_engine::format::{Snapshot, TreeEntry};
use transfer_engine::{Error, Phase, Store};

/// What happens to some of the puts of commits: N7, N9, N10, N7, and N8 twice.
const FAULTS: [Fault; 6] = [
    Fault::FailAfter,
    Fault::FailBefore,
    Fault::AlreadyExistsThoughAbsent,
    Fault::AlreadyExistsThoughStored,
    Fault::CrashAfter,
    Fault::CrashBefore,
];

/// The same for a server, where the puts of packs fail too.
const SERVER_FAULTS: [PutFault; 6] = [
    PutFault::StoredAndDropped,
    PutFault::StoredAndAnswered(500),
    PutFault::Answered(409),
    PutFault::Answered(412),
    PutFault::Answered(503),
    PutFault::Dropped,
];

/// How many files a writer has that do not change.
const STILL: usize = 3;

/// Returns the number of writers, and of commits of each.
fn numbers() -> (usize, usize) {
    let Ok(given) = std::env::var("CTXSYNC_WRITERS") else { return (8, 6) };
    let (writers, commits) = given.split_once('x').unwrap();
    (writers.parse().unwrap(), commits.parse().unwrap())
}

/// How long a file is.
const LEN: usize = 500;

/// Returns what a writer writes for its commit with this number.
fn content(writer: usize, commit: usize) -> Vec<u8> {
    Random::new(((writer as u64) << 32) | commit as u64).bytes(LEN)
}

/// Makes some of the puts of a writer's commits fail, each in its own way.
fn faults_of(writer: usize, objects: &Arc<dyn ObjectStore>, commits: usize) -> Faulty {
    let faulty = Faulty::new(Arc::clone(objects), 1);
    for number in 0..commits.div_ceil(3) {
        let fault = FAULTS[(writer + number) % FAULTS.len()];
        faulty.add(Rule::new(fault).on(Operation::Put).below("contexts").nth(2 * number as u64 + 2));
    }
    faulty
}

/// One of the writers.
struct Writer {
    number: usize,
    machine: Machine,
    faulty: Option<Faulty>,
    server: Option<Arc<S3Server>>,
}

/// What a writer met.
#[derive(Default)]
struct Met {
    /// The number of attempts of each push.
    attempts: Vec<usize>,
    /// How long each commit took.
    waits: Vec<Duration>,
    /// How many pushes ended without knowing whether their commit landed.
    unknown: usize,
}

impl Writer {
    fn new(world: &World, number: usize) -> Self {
        let mut machine = world.machine(&format!("w{number}"));
        // What is gathered is sent again, and here it is counted what is.
        machine.options.gathering.many = usize::MAX;
        Self { number, machine, faulty: None, server: None }
    }

    /// Makes commits, one after the other; each replaces one file of the writer.
    async fn work(mut self, commits: usize) -> Met {
        let (mut met, mut random) = (Met::default(), Random::new(self.number as u64));
        for i in 0..STILL {
            self.machine
                .mount
                .write(format!("own/{}/still-{i}", self.number), content(self.number, 1000 + i));
        }
        for commit in 0..commits {
            self.machine.mount.write(format!("own/{}/file", self.number), content(self.number, commit));
            self.machine.options.session = format!("{}.{commit}", self.number);
            if let Some(server) = self.server.as_ref().filter(|_| random.below(4) == 0) {
                server.fail_put(*random.of(&SERVER_FAULTS).unwrap());
            }
            let begun = Instant::now();
            let mut known = true;
            loop {
                let ended = self.machine.push().await;
                met.attempts.push(ended.noted.count(Phase::Planning));
                assert_eq!(ended.noted.count(Phase::Scanning), 1, "a retry scans again: {:?}", ended.result);
                if matches!(&ended.result, Err(Error::CommitUnknown { .. })) {
                    self.faulty.as_ref().unwrap().revive();
                    met.unknown += 1;
                    known = false;
                    continue;
                }
                assert_eq!(ended.noted.read_after_plan, 0, "a retry reads again: {:?}", ended.clean());
                is_told(&ended, known);
                break;
            }
            met.waits.push(begun.elapsed());
        }
        met
    }
}

/// Fails unless a push reports a commit of its own. If the answer to an earlier put was lost for good, that
/// commit may be there already.
fn is_told(ended: &Ended, known: bool) {
    let report = ended.clean();
    if known {
        assert_eq!(report.parent.map(|parent| parent + 1), report.snapshot, "{report:?}");
    }
}

/// Returns the tree of a snapshot.
async fn tree(store: &Store, snapshot: &Snapshot) -> BTreeMap<TreePath, TreeEntry> {
    let mut tree = BTreeMap::new();
    let each = |entry: TreeEntry| drop(tree.insert(entry.path.clone(), entry));
    store.entries(snapshot, &TreePath::root(), each).await.unwrap();
    tree
}

/// Fails unless the history is the commits of all writers: each once, those of one writer in order, and each
/// of them the tree before it with the one file replaced. Returns, for each writer, the most commits of others
/// between two of its own.
async fn check_history(store: &Store, writers: usize, commits: usize) -> Vec<u64> {
    let mut log = store.log(&context()).await.unwrap();
    log.reverse();
    assert_eq!(log.len(), writers * commits + 1, "a commit is missing, or there twice");
    let (mut done, mut last, mut gaps) = (vec![0; writers], vec![1; writers], vec![0; writers]);
    let mut before = tree(store, &log[0]).await;
    assert!(before.is_empty());
    for snapshot in &log[1..] {
        let session = &snapshot.session;
        let (writer, commit) = session.split_once('.').unwrap();
        let (writer, commit): (usize, usize) = (writer.parse().unwrap(), commit.parse().unwrap());
        assert_eq!(commit, done[writer], "snapshot {}: {session} is out of order", snapshot.number);
        done[writer] += 1;
        gaps[writer] = gaps[writer].max(snapshot.number - last[writer] - 1);
        last[writer] = snapshot.number;
        let after = tree(store, snapshot).await;
        let path: TreePath = format!("own/{writer}/file").parse().unwrap();
        let mut bytes = Vec::new();
        let take = |part: bytes::Bytes| {
            bytes.extend_from_slice(&part);
            Ok(())
        };
        store.read_file(&after[&path], 0..u64::MAX, take).await.unwrap();
        assert!(bytes == content(writer, commit), "snapshot {}: {session}", snapshot.number);
        let own: TreePath = format!("own/{writer}").parse().unwrap();
        let others = |tree: &BTreeMap<TreePath, TreeEntry>| {
            let others = tree.iter().filter(|(path, _)| !path.is_within(&own));
            others.map(|(path, entry)| (path.clone(), entry.entry.clone())).collect::<Vec<_>>()
        };
        assert!(others(&before) == others(&after), "snapshot {}: {session} drops a commit", snapshot.number);
        assert_eq!(after.keys().filter(|path| path.is_within(&own)).count(), STILL + 1);
        before = after;
    }
    assert!(done.iter().all(|done| *done == commits), "{done:?}");
    gaps
}

/// Fails unless each commit is in the history once. Prints the figures.
#[expect(clippy::print_stdout, reason = "whoever asks for the figures reads them here")]
async fn check(name: &str, store: &Store, met: &[Met], commits: usize, began: Instant) {
    let (writers, took) = (met.len(), began.elapsed());
    let gaps = check_history(store, writers, commits).await;
    let attempts = met.iter().map(|met| met.attempts.iter().sum::<usize>());
    let most = met.iter().flat_map(|met| &met.attempts).max().unwrap();
    let mut waits: Vec<Duration> = met.iter().flat_map(|met| met.waits.clone()).collect();
    waits.sort_unstable();
    println!(
        "{name}: {} commits of {writers} writers in {took:.1?}; attempts: {:.2} for a commit, {most} at most, {} to {} for a \
         writer; a commit took {:.2?} (half of them) to {:.2?} (the longest); at most {} to {} commits of others \
         between two of a writer; {} answers lost for good",
        writers * commits,
        attempts.clone().sum::<usize>() as f64 / (writers * commits) as f64,
        attempts.clone().min().unwrap(),
        attempts.clone().max().unwrap(),
        waits[waits.len() / 2],
        waits.last().unwrap(),
        gaps.iter().min().unwrap(),
        gaps.iter().max().unwrap(),
        met.iter().map(|met| met.unknown).sum::<usize>(),
    );
}

/// Lets all writers work, each on a thread of its own.
async fn at_once(writers: Vec<Writer>, commits: usize) -> Vec<Met> {
    let threads = writers.into_iter().map(|writer| {
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(writer.work(commits))
        })
    });
    futures::future::try_join_all(threads).await.unwrap()
}

/// Fails unless each fault was met, and each commit sent its content once.
fn check_requests(faults: &[Faulty], recording: &Recording, commits: usize) {
    let met: Vec<Fault> = faults.iter().flat_map(Faulty::injections).map(|met| met.fault).collect();
    assert!(FAULTS.iter().all(|fault| met.contains(fault)), "{met:?}");
    // An empty pack only asks for the store's time.
    let is_pack = |request: &&Request| {
        let is_put = request.operation == Operation::Put && request.key.as_ref().starts_with("packs/");
        is_put && request.bytes > LEN as u64
    };
    assert_eq!(recording.requests().iter().filter(is_pack).count(), commits, "a retry sends again");
}

/// Time is virtual: what a commit takes is what it waits for the store and for other writers.
#[tokio::test(start_paused = true)]
async fn w2_n7_n8_n9_n10_many_writers_in_memory() {
    let (writers, commits) = numbers();
    let recording = Recording::new(Arc::new(InMemory::new()));
    let slow = Latency::new(Arc::new(recording.clone()), Duration::from_millis(10));
    let world = World::over(Arc::new(slow)).await;
    let (mut faults, began) = (Vec::new(), Instant::now());
    let work = (0..writers).map(|number| {
        let mut writer = Writer::new(&world, number);
        let faulty = faults_of(number, &world.objects, commits);
        faults.push(faulty.clone());
        writer.machine.objects = Arc::new(faulty.clone());
        Writer { faulty: Some(faulty), ..writer }.work(commits)
    });
    let work: Vec<_> = work.collect();
    let met = futures::future::join_all(work).await;
    check_requests(&faults, &recording, writers * commits);
    check("memory", &world.store(), &met, commits, began).await;
}

#[tokio::test]
async fn w2_n7_n8_n9_n10_many_writers_in_a_directory() {
    let (writers, commits) = numbers();
    let world = World::local().await;
    let recording = Recording::new(Arc::clone(&world.objects));
    let objects: Arc<dyn ObjectStore> = Arc::new(recording.clone());
    let (mut faults, began) = (Vec::new(), Instant::now());
    let work = (0..writers).map(|number| {
        let mut writer = Writer::new(&world, number);
        let faulty = faults_of(number, &objects, commits);
        faults.push(faulty.clone());
        writer.machine.objects = Arc::new(faulty.clone());
        Writer { faulty: Some(faulty), ..writer }
    });
    let work = work.collect();
    let met = at_once(work, commits).await;
    check_requests(&faults, &recording, writers * commits);
    check("local", &world.store(), &met, commits, began).await;
}

#[tokio::test]
async fn w2_n7_n9_n10_many_writers_on_s3() {
    let (writers, commits) = numbers();
    let server = Arc::new(S3Server::start().unwrap());
    // Each writer has connections of its own, as a machine has.
    let connect = || {
        let url = StoreUrl::parse(&server.url("prefix"), Path::new("/")).unwrap();
        storage_backends::open(&url, &StoreOptions::default().with_env(server.env())).unwrap().store
    };
    let world = World::over(connect()).await;
    let began = Instant::now();
    let work = (0..writers).map(|number| {
        let mut writer = Writer::new(&world, number);
        writer.machine.objects = connect();
        Writer { server: Some(Arc::clone(&server)), ..writer }
    });
    let work = work.collect();
    let met = at_once(work, commits).await;
    check("S3", &world.store(), &met, commits, began).await;
}
