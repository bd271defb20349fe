//! `gc`: forget snapshots, and delete what no snapshot needs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use policy_core::Timestamp;
use storage_backends::{Leftover, leftovers};
use transfer_engine::format::StoreKey;
use transfer_engine::recycle::Recycled;
use transfer_engine::{
    CollectMonitor, CollectOptions, CollectReport, ContextName, Forgotten, Gathering, Kept, LostPack,
    SyncReport, Unreadable, Why,
};

use super::Finished;
use crate::args::GcArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Ui;
use crate::output::json::{ForgottenLine, GatheredLine, KeptLine, Line, PacksLine, RecycledLine};
use crate::output::summary::Collected;
use crate::retention;
use crate::text;
use crate::values::Span;

pub(super) async fn gc(args: &GcArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let dry_run = settings.dry_run.value;
    let options = CollectOptions {
        retention: retention::chosen(args)?,
        exclusive: args.exclusive,
        dry_run,
        gathering: Gathering::default(),
        concurrency: settings.concurrency.value,
        memory: settings.memory.value,
    };
    let open = open_store(means, false)?;
    let watch = GcWatch { ui: Arc::clone(ui), dry_run, has_head: AtomicBool::new(false) };
    let report = open.store.collect(&options, &watch).await?;
    for name in args.names.iter().filter(|name| report.unmatched.contains(name)) {
        ui.warning(&format!("no context is named {name}: --keep-* apply to nothing there"));
    }
    let mut outcome = Finished { dry_run, ..Finished::default() };
    let mut cleared = Vec::new();
    if report.unreadable > 0 || report.packs_lost > 0 {
        outcome.exit = Exit::FAILED;
    } else {
        if report.failed > 0 {
            outcome.exit = Exit::INCOMPLETE;
        }
        if let Some(dir) = &open.local_dir {
            cleared = clear(dir, &report, &options)?;
        }
    }
    let collected = collected(&report, cleared.len());
    if ui.is_json() {
        for (kind, packs, bytes) in [
            ("kept", report.packs_kept, report.bytes_kept),
            ("waiting", report.packs_waiting, report.bytes_waiting),
            ("deleted", report.packs_deleted, report.bytes_deleted),
        ] {
            ui.object(&Line::Packs(PacksLine { kind, packs, bytes }));
        }
    } else {
        ui.line(&sentence(&report, &cleared, dry_run, ui.took()));
        if report.forgotten > 0 && !options.exclusive && !dry_run && outcome.exit == Exit::DONE {
            let grace = Span(Duration::from_secs(report.grace));
            ui.hint(&format!(
                "what only the forgotten snapshots hold is deleted by the first gc after the grace period of {grace}; \
                 with --exclusive, when nobody else uses the store, at once"
            ));
        }
    }
    let report = SyncReport { requests: report.usage.requests, ..SyncReport::default() };
    Ok(Finished { collected: Some(collected), report: Some(report), ..outcome })
}

/// Removes what interrupted puts have left in a local store, and returns what was removed.
fn clear(dir: &Path, report: &CollectReport, options: &CollectOptions) -> Result<Vec<Leftover>, Failure> {
    let before = if options.exclusive {
        SystemTime::now()
    } else {
        let until = u64::try_from(report.time).unwrap_or(0).saturating_sub(report.grace);
        UNIX_EPOCH + Duration::from_secs(until)
    };
    let is_key =
        |key: &object_store::path::Path| StoreKey::parse(key).is_some() || key.as_ref().starts_with("probe/");
    let found = leftovers(dir, before, is_key).map_err(|e| Failure::local("look through", dir, &e))?;
    if !options.dry_run {
        for leftover in &found {
            match std::fs::remove_file(&leftover.path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::local("remove", &leftover.path, &e));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

fn collected(report: &CollectReport, leftovers: usize) -> Collected {
    Collected {
        contexts: report.contexts,
        snapshots: report.snapshots,
        forgotten: report.forgotten,
        files_recycled: report.files_recycled,
        bytes_recycled: report.bytes_recycled,
        packs_gathered: report.packs_gathered,
        bytes_gathered: report.bytes_gathered,
        erased: report.erased,
        freed: report.freed,
        unreadable: report.unreadable,
        packs_kept: report.packs_kept,
        bytes_kept: report.bytes_kept,
        packs_waiting: report.packs_waiting,
        bytes_waiting: report.bytes_waiting,
        packs_lost: report.packs_lost,
        packs_deleted: report.packs_deleted,
        bytes_deleted: report.bytes_deleted,
        leftovers_deleted: leftovers as u64,
    }
}

/// Returns the line that says what was done.
fn sentence(report: &CollectReport, cleared: &[Leftover], dry_run: bool, took: Duration) -> String {
    let took = text::span(took);
    if report.unreadable > 0 {
        let snapshots = text::count(report.unreadable, "snapshot");
        return format!("nothing was deleted, because {snapshots} could not be read; {took}");
    }
    let (forgot, deleted) = if dry_run { ("would forget", "would delete") } else { ("forgot", "deleted") };
    let mut line = format!(
        "{forgot} {}, {deleted} {} ({})",
        text::count(report.forgotten, "snapshot"),
        text::count(report.packs_deleted, "pack"),
        text::bytes(report.bytes_deleted),
    );
    if !cleared.is_empty() {
        let bytes = cleared.iter().map(|l| l.size).sum();
        let count = text::count(cleared.len() as u64, "interrupted put");
        line.push_str(&format!(" and {count} ({})", text::bytes(bytes)));
    }
    line.push_str(&format!(
        "; kept {} ({}) for {}",
        text::count(report.packs_kept, "pack"),
        text::bytes(report.bytes_kept),
        text::count(report.snapshots, "snapshot"),
    ));
    if report.packs_waiting > 0 {
        let grace = Span(Duration::from_secs(report.grace));
        let (count, bytes) = (text::count(report.packs_waiting, "pack"), text::bytes(report.bytes_waiting));
        line.push_str(&format!("; {count} ({bytes}) younger than the grace period of {grace}"));
    }
    if report.packs_lost > 0 {
        line.push_str(&format!("; {} lost", text::count(report.packs_lost, "pack")));
    }
    if report.failed > 0 {
        line.push_str(&format!("; {} not deleted", text::count(report.failed, "pack")));
    }
    format!("{line}; {took}")
}

/// Shows the progress of a collection.
struct GcWatch {
    ui: Arc<Ui>,
    dry_run: bool,
    /// Whether the table has its head.
    has_head: AtomicBool,
}

impl GcWatch {
    /// Shows a row of what would become of each snapshot.
    fn row(&self, context: &ContextName, number: u64, landed: Timestamp, fate: &str, reasons: &str) {
        if !self.has_head.swap(true, Ordering::Relaxed) {
            self.ui.line(&format!("{:<24}  {:<20}  {:<6}  why", "snapshot", "committed", ""));
        }
        let (snapshot, time) = (format!("{context}@{number}"), text::moment(landed));
        self.ui.line(&format!("{snapshot:<24}  {time:<20}  {fate:<6}  {reasons}"));
    }
}

impl CollectMonitor for GcWatch {
    fn kept(&self, kept: &Kept) {
        let landed = Timestamp { secs: kept.landed, nanos: 0 };
        let reasons: Vec<&str> = kept.reasons.iter().map(|reason| reason.as_str()).collect();
        if self.ui.is_json() {
            let (context, snapshot, time) = (kept.context.as_str(), kept.number, text::time(landed));
            self.ui.object(&Line::Kept(KeptLine { context, snapshot, time, reasons }));
        } else {
            self.row(&kept.context, kept.number, landed, "keep", &reasons.join(", "));
        }
    }

    fn forgotten(&self, forgotten: &Forgotten) {
        let landed = Timestamp { secs: forgotten.landed, nanos: 0 };
        let (reason, why) = match forgotten.why {
            Why::Retention => ("retention", "no rule keeps it"),
            Why::Deleted => ("deleted", "its context is deleted"),
            Why::Recycled => ("recycled", "it has recycled files"),
            _ => ("other", "it is not needed"),
        };
        let context = forgotten.context.as_str();
        if self.ui.is_json() {
            let (snapshot, time) = (forgotten.number, text::time(landed));
            self.ui.object(&Line::Forgotten(ForgottenLine { context, snapshot, time, reason }));
        } else if self.dry_run {
            self.row(&forgotten.context, forgotten.number, landed, "forget", why);
        } else {
            self.ui.line(&format!(
                "forget {context}@{} of {}: {why}",
                forgotten.number,
                text::moment(landed)
            ));
        }
    }

    fn recycled(&self, context: &ContextName, recycled: &Recycled) {
        let next = recycled.next.map(|secs| Timestamp { secs, nanos: 0 });
        if self.ui.is_json() {
            self.ui.object(&Line::Recycled(RecycledLine {
                context: context.as_str(),
                snapshot: recycled.snapshot,
                files: recycled.files,
                bytes: recycled.bytes,
                next_expiry: next.map(text::time),
            }));
            return;
        }
        let verb = if self.dry_run { "would recycle" } else { "recycle" };
        let (files, bytes) = (text::count(recycled.files, "file"), text::bytes(recycled.bytes));
        let mut line = format!("{verb} {files} ({bytes}) of {context}");
        if !recycled.forgotten.is_empty() {
            let count = text::count(recycled.forgotten.len() as u64, "snapshot");
            line.push_str(&format!(", and forget {count} that held them"));
        }
        if let Some(next) = next {
            line.push_str(&format!("; the next expires at {}", text::moment(next)));
        }
        self.ui.line(&line);
    }

    fn gathered(&self, context: &ContextName, packs: u64, bytes: u64) {
        if self.ui.is_json() {
            let context = context.as_str();
            self.ui.object(&Line::Gathered(GatheredLine { context, packs, bytes }));
            return;
        }
        let verb = if self.dry_run { "would move" } else { "move" };
        let (bytes, packs) = (text::bytes(bytes), text::count(packs, "pack"));
        self.ui.line(&format!("{verb} {bytes} of {context} out of {packs}"));
    }

    fn unreadable(&self, unreadable: &Unreadable) {
        let failure = Failure::new(Exit::FAILED, format!("{} can't be read", unreadable.key));
        self.ui.failure(&match &unreadable.error {
            Some(error) => failure.caused_by(error).hint(format!(
                "which data it needs is not known, so nothing is deleted; `ctxsync check` shows what else is damaged; restore \
                 the object from a backup, or {}",
                what_lets_go_on(&unreadable.key)
            )),
            None => failure.hint("another collection deleted it meanwhile; run this one again later"),
        });
    }

    fn lost(&self, lost: &LostPack) {
        let (context, number) = (lost.context.as_str(), lost.number);
        let snapshot = if lost.is_head { context.to_owned() } else { format!("{context}@{number}") };
        let message = format!("{} is not in the store any more, and {snapshot} needs it", lost.key);
        self.ui.failure(&Failure::new(Exit::FAILED, message).hint(format!(
            "no pack is deleted, because another may hold what is lost; `ctxsync check {context}` names the files that need \
             it; restore the object from a backup, or push those files again, changed, from a machine that has them",
        )));
    }

    fn warning(&self, message: &str) {
        self.ui.warning(message);
    }
}

/// Says which command makes collections do without an object that can't be read.
fn what_lets_go_on(key: &str) -> String {
    match text::store_key(key) {
        Some(StoreKey::Tag { context, name, .. }) => {
            format!("delete the tag with `ctxsync context untag {context}@{name}`")
        }
        Some(StoreKey::Snapshot { context, .. }) => format!(
            "have it forgotten with `ctxsync repair --yes --forget-damaged {context}`: once the grace period is over, gc \
             goes on without it"
        ),
        _ => "delete its context".to_owned(),
    }
}
