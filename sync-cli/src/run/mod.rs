//! A command in a process group of its own: started, told, ended.

mod child;
mod group;
mod signals;
mod supervise;
mod terminal;

pub(crate) use child::Child;
#[cfg(test)]
pub(crate) use child::Ended;
pub(crate) use signals::{Signals, is_stop, name as signal_name};
pub(crate) use supervise::{Supervised, supervise};
