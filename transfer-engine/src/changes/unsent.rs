//! What a push had no time to send: finds and counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use policy_core::TreePath;

use super::differences::LocalDelta;
use super::landed::{Broken, Landed};
use crate::count::count;
use crate::local::{MountDir, Repositories};
use crate::packing::Chunks;
use crate::state::{DeltaRow, DeltaState};

/// How many missing files a warning lists.
const NAMED: usize = 3;

/// What a partial snapshot lacks.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// The largest missing files, with their sizes.
    largest: Vec<(u64, TreePath)>,
    /// Whether there is something to commit nevertheless.
    pub(crate) leaves_something: bool,
    /// Whether a part of the mount was not even scanned.
    unseen: bool,
}

impl LocalDelta {
    /// From now on, counts as sent only what is in the store; returns what is missing.
    pub(crate) fn leave_out_unsent(&mut self, mount: &MountDir, chunks: &Arc<Chunks>) -> io::Result<Missing> {
        self.landed = Some(Landed { chunks: chunks.clone(), broken: Arc::default() });
        let (databases, repositories) = (self.broken_units()?, self.broken_repositories(mount)?);
        let broken = Arc::new(Broken { databases, repositories });
        self.landed = Some(Landed { chunks: chunks.clone(), broken });
        let mut missing = Missing { unseen: !self.is_whole, ..Missing::default() };
        for row in self.read()? {
            let row = row?;
            match row.state {
                DeltaState::Unsent { size } => missing.note(row.path, size),
                DeltaState::Present { .. } => missing.leaves_something |= row.is_change(),
                DeltaState::Absent
                | DeltaState::InDoubt { .. }
                | DeltaState::Unreadable
                | DeltaState::Special(_)
                | DeltaState::Unmounted => {}
            }
        }
        Ok(missing)
    }
}

impl LocalDelta {
    /// Returns the paths of databases that were not sent completely, and so are left out.
    fn broken_units(&mut self) -> io::Result<BTreeSet<TreePath>> {
        let units = std::mem::take(&mut self.together.units);
        let unit_of: BTreeMap<&TreePath, usize> = (0..)
            .zip(&units)
            .flat_map(|(number, unit)| unit.iter().map(move |path| (path, number)))
            .collect();
        let mut broken = BTreeSet::new();
        if !units.is_empty() {
            for row in self.read()? {
                let row = row?;
                if let (DeltaState::Unsent { .. }, Some(number)) = (&row.state, unit_of.get(&row.path)) {
                    broken.extend(units[*number].iter().cloned());
                }
            }
        }
        self.together.units = units;
        Ok(broken)
    }

    /// Returns the git repositories that were not sent, or not even read, completely.
    fn broken_repositories(&mut self, mount: &MountDir) -> io::Result<BTreeSet<TreePath>> {
        let (mut repositories, unseen) = (Repositories::new(mount), !self.is_whole);
        let mut broken = BTreeSet::new();
        for row in self.read()? {
            let DeltaRow { path, state, .. } = row?;
            if unseen || matches!(state, DeltaState::Unsent { .. }) {
                broken.extend(repositories.holding(&path));
            }
        }
        Ok(broken)
    }
}

impl Missing {
    fn note(&mut self, path: TreePath, size: u64) {
        self.files += 1;
        self.bytes += size;
        if self.largest.len() == NAMED && self.largest.last().is_some_and(|(least, _)| *least >= size) {
            return;
        }
        let at = self.largest.partition_point(|(larger, _)| *larger >= size);
        self.largest.insert(at, (size, path));
        self.largest.truncate(NAMED);
    }

    /// Whether nothing is missing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.files == 0 && !self.unseen
    }

    /// Returns the warning.
    pub(crate) fn warning(&self) -> String {
        let mut text = format!("the deadline passed before everything was sent: {}", self.count());
        for (i, (size, path)) in self.largest.iter().enumerate() {
            let before = match i {
                0 if self.files as usize <= NAMED => ": ",
                0 => "; the largest: ",
                _ => ", ",
            };
            text.push_str(&format!("{before}`{path}` ({size} bytes)"));
        }
        if self.unseen {
            text.push_str("; and there was no time to look through the whole mount");
        }
        text.push_str("; no deletion is committed either; the next push sends what is missing");
        text
    }

    fn count(&self) -> String {
        format!("{} of {} bytes are missing", count(self.files, "file"), self.bytes)
    }
}
