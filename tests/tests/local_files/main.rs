//! Faults of local files (faults L and P).

mod disk;
mod edits;
mod kinds;
mod places;
mod staging;
