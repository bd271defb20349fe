//! Makes one checked set of settings from the command line, the environment and the config file.

mod dirs;
mod file;
mod resolve;
mod settings;

pub(crate) use dirs::Dirs;
pub(crate) use resolve::parse_store;
pub(crate) use settings::{Origin, Setting, Settings};
