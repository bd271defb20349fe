//! `status`: what this machine knows of its mounts.

use serde_json::{Map, Value};
use transfer_engine::status as tasks;

use super::sync::absolute;
use super::{Means, Outcome};
use crate::args::StatusArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::text;

pub(super) fn status(args: &StatusArgs, means: Means<'_>) -> Result<Outcome, Failure> {
    let Means { settings, ui } = means;
    let mount = args.dir.as_deref().map(absolute).transpose()?;
    let rows = tasks(&settings.state_dir.value, mount.as_deref())?;
    for row in &rows {
        let value = serde_json::to_value(row)
            .map_err(|error| Failure::new(Exit::FAILED, "cannot show a task").caused_by(&error))?;
        let Value::Object(fields) = value else { continue };
        if ui.is_json() {
            let mut line = Map::from_iter([("message_type".to_owned(), Value::from("task"))]);
            line.extend(fields);
            ui.raw_object(&Value::Object(line));
        } else {
            for line in describe(&fields) {
                ui.line(&line);
            }
        }
    }
    if rows.is_empty() {
        ui.note(match mount {
            Some(_) => "nothing is known of this mount: it was never synced with this state directory",
            None => "nothing was synced yet with this state directory",
        });
    }
    Ok(Outcome::default())
}

/// Returns the lines of one task.
fn describe(task: &Map<String, Value>) -> Vec<String> {
    let word = |name: &str| match task.get(name) {
        Some(Value::String(text)) => policy_core::escape(text.as_bytes()),
        _ => "-".to_owned(),
    };
    let number = |name: &str| task.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut lines = vec![format!(
        "{:<8} {:<8} {:<20} {}  {}",
        word("status"),
        word("task_type"),
        word("context"),
        word("path"),
        match task.get("finish_time") {
            Some(Value::String(at)) => format!("finished {at}"),
            _ => format!("since {}", word("start_time")),
        },
    )];
    let mut figures = format!(
        "         {} of {}, {} of {}",
        number("files_done"),
        text::count(number("total_files"), "file"),
        text::bytes(number("bytes_done")),
        text::bytes(number("total_bytes")),
    );
    if number("pending") > 0 {
        figures.push_str(&format!(", {} pending", number("pending")));
    }
    if word("status") == "Running" {
        figures.push_str(&format!(", {}", word("phase")));
    }
    lines.push(figures);
    let texts = |name: &str| match task.get(name) {
        Some(Value::Array(items)) => items.iter().map(words).collect(),
        _ => Vec::new(),
    };
    if word("error_message") != "-" {
        lines.push(format!("         error: {}", word("error_message")));
    }
    lines.extend(texts("errors").into_iter().map(|text| format!("         error: {text}")));
    lines.extend(texts("warnings").into_iter().map(|text| format!("         warning: {text}")));
    lines
}

/// Returns a warning or an error of a path in words, whichever form it has.
fn words(item: &Value) -> String {
    let text =
        |value: &Value| value.as_str().map(|text| policy_core::escape(text.as_bytes())).unwrap_or_default();
    match item {
        Value::Object(fields) => {
            let field = |name: &str| fields.get(name).map(text).unwrap_or_default();
            format!("{}: {}", field("path"), field("message"))
        }
        other => text(other),
    }
}
