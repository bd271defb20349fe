//! `repair`: gives damaged contexts a new head that is whole.

use std::sync::Arc;

use policy_core::TreePath;
use transfer_engine::{
    ContextName, Damage, Fate, Monitor, Phase, Progress, ReadData, RepairMonitor, RepairOptions, Repaired,
    SyncReport,
};

use super::Finished;
use super::context::tag_list;
use crate::args::RepairArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::json::{Line, PathField, RepairedContextLine, RepairedFileLine};
use crate::output::summary::Mended;
use crate::output::{Ui, Watch};
use crate::text;

pub(super) async fn repair(args: &RepairArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let dry_run = !args.yes || settings.dry_run.value;
    let options = RepairOptions {
        contexts: args.names.clone(),
        read_data: if args.quick { ReadData::None } else { ReadData::All },
        dry_run,
        forget_damaged: args.forget_damaged,
        concurrency: settings.concurrency.value,
        memory: settings.memory.value,
    };
    let store = open_store(means, false)?.store;
    let before = store.usage();
    let watch = RepairWatch { ui: Arc::clone(ui), watch: Watch::new(ui, false), dry_run };
    watch.watch.phase(Phase::Checking);
    let report = store.repair(&options, &watch).await?;
    watch.watch.phase(Phase::Done);
    if report.described {
        let words = if dry_run { "would be written again" } else { "is written again" };
        ui.warning(&format!(
            "the store's description was missing or damaged, and {words}, by what snapshots say"
        ));
    }
    if !ui.is_json() {
        let took = text::span(ui.took());
        if report.described && dry_run {
            ui.line(&format!("would repair the store's description; the rest is checked then; {took}"));
        } else if report.check.is_whole() {
            let contexts = text::count(report.check.contexts, "context");
            ui.line(&format!("checked {contexts}: no damage found; {took}"));
        } else {
            let (repaired, beyond) =
                (text::count(report.repaired, "context"), text::count(report.beyond, "context"));
            let verb = if dry_run { "would repair" } else { "repaired" };
            ui.line(&format!(
                "{verb} {repaired}: {} healed, {} left out; {beyond} beyond repair; {took}",
                text::count(report.healed, "file"),
                text::count(report.left_out, "file"),
            ));
            if dry_run {
                ui.note("nothing was written; --yes does it");
            }
        }
    }
    let exit = match () {
        () if report.beyond + report.failed > 0 => Exit::FAILED,
        () if report.left_out > 0 => Exit::INCOMPLETE,
        () => Exit::DONE,
    };
    let usage = store.usage().since(&before);
    let sync = SyncReport { requests: usage.requests, ..SyncReport::default() };
    let mended = Mended {
        contexts_repaired: report.repaired,
        contexts_beyond_repair: report.beyond,
        contexts_failed: report.failed,
        files_healed: report.healed,
        files_left_out: report.left_out,
    };
    Ok(Finished { exit, report: Some(sync), repaired: Some(mended), dry_run, ..Finished::default() })
}

/// Shows what a repair does.
struct RepairWatch {
    ui: Arc<Ui>,
    watch: Watch,
    dry_run: bool,
}

impl RepairMonitor for RepairWatch {
    fn file(&self, context: &ContextName, path: &TreePath, fate: Fate, cause: &Damage) {
        let (key, message) = (&cause.key, &cause.what);
        let (name, words) = match fate {
            Fate::Healed => ("healed", "healed from another pack"),
            Fate::FromOlder => ("from_older", "taken from an older snapshot"),
            Fate::LeftOut => ("left_out", "left out"),
            _ => ("mended", "mended"),
        };
        if self.ui.is_json() {
            let (context, path) = (context.as_str(), PathField::from(path));
            self.ui.object(&Line::RepairedFile(RepairedFileLine { context, path, fate: name, key, message }));
        } else {
            self.ui.line(&format!("{context}:{path}: {words} ({key}: {message})"));
        }
    }

    fn context(&self, context: &ContextName, repaired: &Repaired) {
        if self.ui.is_json() {
            self.ui.object(&Line::RepairedContext(RepairedContextLine {
                context: context.as_str(),
                snapshot: repaired.snapshot,
                healed: repaired.healed,
                from_older: repaired.from_older,
                left_out: repaired.left_out,
                unnamed: repaired.unnamed,
                begins_anew: repaired.begins_anew,
                untagged: &repaired.untagged,
                forgotten: &repaired.forgotten,
                damaged_left: &repaired.damaged_left,
                beyond: repaired.beyond.as_deref(),
                failed: repaired.failed.as_deref(),
            }));
            return;
        }
        if let Some(why) = &repaired.beyond {
            let failure = Failure::new(Exit::FAILED, format!("{context} is beyond repair: {why}"));
            self.ui.failure(&failure.hint("bring its objects back from a copy of the store"));
            return;
        }
        if let Some(why) = &repaired.failed {
            let failure = Failure::new(Exit::FAILED, format!("{context} was not repaired: {why}"));
            self.ui.failure(&failure.hint(
                "run the command again; if an object can't be read for good, remove it, and what it held counts as lost",
            ));
            return;
        }
        self.ui.line(&self.sentence(context, repaired));
        if repaired.left_out + repaired.unnamed > 0 {
            self.ui.hint(&format!(
                "a machine that has the files that are left out sends them with its next push: `ctxsync push {context} DIR`"
            ));
        }
        if !repaired.damaged_left.is_empty() {
            let left = repaired.damaged_left.iter().map(|n| format!("@{n}")).collect::<Vec<_>>().join(", ");
            self.ui.hint(&format!(
                "older snapshots of {context} stay damaged: {left}; `ctxsync repair --yes --forget-damaged {context}` \
                 leaves them to gc"
            ));
        }
    }

    fn progress(&self, progress: &Progress) {
        self.watch.progress(progress);
    }

    fn warning(&self, message: &str) {
        self.watch.warning(message);
    }
}

impl RepairWatch {
    fn sentence(&self, context: &ContextName, repaired: &Repaired) -> String {
        let mut line = match (repaired.snapshot, self.dry_run) {
            (Some(number), _) => format!("{context}@{number} is the new head"),
            (None, true) if repaired.head_damaged => format!("{context} would get a new head"),
            (None, _) => format!("{context}: the head is whole"),
        };
        if let Some(from) = repaired.from {
            line.push_str(&format!(", with the tree of @{from}, because no newer one can be read"));
        }
        for (count, what) in [
            (repaired.healed, "healed"),
            (repaired.from_older, "taken from older snapshots"),
            (repaired.left_out, "left out"),
        ] {
            if count > 0 {
                line.push_str(&format!("; {} {what}", text::count(count, "file")));
            }
        }
        if repaired.unnamed > 0 {
            line.push_str(&format!("; {} lost with their names", text::count(repaired.unnamed, "path")));
        }
        if repaired.begins_anew {
            line.push_str(
                "; the context begins anew: machines compare all files at their next sync, and delete none",
            );
        }
        if !repaired.untagged.is_empty() {
            let (tags, verb) = (tag_list(&repaired.untagged), if self.dry_run { "would be" } else { "are" });
            line.push_str(&format!("; damaged tags {verb} deleted: {tags}"));
        }
        if !repaired.forgotten.is_empty() {
            let count = text::count(repaired.forgotten.len() as u64, "damaged snapshot");
            line.push_str(&format!("; {count} forgotten"));
        }
        line
    }
}
