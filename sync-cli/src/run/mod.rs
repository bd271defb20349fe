//! A command in a process group of its own: started, told, ended.

mod budget;
mod child;
mod group;
mod hard_stop;
mod orphans;
mod signals;
mod strays;
mod supervise;
mod terminal;

pub(crate) use budget::{Budget, Moments};
pub(crate) use child::{Child, Ended, Variable};
pub(crate) use hard_stop::HardStop;
pub(crate) use orphans::reap_orphans;
pub(crate) use signals::{Signals, is_stop, name as signal_name};
pub(crate) use supervise::{Supervised, supervise};
