//! The user's directories, as defined by the XDG base directory specification.

use std::env;
use std::path::PathBuf;

/// The directories for config, data and state.
#[derive(Debug, Clone)]
pub(crate) struct Dirs {
    config: Option<PathBuf>,
    data: Option<PathBuf>,
    state: Option<PathBuf>,
    /// The user's home directory.
    pub(crate) home: Option<PathBuf>,
}

impl Dirs {
    /// Reads the directories from the environment.
    pub(crate) fn from_env() -> Self {
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let home = absolute("HOME");
        let below = |name, default: &str| {
            let dir = absolute(name).or_else(|| home.as_ref().map(|home| home.join(default)));
            dir.map(|dir| dir.join("ctxsync"))
        };
        Self {
            config: below("XDG_CONFIG_HOME", ".config"),
            data: below("XDG_DATA_HOME", ".local/share"),
            state: below("XDG_STATE_HOME", ".local/state"),
            home,
        }
    }

    /// Returns the path of the config file, which need not exist.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        self.config.as_ref().map(|dir| dir.join("config.toml"))
    }

    /// Returns the directory of the default store.
    pub(crate) fn store(&self) -> Option<PathBuf> {
        self.data.as_ref().map(|dir| dir.join("store"))
    }

    /// Returns the directory that has the state of the mounts.
    pub(crate) fn state(&self) -> Option<PathBuf> {
        self.state.clone()
    }
}
