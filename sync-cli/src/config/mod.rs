//! Makes what was typed, exported and written down one checked config, once.

mod dirs;
mod file;
mod resolve;
mod settings;

pub(crate) use dirs::Dirs;
pub(crate) use settings::{Origin, Setting, Settings};
