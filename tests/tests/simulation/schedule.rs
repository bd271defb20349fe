//! A schedule: what is done on which machine, and what goes wrong meanwhile. It is drawn from the seed before anything
//! is done, so that steps can be left out of it.

use std::fmt;

use policy_core::SyncPolicy;
use rustix::io::Errno;
use storage_backends::layer::{Fault, Operation};

/// The grace period of the store, in seconds.
pub(crate) const GRACE: u64 = 86_400;

/// A kind of call of the file system that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// It changes something.
    Change,
    /// The same, just after something was renamed: it is in place, and nothing has noted it yet.
    Renamed,
    /// It reads the state.
    Reading,
    /// It reads the mount.
    Look,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Change => "change",
            Self::Renamed => "change after a rename",
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
    pub(crate) on: Operation,
    pub(crate) nth: u64,
    pub(crate) times: u64,
    /// Whether the machine is gone together with its connection.
    pub(crate) dies: bool,
}

/// What a machine does with the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Push,
    Pull,
    Sync,
    Rename,
    Fork,
    EditFork,
    /// Merges a fork into the context, or the other way round.
    Merge,
    Revert,
    Tag,
    Restore,
    Collect,
}

/// What is done in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A user changes something.
    Edit,
    /// A user writes an archive.
    Archive,
    /// Users change the same path on this machine and on the next.
    EditBoth,
    Sync(How),
    /// Two machines at the same time: this one and the next.
    Both(How, How),
    /// Another program works in the mount meanwhile.
    Meanwhile(How),
    /// A session on this machine, while the next one syncs.
    Session(How),
    LoseState,
    /// A new machine takes the place of one that is lost.
    Replace,
    /// The next machine is replaced by a clone of this one.
    Clone,
    /// Power is lost while nothing runs.
    PowerLoss,
    Collect {
        last: Option<u64>,
        /// Whether everything that there is, is older than the grace period by then.
        is_late: bool,
    },
    Delete,
    /// A pack is lost or damaged, and mended as far as it can be.
    Damage,
    /// The machine sleeps in the middle of a push, while the context is deleted and collected until nothing is left.
    Oversleep,
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
    /// Whether one of these is done in it.
    fn does(&self, any: &[How]) -> bool {
        match self.deed {
            Deed::Sync(how) | Deed::Session(how) => any.contains(&how),
            Deed::Both(one, other) => any.contains(&one) || any.contains(&other),
            _ => false,
        }
    }

    /// Whether the context may be reverted in it.
    pub(crate) fn reverts(&self) -> bool {
        self.does(&[How::Revert])
    }

    /// Whether the context may be renamed in it.
    pub(crate) fn renames(&self) -> bool {
        self.does(&[How::Rename])
    }

    /// Whether a snapshot other than the newest may be read in it.
    pub(crate) fn looks_back(&self) -> bool {
        self.does(&[How::Fork, How::Revert, How::Tag, How::Restore])
    }

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

/// A machine as it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Born {
    /// The number of its policy in [`POLICIES`].
    pub(crate) policy: usize,
    /// The number of its part in [`EXTRACTING`], if it extracts archives.
    pub(crate) extracts: Option<usize>,
    /// The number of its part in [`RECYCLING`], if it recycles files.
    pub(crate) recycles: Option<usize>,
    /// By how many seconds its clock is ahead of the store's.
    pub(crate) ahead: u64,
    /// Whether it has pulled what the first machine pushed.
    pub(crate) pulls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    /// Whether policies may give up contents: then it is not looked for them.
    pub(crate) careless: bool,
    pub(crate) machines: Vec<Born>,
    /// Whether the tree is so large that its segments are in packs.
    pub(crate) is_large: bool,
    /// How many edits the first machine's tree comes from.
    pub(crate) given: usize,
    pub(crate) steps: Vec<Step>,
}

impl Born {
    pub(crate) fn policy(&self) -> SyncPolicy {
        let read = |json| SyncPolicy::from_json(json).unwrap();
        let mut policy = read(POLICIES[self.policy]);
        policy.extract_policy = self.extracts.and_then(|number| read(EXTRACTING[number]).extract_policy);
        if let Some(number) = self.recycles {
            policy.recycle_policy = read(RECYCLING[number]).recycle_policy;
        }
        policy
    }
}

/// How machines extract archives.
pub(crate) const EXTRACTING: [&str; 5] = [
    r#"{"extractPolicy": {}}"#,
    r#"{"extractPolicy": {"deleteSrcFile": false}}"#,
    r#"{"extractPolicy": {"extractToCurrentFolder": true}}"#,
    r#"{"extractPolicy": {"deleteSrcFile": false, "extractToCurrentFolder": true}}"#,
    r#"{"extractPolicy": {"paths": ["a", "c"]}}"#,
];

/// How machines recycle files.
pub(crate) const RECYCLING: [&str; 3] = [
    r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["c", "a/b.txt"]}}"#,
    r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["a"]}}"#,
    r#"{"recyclePolicy": {"lifecycle": "Lifecycle_3Days", "paths": ["a/c", "a-b"]}}"#,
];

/// The policies of the machines. The first ones give up no content.
pub(crate) const POLICIES: [&str; 7] = [
    "{}",
    r#"{"uploadPolicy": {"uploadMode": "Archive"}}"#,
    r#"{"deletePolicy": {"syncLocalFile": false}}"#,
    r#"{"deletePolicy": {"maxDeletePercent": 20}}"#,
    r#"{"conflictPolicy": "PreferLocal"}"#,
    r#"{"conflictPolicy": "PreferRemote"}"#,
    r#"{"conflictPolicy": "Fail"}"#,
];
pub(crate) const CAREFUL: usize = 4;
