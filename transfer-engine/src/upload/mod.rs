//! Push: from the mount to the store.

mod aging;
mod archives;
mod attempt;
mod commit;
mod deadline;
mod gather;
mod lost_here;
mod new_tree;
mod push;
mod tally;
