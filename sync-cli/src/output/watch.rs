//! Shows what the engine tells.

use transfer_engine::{Monitor, PathEvent, PathProblem, Phase, Progress};

use super::Ui;
use super::json::{Line, PathLine};
use crate::errors::Failure;

/// The engine's [`Monitor`], which speaks through a [`Ui`].
pub(crate) struct Watch<'a> {
    ui: &'a Ui,
    /// Whether to name every path.
    list: bool,
}

impl<'a> Watch<'a> {
    /// Returns a monitor; `plan` names every path, which otherwise `-v` does.
    pub(crate) fn new(ui: &'a Ui, plan: bool) -> Self {
        Self { ui, list: plan || ui.verbose() > 0 }
    }
}

impl Monitor for Watch<'_> {
    fn phase(&self, phase: Phase) {
        tracing::debug!(%phase);
        if let Some(line) = self.ui.meter.phase(phase) {
            self.ui.results.line(&line);
        }
    }

    fn progress(&self, progress: &Progress) {
        if let Some(line) = self.ui.meter.progress(progress) {
            if self.ui.is_json() { self.ui.results.line(&line) } else { self.ui.note(&line) }
        }
    }

    fn path(&self, event: &PathEvent<'_>) {
        if self.ui.is_json() {
            self.ui.object(&Line::Path(PathLine {
                path: event.path.into(),
                action: event.action.to_string(),
                side: event.side.to_string(),
                reason: event.reason,
                size: event.size,
            }));
        } else if self.list {
            let (path, action, reason) = (event.path, event.action.to_string(), event.reason);
            let reason = if reason.is_empty() { String::new() } else { format!("  ({reason})") };
            self.ui.line(&format!("{action:<8} {path}{reason}"));
        }
    }

    fn warning(&self, warning: &str) {
        tracing::warn!("{warning}");
        self.ui.warning(warning);
    }

    fn problem(&self, problem: &PathProblem) {
        tracing::warn!(path = %problem.path, "{}", problem.message);
        self.ui.failure(&Failure::of_path(problem));
    }
}
