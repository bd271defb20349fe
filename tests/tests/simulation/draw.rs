//! Draws a schedule from a seed.

use std::time::Duration;

use ctxsync_tests::random::Random;
use rustix::io::Errno;
use storage_backends::layer::{Fault, Operation};

use crate::schedule::{
    Born, CAREFUL, Call, Deed, EXTRACTING, FileTrouble, GRACE, How, POLICIES, RECYCLING, Schedule, Step,
    StoreTrouble, What,
};

/// Of so many seeds, one has machines whose policies give up contents.
const CARELESS: u64 = 6;

/// What is done in the store, without a mount.
const IN_STORE: [How; 14] = [
    How::Collect,
    How::Collect,
    How::Rename,
    How::Rename,
    How::Fork,
    How::EditFork,
    How::EditFork,
    How::EditFork,
    How::EditFork,
    How::Merge,
    How::Merge,
    How::Revert,
    How::Tag,
    How::Restore,
];

/// Two machines at the same time. Of two who write to a fork, one would not know what it replaces.
fn both(one: How, other: How) -> Deed {
    match (one, other) {
        (How::EditFork, How::EditFork) => Deed::Both(one, How::Collect),
        _ => Deed::Both(one, other),
    }
}

/// Of so many seeds, one has machines that often lose power.
const UNSTEADY: u64 = 4;
/// Of so many seeds, one has machines that extract archives.
const EXTRACTING_IN: usize = 3;
/// Of so many seeds, one has machines that recycle files.
const RECYCLING_IN: usize = 3;
/// By how many seconds a clock is ahead, if it is wrong: longer than any file stays that is recycled.
const AHEAD: u64 = 5 * GRACE;
/// Of so many seeds, one has a large tree.
const LARGE: usize = 12;

impl Schedule {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let careless = seed % CARELESS == CARELESS - 1;
        let policies = if careless { CAREFUL..POLICIES.len() } else { 1..CAREFUL };
        let machines = 2 + random.below(3) * random.below(2);
        let machines = (0..machines).map(|_| {
            let own = policies.start + random.below(policies.len());
            let policy = if random.below(2) == 0 && !careless { 0 } else { own };
            let pulls = random.below(3) > 0;
            Born { policy, extracts: None, recycles: None, ahead: 0, pulls }
        });
        let mut machines: Vec<Born> = machines.collect();
        let (extract, recycle) = (random.below(EXTRACTING_IN) == 0, random.below(RECYCLING_IN) == 0);
        for born in &mut machines {
            let (extracts, recycles) = (random.below(EXTRACTING.len()), random.below(RECYCLING.len()));
            born.extracts = (extract && random.below(3) > 0).then_some(extracts);
            born.recycles = (recycle && random.below(3) > 0).then_some(recycles);
            born.ahead = if recycle && random.below(2) == 0 { AHEAD } else { 0 };
        }
        let (is_large, given) = (random.below(LARGE) == 0, random.below(6));
        let mut this = Self { seed, careless, machines, is_large, given, steps: Vec::new() };
        // Runs differ in how much goes wrong, and in what is done most.
        let trouble = [0, 30, 60, 90][random.below(4)];
        let edits = 30 + random.below(30);
        for _ in 0..8 + random.below(12) {
            let mut step = this.step(this.steps.len(), &mut random, edits, trouble);
            let is_archive = extract && step.deed == Deed::Edit && random.below(2) == 0;
            if is_archive {
                step.deed = Deed::Archive;
            }
            this.steps.push(step);
            if is_archive && random.below(2) == 0 {
                this.let_archive_arrive(&mut random);
            }
            if seed.is_multiple_of(UNSTEADY) {
                this.lose_power(&mut random);
            }
            if recycle && random.below(4) == 0 {
                this.let_files_age(&mut random);
            }
        }
        this
    }

    /// Lets the machine of the last step lose power, during the step or after it, in one of three syncs.
    fn lose_power(&mut self, random: &mut Random) {
        let Some(last) = self.steps.last_mut() else { return };
        let is_sync =
            matches!(last.deed, Deed::Sync(_) | Deed::Both(..) | Deed::Meanwhile(_) | Deed::Session(_));
        match random.below(6) {
            0 if is_sync => {
                let nth = random.below(30) as u64;
                let what = What::PowerLoss;
                last.files.push(FileTrouble { call: Call::Change, nth, stays: false, what });
            }
            1 if is_sync => {
                let who = last.who;
                self.add(random, who, Deed::PowerLoss, Vec::new());
            }
            _ => {}
        }
    }

    fn add(&mut self, random: &mut Random, who: usize, deed: Deed, files: Vec<FileTrouble>) {
        let (number, seed) = (self.steps.len(), random.bits());
        self.steps.push(Step { number, seed, who, deed, store: Vec::new(), files });
    }

    /// The archive of the last step is pushed, and a machine that extracts archives pulls it. Half of the time, the
    /// machine is gone in the middle of that, and goes on later.
    fn let_archive_arrive(&mut self, random: &mut Random) {
        let Some(from) = self.steps.last().map(|last| last.who) else { return };
        let extracts = |who: &usize| *who != from && self.machines[*who].extracts.is_some();
        let others: Vec<usize> = (0..self.machines.len()).filter(extracts).collect();
        let Some(to) = random.of(&others).copied() else { return };
        self.add(random, from, Deed::Sync(How::Push), Vec::new());
        // The archive is renamed first, and then its folder.
        let just_renamed = (Call::Renamed, [0, 1, 1, 1, 1, 2][random.below(6)]);
        let (call, nth) = [(Call::Change, random.below(30) as u64), just_renamed][random.below(3).min(1)];
        let what = [What::Crashes, What::PowerLoss][random.below(8) / 7];
        let trouble = FileTrouble { call, nth, stays: false, what };
        let trouble = if random.below(2) == 0 { vec![trouble] } else { Vec::new() };
        let is_troubled = !trouble.is_empty();
        self.add(random, to, Deed::Sync(How::Pull), trouble);
        if is_troubled && random.below(2) == 0 {
            let how = [How::Pull, How::Sync][random.below(2)];
            self.add(random, to, Deed::Sync(how), Vec::new());
        }
    }

    /// Lets so much time pass that files expire by some of the rules, and has them recycled by a push or a collection.
    fn let_files_age(&mut self, random: &mut Random) {
        let deed = Deed::Sleep([GRACE / 2, GRACE + 1, 3 * GRACE + 1][random.below(3)]);
        self.add(random, 0, deed, Vec::new());
        let who = random.below(self.machines.len());
        match random.below(4) {
            0 => self.add(random, who, Deed::Collect { last: None, is_late: false }, Vec::new()),
            1 => self.add(random, who, Deed::Sync(How::Push), Vec::new()),
            _ => {}
        }
    }

    fn step(&self, number: usize, random: &mut Random, edits: usize, trouble: usize) -> Step {
        let (seed, who) = (random.bits(), random.below(self.machines.len()));
        let sync = |random: &mut Random| [How::Push, How::Push, How::Pull, How::Sync][random.below(4)];
        let how = |random: &mut Random| match random.below(4) {
            0 => IN_STORE[random.below(IN_STORE.len())],
            _ => sync(random),
        };
        let deed = match random.below(100) {
            n if n < edits && n % 4 == 0 => Deed::EditBoth,
            n if n < edits => Deed::Edit,
            _ => match random.below(46) {
                0..=22 => Deed::Sync(how(random)),
                23..=26 => both(how(random), how(random)),
                27..=29 => Deed::Meanwhile(sync(random)),
                30 => Deed::LoseState,
                31 => Deed::Replace,
                32 => Deed::Clone,
                33 => Deed::PowerLoss,
                34..=35 => Deed::Collect {
                    last: [None, Some(1), Some(2)][random.below(3)],
                    is_late: random.below(2) == 0,
                },
                36 if random.below(3) == 0 => Deed::Delete,
                37 if random.below(2) == 0 => Deed::Oversleep,
                38..=40 => Deed::Damage,
                42..=45 => Deed::Session(how(random)),
                _ => Deed::Sleep([1, 600, GRACE / 2, GRACE + 1][random.below(4)]),
            },
        };
        let mut step = Step { number, seed, who, deed, store: Vec::new(), files: Vec::new() };
        let may_fail =
            matches!(deed, Deed::Sync(_) | Deed::Both(..) | Deed::Session(_) | Deed::Collect { .. });
        if may_fail && random.below(100) < trouble {
            for _ in 0..1 + random.below(2) {
                match deed {
                    Deed::Collect { .. } => step.store.push(store_trouble(random, Some(Delete))),
                    _ if random.below(2) == 0 => step.store.push(store_trouble(random, None)),
                    _ => step.files.push(file_trouble(random)),
                }
            }
        }
        step
    }
}

use Operation::{Delete, Get, Head, List, Put};

/// The faults of the store, each with the requests for which it is meant.
pub(crate) const FAULTS: [(Fault, &[Operation]); 20] = [
    (Fault::FailBefore, &[Put, Get, Head, List]),
    (Fault::FailAfter, &[Put, Get, List]),
    (Fault::Unflushed, &[Put]),
    (Fault::AlreadyExistsThoughStored, &[Put]),
    (Fault::AlreadyExistsThoughAbsent, &[Put]),
    (Fault::NotFound, &[Get]),
    (Fault::Denied, &[Put, Get, List]),
    (Fault::Expired, &[Put, Get, List]),
    (Fault::Truncate(0), &[Get, List]),
    (Fault::Truncate(7), &[Get]),
    (Fault::Break(0), &[List]),
    (Fault::Break(20), &[Get]),
    (Fault::FlipBit(0), &[Get]),
    (Fault::OtherBody("<html><body>Please sign in.</body></html>"), &[Get]),
    (Fault::OtherBody(""), &[Get]),
    (Fault::StaleList(1), &[List]),
    (Fault::Delay(Duration::from_secs(3)), &[Put, Get, List, Delete]),
    (Fault::NoAnswer(Duration::from_secs(30)), &[Put, Get, List]),
    (Fault::CrashBefore, &[Put, Put, Put, Get, List, Delete]),
    (Fault::CrashAfter, &[Put, Put, Put, Get, List, Delete]),
];

/// Draws a fault. Half of the time it is one of the `wanted` requests.
fn store_trouble(random: &mut Random, wanted: Option<Operation>) -> StoreTrouble {
    let wanted = wanted.filter(|_| random.below(2) == 0);
    let fits = |fault: &&(Fault, &[Operation])| wanted.is_none_or(|wanted| fault.1.contains(&wanted));
    let fitting: Vec<_> = FAULTS.iter().filter(fits).collect();
    let (mut fault, meant) = *fitting[random.below(fitting.len())];
    let on = wanted.unwrap_or(meant[random.below(meant.len())]);
    if let Fault::FlipBit(at) = &mut fault {
        *at = random.below(400) as u64;
    }
    if let Fault::Delay(time) = &mut fault {
        // Also longer than the grace period.
        *time = Duration::from_secs([3, 600, GRACE / 2, GRACE + 600][random.below(4)]);
    }
    // Some faults pass, others do not.
    let times = [1, 1, 2, 3, u64::MAX][random.below(5)];
    let most = [2, 4][random.below(2)];
    StoreTrouble { fault, on, nth: 1 + random.below(most) as u64, times, dies: random.below(2) == 0 }
}

fn file_trouble(random: &mut Random) -> FileTrouble {
    let errno = [Errno::NOSPC, Errno::IO, Errno::ACCESS, Errno::MFILE][random.below(4)].raw_os_error();
    let call = [Call::Change, Call::Change, Call::Change, Call::Reading, Call::Look][random.below(5)];
    let what = match (call, random.below(8)) {
        (Call::Change, 0) => What::FailsForEver,
        (Call::Change, 1 | 2) => What::Crashes,
        (Call::Change, 3) => What::PowerLoss,
        _ => What::Fails(errno),
    };
    let most = [4, 12, 30][random.below(3)];
    FileTrouble { call, nth: random.below(most) as u64, stays: random.below(3) == 0, what }
}
