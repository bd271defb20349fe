//! A run of a schedule.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::clock::Clocked;
use ctxsync_tests::machine::{Ended, Machine, World, context};
use ctxsync_tests::notes::Noted;
use ctxsync_tests::random::Random;
use object_store::memory::InMemory;
use policy_core::{Retention, SyncPolicy};
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use tokio::runtime::Handle;
use transfer_engine::{BootId, CollectOptions, ContextName, Env, Error, Silent, Store, SyncReport};

use crate::branch::Branches;
use crate::copy::Copy;
use crate::coverage::{met, shape, store_fault};
use crate::disk::{Act, Disk, MachineClock, until_gone};
use crate::edits::{Ledger, Meanwhile, PINNED, change, change_at, contents, enlarge, path_for_two};
use crate::outside::{Jobs, Seeded, SimClock};
use crate::schedule::{Deed, GRACE, How, POLICIES, Schedule, Step, StoreTrouble, What};
use crate::trace::Trace;
use crate::wire::Wire;

/// A machine, and what a loss of power would leave of its mount.
pub(crate) struct Player {
    pub(crate) machine: Machine,
    /// The name by which it knows the context.
    pub(crate) context: RefCell<ContextName>,
    /// The mount at its last flush.
    pub(crate) durable: Copy,
    /// The mount at some moment since.
    pub(crate) since: Option<Copy>,
    /// How often it was started.
    pub(crate) boots: u8,
    /// Whether its last push had a deadline and could not flush the mount. If it does not flush behind its syncs, the
    /// next one takes for deleted what a loss of power takes (`docs/design/003-noting-what-arrives.md`).
    pub(crate) is_unflushed: bool,
}

pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) players: Vec<Player>,
    pub(crate) clock: SimClock,
    random: Seeded,
    network: Faulty,
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) branches: Branches,
    /// Whether policies may give up contents.
    pub(crate) careless: bool,
    pub(crate) trace: Trace,
    /// Whether a pack was damaged. Its parts that no file needs stay as they are.
    pub(crate) is_spoiled: bool,
    /// Whether a loss of power is part of the schedule.
    loses_power: bool,
}

impl Run {
    pub(crate) async fn begin(schedule: &Schedule, trace: Trace) -> Self {
        let (clock, random) = (SimClock::new(), Seeded::new(schedule.seed));
        let objects = Clocked::new(Arc::new(InMemory::new()), &clock);
        let network = Faulty::new(objects.clone(), schedule.seed);
        let nowhere = Path::new("/nonexistent");
        let disk = Arc::new(Disk::new(nowhere, Vec::new(), &Trace::new(false)));
        let env = env_of(&clock, &random, &disk);
        let world = World::simulated(objects, env).await;
        let machines = schedule.machines.iter().enumerate().map(|(number, born)| {
            let mut machine = world.machine(&format!("m{number}"));
            machine.env = machine.env.with_boot(Some(BootId([0; 16])));
            machine.options.flush_behind = schedule.seed.is_multiple_of(2);
            machine.policy = SyncPolicy::from_json(POLICIES[born.policy]).unwrap();
            machine
        });
        let players: Vec<Player> = machines
            .map(|machine| Player {
                context: RefCell::new(context()),
                durable: Copy::of(&machine.mount.0),
                since: None,
                boots: 0,
                is_unflushed: false,
                machine,
            })
            .collect();
        let loses = |step: &Step| {
            step.deed == Deed::PowerLoss || step.files.iter().any(|trouble| trouble.what == What::PowerLoss)
        };
        let loses_power = schedule.steps.iter().any(loses);
        let (ledger, branches, careless) = (RefCell::default(), Branches::default(), schedule.careless);
        let mut this = Self {
            world,
            players,
            clock,
            random,
            network,
            ledger,
            branches,
            careless,
            trace,
            is_spoiled: false,
            loses_power,
        };
        this.fill(schedule).await;
        this
    }

    /// The first machine pushes a tree, and others pull it.
    async fn fill(&mut self, schedule: &Schedule) {
        let mount = self.players[0].machine.mount.clone();
        mount.write(PINNED, "pinned");
        let mut random = Random::new(schedule.seed);
        for number in 0..schedule.given {
            change(&mount, &mut random, &format!("given-{number}"), self.ledger.get_mut());
        }
        if schedule.is_large {
            enlarge(&mount, &mut random);
        }
        self.clock.observe(&mount.0);
        self.players[0].machine.push().await.clean();
        for (number, born) in schedule.machines.iter().enumerate().skip(1) {
            if born.pulls {
                self.players[number].machine.pull().await.clean();
            }
        }
        for number in 0..self.players.len() {
            self.players[number].durable = Copy::of(&self.mount(number));
        }
    }

    pub(crate) fn mount(&self, who: usize) -> PathBuf {
        self.players[who].machine.mount.0.clone()
    }

    /// Performs one step.
    pub(crate) async fn step(&mut self, step: &Step) {
        self.random.begin_anew(step.seed);
        self.clock.pass(Duration::from_millis([1, 30, 1500][(step.seed % 3) as usize]));
        self.trace.note(|| step.to_string());
        for trouble in &step.store {
            self.network.add(Rule::new(trouble.fault).on(trouble.on).nth(trouble.nth).times(trouble.times));
        }
        let before = self.network.injections().len();
        let mut random = Random::new(step.seed);
        let said = match step.deed {
            Deed::Edit => self.edit(step, &mut random),
            Deed::EditBoth => self.edit_both(step, &mut random),
            Deed::Sync(how) => self.sync(step, how).await,
            Deed::Both(one, other) => self.both(step, one, other).await,
            Deed::Meanwhile(how) => self.meanwhile(step, how, &mut random).await,
            Deed::Session(how) => Box::pin(self.session(step, how, &mut random)).await,
            Deed::LoseState => self.lose_state(step.who),
            Deed::Replace => self.replace(step.who).await,
            Deed::Clone => self.clone_to_next(step.who).await,
            Deed::PowerLoss => self.lose_power(step.who, &mut random).await,
            Deed::Collect { last, is_late } => {
                if is_late {
                    self.clock.pass(Duration::from_secs(GRACE + 600));
                }
                self.collect(step, last).await
            }
            Deed::Delete => self.delete().await,
            Deed::Damage => self.damage(step, &mut random).await,
            Deed::Oversleep => self.oversleep(step).await,
            Deed::Sleep(secs) => {
                self.clock.pass(Duration::from_secs(secs));
                "time passes".to_owned()
            }
        };
        for injection in &self.network.injections()[before..] {
            met(store_fault(injection.fault, injection.operation));
            let fault = injection.fault;
            self.trace.note(|| format!("      {fault:?} at {} {}", injection.operation, injection.key));
        }
        self.network.clear();
        self.network.revive();
        if step.reverts() {
            self.note_reverts(step).await;
        }
        self.trace.note(|| format!("  {said}"));
    }

    fn edit(&mut self, step: &Step, random: &mut Random) -> String {
        let fresh = format!("content-{}", step.number);
        let said = change(&self.players[step.who].machine.mount, random, &fresh, self.ledger.get_mut());
        self.clock.observe(&self.mount(step.who));
        said
    }

    fn edit_both(&mut self, step: &Step, random: &mut Random) -> String {
        let next = (step.who + 1) % self.players.len();
        let path = path_for_two(&self.players[step.who].machine.mount, random);
        let said = [(step.who, "here"), (next, "there")].map(|(who, where_)| {
            let fresh = format!("content-{}-{where_}", step.number);
            let said =
                change_at(&self.players[who].machine.mount, &path, random, &fresh, self.ledger.get_mut());
            self.clock.observe(&self.mount(who));
            said
        });
        said.join(&format!(", and m{next}: "))
    }

    async fn sync(&mut self, step: &Step, how: How) -> String {
        let disk = self.disk(step, step.who, None);
        let end = self.perform(step, step.who, how, &disk).await;
        self.told(step, step.who, end, &disk).await
    }

    /// Two machines sync at the same time. What goes wrong with files goes wrong on the first.
    async fn both(&mut self, step: &Step, one: How, other: How) -> String {
        let next = (step.who + 1) % self.players.len();
        let quiet = Step { files: Vec::new(), ..step.clone() };
        let (mine, theirs) = (self.disk(step, step.who, None), self.disk(&quiet, next, None));
        let (end, their_end) = tokio::join!(
            self.perform(step, step.who, one, &mine),
            self.perform(&quiet, next, other, &theirs)
        );
        let said = self.told(step, step.who, end, &mine).await;
        let said_there = self.told(&quiet, next, their_end, &theirs).await;
        format!("{said}; m{next}: {said_there}")
    }

    /// Another program works in the mount during a sync. The context must then have everything that it had before and
    /// the mount still has, at whatever path.
    async fn meanwhile(&mut self, step: &Step, how: How, random: &mut Random) -> String {
        let (mount, clock) = (self.mount(step.who), self.clock.clone());
        let before = self.in_context().await;
        let machine = &self.players[step.who].machine;
        let meanwhile =
            Arc::new(Meanwhile::plan(&machine.mount, random, &format!("content-{}", step.number)));
        let said = meanwhile.to_string();
        self.trace.note(|| format!("    {said}"));
        let (deeds, place) = (Arc::clone(&meanwhile), mount.clone());
        let act: Act = Box::new(move |moment| {
            if deeds.act(&place, moment) {
                clock.observe(&place);
            }
        });
        let disk = self.disk(step, step.who, Some(act));
        let end = self.perform(step, step.who, how, &disk).await;
        let told = self.told(step, step.who, end, &disk).await;
        self.ledger.get_mut().note(meanwhile.ledger());
        let after = self.in_context().await;
        let here = contents(&self.players[step.who].machine.mount, Path::new(""));
        let lost: Vec<_> = before.intersection(&here).filter(|c| !after.contains(*c)).collect();
        let may_miss = self.careless || meanwhile.never_rests();
        assert!(may_miss || lost.is_empty(), "{told}\ncommitted as deleted: {lost:?}");
        format!("{told}, and meanwhile {said}")
    }

    /// Returns the contents in the context.
    pub(crate) async fn in_context(&self) -> BTreeSet<String> {
        let looker = Machine { context: self.name().await, ..self.world.machine("looker") };
        match &looker.pull().await.result {
            Ok(_) | Err(Error::NoContext { .. }) => {}
            Err(e) => panic!("the context can't be read: {e:?}"),
        }
        let there = contents(&looker.mount, Path::new(""));
        looker.mount.clear();
        looker.lose_state();
        there
    }

    fn lose_state(&mut self, who: usize) -> String {
        let machine = &self.players[who].machine;
        if machine.state.exists() {
            machine.lose_state();
        }
        "loses its state".to_owned()
    }

    /// A new machine takes the place of this one, which is lost with everything that it had not pushed.
    async fn replace(&mut self, who: usize) -> String {
        self.give_up_unsaved(&self.contents_of(who)).await;
        self.players[who].machine.mount.clear();
        self.lose_state(who);
        self.players[who].durable = Copy::of(&self.mount(who));
        "is replaced".to_owned()
    }

    pub(crate) fn contents_of(&self, who: usize) -> BTreeSet<String> {
        contents(&self.players[who].machine.mount, Path::new(""))
    }

    /// Gives up contents that were lost with a machine, unless the context has them.
    pub(crate) async fn give_up_unsaved(&mut self, lost: &BTreeSet<String>) {
        let saved = self.in_context().await;
        self.ledger.get_mut().given_up.extend(lost.difference(&saved).cloned());
    }

    /// The next machine is replaced by a clone of this one: the same mount, the same state.
    async fn clone_to_next(&mut self, who: usize) -> String {
        let next = (who + 1) % self.players.len();
        self.replace(next).await;
        let (from, to) = (&self.players[who].machine, &self.players[next].machine);
        Copy::of(&from.mount.0).restore(&to.mount.0);
        // The state is found by the path of the mount, which a clone on another machine would keep.
        let states = |machine: &Machine| {
            let files = walkdir::WalkDir::new(&machine.state).into_iter().flatten();
            let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
            let kept = files.filter(|path| path.file_name().is_some_and(|name| name != "lock"));
            kept.collect::<Vec<_>>()
        };
        let copied = states(from);
        // Makes the directories.
        drop(to.open().unwrap());
        let depth = |path: &Path, state: &Path| path.strip_prefix(state).unwrap().components().count();
        let dirs = walkdir::WalkDir::new(&to.state).into_iter().flatten();
        let mut dirs: Vec<PathBuf> =
            dirs.filter(|entry| entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect();
        dirs.retain(|dir| depth(dir, &to.state) == 3);
        if let Some(place) = dirs.first() {
            for file in copied.iter().filter(|file| depth(file, &from.state) >= 4) {
                let below: PathBuf = file.strip_prefix(&from.state).unwrap().components().skip(3).collect();
                std::fs::create_dir_all(place.join(&below).parent().unwrap()).unwrap();
                std::fs::copy(file, place.join(below)).unwrap();
            }
        }
        // The memory of the machine was copied too.
        self.players[next].boots = self.players[who].boots;
        self.players[next].machine.env = self.players[who].machine.env.clone();
        self.players[next].durable = Copy::of(&self.mount(next));
        self.clock.observe(&self.mount(next));
        format!("m{next} is a clone of it")
    }

    async fn collect(&mut self, step: &Step, last: Option<u64>) -> String {
        let disk = self.disk(step, step.who, None);
        let wire = self.wire(step, step.who, &disk);
        let store = Store::new(Arc::new(wire), "test:", env_of(&self.clock, &self.random, &disk));
        let retention = Retention { last: last.and_then(std::num::NonZeroU64::new), ..Retention::default() };
        let options = CollectOptions { retention: retention.into(), ..CollectOptions::default() };
        let Some(collected) = until_gone(&disk, store.collect(&options, &Silent)).await else {
            return "the collector dies".to_owned();
        };
        match collected {
            Ok(report) => {
                met("collection");
                format!("collects: {} forgotten, {} packs deleted", report.forgotten, report.packs_deleted)
            }
            Err(e) => {
                assert!(step.is_troubled(), "a collection fails: {e:?}");
                format!("does not collect: {e}")
            }
        }
    }

    async fn delete(&mut self) -> String {
        let there = self.in_context().await;
        match self.world.store().delete_context(&self.name().await).await {
            Ok(()) => {
                self.branches.tagged.get_mut().clear();
                self.ledger.get_mut().given_up.extend(there);
                "the context is deleted".to_owned()
            }
            Err(Error::NoContext { .. }) => "there is no context".to_owned(),
            Err(e) => panic!("the context can't be deleted: {e:?}"),
        }
    }

    /// A machine sleeps in the middle of a push, while the context is deleted, and collected until nothing is left of
    /// it. What the push then says to have saved must be there.
    async fn oversleep(&mut self, step: &Step) -> String {
        let there = self.in_context().await;
        self.ledger.get_mut().given_up.extend(there);
        let long = Duration::from_secs(8 * GRACE);
        let is_commit = |key: &object_store::path::Path| key.as_ref().starts_with("contexts");
        self.network.add(Rule::new(Fault::Delay(long)).on(Operation::Put).with_key(is_commit).nth(1));
        let disk = self.disk(step, step.who, None);
        let (store, name) = (self.world.store(), self.name().await);
        self.branches.tagged.get_mut().clear();
        let meanwhile = async {
            tokio::time::sleep(Duration::from_secs(600)).await;
            // There may be none.
            let _ = store.delete_context(&name).await;
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(GRACE + 600)).await;
                self.clock.catch_up();
                store.collect(&CollectOptions::default(), &Silent).await.unwrap();
            }
        };
        let (ended, ()) = tokio::join!(self.perform(step, step.who, How::Push, &disk), meanwhile);
        let has_saved = ended.as_ref().is_some_and(|ended| {
            ended.result.as_ref().is_ok_and(|report| report.parent.is_some() && !report.is_incomplete())
        });
        let said = self.told(step, step.who, ended, &disk).await;
        let here = self.contents_of(step.who);
        let lost: Vec<_> = here.difference(&self.in_context().await).cloned().collect();
        assert!(!has_saved || lost.is_empty(), "{said}\nit is said to be saved and is not: {lost:?}");
        format!("sleeps in the middle of a push, while the context is deleted and collected: {said}")
    }

    pub(crate) fn disk(&self, step: &Step, who: usize, act: Option<Act>) -> Arc<Disk> {
        let durable = self.loses_power.then(|| self.players[who].durable.clone());
        let disk = Disk::new(&self.mount(who), step.files.clone(), &self.trace);
        Arc::new(disk.with(act).with_durable(durable))
    }

    fn wire(&self, step: &Step, who: usize, disk: &Arc<Disk>) -> Wire {
        Wire {
            inner: self.network.clone(),
            disk: Arc::clone(disk),
            clock: self.clock.clone(),
            random: self.random.clone(),
            dies: step.store.iter().any(|trouble: &StoreTrouble| trouble.dies),
            name: format!("m{who}").into(),
            trace: self.trace.clone(),
        }
    }

    fn boot_of(&self, who: usize) -> Option<BootId> {
        Some(BootId([self.players[who].boots; 16]))
    }

    /// Returns a machine as it is in a step: with what goes wrong there.
    pub(crate) fn machine(&self, step: &Step, who: usize, disk: &Arc<Disk>) -> Machine {
        Machine {
            objects: Arc::new(self.wire(step, who, disk)),
            env: env_of(&self.clock, &self.random, disk).with_boot(self.boot_of(who)),
            context: self.players[who].context.borrow().clone(),
            ..self.players[who].machine.clone()
        }
    }

    /// Returns how a sync ended; `None` if the machine went away.
    pub(crate) async fn perform(&self, step: &Step, who: usize, how: How, disk: &Arc<Disk>) -> Option<Ended> {
        let mut machine = self.machine(step, who, disk);
        let work = async {
            loop {
                let ended = match how {
                    How::Push => machine.push().await,
                    How::Pull => machine.pull().await,
                    How::Sync => machine.sync().await,
                    _ => {
                        let result = Box::pin(self.in_store(step, who, &machine, how)).await;
                        Ended { result, noted: Noted::default() }
                    }
                };
                let Err(Error::Moved { to, .. }) = &ended.result else { return ended };
                met("a machine follows a renamed context");
                machine.context = to.clone();
                self.players[who].context.replace(to.clone());
            }
        };
        let ended = until_gone(disk, work).await;
        if ended.as_ref().is_some_and(|ended| ended.result.is_ok()) {
            met(format!("done: {how:?}"));
        }
        ended
    }

    /// Describes how a sync ended. It must have succeeded unless something may go wrong.
    pub(crate) async fn told(
        &mut self,
        step: &Step,
        who: usize,
        ended: Option<Ended>,
        disk: &Disk,
    ) -> String {
        self.players[who].is_unflushed &= !disk.has_flushed();
        if let Some((durable, since)) = disk.durable() {
            let player = &mut self.players[who];
            if disk.has_flushed() || since.is_some() {
                player.since = since;
            }
            player.durable = durable;
        }
        let Some(ended) = ended else {
            met("machine gone in the middle of a sync");
            if step.files.iter().any(|trouble| trouble.what == What::PowerLoss) {
                self.lose_power(who, &mut Random::new(step.seed)).await;
            }
            self.clock.observe(&self.mount(who));
            return "is gone".to_owned();
        };
        let may_fail =
            step.is_troubled() || matches!(step.deed, Deed::Meanwhile(_) | Deed::Oversleep | Deed::Damage);
        for said in ended.noted.warnings.iter().chain(&ended.noted.problems) {
            self.trace.note(|| format!("    {said}"));
        }
        for warning in &ended.noted.warnings {
            // What follows is the cause.
            met(format!("warning: {}", shape(warning.split(": ").next().unwrap_or_default())));
        }
        match &ended.result {
            Ok(report) => {
                // A guard that holds a deletion back also keeps what needs its place.
                let is_guarded = |problem: &String| problem.contains("whose deletion is held back");
                let well = ended.noted.problems.iter().all(is_guarded);
                assert!(may_fail || report.failed == 0 || well, "m{who}: {:?}", ended.noted);
                note_report(report);
                figures(report)
            }
            Err(e) => {
                let source = if let Error::Shared(source) = e { source } else { e };
                let may_fail = may_fail
                    || match source {
                        Error::NoContext { .. }
                        | Error::NoSnapshot { .. }
                        | Error::NoPath { .. }
                        | Error::IsDirectory { .. }
                        | Error::NotADirectory { .. }
                        | Error::ContextExists { .. }
                        | Error::Unrelated { .. } => true,
                        // The deadline of a release.
                        Error::OutOfTime { .. } | Error::CommitUnknown { .. } => {
                            matches!(step.deed, Deed::Session(_))
                        }
                        _ => false,
                    };
                assert!(may_fail, "m{who}: {e:?}");
                e.to_string()
            }
        }
    }
}

pub(crate) fn figures(report: &SyncReport) -> String {
    format!(
        "snapshot {:?}, {} added, {} changed, {} deleted, {} conflicts, {} held, {} failed",
        report.snapshot,
        report.added,
        report.changed,
        report.deleted,
        report.conflicts,
        report.held_back,
        report.failed
    )
}

/// Counts what a report says of the ways in which a sync may end.
fn note_report(report: &SyncReport) {
    let counted = [
        ("conflict", report.conflicts),
        ("deletion held back", report.held_back),
        ("deletion in doubt", report.in_doubt),
        ("path that could not be synced", report.failed),
        ("path left to the next pull", report.pending),
        ("path at which something else appeared", report.unsettled),
        ("mount that never came to rest", u64::from(report.mount_unsettled)),
        ("lost pack noticed", report.lost_packs),
    ];
    for (what, count) in counted {
        if count > 0 {
            met(format!("report: {what}"));
        }
    }
}

pub(crate) fn env_of(clock: &SimClock, random: &Seeded, disk: &Arc<Disk>) -> Env {
    let jobs = Jobs {
        handle: Handle::current(),
        clock: clock.clone(),
        random: random.clone(),
        disk: Arc::clone(disk),
    };
    let asked = MachineClock { clock: clock.clone(), disk: Arc::clone(disk) };
    Env::real()
        .with_clock(Arc::new(asked))
        .with_random(Arc::new(random.clone()))
        .with_spawn(Arc::new(jobs))
        .with_file_faults(disk.clone())
}
