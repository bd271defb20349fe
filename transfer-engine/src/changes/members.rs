//! Which files the merge passes on as members of a database.

use policy_core::TreePath;

use super::merge::Merge;
use crate::local::Fingerprint;
use crate::local::sqlite::{self, Member};
use crate::state::{BaseRow, DeltaRow, DeltaState, MemberRow};

impl Merge<'_> {
    /// Takes a file that belongs to a database, which is read with it; false if it does not. `found` is its
    /// fingerprint in the mount.
    pub(crate) fn is_member(
        &mut self,
        path: &TreePath,
        found: Option<&Fingerprint>,
        base: Option<&BaseRow>,
        changed: bool,
    ) -> bool {
        let Some((member, _)) = Member::of(path.name()) else { return false };
        let row = MemberRow {
            path: path.clone(),
            member,
            base: base.map(|row| row.entry.clone()),
            known: base.and_then(|row| row.print).filter(|_| !self.checksum),
            size: found.map_or(0, |print| print.size),
        };
        let Some(database) = self.candidates.find(row.database()) else { return false };
        if !changed && !database.changed && !database.is_wanted {
            database.waiting.push(row);
            return false;
        }
        let mount = self.mount;
        let stands = |path: &TreePath| {
            mount.parent(path).is_ok_and(|dir| sqlite::stands_for_database(&dir, path.name()))
        };
        if !*database.is_database.get_or_insert_with(|| stands(&database.path)) {
            return false;
        }
        if member == Member::Shm {
            // On another machine the file is useless, and here it is about locks.
            if let Some(base) = row.base {
                self.row(DeltaRow { path: row.path, base: Some(base), state: DeltaState::Absent });
            }
            return true;
        }
        if !database.changed && !database.is_wanted {
            let known = database.known.filter(|_| !self.checksum);
            let (path, base, size) = (database.path.clone(), database.base.clone(), database.size);
            self.batch.members.push(MemberRow { path, member: Member::Database, base, known, size });
        }
        database.is_wanted = true;
        self.batch.members.append(&mut database.waiting);
        self.batch.members.push(row);
        true
    }
}
