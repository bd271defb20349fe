//! A schedule: what is done on which machine, and what goes wrong meanwhile. It is drawn from the seed before anything
//! is done, so that steps can be left out of it.

use std::fmt;
use std::time::Duration;

use ctxsync_tests::random::Random;
use rustix::io::Errno;
use storage_backends::layer::Fault;

/// The grace period of the store, in seconds.
pub(crate) const GRACE: u64 = 86_400;

/// A kind of call of the file system that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// It changes something.
    Change,
    /// It reads the state.
    Reading,
    /// It reads the mount.
    Look,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Change => "change",
            Self::Reading => "read of the state",
            Self::Look => "read of the mount",
        })
    }
}

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The call fails with this error.
    Fails(i32),
    /// It and all later ones fail.
    FailsForEver,
    /// The machine is gone at once.
    Crashes,
    /// So is it, and what was not flushed is lost.
    PowerLoss,
}

impl What {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Fails(errno) => match Errno::from_raw_os_error(errno) {
                Errno::NOSPC => "ENOSPC".to_owned(),
                Errno::IO => "EIO".to_owned(),
                Errno::ACCESS => "EACCES".to_owned(),
                Errno::MFILE => "EMFILE".to_owned(),
                other => format!("{other:?}"),
            },
            Self::FailsForEver => "every call fails".to_owned(),
            Self::Crashes => "crash".to_owned(),
            Self::PowerLoss => "loss of power".to_owned(),
        }
    }
}

/// A fault of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileTrouble {
    pub(crate) call: Call,
    pub(crate) nth: u64,
    /// Whether all later calls of this kind fail in the same way.
    pub(crate) stays: bool,
    pub(crate) what: What,
}

/// A fault of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreTrouble {
    pub(crate) fault: Fault,
    pub(crate) nth: u64,
    pub(crate) times: u64,
    /// Whether the machine is gone together with its connection.
    pub(crate) dies: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Push,
    Pull,
    Sync,
}

/// What is done in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A user changes something.
    Edit,
    Sync(How),
    /// Two machines at the same time: this one and the next.
    Both(How, How),
    /// Another program works in the mount meanwhile.
    Meanwhile(How),
    LoseState,
    /// A new machine takes the place of one that is lost.
    Replace,
    /// The next machine is replaced by a clone of this one.
    Clone,
    /// Power is lost while nothing runs.
    PowerLoss,
    Collect {
        last: Option<u64>,
    },
    Delete,
    Sleep(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The number of the step in the whole schedule.
    pub(crate) number: usize,
    /// Decides what the step leaves open.
    pub(crate) seed: u64,
    pub(crate) who: usize,
    pub(crate) deed: Deed,
    pub(crate) store: Vec<StoreTrouble>,
    pub(crate) files: Vec<FileTrouble>,
}

impl Step {
    /// Whether something goes wrong in it.
    pub(crate) fn is_troubled(&self) -> bool {
        !self.store.is_empty() || !self.files.is_empty()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: m{} {:?}", self.number, self.who, self.deed)?;
        self.store.iter().try_for_each(|trouble| write!(f, ", {trouble:?}"))?;
        self.files.iter().try_for_each(|trouble| write!(f, ", {trouble:?}"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    /// The policy of each machine, by its number in [`POLICIES`].
    pub(crate) machines: Vec<usize>,
    pub(crate) steps: Vec<Step>,
}

/// The policies of the machines. None of them gives up a content.
pub(crate) const POLICIES: [&str; 4] = [
    "{}",
    r#"{"uploadPolicy": {"uploadMode": "Archive"}}"#,
    r#"{"deletePolicy": {"syncLocalFile": false}}"#,
    r#"{"deletePolicy": {"maxDeletePercent": 40}}"#,
];

impl Schedule {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let machines = 2 + random.below(3) * random.below(2);
        let machines = (0..machines).map(|_| random.below(2) * random.below(POLICIES.len())).collect();
        let mut this = Self { seed, machines, steps: Vec::new() };
        // Runs differ in how much goes wrong, and in what is done most.
        let trouble = [0, 20, 40, 70][random.below(4)];
        let edits = 30 + random.below(30);
        for number in 0..8 + random.below(12) {
            let step = this.step(number, &mut random, edits, trouble);
            this.steps.push(step);
        }
        this
    }

    fn step(&self, number: usize, random: &mut Random, edits: usize, trouble: usize) -> Step {
        let (seed, who) = (random.bits(), random.below(self.machines.len()));
        let how = |random: &mut Random| [How::Push, How::Push, How::Pull, How::Sync][random.below(4)];
        let deed = match random.below(100) {
            n if n < edits => Deed::Edit,
            _ => match random.below(40) {
                0..=22 => Deed::Sync(how(random)),
                23..=26 => Deed::Both(how(random), how(random)),
                27..=29 => Deed::Meanwhile(how(random)),
                30 => Deed::LoseState,
                31 => Deed::Replace,
                32 => Deed::Clone,
                33 => Deed::PowerLoss,
                34..=35 => Deed::Collect { last: [None, Some(1), Some(2)][random.below(3)] },
                36 if random.below(3) == 0 => Deed::Delete,
                _ => Deed::Sleep([1, 600, GRACE / 2, GRACE + 1][random.below(4)]),
            },
        };
        let mut step = Step { number, seed, who, deed, store: Vec::new(), files: Vec::new() };
        let may_fail = matches!(deed, Deed::Sync(_) | Deed::Both(..) | Deed::Collect { .. });
        if may_fail && random.below(100) < trouble {
            for _ in 0..1 + random.below(2) {
                if random.below(2) == 0 || matches!(deed, Deed::Collect { .. }) {
                    step.store.push(store_trouble(random));
                } else {
                    step.files.push(file_trouble(random));
                }
            }
        }
        step
    }
}

/// The faults of the store.
const FAULTS: [Fault; 20] = [
    Fault::FailBefore,
    Fault::FailAfter,
    Fault::Unflushed,
    Fault::AlreadyExistsThoughStored,
    Fault::AlreadyExistsThoughAbsent,
    Fault::NotFound,
    Fault::Denied,
    Fault::Expired,
    Fault::Truncate(0),
    Fault::Truncate(7),
    Fault::Break(0),
    Fault::Break(20),
    Fault::FlipBit(0),
    Fault::OtherBody("<html><body>Please sign in.</body></html>"),
    Fault::OtherBody(""),
    Fault::StaleList(1),
    Fault::Delay(Duration::from_secs(3)),
    Fault::NoAnswer(Duration::from_secs(30)),
    Fault::CrashBefore,
    Fault::CrashAfter,
];

fn store_trouble(random: &mut Random) -> StoreTrouble {
    let mut fault = FAULTS[random.below(FAULTS.len())];
    if let Fault::FlipBit(at) = &mut fault {
        *at = random.below(400) as u64;
    }
    if let Fault::Delay(time) = &mut fault {
        // Also longer than the grace period.
        *time = Duration::from_secs([3, 600, GRACE / 2, GRACE + 600][random.below(4)]);
    }
    // Some faults pass, others do not.
    let times = [1, 1, 2, 3, u64::MAX][random.below(5)];
    let most = [3, 8][random.below(2)];
    StoreTrouble { fault, nth: 1 + random.below(most) as u64, times, dies: random.below(2) == 0 }
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
