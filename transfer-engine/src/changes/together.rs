//! The files of databases, which belong together.

use std::collections::BTreeSet;

use policy_core::TreePath;

use crate::state::MemberRow;

/// Sorts the files of a database next to each other.
pub(crate) fn by_database(a: &MemberRow, b: &MemberRow) -> std::cmp::Ordering {
    a.database().cmp(b.database()).then(a.member.cmp(&b.member)).then(b.base.is_some().cmp(&a.base.is_some()))
}

/// Which paths of a delta belong together.
#[derive(Debug, Default)]
pub(crate) struct Together {
    /// The paths of each database with more than one row. One is useless without the others.
    pub(crate) units: Vec<Vec<TreePath>>,
    /// The files that were read at one moment together with the others of their database.
    pub(crate) members: BTreeSet<TreePath>,
    /// Files of databases that are gone because their content is in the database now. Beside the new database
    /// they would do harm. So neither a policy nor a guard may hold their deletion back.
    pub(crate) folded: BTreeSet<TreePath>,
    /// Journals and logs that are out of scope, of databases that were read. The context may have them all the same, of
    /// an older version.
    pub(crate) outside: BTreeSet<TreePath>,
}

impl Together {
    pub(crate) fn absorb(&mut self, mut more: Self) {
        self.units.append(&mut more.units);
        self.members.append(&mut more.members);
        self.folded.append(&mut more.folded);
        self.outside.append(&mut more.outside);
    }
}
