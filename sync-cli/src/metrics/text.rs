//! Prometheus' text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use transfer_engine::{TaskState, TaskStatus, TaskType};

/// The labels of a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Task {
    context: String,
    path: String,
    task_type: &'static str,
}

impl Task {
    pub(super) fn of(task: &TaskStatus) -> Self {
        let task_type = match task.task_type {
            TaskType::Upload => "upload",
            TaskType::Download => "download",
        };
        Self { context: task.context.clone(), path: task.path.clone(), task_type }
    }

    fn labels(&self) -> String {
        format!(
            "context=\"{}\",path=\"{}\",task_type=\"{}\"",
            escape(&self.context),
            escape(&self.path),
            self.task_type
        )
    }
}

/// Returns when a task succeeded, in seconds since 1970; `None` if it did not.
pub(super) fn success(task: &TaskStatus) -> Option<i64> {
    let done = task.status == TaskState::Success;
    let at = task.finish_time.as_deref().filter(|_| done)?;
    at.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

const STATES: [(TaskState, &str); 4] = [
    (TaskState::Waiting, "Waiting"),
    (TaskState::Running, "Running"),
    (TaskState::Success, "Success"),
    (TaskState::Failed, "Failed"),
];

/// The value of one metric family for a task, if there is one.
type Figure = fn(&TaskStatus) -> Option<u64>;

/// Returns the metrics of these tasks.
pub(super) fn render(tasks: &[TaskStatus], successes: &BTreeMap<Task, i64>) -> String {
    let mut text = String::new();
    family(&mut text, "ctxsync_task_state", "1 for the state that the task is in, 0 for the others.");
    for task in tasks {
        let labels = Task::of(task).labels();
        for (state, name) in STATES {
            let value = u64::from(task.status == state);
            line(&mut text, "ctxsync_task_state", &format!("{labels},state=\"{name}\""), value);
        }
    }
    let figures: [(&str, &str, Figure); 8] = [
        ("ctxsync_task_files_done", "Files scanned or pulled so far.", |task| Some(task.files_done)),
        ("ctxsync_task_files", "Files in all, as far as known.", |task| Some(task.total_files)),
        ("ctxsync_task_bytes_done", "Bytes read or written so far.", |task| Some(task.bytes_done)),
        ("ctxsync_task_bytes", "Bytes in all, as far as known.", |task| Some(task.total_bytes)),
        ("ctxsync_task_pending", "Paths of the context that have not arrived.", |task| Some(task.pending)),
        ("ctxsync_task_warnings", "Warnings of the task.", |task| count(&task.warnings)),
        ("ctxsync_task_errors", "Paths that the task met trouble with.", |task| count(&task.errors)),
        ("ctxsync_snapshot", "The snapshot that the task came to.", |task| task.snapshot),
    ];
    for (name, help, value) in figures {
        family(&mut text, name, help);
        for task in tasks {
            if let Some(value) = value(task) {
                line(&mut text, name, &Task::of(task).labels(), value);
            }
        }
    }
    let name = "ctxsync_last_success_timestamp_seconds";
    family(&mut text, name, "When the task last ended well.");
    for (task, at) in successes {
        line(&mut text, name, &task.labels(), at);
    }
    text
}

fn count(messages: &[String]) -> Option<u64> {
    u64::try_from(messages.len()).ok()
}

fn family(text: &mut String, name: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name}{{{labels}}} {value}");
}

/// Escapes a label's value. All other characters are allowed.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape("a\\b\"c\nd é\t"), "a\\\\b\\\"c\\nd é\t");
    }

    /// Parses labels by the format's grammar.
    fn parse(labels: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut rest = labels;
        while !rest.is_empty() {
            let (name, after) = rest.split_once("=\"").unwrap();
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at + 1,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c => c,
                    }),
                    (_, '\n') => panic!("a line ends inside a label"),
                    (_, c) => value.push(c),
                }
            };
            found.push((name.to_owned(), value));
            rest = after[end..].trim_start_matches(',');
        }
        found
    }

    #[test]
    fn whatever_a_path_is_called_it_is_read_back() {
        for path in ["/a", "/a\"b", "/a\\", "/a\\\"", "/a\nb", "/a\",x=\"b", "/a\\n"] {
            let task = Task { context: "c/d".into(), path: path.into(), task_type: "upload" };
            let expected = [("context", "c/d"), ("path", path), ("task_type", "upload")]
                .map(|(a, b)| (a.into(), b.into()));
            assert_eq!(parse(&task.labels()), expected);
        }
    }
}
