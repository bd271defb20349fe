//! `check`: proves that everything that snapshots refer to is there, and whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use transfer_engine::{
    CheckMonitor, CheckOptions, CheckReport, CheckedContext, CheckedSnapshot, Damage, DamagedFile, Monitor,
    Phase, Progress, SyncReport,
};

use transfer_engine::format::StoreKey;

use super::Finished;
use crate::args::CheckArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::json::{
    CheckedContextLine, CheckedSnapshotLine, DamagedFileLine, DamagedObjectLine, Line, PathField,
};
use crate::output::summary::Checked;
use crate::output::{Ui, Watch};
use crate::text;

/// Damaged files of a context that are shown to people, without `-v`.
const SHOWN: usize = 20;

pub(super) async fn check(args: &CheckArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let options = CheckOptions {
        contexts: args.names.clone(),
        read_data: args.read_data.clone().map(|sample| sample.0).unwrap_or_default(),
        concurrency: settings.concurrency.value,
        memory: settings.memory.value,
    };
    let store = open_store(means, false)?.store;
    let watch = CheckWatch { ui: Arc::clone(ui), mounts: mounts(means), watch: Watch::new(ui, false) };
    watch.watch.phase(Phase::Checking);
    let report = store.check(&options, &watch).await?;
    watch.watch.phase(Phase::Done);
    if !ui.is_json() {
        ui.line(&sentence(&report, ui));
    }
    let exit = if report.is_whole() { Exit::DONE } else { Exit::FAILED };
    let sync = SyncReport {
        requests: report.usage.requests,
        bytes_received: report.usage.bytes_received,
        bytes_read: report.bytes_read,
        ..SyncReport::default()
    };
    Ok(Finished { exit, report: Some(sync), checked: Some(checked(&report)), ..Finished::default() })
}

/// Returns the contexts that were synced on this machine, each with a mount.
fn mounts(means: Means<'_>) -> BTreeSet<(String, String)> {
    let state_dir = means.settings.state_dir().ok();
    let tasks = state_dir.and_then(|dir| transfer_engine::status(dir, None).ok()).unwrap_or_default();
    tasks.into_iter().map(|task| (task.context, task.path)).collect()
}

fn checked(report: &CheckReport) -> Checked {
    Checked {
        contexts: report.contexts,
        contexts_damaged: report.damaged_contexts,
        snapshots: report.snapshots,
        snapshots_damaged: report.damaged_snapshots,
        files_damaged: report.damaged_files,
        packs: report.packs,
        packs_bytes: report.bytes,
        packs_damaged: report.damaged_packs,
        packs_unused: report.unused_packs,
    }
}

/// Returns the line that ends a check.
fn sentence(report: &CheckReport, ui: &Ui) -> String {
    let mut line = format!(
        "checked {}, {}, {} ({})",
        text::count(report.contexts, "context"),
        text::count(report.snapshots, "snapshot"),
        text::count(report.packs, "pack"),
        text::bytes(report.bytes),
    );
    if report.bytes_read > 0 {
        line.push_str(&format!(", read {}", text::bytes(report.bytes_read)));
    }
    if report.is_whole() {
        line.push_str(": no damage found");
    } else {
        line.push_str(&format!(
            ": {} damaged, {} and {} in {}",
            text::count(report.damaged_files, "file"),
            text::count(report.damaged_packs, "pack"),
            text::count(report.damaged_snapshots, "snapshot"),
            text::count(report.damaged_contexts, "context"),
        ));
    }
    if report.unused_packs > 0 {
        line.push_str(&format!("; {} in no snapshot, for gc", text::count(report.unused_packs, "pack")));
    }
    format!("{line}; {}", text::span(ui.took()))
}

/// Shows what a check finds.
struct CheckWatch {
    ui: Arc<Ui>,
    /// The contexts that are worked on at mounts of this machine.
    mounts: BTreeSet<(String, String)>,
    watch: Watch,
}

impl CheckWatch {
    fn context_for_programs(&self, checked: &CheckedContext) {
        let context = checked.name.as_str();
        for damage in &checked.damage {
            let (key, message) = (&damage.key, &damage.what);
            self.ui.object(&Line::DamagedObject(DamagedObjectLine { context, key, message }));
        }
        for file in &checked.files {
            self.ui.object(&Line::DamagedFile(DamagedFileLine {
                context,
                path: PathField::from(&file.path),
                unnamed: file.unnamed,
                newest: file.newest,
                oldest: file.oldest,
                session: &file.session,
                key: &file.cause.key,
                message: &file.cause.what,
            }));
        }
        for snapshot in &checked.snapshots {
            self.ui.object(&Line::CheckedSnapshot(CheckedSnapshotLine {
                context,
                snapshot: snapshot.number,
                head: snapshot.is_head,
                whole: snapshot.is_whole(),
                time: snapshot.created.map(text::time),
                files_damaged: snapshot.damaged_files,
                message: snapshot.what.as_deref(),
            }));
        }
        self.ui.object(&Line::CheckedContext(CheckedContextLine {
            context,
            whole: checked.is_whole(),
            snapshots: checked.snapshots.len() as u64,
            snapshots_damaged: damaged(checked).count() as u64,
        }));
    }

    fn context_for_people(&self, checked: &CheckedContext) {
        let name = checked.name.as_str();
        if checked.is_whole() {
            if self.ui.verbose() > 0 {
                let count = text::count(checked.snapshots.len() as u64, "snapshot");
                self.ui.line(&format!("{name}: {count}, no damage found"));
            }
            return;
        }
        for damage in &checked.damage {
            let failure = Failure::new(Exit::FAILED, format!("{name}: {}: {}", damage.key, damage.what));
            self.ui.failure(&failure.hint(format!(
                "put the object back from a copy of the store; or {}",
                what_mends(checked, damage)
            )));
        }
        for snapshot in damaged(checked) {
            let head = if snapshot.is_head { ", the head" } else { "" };
            let files = text::count(snapshot.damaged_files, "file");
            let what = snapshot.what.as_ref().map(|what| format!("; {what}")).unwrap_or_default();
            self.ui.line(&format!("{name}@{}{head}: {files} can't be read{what}", snapshot.number));
        }
        self.files(checked);
        if !checked.files.is_empty() {
            let here = self.mounts.iter().filter(|(context, _)| context == name);
            let here: Vec<_> = here
                .map(|(_, mount)| format!("`ctxsync push --heal {name} {}`", text::shell(mount)))
                .collect();
            let how = match here.is_empty() {
                true => format!(
                    "a machine that has these files sends them again with `ctxsync push --heal {name} DIR`"
                ),
                false => format!("this machine may have these files: {} sends them again", here.join(", ")),
            };
            self.ui.hint(&format!(
                "{how}; `ctxsync repair {name}` looks for other copies in the store, and leaves out what is lost"
            ));
        }
    }
}

impl CheckWatch {
    /// Lists the damaged files, below what is wrong with them.
    fn files(&self, checked: &CheckedContext) {
        let mut by_cause: BTreeMap<(&str, &str), Vec<&DamagedFile>> = BTreeMap::new();
        for file in &checked.files {
            by_cause.entry((&file.cause.key, &file.cause.what)).or_default().push(file);
        }
        let shown = if self.ui.verbose() > 0 { usize::MAX } else { SHOWN };
        for ((key, what), files) in by_cause {
            self.ui.line(&format!("  {key}: {what}"));
            files.iter().take(shown).for_each(|file| self.ui.line(&line_of(file)));
            if files.len() > shown {
                let more = text::count((files.len() - shown) as u64, "more file");
                self.ui.line(&format!("    and {more}; -v shows all"));
            }
        }
    }
}

impl CheckMonitor for CheckWatch {
    fn context(&self, checked: &CheckedContext) {
        if self.ui.is_json() {
            self.context_for_programs(checked);
        } else {
            self.context_for_people(checked);
        }
    }

    fn progress(&self, progress: &Progress) {
        self.watch.progress(progress);
    }

    fn warning(&self, message: &str) {
        self.watch.warning(message);
    }
}

/// Says which command does without a damaged object.
fn what_mends(checked: &CheckedContext, damage: &Damage) -> String {
    let name = &checked.name;
    let is_head = |number| checked.snapshots.iter().any(|s| s.is_head && s.number == number);
    match text::store_key(&damage.key) {
        Some(StoreKey::Tag { name: tag, .. }) => {
            format!("`ctxsync context untag {name}@{tag}` deletes the tag")
        }
        Some(StoreKey::Snapshot { number, .. }) if !is_head(number) => {
            format!("`ctxsync repair --yes --forget-damaged {name}` forgets snapshot {number}")
        }
        _ => format!("`ctxsync repair --yes {name}` makes a new head of what is left"),
    }
}

fn damaged(checked: &CheckedContext) -> impl Iterator<Item = &CheckedSnapshot> {
    checked.snapshots.iter().filter(|snapshot| !snapshot.is_whole())
}

fn line_of(file: &DamagedFile) -> String {
    let DamagedFile { path, unnamed, newest, oldest, session, .. } = file;
    let what = match unnamed {
        0 => path.to_string(),
        many => format!("{} from {path} on, whose names can't be read", text::count(*many, "path")),
    };
    let snapshots = if newest == oldest { format!("@{newest}") } else { format!("@{oldest} to @{newest}") };
    let from = if session.is_empty() { String::new() } else { format!(", pushed by session {session}") };
    format!("    {what}  ({snapshots}{from})")
}
