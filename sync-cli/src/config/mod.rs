//! Makes what was typed, exported and written down one checked config, once.

mod dirs;
mod file;
mod resolve;

pub(crate) use dirs::Dirs;
pub(crate) use resolve::{Origin, Setting, Settings};
