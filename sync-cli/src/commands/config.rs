//! `config`: each setting and where it came from.

use super::Finished;
use crate::args::{Color, Conflict};
use crate::config::{Origin, Setting, Settings};
use crate::errors::Failure;
use crate::means::Means;
use crate::output::json::{Line, SettingLine};
use crate::values::{Deletions, Size, Span};

pub(super) fn config(means: Means<'_>) -> Result<Finished, Failure> {
    let rows = rows(means.settings);
    let widest =
        rows.iter().map(|(_, value, _)| value.as_deref().unwrap_or("-").len().min(48)).max().unwrap_or(0);
    for (name, value, origin) in rows {
        if means.ui.is_json() {
            let value = value.as_deref();
            means.ui.object(&Line::Setting(SettingLine { name: &name, value, origin: &origin.to_string() }));
        } else {
            let value = value.unwrap_or_else(|| "-".to_owned());
            means.ui.line(&format!("{name:<18} {value:<widest$}  {origin}"));
        }
    }
    Ok(Finished::default())
}

type Row = (String, Option<String>, Origin);

fn row<T>(name: &str, setting: &Setting<T>, show: impl Fn(&T) -> Option<String>) -> Row {
    (name.to_owned(), show(&setting.value), setting.origin.clone())
}

fn rows(settings: &Settings) -> Vec<Row> {
    let s = settings;
    let yes = |flag: &bool| Some(flag.to_string());
    let mut rows = vec![
        row("config", &s.config, |path| path.as_ref().map(|path| path.display().to_string())),
        ("profile".to_owned(), s.profile.clone(), profile_origin(s)),
        row("store", &s.store, |url| url.as_ref().map(ToString::to_string)),
    ];
    for (key, _, origin) in &s.store_options {
        // Only the backend knows which of its settings are secret, so none is shown.
        rows.push((format!("store-option.{key}"), Some("(set, not shown)".into()), origin.clone()));
    }
    rows.extend([
        row("state-dir", &s.state_dir, |path| path.as_ref().map(|path| path.display().to_string())),
        row("policy", &s.policy, |path| path.as_ref().map(|path| path.display().to_string())),
        row("exclude", &s.exclude, |patterns| (!patterns.is_empty()).then(|| patterns.join(","))),
        row("dry-run", &s.dry_run, yes),
        row("checksum", &s.checksum, yes),
        row("conflict", &s.conflict, |how| how.map(conflict)),
        row("max-delete", &s.max_delete, |most| most.map(|most| Deletions(most).to_string())),
        row("allow-empty-mount", &s.allow_empty_mount, yes),
        row("one-file-system", &s.one_file_system, yes),
        row("strict", &s.strict, yes),
        row("max-upload", &s.max_upload, |size| size.map(|size| Size(size).to_string())),
        row("extract-limits", &s.extract_limits, |limits| Some(limits.to_string())),
        row("chown", &s.chown, |owner| owner.as_ref().map(ToString::to_string)),
        row("concurrency", &s.concurrency, |n| Some(n.to_string())),
        row("bwlimit", &s.bwlimit, |size| size.map(|size| format!("{}/s", Size(size.get())))),
        row("memory", &s.memory, |size| Some(Size(*size).to_string())),
        row("retry-time", &s.retry_time, |time| Some(Span(*time).to_string())),
        row("retries", &s.retries, |n| n.map(|n| n.to_string())),
        row("timeout", &s.timeout, |time| Some(Span(*time).to_string())),
        row("kill-after", &s.kill_after, |time| Some(Span(*time).to_string())),
        row("release-timeout", &s.release_timeout, |time| time.map(|time| Span(time).to_string())),
        row("safety-scan", &s.safety_scan, |time| Some(Span(*time).to_string())),
        row("quiesce", &s.quiesce, |text| text.as_ref().map(|text| text.display().to_string())),
        row("resume", &s.resume, |text| text.as_ref().map(|text| text.display().to_string())),
        row("quiesce-timeout", &s.quiesce_timeout, |time| Some(Span(*time).to_string())),
        row("metrics-file", &s.metrics_file, |path| path.as_ref().map(|path| path.display().to_string())),
        row("json", &s.json, yes),
        row("quiet", &s.quiet, yes),
        row("verbose", &s.verbose, |n| Some(n.to_string())),
        row("no-progress", &s.no_progress, yes),
        row("no-pager", &s.no_pager, yes),
        row("color", &s.color, |color| Some(self::color(*color))),
        row("utc", &s.utc, yes),
        row("bytes", &s.bytes, yes),
        row("log-file", &s.log_file, |path| path.as_ref().map(|path| path.display().to_string())),
    ]);
    rows
}

fn profile_origin(settings: &Settings) -> Origin {
    match (&settings.profile, &settings.profile_origin) {
        (_, Some(origin)) => origin.clone(),
        (Some(_), None) => Origin::File,
        (None, None) => Origin::Default,
    }
}

fn conflict(how: Conflict) -> String {
    clap::ValueEnum::to_possible_value(&how).map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn color(when: Color) -> String {
    clap::ValueEnum::to_possible_value(&when).map(|value| value.get_name().to_owned()).unwrap_or_default()
}
