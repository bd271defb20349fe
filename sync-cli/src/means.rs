//! What all commands work with.

use std::sync::Arc;

use transfer_engine::Env;

use crate::config::Settings;
use crate::output::Ui;
use crate::run::Commands;

/// What all commands work with.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) ui: &'a Arc<Ui>,
    /// What the engine takes from this machine.
    pub(crate) env: &'a Env,
}

impl Means<'_> {
    /// Returns what is run round each reading of a mount.
    pub(crate) fn quiesce(&self) -> Option<Arc<Commands>> {
        let Settings { quiesce, resume, quiesce_timeout, .. } = self.settings;
        Commands::new(quiesce.value.clone(), resume.value.clone(), quiesce_timeout.value)
    }
}
