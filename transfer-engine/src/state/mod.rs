//! The local state: what a machine remembers of a mount, in a directory outside the mount.
//!
//! ```text
//! <state>/mounts/<mount>/lock            held by whoever works on the mount
//!                       /status.json     what `status` shows
//!                       /<context>/base         the base entries with their fingerprints, as of the last flush
//!                                 /base.recent  the same as of now, if the mount was synced without a flush since
//!                                 /unflushed    notes that it was
//!                                 /base.next    the base that a commit under way would give
//!                                 /arrivals     what a download has put in place since the base was written
//!                                 /packs        packs that were put since the last commit
//!                                 /cache/       the head and its segments, as they are in the store
//! ```

mod arrivals;
mod arriving;
mod base;
mod cache;
mod dir;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod pack_journal;
mod parts;
mod rows;
mod runs;
mod spool;
mod unflushed;

pub(crate) use arrivals::{ArrivalRow, ArrivalsWriter, Change, Overlaid, Proof};
pub(crate) use arriving::{Alone, Arriving, Lane, hash_path};
pub(crate) use base::{BaseHeader, BaseReader, BaseWriter, NextBase};
pub(crate) use cache::Cache;
pub(crate) use dir::{ContextState, MountState, NEW_SOCKET, SOCKET, mount_dir};
pub(crate) use pack_journal::{NotedPack, PackJournal};
pub(crate) use rows::{Archive, BaseRow, Candidate, DeltaRow, DeltaState, Held, MemberRow, ScopeId};
pub(crate) use runs::Runs;
pub(crate) use spool::Spool;
pub(crate) use unflushed::Unflushed;
