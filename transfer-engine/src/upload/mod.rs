//! Push: from the mount to the store.

mod aging;
mod attempt;
mod commit;
mod conflict_copies;
mod deadline;
mod new_tree;
mod push;
mod tally;
