//! Shows what the engine reports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transfer_engine::{
    Action, ContextSync, Monitor, PathEvent, PathProblem, Phase, Progress, SessionMonitor, Side, SyncReport,
    TaskType,
};

use super::Ui;
use super::json::{Line, PathLine};
use super::known::named;
use super::progress::Stage;
use crate::errors::Failure;
use crate::policy::usually_holds_secrets;
use crate::text::count;

/// The [`Monitor`] of one task, which prints through a [`Ui`].
pub(crate) struct Watch {
    ui: Arc<Ui>,
    /// Whether to name every path.
    list: bool,
    /// The mount, if the command has several.
    mount: Option<String>,
    stage: Mutex<Stage>,
    tally: Option<Arc<Tally>>,
    /// How many paths have failed in this phase.
    failed: AtomicU64,
    /// Files that are added to the context and usually hold secrets.
    secrets: Mutex<Vec<String>>,
}

/// How many failed paths of a phase are named to people without `-v`.
const NAMED: u64 = 5;

/// What the pulls of a session have done so far, including pulls that are stopped before their report.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    added: AtomicU64,
    changed: AtomicU64,
    deleted: AtomicU64,
    conflicts: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    fn note(&self, action: Action) {
        let count = match action {
            Action::Add | Action::Extract => &self.added,
            Action::Change => &self.changed,
            Action::Delete => &self.deleted,
            Action::Conflict => &self.conflicts,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the figures as a report.
    pub(crate) fn report(&self) -> SyncReport {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SyncReport {
            added: of(&self.added),
            changed: of(&self.changed),
            deleted: of(&self.deleted),
            conflicts: of(&self.conflicts),
            failed: of(&self.failed),
            ..SyncReport::default()
        }
    }
}

impl Watch {
    /// Returns a monitor. It names every path if `plan` or `-v` is set.
    pub(crate) fn new(ui: &Arc<Ui>, plan: bool) -> Self {
        let list = plan || ui.verbose() > 0;
        let stage = Mutex::new(Stage::new(Phase::Opening));
        Self {
            ui: Arc::clone(ui),
            list,
            mount: None,
            stage,
            tally: None,
            failed: AtomicU64::new(0),
            secrets: Mutex::default(),
        }
    }

    /// Says how many failed paths of this phase were not named, and which secrets it adds.
    fn sum_up(&self) {
        let secrets = std::mem::take(&mut *self.secrets());
        if !secrets.is_empty() {
            self.warning(&format!(
                "new in the context, and usually secret: {}; --exclude PATTERN leaves files out, and so does `ctxsync \
                 policy preset no-secrets`",
                named(&secrets, secrets.len())
            ));
        }
        let failed = self.failed.swap(0, Ordering::Relaxed);
        if !self.list && !self.ui.is_json() && failed > NAMED {
            let more = count(failed - NAMED, "more path");
            self.ui.warning(&format!("{}{more} failed; -v names each", self.prefix()));
        }
    }

    fn secrets(&self) -> MutexGuard<'_, Vec<String>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the prefix of each line for people.
    fn prefix(&self) -> String {
        self.mount.as_ref().map(|mount| format!("{mount}: ")).unwrap_or_default()
    }
}

impl Monitor for Watch {
    fn phase(&self, phase: Phase) {
        tracing::debug!(%phase);
        self.sum_up();
        let stage = Stage::new(phase);
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        if let Some(line) = self.ui.meter.stage(stage)
            && !self.ui.is_behind()
        {
            self.ui.results.line(&line);
        }
    }

    fn progress(&self, progress: &Progress) {
        let stage = {
            let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            stage.note(progress);
            *stage
        };
        if let Some(line) = self.ui.meter.progress(stage, progress)
            && !self.ui.is_behind()
        {
            if self.ui.is_json() {
                self.ui.results.line(&line);
            } else {
                self.ui.note(&format!("{}{line}", self.prefix()));
            }
        }
    }

    fn path(&self, event: &PathEvent<'_>) {
        if (event.action, event.side) == (Action::Add, Side::Store) && usually_holds_secrets(event.path) {
            self.secrets().push(event.path.to_string());
        }
        if let Some(tally) = &self.tally {
            tally.note(event.action);
        }
        self.ui.known.note_path(event.action, event.reason, format!("{}{}", self.prefix(), event.path));
        if self.ui.is_json() {
            self.ui.object(&Line::Path(PathLine {
                path: event.path.into(),
                action: event.action.to_string(),
                side: event.side.to_string(),
                reason: event.reason,
                size: event.size,
                mount: self.mount.as_deref(),
            }));
        } else if self.list {
            let (path, action, reason) = (event.path, event.action.to_string(), event.reason);
            let reason = if reason.is_empty() { String::new() } else { format!("  ({reason})") };
            self.ui.line(&format!("{}{action:<8} {path}{reason}", self.prefix()));
        }
    }

    fn warning(&self, warning: &str) {
        self.ui.known.note_warning(warning);
        tracing::warn!("{warning}");
        self.ui.warning(&format!("{}{warning}", self.prefix()));
    }

    fn problem(&self, problem: &PathProblem) {
        self.ui.known.note_problem();
        if let Some(tally) = &self.tally {
            tally.failed.fetch_add(1, Ordering::Relaxed);
        }
        tracing::warn!(path = %problem.path, "{}", problem.message);
        let nth = self.failed.fetch_add(1, Ordering::Relaxed);
        if nth < NAMED || self.list || self.ui.is_json() {
            self.ui.failure(&Failure::of_path(problem).at_mount(self.mount.as_deref()));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.sum_up();
    }
}

/// Makes a [`Watch`] for each task of a session.
pub(crate) struct SessionWatch {
    ui: Arc<Ui>,
    /// Whether lines have to name the mount.
    several: bool,
    pulled: Arc<Tally>,
}

impl SessionWatch {
    pub(crate) fn new(ui: &Arc<Ui>, several: bool) -> Self {
        Self { ui: Arc::clone(ui), several, pulled: Arc::default() }
    }

    /// Returns the counter of the pulls.
    pub(crate) fn pulled(&self) -> Arc<Tally> {
        Arc::clone(&self.pulled)
    }
}

impl SessionMonitor for SessionWatch {
    fn of(&self, sync: &ContextSync, task: TaskType) -> Arc<dyn Monitor> {
        let mut watch = Watch::new(&self.ui, false);
        watch.tally = (task == TaskType::Download).then(|| self.pulled());
        watch.mount = self.several.then(|| sync.path.to_string_lossy().into_owned());
        Arc::new(watch)
    }
}
