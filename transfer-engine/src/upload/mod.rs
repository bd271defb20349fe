//! From the mount to the store: the plan of what is saved, and its commit.

mod aging;
mod attempt;
mod commit;
mod conflict_copies;
mod deadline;
mod new_tree;
mod push;
mod tally;
