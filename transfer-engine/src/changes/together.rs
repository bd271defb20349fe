//! The files of databases that belong together.

use std::collections::BTreeSet;

use policy_core::TreePath;

use crate::state::MemberRow;

/// The order in which members come together.
pub(crate) fn by_database(a: &MemberRow, b: &MemberRow) -> std::cmp::Ordering {
    a.database().cmp(b.database()).then(a.member.cmp(&b.member)).then(b.base.is_some().cmp(&a.base.is_some()))
}

/// What of a delta belongs together.
#[derive(Debug, Default)]
pub(crate) struct Together {
    /// The paths of each database that has more than one row: one is of no use without the others.
    pub(crate) units: Vec<Vec<TreePath>>,
    /// The files that were read at one moment with the others of their database.
    pub(crate) members: BTreeSet<TreePath>,
    /// Files of databases that are not there any more: what they held is in the database, and beside that they do
    /// harm. Their deletion is none that a policy or a guard could hold back.
    pub(crate) folded: BTreeSet<TreePath>,
}

impl Together {
    pub(crate) fn absorb(&mut self, mut more: Self) {
        self.units.append(&mut more.units);
        self.members.append(&mut more.members);
        self.folded.append(&mut more.folded);
    }
}
