//! `stats`: how much is stored, and what of it is shared.

use transfer_engine::{AlivePacks, StoreStats};

use super::Finished;
use crate::args::StatsArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::json::{Line, StatsLine, StoreStatsLine};
use crate::text;

pub(super) async fn stats(args: &StatsArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let mut damaged = Vec::new();
    let stats = store.stats_but(&args.names, |name, error| damaged.push((name, error))).await?;
    if means.ui.is_json() {
        json(&stats, store.location(), means);
    } else {
        people(&stats, means);
    }
    for (name, error) in &damaged {
        let message = format!("{name} is not counted: what only it needs counts as needed by no snapshot");
        let failure = Failure::new(Exit::INCOMPLETE, message).caused_by(error);
        means.ui.failure(&failure.hint(format!("`ctxsync repair {name}` shows what can be mended")));
    }
    let exit = if damaged.is_empty() { Exit::DONE } else { Exit::INCOMPLETE };
    Ok(Finished { exit, ..Finished::default() })
}

fn json(stats: &StoreStats, location: &str, means: Means<'_>) {
    for one in &stats.contexts {
        means.ui.object(&Line::Stats(StatsLine {
            context: one.context.as_str(),
            snapshots: one.snapshots,
            files: one.files,
            size: one.size,
            stored: one.stored,
            packs: one.packs,
            packs_size: one.packs_size,
            own: one.own,
        }));
    }
    means.ui.object(&Line::StoreStats(StoreStatsLine {
        store: location,
        contexts: stats.contexts.len() as u64,
        size: stats.size(),
        packs: stats.packs,
        packs_size: stats.packs_size,
        unused: stats.unused,
        packs_full: stats.alive.full,
        packs_over_half: stats.alive.over_half,
        packs_under_half: stats.alive.under_half,
        packs_unused: stats.alive.unused,
    }));
}

fn people(stats: &StoreStats, means: Means<'_>) {
    let ui = means.ui;
    ui.line(&format!(
        "{:>10} {:>10} {:>10} {:>10} {:>9}  context",
        "size", "stored", "history", "only here", "snapshots"
    ));
    for one in &stats.contexts {
        let [size, stored, history, own] = [one.size, one.stored, one.packs_size, one.own].map(text::bytes);
        ui.line(&format!(
            "{size:>10} {stored:>10} {history:>10} {own:>10} {:>9}  {}",
            one.snapshots, one.context
        ));
    }
    let (contexts, packs) = (text::count(stats.contexts.len() as u64, "context"), stats.packs);
    ui.line(&format!(
        "{contexts} of {} in {} with {}; {} of it needed by no snapshot",
        text::bytes(stats.size()),
        text::count(packs, "pack"),
        text::bytes(stats.packs_size),
        text::bytes(stats.unused),
    ));
    let AlivePacks { full, over_half, under_half, unused } = stats.alive;
    ui.line(&format!(
        "of the packs, {full} are needed in full, {over_half} by half or more, {under_half} by less, {unused} not at all"
    ));
}
