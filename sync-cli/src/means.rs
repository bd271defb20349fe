//! What all commands use.

use std::sync::Arc;

use transfer_engine::Env;

use crate::config::Settings;
use crate::output::Ui;
use crate::run::Commands;

/// What all commands use.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) ui: &'a Arc<Ui>,
    /// The clock, randomness and threads for the engine.
    pub(crate) env: &'a Env,
}

impl Means<'_> {
    /// Returns the commands that run before and after each reading of a mount.
    pub(crate) fn quiesce(&self) -> Option<Arc<Commands>> {
        let Settings { quiesce, resume, quiesce_timeout, .. } = self.settings;
        Commands::new(quiesce.value.clone(), resume.value.clone(), quiesce_timeout.value)
    }
}
