//! `purge`: takes paths out of every snapshot of a context, and out of every pack.

use transfer_engine::{
    CollectOptions, ContextName, PurgeOptions, Purged, PurgedTag, Silent, Store, SyncReport,
};

use super::Finished;
use super::rm::one_context;
use crate::args::PurgeArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Ui;
use crate::output::json::{Line, PathField, PurgedLine, PurgedTagField, StillHeldLine};
use crate::text;

/// Files with some of the content that are shown to people, without `-v`.
const SHOWN: usize = 20;

pub(super) async fn purge(args: &PurgeArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let (name, paths) = one_context(&args.places)?;
    let store = open_store(means, false)?.store;
    let dry_run = settings.dry_run.value;
    let options = PurgeOptions {
        dry_run: true,
        concurrency: settings.concurrency.value,
        memory: settings.memory.value,
    };
    let planned = store.purge(name, &paths, &options).await?;
    if !ui.is_json() {
        show(&planned, name, ui);
    }
    let purged = if dry_run {
        planned
    } else {
        consent(args, &planned, name, ui)?;
        store.purge(name, &paths, &PurgeOptions { dry_run: false, ..options }).await?
    };
    let deleted = if dry_run { 0 } else { collect(args, &store, means).await? };
    tell(&purged, name, dry_run, deleted, args, ui);
    let exit = if purged.still_held.is_empty() { Exit::DONE } else { Exit::INCOMPLETE };
    let report =
        SyncReport { snapshot: purged.snapshot, deleted: purged.paths.len() as u64, ..SyncReport::default() };
    Ok(Finished { exit, report: Some(report), dry_run, ..Finished::of_context(name) })
}

/// Says what is about to be done.
fn show(planned: &Purged, name: &ContextName, ui: &Ui) {
    for path in &planned.paths {
        ui.line(&format!("{name}:{path}"));
    }
    for (context, numbers) in &planned.forgotten {
        let numbers = numbers.iter().map(|number| format!("@{number}")).collect::<Vec<_>>().join(", ");
        let (then, why) = if context == name {
            ("", "they have the paths, or need packs that hold, or may hold, their content")
        } else {
            (", after its head has moved to new packs", "they need packs that hold, or may hold, the content")
        };
        ui.line(&format!("forget of {context}{then}: {numbers} ({why})"));
    }
    if planned.unknown_packs > 0 {
        let packs = text::count(planned.unknown_packs, "more pack");
        ui.line(&format!("{packs} may hold older content of the paths, of snapshots that were erased"));
    }
    for PurgedTag { context, number, tag } in &planned.tags {
        ui.line(&format!("delete tag {context}@{tag}, which is on @{number}"));
    }
    let shown = if ui.verbose() > 0 { usize::MAX } else { SHOWN };
    for held in planned.still_held.iter().take(shown) {
        ui.warning(&format!(
            "{}@{}:{} has the same content, or a part of it, and keeps it",
            held.context, held.number, held.path
        ));
    }
    if planned.still_held.len() > shown {
        let more = text::count((planned.still_held.len() - shown) as u64, "more file");
        ui.warning(&format!("{more} have the same content, or a part of it; -v shows all"));
    }
}

fn consent(args: &PurgeArgs, planned: &Purged, name: &ContextName, ui: &Ui) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    let snapshots = planned.forgotten.values().map(Vec::len).sum::<usize>() as u64;
    let paths = text::count(planned.paths.len() as u64, "path");
    let question = format!("purge {paths} from {name}, and forget {}?", text::count(snapshots, "snapshot"));
    match ui.confirm(&question) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(Exit::FAILED, "nothing was purged")),
        None => Err(Failure::usage(format!("{name} is purged only by consent"))
            .hint("there is no terminal to confirm on; pass --yes, or --dry-run to see what would be done")),
    }
}

/// Deletes the packs at once, if nobody else uses the store, and returns how many.
async fn collect(args: &PurgeArgs, store: &Store, means: Means<'_>) -> Result<u64, Failure> {
    if !args.exclusive {
        return Ok(0);
    }
    let options = CollectOptions {
        exclusive: true,
        concurrency: means.settings.concurrency.value,
        memory: means.settings.memory.value,
        ..CollectOptions::default()
    };
    Ok(store.collect(&options, &Silent).await?.packs_deleted)
}

fn tag_field(purged: &PurgedTag) -> PurgedTagField<'_> {
    PurgedTagField { context: purged.context.as_str(), snapshot: purged.number, tag: &purged.tag }
}

fn tell(purged: &Purged, name: &ContextName, dry_run: bool, deleted: u64, args: &PurgeArgs, ui: &Ui) {
    if ui.is_json() {
        for held in &purged.still_held {
            let (context, snapshot) = (held.context.as_str(), held.number);
            let path = PathField::from(&held.path);
            ui.object(&Line::StillHeld(StillHeldLine { context, snapshot, path }));
        }
        let contexts: Vec<_> = purged.forgotten.keys().map(ContextName::as_str).collect();
        ui.object(&Line::Purged(PurgedLine {
            context: name.as_str(),
            paths: purged.paths.iter().map(PathField::from).collect(),
            snapshot: purged.snapshot,
            contexts,
            forgotten: purged.forgotten.values().map(Vec::len).sum::<usize>() as u64,
            tags: purged.tags.iter().map(tag_field).collect(),
            packs: purged.packs,
            packs_unknown: purged.unknown_packs,
            packs_deleted: deleted,
        }));
        return;
    }
    let snapshots = text::count(purged.forgotten.values().map(Vec::len).sum::<usize>() as u64, "snapshot");
    let (paths, packs) = (text::count(purged.paths.len() as u64, "path"), text::count(purged.packs, "pack"));
    let took = text::span(ui.took());
    if dry_run {
        ui.line(&format!("would purge {paths} from {name}: {snapshots} forgotten, {packs} given up; {took}"));
        return;
    }
    let head = purged.snapshot.map(|number| format!("@{number} is the new head, ")).unwrap_or_default();
    ui.line(&format!("purged {paths} from {name}: {head}{snapshots} forgotten, {packs} given up; {took}"));
    if !args.exclusive && purged.packs > 0 {
        ui.hint(
            "the bytes are in the store until the first `ctxsync gc` after the grace period; with --exclusive, when \
             nobody else uses the store, they are deleted at once",
        );
    }
}
