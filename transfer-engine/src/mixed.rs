//! Databases of which both sides have changed a file since they agreed last. Files are merged one by one, so a log of one
//! version may then be beside the database of another, which no check of a single file shows.

use policy_core::{Entry, Local, LocalRow, Node, Reason, TreePath};

use crate::local::{MountDir, sqlite};
use crate::monitor::Monitor;
use crate::plan::PlanStep;

/// Finds such databases in the steps of a plan, in tree order.
#[derive(Debug, Default)]
pub(crate) struct Mixed {
    /// Changed files that may be databases. Each name begins with the one before it, so few are held.
    open: Vec<Group>,
    found: Vec<TreePath>,
}

#[derive(Debug)]
struct Group {
    database: TreePath,
    here: bool,
    there: bool,
    has_log: bool,
}

impl Mixed {
    /// Notes the next step.
    pub(crate) fn note(&mut self, step: &PlanStep) {
        self.close(Some(&step.path));
        let of = sqlite::database_of(&step.path);
        let has_log = of.is_some();
        let (here, there) = changes(step, has_log);
        if !here && !there {
            return;
        }
        let database = of.unwrap_or_else(|| step.path.clone());
        match self.open.iter_mut().find(|group| group.database == database) {
            Some(group) => {
                group.here |= here;
                group.there |= there;
                group.has_log |= has_log;
            }
            None => self.open.push(Group { database, here, there, has_log }),
        }
    }

    /// Ends the groups that can have no more files.
    fn close(&mut self, next: Option<&TreePath>) {
        let goes_on =
            |group: &Group| next.is_some_and(|n| n.as_bytes().starts_with(group.database.as_bytes()));
        while let Some(group) = self.open.pop_if(|group| !goes_on(group)) {
            if group.here && group.there && group.has_log {
                self.found.push(group.database);
            }
        }
    }

    /// Warns of what was found, and returns how many databases that are. Only the mount tells whether a name is one.
    pub(crate) async fn tell(mut self, dir: &MountDir, monitor: &dyn Monitor) -> u64 {
        self.close(None);
        if self.found.is_empty() {
            return 0;
        }
        let (job_dir, found) = (dir.clone(), self.found);
        let are = dir.blocking(move || {
            let is = |path: &TreePath| {
                job_dir.parent(path).is_ok_and(|parent| sqlite::stands_for_database(&parent, path.name()))
            };
            found.into_iter().filter(is).collect::<Vec<_>>()
        });
        let databases = are.await.unwrap_or_default();
        for database in &databases {
            monitor.warning(&format!(
                "the database `{database}` was changed here and in the context since the last sync: its files may be of \
                 both versions now, so check it; earlier snapshots have what it was"
            ));
        }
        databases.len() as u64
    }
}

/// Whether a file was changed here, and whether it was in the context. That a log is gone is no change: if it was folded
/// into the database, that has changed.
fn changes(step: &PlanStep, is_log: bool) -> (bool, bool) {
    if matches!(step.decision.reason, Reason::SameChange | Reason::DeletedOnBoth) {
        return (false, false);
    }
    let base = step.base.as_ref().map(|row| &row.entry);
    let here = match step.local.as_ref().map(LocalRow::local) {
        Some(Local::Present(entry)) => differs(base, Some(entry)),
        Some(Local::Absent) => !is_log && differs(base, None),
        _ => false,
    };
    let there = step.remote.as_ref().map(|row| &row.0.entry);
    (here, (there.is_some() || !is_log) && differs(base, there))
}

fn differs(base: Option<&Entry>, now: Option<&Entry>) -> bool {
    let content = |entry: &Entry| match &entry.node {
        Node::File { digest, .. } => Some(*digest),
        _ => None,
    };
    base.and_then(content) != now.and_then(content)
}
