//! A command in a process group of its own: started, signalled, ended.

mod budget;
mod child;
mod ended;
mod group;
mod helper;
mod limits;
mod orphans;
mod quiesce;
mod sentry;
mod signals;
mod stop;
mod strays;
mod supervise;
mod terminal;
mod threads;

pub(crate) use budget::{Budget, Moments};
pub(crate) use child::Child;
pub(crate) use ended::{Ended, Variable};
pub(crate) use limits::raise_open_files;
pub(crate) use orphans::reap_orphans;
pub(crate) use quiesce::Commands;
pub(crate) use signals::Signals;
pub(crate) use stop::{interrupted, is_stop, signal_name};
pub(crate) use supervise::{Supervised, supervise};
pub(crate) use threads::{Threads, is_refusal};
