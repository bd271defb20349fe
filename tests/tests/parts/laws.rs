//! Random edits, pushes and pulls of a whole context and of parts of it, against a ledger: a push through a part changes
//! nothing outside of it, a pull brings nothing else, nothing is lost, and in the end all agree.

use std::collections::BTreeSet;

use ctxsync_tests::compare::assert_same_but_times;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::random::Random;
use transfer_engine::Error;
use transfer_engine::format::TreeEntry;

use super::{assert_whole, entries, outside};

/// How many random runs the test makes; `CTXSYNC_SEEDS` replaces it.
const SEEDS: u64 = 8;
const STEPS: usize = 30;

/// The parts that two machines have beside one with the whole context.
const PARTS: [[&str; 2]; 5] = [["d", "e"], ["d", "d/y"], ["d/y", "e"], ["d-e", "d"], ["n/m", "n"]];

/// What was written, and not knowingly removed, by its unique content.
#[derive(Default)]
struct Ledger {
    alive: BTreeSet<String>,
    written: u64,
}

impl Ledger {
    fn write(&mut self, machine: &Machine, path: &str) {
        self.note_gone(machine, path);
        let content = format!("content {}", self.written);
        machine.mount.write(path, &content);
        self.alive.insert(content);
        self.written += 1;
    }

    fn remove(&mut self, machine: &Machine, path: &str) {
        self.note_gone(machine, path);
        machine.mount.remove(path);
    }

    /// Notes that the contents at and below a path are removed.
    fn note_gone(&mut self, machine: &Machine, path: &str) {
        for file in machine.mount.files() {
            if file == path || file.starts_with(&format!("{path}/")) {
                self.alive.remove(&machine.mount.read(file));
            }
        }
    }
}

/// Returns the paths at which a machine may write: all are below its mount.
fn places(machine: &Machine) -> Vec<String> {
    let all = ["a", "d/x", "d/y/z", "d/y/w", "d-e/x", "d-e/f/g", "e/x", "e/f/x", "n/m/x", "n/x", "n/m/k/l"];
    let part = machine.part.to_string();
    let below = |path: &&str| match part.as_str() {
        "" => Some((*path).to_owned()),
        part => path.strip_prefix(part)?.strip_prefix('/').map(str::to_owned),
    };
    all.iter().filter_map(below).collect()
}

fn edit(random: &mut Random, machine: &Machine, ledger: &mut Ledger) {
    let places = places(machine);
    let path = random.of(&places).unwrap().clone();
    let parent = path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
    match random.below(8) {
        0 if machine.mount.has(&path) => ledger.remove(machine, &path),
        1 => {
            if let Some(parent) = parent.filter(|parent| machine.mount.has(parent)) {
                ledger.remove(machine, &parent);
            }
        }
        2 => _ = machine.mount.dir(format!("{path}-dir")),
        3 if machine.mount.has(&path) => _ = machine.mount.mode(&path, 0o600),
        4 if parent.as_ref().is_some_and(|parent| machine.mount.has(parent)) => {
            machine.mount.mode(parent.unwrap(), 0o700);
        }
        _ => ledger.write(machine, &path),
    }
}

/// Syncs one way, and checks what that did outside of the part.
async fn sync(random: &mut Random, world: &World, machine: &Machine) -> Result<(), Error> {
    let before = outside(world, &machine.part).await;
    let ended = match random.below(3) {
        0 => machine.pull().await,
        1 => machine.push().await,
        _ => machine.sync().await,
    };
    assert_eq!(outside(world, &machine.part).await, before, "{:?} {ended:?}", machine.part);
    let report = match ended.result {
        Err(Error::NoPart { .. }) => return Ok(()),
        result => result?,
    };
    assert_eq!((report.failed, report.held_back), (0, 0), "{:?}", ended.noted);
    Ok(())
}

/// Counts a tree as its snapshot should.
fn totals(entries: &[TreeEntry]) -> (u64, u64) {
    let files = entries.iter().filter(|entry| matches!(entry.entry.node, policy_core::Node::File { .. }));
    (files.clone().count() as u64, files.map(|entry| entry.entry.size()).sum())
}

async fn converge(world: &World, machines: &[Machine]) {
    for round in 0.. {
        let before = world.head().await.number;
        let mut moved = 0;
        for machine in machines {
            let ended = machine.sync().await;
            let report = ended.report();
            moved += report.added + report.changed + report.deleted + report.conflicts;
        }
        if moved == 0 && world.head().await.number == before {
            return;
        }
        assert!(round < 6, "they go on and on");
    }
}

async fn run(seed: u64) {
    let mut random = Random::new(seed);
    let world = World::quick().await;
    let parts = random.of(&PARTS).unwrap();
    let machine = |part: &str| {
        let mut machine = world.machine(&format!("at-{}", part.replace('/', "_"))).of_part(part);
        machine.options.allow_empty_mount = true;
        machine
    };
    let machines = ["", parts[0], parts[1]].map(machine);
    let mut ledger = Ledger::default();
    ledger.write(&machines[0], "a");
    for path in places(&machines[0]).into_iter().skip(random.below(8)) {
        ledger.write(&machines[0], &path);
    }
    machines[0].push().await.clean();
    for _ in 0..STEPS {
        let machine = random.of(&machines).unwrap();
        for _ in 0..random.below(4) {
            edit(&mut random, machine, &mut ledger);
        }
        sync(&mut random, &world, machine).await.unwrap();
        let head = world.head().await;
        assert_eq!((head.totals.files, head.totals.bytes), totals(&entries(&world).await));
    }
    converge(&world, &machines).await;
    let kept: BTreeSet<String> =
        machines[0].mount.files().iter().map(|file| machines[0].mount.read(file)).collect();
    let lost: Vec<&String> = ledger.alive.difference(&kept).collect();
    assert!(lost.is_empty(), "{lost:?} are lost");
    for machine in &machines {
        let fresh = world.machine(&format!("fresh-{}", machine.part.to_string().replace('/', "_")));
        let fresh = fresh.of_part(&machine.part.to_string());
        let pulled = fresh.pull().await;
        if !matches!(pulled.result, Err(Error::NoPart { .. }) if machine.mount.files().is_empty()) {
            pulled.clean();
        }
        assert_same_but_times(&fresh.mount.0, &machine.mount.0);
        assert_same_but_times(&machines[0].mount.at(machine.part.to_string()), &machine.mount.0);
    }
    assert_whole(&world).await;
}

#[test]
fn parts_and_wholes_agree_and_leave_each_other_alone() {
    let seeds = std::env::var("CTXSYNC_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in 0..seeds {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
