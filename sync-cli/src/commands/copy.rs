//! `copy`: contexts with their history from one store to another.

use std::sync::Arc;
use std::time::Duration;

use storage_backends::StoreUrl;
use transfer_engine::{
    CopiedContext, CopyMonitor, CopyOptions, CopyReport, Monitor, NotCopied, Phase, Progress, Store,
};

use super::Finished;
use crate::args::CopyArgs;
use crate::config::parse_store;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::{imagined_at, open_at};
use crate::output::json::{CopiedLine, Line};
use crate::output::summary::Copied;
use crate::output::{Ui, Watch};
use crate::text;

pub(super) async fn copy(args: &CopyArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let dry_run = settings.dry_run.value;
    let from = open_at(&parse_store(&args.from)?, &settings.store_options, means, false)?.store;
    // Whatever is wrong with it is told before a store is made.
    if !from.exists().await? {
        let location = from.location().to_owned();
        return Err(transfer_engine::Error::NoStore { location }.into());
    }
    let to = destination(&parse_store(&args.to)?, means).await?;
    let options = CopyOptions {
        names: args.names.clone(),
        dry_run,
        concurrency: settings.concurrency.value,
        memory: settings.memory.value,
        ..CopyOptions::default()
    };
    let watch = CopyWatch { watch: Watch::new(ui, false), ui: Arc::clone(ui), dry_run };
    let report = from.copy_to(&to, &options, &watch).await?;
    let exit = match &report {
        report if report.is_incomplete() => Exit::INCOMPLETE,
        report if report.unmatched > 0 => Exit::NOT_FOUND,
        _ => Exit::DONE,
    };
    if !ui.is_json() {
        ui.line(&sentence(&report, &to, dry_run, ui.took()));
    }
    let copied = Copied {
        contexts: report.contexts,
        contexts_copied: report.contexts_copied,
        contexts_failed: report.contexts_failed,
        snapshots: report.snapshots,
        snapshots_failed: report.snapshots_failed,
        tags: report.tags,
        tags_failed: report.tags_failed,
        packs: report.packs,
        bytes_copied: report.bytes,
    };
    Ok(Finished { exit, dry_run, copied: Some(copied), ..Finished::default() })
}

/// Opens the destination, and proves a place that is no store yet. In a dry run an empty store in memory takes the place
/// of one that is missing.
async fn destination(url: &StoreUrl, means: Means<'_>) -> Result<Store, Failure> {
    let settings = means.settings;
    let dry_run = settings.dry_run.value;
    let open = match open_at(url, &settings.dst_options, means, !dry_run) {
        Err(_) if dry_run && is_missing(url) => return imagined_at(url, means).await,
        open => open?,
    };
    match open.store.exists().await? {
        true => Ok(open.store),
        false if dry_run => imagined_at(url, means).await,
        false => {
            open.probe().await?;
            Ok(open.store)
        }
    }
}

/// Whether a local store has no directory.
fn is_missing(url: &StoreUrl) -> bool {
    url.local_dir().is_some_and(|dir| !dir.exists())
}

/// Returns the line that says what was copied.
fn sentence(report: &CopyReport, to: &Store, dry_run: bool, took: Duration) -> String {
    let complete = report.contexts.saturating_sub(report.contexts_copied + report.contexts_failed);
    if report.snapshots + report.tags == 0 && !report.is_incomplete() {
        let contexts = text::count(complete, "context");
        return format!("nothing to copy: {} has all of {contexts}; {}", to.location(), text::span(took));
    }
    let (verb, sent) = if dry_run { ("would copy", "to send") } else { ("copied", "sent") };
    let (contexts, tags) = (text::count(report.contexts_copied, "context"), text::count(report.tags, "tag"));
    let mut line = if report.snapshots == 0 && report.tags > 0 {
        format!("{verb} {tags} of {contexts} to {}", to.location())
    } else {
        let (snapshots, packs) =
            (text::count(report.snapshots, "snapshot"), text::count(report.packs, "pack"));
        let bytes = text::bytes(report.bytes);
        let and_tags = if report.tags > 0 { format!(", {tags}") } else { String::new() };
        format!("{verb} {snapshots} of {contexts} to {}: {packs}, {bytes} {sent}{and_tags}", to.location())
    };
    if complete > 0 {
        line.push_str(&format!("; {} had nothing new", text::count(complete, "context")));
    }
    if report.contexts_failed > 0 {
        line.push_str(&format!("; {} not copied", text::count(report.contexts_failed, "context")));
    }
    if report.snapshots_failed > 0 {
        line.push_str(&format!("; {} not copied", text::count(report.snapshots_failed, "snapshot")));
    }
    if report.tags_failed > 0 {
        line.push_str(&format!("; {} not copied", text::count(report.tags_failed, "tag")));
    }
    format!("{line}; {}", text::span(took))
}

/// Shows how a copy goes on.
struct CopyWatch {
    watch: Watch,
    ui: Arc<Ui>,
    dry_run: bool,
}

impl Monitor for CopyWatch {
    fn phase(&self, phase: Phase) {
        self.watch.phase(phase);
    }

    fn progress(&self, progress: &Progress) {
        self.watch.progress(progress);
    }

    fn warning(&self, warning: &str) {
        self.watch.warning(warning);
    }
}

impl CopyMonitor for CopyWatch {
    fn copied(&self, copied: &CopiedContext) {
        let CopiedContext { context, snapshots, newest, packs, bytes, tags } = copied;
        let (context, newest) = (context.as_str(), *newest);
        if self.ui.is_json() {
            let (snapshots, packs, bytes, tags) = (*snapshots, *packs, *bytes, *tags);
            self.ui.object(&Line::Copied(CopiedLine { context, snapshots, newest, packs, bytes, tags }));
            return;
        }
        let (verb, sent) = if self.dry_run { ("would copy", "to send") } else { ("copied", "sent") };
        let and_tags = if *tags > 0 { format!(", {}", text::count(*tags, "tag")) } else { String::new() };
        let Some(newest) = newest else {
            if *tags > 0 {
                self.ui.line(&format!("{context}: {verb} {}", text::count(*tags, "tag")));
            } else if self.ui.verbose() > 0 {
                self.ui.line(&format!("{context}: nothing new"));
            }
            return;
        };
        let (snapshots, packs) = (text::count(*snapshots, "snapshot"), text::count(*packs, "pack"));
        let bytes = text::bytes(*bytes);
        self.ui.line(&format!(
            "{context}: {verb} {snapshots} up to {newest}, {packs}, {bytes} {sent}{and_tags}"
        ));
    }

    fn not_copied(&self, not_copied: &NotCopied) {
        let NotCopied { context, snapshots, tag, error } = not_copied;
        let message = match (&snapshots[..], tag) {
            (_, Some(tag)) => format!("tag {tag} of `{context}` is not copied"),
            ([], None) => format!("context `{context}` is not copied"),
            ([only], None) => format!("{context}@{only} is not copied"),
            ([first, .., last], None) => {
                let count = text::count(snapshots.len() as u64, "snapshot");
                format!("{count} of `{context}` are not copied, from {first} to {last}")
            }
        };
        let hint = Failure::from(error).hint;
        let mut failure = Failure::new(Exit::INCOMPLETE, message).caused_by(error);
        failure.context = Some(Box::new(context.clone()));
        failure.hint = match &snapshots[..] {
            [] if tag.is_some() => Some(
                "a tag never moves: take it off in one of the two stores with `ctxsync context untag`, and copy again"
                    .to_owned(),
            ),
            [] => hint,
            _ => {
                Some("`ctxsync check` says what else is damaged; once it is repaired, copy again".to_owned())
            }
        };
        self.ui.failure(&failure);
    }
}
