//! A world with all cells in it, a strategy, and a way to sync: its results, and the laws that must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ctxsync_tests::compare::{assert_same_but_times, list};
use ctxsync_tests::machine::{Ended, Machine, World, context};
use ctxsync_tests::notes::Notes;
use policy_core::ConflictPolicy;
use transfer_engine::{
    Action, Arrival, ContextSync, CreateSessionParams, Monitor, Session, SessionMonitor, Store, TaskType,
};

use crate::kinds::{Cell, Standing, by_cell, contents, is_copy};

/// How the machine with local changes meets what the other one committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Push,
    Pull,
    Sync,
    Release,
}

pub(crate) const WAYS: [Way; 4] = [Way::Push, Way::Pull, Way::Sync, Way::Release];

/// The result of one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Came {
    /// In the mount, right after the sync.
    pub(crate) here: Standing,
    /// In the context, right after the sync.
    pub(crate) there: Standing,
    /// Everywhere, once each machine has synced again.
    pub(crate) settled: Standing,
    pub(crate) conflict: bool,
    pub(crate) failed: bool,
}

/// The result of a trial.
pub(crate) struct Outcome {
    pub(crate) cells: BTreeMap<Cell, Came>,
    /// Whether `Fail` stopped it.
    pub(crate) stopped: bool,
}

/// Records the reports of a session's tasks.
struct Kept(Arc<Notes>);

impl SessionMonitor for Kept {
    fn of(&self, _: &ContextSync, _: TaskType) -> Arc<dyn Monitor> {
        Arc::<Notes>::clone(&self.0)
    }
}

/// A world in which the first machine committed the kinds `there` of all cells, and the second one has the
/// kinds `here` in its mount.
pub(crate) struct Trial {
    pub(crate) world: World,
    pub(crate) a: Machine,
    pub(crate) b: Machine,
    cells: Vec<Cell>,
    session: Option<(Session, Arc<Notes>)>,
    /// Everything that was ever in a snapshot, by cell.
    history: BTreeMap<Cell, BTreeSet<String>>,
    looks: u32,
}

impl Trial {
    pub(crate) async fn new(cells: &[Cell], policy: &str, strategy: ConflictPolicy, way: Way) -> Self {
        let world = World::quick().await;
        let (mut a, b) = (world.machine("a"), world.machine("b"));
        let mut b = b.with_policy(policy);
        for machine in [&mut a, &mut b] {
            machine.options.conflict = Some(strategy);
        }
        let cells = cells.to_vec();
        let mut trial = Self { world, a, b, cells, session: None, history: BTreeMap::new(), looks: 0 };
        for cell in &trial.cells {
            cell.begin(&trial.a.mount);
        }
        trial.a.push().await.clean();
        trial.b.pull().await.clean();
        trial.look().await;
        if way == Way::Release {
            trial.session = Some(open(&trial.b).await);
        }
        for cell in &trial.cells {
            cell.turn(&trial.a.mount, cell.base, cell.there);
            cell.turn(&trial.b.mount, cell.base, cell.here);
        }
        trial.a.push().await.clean();
        trial.look().await;
        trial.a = trial.a.with_policy(policy);
        trial
    }

    /// Returns what the context has, and adds it to the history.
    async fn look(&mut self) -> BTreeMap<Cell, Standing> {
        self.looks += 1;
        let fresh = self.world.machine(&format!("fresh-{}", self.looks));
        fresh.pull().await.clean();
        let cells = by_cell(&list(&fresh.mount.0));
        for (cell, standing) in &cells {
            self.history.entry(*cell).or_default().extend(contents(standing));
        }
        cells
    }

    async fn meet(&mut self, way: Way) -> Ended {
        match way {
            Way::Push => self.b.push().await,
            Way::Pull => self.b.pull().await,
            Way::Sync => self.b.sync().await,
            Way::Release => {
                let (session, notes) = self.session.take().unwrap();
                let mut released = session.release(Default::default()).await.unwrap();
                let mount = released.mounts.pop().unwrap();
                Ended { result: Ok(mount.report.unwrap()), noted: notes.noted() }
            }
        }
    }

    /// Syncs as `way` says, then until nothing is left to do. Fails if a law is broken.
    pub(crate) async fn run(&mut self, way: Way, drops_local: bool) -> Outcome {
        let before = by_cell(&list(&self.b.mount.0));
        let number = self.world.head().await.number;
        let met = self.meet(way).await;
        let report = met.report();
        let here = by_cell(&list(&self.b.mount.0));
        if report.stopped_by_conflict {
            assert_eq!(here, before, "stopped, but something was written");
            assert_eq!(self.world.head().await.number, number);
        }
        let there = self.look().await;
        let of = |action: Action| -> BTreeSet<Cell> {
            let events = met.noted.events.iter().filter(|(_, a)| *a == action);
            events.map(|(path, _)| cell_of(&path.to_string())).collect()
        };
        let (conflicts, told_copies) = (of(Action::Conflict), copies_told(&met));
        let failed: BTreeSet<Cell> = met.noted.problems.iter().map(|p| cell_of(p)).collect();
        let mut outcome = Outcome { cells: BTreeMap::new(), stopped: report.stopped_by_conflict };
        let settled = if outcome.stopped { here.clone() } else { self.settle().await };
        for &cell in &self.cells {
            let came = Came {
                here: here[&cell].clone(),
                there: there[&cell].clone(),
                settled: settled[&cell].clone(),
                conflict: conflicts.contains(&cell),
                failed: failed.contains(&cell),
            };
            self.nothing_is_lost(cell, &before[&cell], &came, drops_local);
            for path in came.settled.keys().filter(|path| is_copy(path)) {
                assert_eq!(path.matches(".conflict-").count(), 1, "{cell:?}: a copy of a copy, {path}");
                assert!(came.conflict || outcome.stopped, "{cell:?}: a copy without a conflict, {path}");
            }
            if !outcome.stopped {
                // Every conflict copy that was created is reported, under its name.
                let made = [&came.here, &came.there].into_iter().flat_map(|side| side.iter());
                let is_file = |what: &str| !what.starts_with("dir ");
                let made: BTreeSet<String> = made
                    .filter(|(path, what)| is_copy(path) && is_file(what))
                    .map(|(path, _)| format!("{}/{path}", cell.dir()))
                    .collect();
                let told = told_copies.iter().filter(|path| cell_of(path) == cell);
                let told: BTreeSet<String> = told.cloned().collect();
                assert!(made.is_subset(&told), "{cell:?}: {made:?} made, but {told:?} told");
            }
            outcome.cells.insert(cell, came);
        }
        outcome
    }

    /// Syncs as `way` says and a few more times, with a policy by which not everything can converge. Still
    /// nothing is lost, and the number of copies does not grow.
    pub(crate) async fn only_keeps(&mut self, way: Way) {
        let before = by_cell(&list(&self.b.mount.0));
        self.meet(way).await.report();
        self.look().await;
        let mut copies = Vec::new();
        for _ in 0..3 {
            for machine in [&self.b, &self.a] {
                machine.sync().await.report();
            }
            self.look().await;
            let all = [&self.a, &self.b].map(|machine| by_cell(&list(&machine.mount.0)));
            let paths = |cells: &BTreeMap<Cell, Standing>| -> BTreeSet<(Cell, String)> {
                let each = cells.iter().flat_map(|(cell, s)| s.keys().map(|path| (*cell, path.clone())));
                each.filter(|(_, path)| is_copy(path)).collect()
            };
            copies.push(all.iter().flat_map(paths).collect::<BTreeSet<_>>());
            for (cell, standing) in &before {
                for content in contents(standing) {
                    let stands = all.iter().any(|side| contents(&side[cell]).contains(&content));
                    assert!(stands || self.history[cell].contains(&content), "{cell:?}: {content:?} is lost");
                }
            }
        }
        assert_eq!(copies[1], copies[2], "copies become more and more");
        assert!(copies[2].iter().all(|(_, path)| path.matches(".conflict-").count() == 1));
    }

    /// Syncs each machine once more. A second round must change nothing.
    async fn settle(&mut self) -> BTreeMap<Cell, Standing> {
        let history = &mut Vec::new();
        for machine in [&self.b, &self.a] {
            let ended = machine.sync().await;
            assert_eq!(ended.report().failed, 0, "{:?}", ended.noted);
            history.push(ended);
        }
        assert_same_but_times(&self.a.mount.0, &self.b.mount.0);
        let settled = by_cell(&list(&self.a.mount.0));
        assert_eq!(self.look().await, settled, "the context holds something else");
        let number = self.world.head().await.number;
        for machine in [&self.b, &self.a, &self.b] {
            let ended = machine.sync().await;
            let report = ended.clean();
            let counts = (report.added, report.changed, report.deleted, report.conflicts);
            assert_eq!(counts, (0, 0, 0, 0), "{:?}", ended.noted);
        }
        assert_eq!(self.world.head().await.number, number);
        assert_eq!(by_cell(&list(&self.b.mount.0)), settled, "something came after all was settled");
        settled
    }

    /// Everything that a side had is still at its path, in a copy, or in a snapshot.
    fn nothing_is_lost(&self, cell: Cell, before: &Standing, came: &Came, drops_local: bool) {
        let kept: Vec<String> = contents(&came.settled);
        let in_history = &self.history[&cell];
        for content in contents(before) {
            let is_kept = kept.contains(&content) || in_history.contains(&content);
            assert!(is_kept || drops_local, "{cell:?}: {content:?} is lost: {came:?}");
        }
    }
}

async fn open(machine: &Machine) -> (Session, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let store = Store::new(Arc::clone(&machine.objects), "test:", machine.env.clone());
    let sync = ContextSync::new(context(), &machine.mount.0, machine.policy.clone());
    let mut params = CreateSessionParams::new(vec![sync], &machine.state);
    params.options = machine.options.clone();
    params.monitor = Arc::new(Kept(Arc::clone(&notes)));
    let session = Session::create(&store, params).await.unwrap();
    session.wait_for(&Arrival::All).await.unwrap();
    (session, notes)
}

fn copies_told(met: &Ended) -> BTreeSet<String> {
    let events = met.noted.events.iter().filter(|(_, action)| *action == Action::Add);
    events.map(|(path, _)| path.to_string()).filter(|path| is_copy(path)).collect()
}

fn cell_of(path: &str) -> Cell {
    Cell::of_dir(path.split('/').next().unwrap()).unwrap()
}
