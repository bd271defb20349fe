//! `status`: the sessions and mounts of this machine, and the state of their tasks.

use std::env;
use std::path::Path;

use serde_json::{Map, Value};
use transfer_engine::{RunningSession, TaskState, TaskStatus, TaskType, status as tasks};

use super::sync::absolute;
use super::{Finished, running};
use crate::args::StatusArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::text;

/// The state of a mount's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The session holds the mount now.
    Running,
    /// The session was released.
    Released,
    /// The session's process ended before the release.
    Interrupted,
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Released => "released",
            Self::Interrupted => "interrupted",
        }
    }
}

pub(super) async fn status(args: &StatusArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let mount = args.dir.as_deref().map(absolute).transpose()?;
    let mut rows = match tasks(settings.state_dir()?, mount.as_deref()) {
        Ok(rows) => rows,
        // A user who may not read the state may still ask the session that runs here.
        Err(error) => {
            let dir = mount.clone().map_or_else(env::current_dir, Ok);
            let dir = dir.map_err(|error| Failure::local("find", Path::new("."), &error))?;
            match running::around(&dir, means).await {
                Some(mut session) => session.status().await?.context_status_data,
                None => return Err(error.into()),
            }
        }
    };
    // The download task comes first, then the upload task, whichever was later.
    rows.sort_by(|a, b| {
        (&a.path, &a.context, &a.store, b.task_type).cmp(&(&b.path, &b.context, &b.store, a.task_type))
    });
    // The rows of one context at one mount are adjacent.
    let is_one =
        |a: &TaskStatus, b: &TaskStatus| (&a.path, &a.context, &a.store) == (&b.path, &b.context, &b.store);
    for group in rows.chunk_by(is_one) {
        let standing = standing(group, settings.state_dir()?).await;
        if !ui.is_json() {
            ui.line(&headline(group, has_other_store(group, &rows), standing));
        }
        for task in group {
            if ui.is_json() {
                ui.raw_object(&object(task, standing)?);
            } else {
                for line in describe(task) {
                    ui.line(&line);
                }
            }
        }
    }
    if rows.is_empty() {
        ui.note(match mount {
            Some(_) => "nothing is known of this mount: it was never synced with this state directory",
            None => "nothing was synced yet with this state directory",
        });
    }
    Ok(Finished::default())
}

/// Returns the state of the session to which these tasks, of one context at one mount, belong. If the newest
/// task belongs to no session, an ended session is not reported.
async fn standing(tasks: &[TaskStatus], state_dir: &Path) -> Option<Standing> {
    let of_session = tasks.iter().find(|task| !task.session.is_empty())?;
    // A task is only kept running while its process lives. Between two tasks, the session itself is asked.
    let goes_on = |task: &TaskStatus| {
        !task.session.is_empty() && matches!(task.status, TaskState::Waiting | TaskState::Running)
    };
    let runs = tasks.iter().any(goes_on)
        || RunningSession::connect(state_dir, &of_session.mount())
            .await
            .is_ok_and(|session| session.is_some());
    if runs {
        return Some(Standing::Running);
    }
    let newest = tasks.iter().max_by_key(|task| task.start_time.as_ref())?;
    let was_released = tasks.iter().any(|task| task.released);
    let state = if was_released { Standing::Released } else { Standing::Interrupted };
    (!newest.session.is_empty()).then_some(state)
}

fn object(task: &TaskStatus, standing: Option<Standing>) -> Result<Value, Failure> {
    let value = serde_json::to_value(task)
        .map_err(|error| Failure::new(Exit::FAILED, "cannot show a task").caused_by(&error))?;
    let mut line = Map::from_iter([("message_type".to_owned(), Value::from("task"))]);
    if let Value::Object(fields) = value {
        line.extend(fields);
    }
    line.insert("session_status".to_owned(), standing.map(Standing::name).into());
    Ok(Value::Object(line))
}

/// Whether the mount was also synced with a context of another store.
fn has_other_store(tasks: &[TaskStatus], all: &[TaskStatus]) -> bool {
    let is_other =
        |task: &TaskStatus, other: &TaskStatus| other.path == task.path && other.store != task.store;
    tasks.first().is_some_and(|task| all.iter().any(|other| is_other(task, other)))
}

/// Returns the heading of a context's tasks at a mount.
fn headline(tasks: &[TaskStatus], with_store: bool, standing: Option<Standing>) -> String {
    let Some(task) = tasks.first() else { return String::new() };
    let mut line = format!("{}  context {}", policy_core::escape(task.path.as_bytes()), task.context);
    if with_store {
        line.push_str(&format!(" in {}", policy_core::escape(task.store.as_bytes())));
    }
    let session = tasks.iter().map(|task| task.session.as_str()).find(|session| !session.is_empty());
    if let (Some(session), Some(standing)) = (session, standing) {
        line.push_str(&format!(
            ", session {} ({})",
            policy_core::escape(session.as_bytes()),
            standing.name()
        ));
    }
    line
}

/// Returns the lines of one task.
fn describe(task: &TaskStatus) -> Vec<String> {
    let task_type = match task.task_type {
        TaskType::Upload => "upload",
        TaskType::Download => "download",
    };
    let (state, goes_on) = match task.status {
        TaskState::Waiting => ("Waiting", false),
        TaskState::Running => ("Running", true),
        TaskState::Success => ("Success", false),
        TaskState::Failed => ("Failed", false),
    };
    let when = match (&task.start_time, &task.finish_time) {
        (_, Some(at)) => format!("finished {}", text::read_moment(at)),
        (Some(at), None) => format!("since {}", text::read_moment(at)),
        (None, None) => String::new(),
    };
    let mut lines = vec![format!("  {task_type:<9} {state:<8} {when}").trim_end().to_owned()];
    if task.status != TaskState::Waiting {
        lines.push(format!("    {}", figures(task, goes_on)));
    }
    let shown = |text: &String| policy_core::escape(text.as_bytes());
    lines.extend(task.error_message.iter().map(|text| format!("    error: {}", shown(text))));
    lines.extend(task.errors.iter().map(|text| format!("    error: {}", shown(text))));
    lines.extend(task.warnings.iter().map(|text| format!("    warning: {}", shown(text))));
    lines
}

fn figures(task: &TaskStatus, goes_on: bool) -> String {
    let mut figures = format!(
        "{} of {}, {} of {}",
        task.files_done,
        text::count(task.total_files, "file"),
        text::bytes(task.bytes_done),
        text::bytes(task.total_bytes),
    );
    if task.throughput > 0 {
        figures.push_str(&format!(", {}/s", text::bytes(task.throughput)));
    }
    if task.pending > 0 {
        figures.push_str(&format!(", {} pending", task.pending));
    }
    if task.withheld > 0 {
        figures.push_str(&format!(", {} recycled or lost before and kept here", task.withheld));
    }
    if goes_on {
        figures.push_str(&format!(", {}", task.phase));
    }
    if let Some(snapshot) = task.snapshot {
        figures.push_str(&format!(", snapshot {snapshot}"));
    }
    figures
}
