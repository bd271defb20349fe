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
use ctxsync_tests::tree::Tree;
use object_store::memory::InMemory;
use storage_backends::layer::{Faulty, Rule};
use tokio::runtime::Handle;
use transfer_engine::{BootId, ContextName, Env, Error};

use crate::archives::write_archive;
use crate::branch::Branches;
use crate::copy::Copy;
use crate::coverage::{met, store_fault};
use crate::disk::{Act, Disk, MachineClock, until_gone};
use crate::edits::{Ledger, Meanwhile, PINNED, change, change_at, contents, enlarge, path_for_two};
use crate::extract::Extracting;
use crate::history::History;
use crate::outside::{Jobs, Seeded, SimClock};
use crate::schedule::{Deed, GRACE, How, Schedule, Step, StoreTrouble, What};
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
    /// The mount before and after a loss of power, until a sync has brought again what was lost.
    pub(crate) taken: Option<(Copy, Copy)>,
    /// Whether it was gone in the middle of its last sync.
    pub(crate) is_cut_short: bool,
    /// How often it was started.
    pub(crate) boots: u8,
    /// By how many seconds its clock is ahead of the store's.
    pub(crate) ahead: u64,
    pub(crate) extracting: Extracting,
    /// Whether its last push had a deadline and could not flush the mount. If it does not flush behind its syncs, the
    /// next one takes for deleted what a loss of power takes (`docs/design/003-noting-what-arrives.md`).
    pub(crate) is_unflushed: bool,
}

/// What a user does in a mount.
type Change = fn(&Tree, &mut Random, &str, &mut Ledger) -> String;

pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) players: Vec<Player>,
    pub(crate) clock: SimClock,
    pub(crate) random: Seeded,
    pub(crate) network: Faulty,
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) history: RefCell<History>,
    /// Whether the context's history is noted: archives are extracted, or files recycled.
    pub(crate) keeps_history: bool,
    pub(crate) branches: Branches,
    /// Whether policies may give up contents.
    pub(crate) careless: bool,
    pub(crate) trace: Trace,
    /// Whether a pack was damaged. Its parts that no file needs stay as they are.
    pub(crate) is_spoiled: bool,
    /// Whether a loss of power has left parts of files.
    pub(crate) has_torn: bool,
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
            let disk = Disk::new(nowhere, Vec::new(), &Trace::new(false)).with_clock_ahead(born.ahead);
            machine.env = env_of(&clock, &random, &Arc::new(disk)).with_boot(Some(BootId([0; 16])));
            machine.options.flush_behind = schedule.seed.is_multiple_of(2);
            if schedule.seed.is_multiple_of(3) {
                machine.options.gathering.many = 3;
            }
            machine.policy = born.policy();
            (machine, born.ahead)
        });
        let players: Vec<Player> = machines
            .map(|(machine, ahead)| Player {
                context: RefCell::new(context()),
                durable: Copy::of(&machine.mount.0),
                since: None,
                taken: None,
                is_cut_short: false,
                boots: 0,
                ahead,
                extracting: Extracting::default(),
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
            history: RefCell::default(),
            keeps_history: schedule.machines.iter().any(|born| born.extracts.or(born.recycles).is_some()),
            branches,
            careless,
            trace,
            is_spoiled: false,
            has_torn: false,
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
                let ended = self.players[number].machine.pull().await;
                let is_well = ended.noted.problems.iter().all(|p| self.players[number].is_of_archive(p));
                assert!(is_well && ended.report().conflicts == 0, "m{number}: {ended:?}");
                self.note_extracted(number, Some(&ended)).await;
            }
        }
        self.note_history().await;
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
        self.note_history().await;
        self.history.get_mut().begin_step();
        let (archives, held) = (self.archives(), self.held_though_recycled_everywhere());
        self.note_dirs();
        if step.renames() {
            self.note_renamed();
        }
        let mut random = Random::new(step.seed);
        let said = match step.deed {
            Deed::Edit => self.edit(step, &mut random, change),
            Deed::Archive => self.edit(step, &mut random, write_archive),
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
        self.note_history().await;
        self.note_archives(step, archives);
        if step.reverts() {
            self.note_reverted_archives();
        }
        self.check_held(step, &held);
        (0..self.players.len()).for_each(|who| self.note_written_over(who));
        self.trace.note(|| format!("  {said}"));
    }

    fn edit(&mut self, step: &Step, random: &mut Random, change: Change) -> String {
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
        // What came out of an archive may have been replaced since, though the mount still has the archive.
        let player = &self.players[step.who];
        let here = match player.extracts() {
            true => self.contents_outside(&player.machine),
            false => self.contents_of(step.who),
        };
        let is_lost = |c: &&String| !after.contains(*c) && !self.was_recycled(c);
        let lost: Vec<_> = before.intersection(&here).filter(is_lost).collect();
        let may_miss = self.careless || meanwhile.never_rests();
        assert!(may_miss || lost.is_empty(), "{told}\ncommitted as deleted: {lost:?}");
        format!("{told}, and meanwhile {said}")
    }

    /// Returns the contents in the context.
    pub(crate) async fn in_context(&self) -> BTreeSet<String> {
        self.note_history().await;
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

    pub(crate) fn contents_of(&self, who: usize) -> BTreeSet<String> {
        contents(&self.players[who].machine.mount, Path::new(""))
    }

    /// Gives up contents that were lost with a machine, unless the context has them.
    pub(crate) async fn give_up_unsaved(&mut self, lost: &BTreeSet<String>) {
        let saved = self.in_context().await;
        self.ledger.get_mut().given_up.extend(lost.difference(&saved).cloned());
    }

    pub(crate) fn disk(&self, step: &Step, who: usize, act: Option<Act>) -> Arc<Disk> {
        let durable = self.loses_power.then(|| self.players[who].durable.clone());
        let disk = Disk::new(&self.mount(who), step.files.clone(), &self.trace);
        let disk = disk.with_clock_ahead(self.players[who].ahead);
        Arc::new(disk.with(act).with_durable(durable))
    }

    pub(crate) fn wire(&self, step: &Step, who: usize, disk: &Arc<Disk>) -> Wire {
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
