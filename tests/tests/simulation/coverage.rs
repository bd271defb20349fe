//! Counts what the runs have met: faults, decisions, and the ways in which the engine recovers. The engine tells the
//! latter two in its log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, Once};

use storage_backends::layer::{Fault, Operation};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::draw::FAULTS;
use crate::outside::lock;

static MET: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// Counts something that was met.
pub(crate) fn met(what: impl Into<String>) {
    *lock(&MET).entry(what.into()).or_default() += 1;
}

/// Returns how often everything was met.
pub(crate) fn counts() -> BTreeMap<String, u64> {
    lock(&MET).clone()
}

/// Listens to the engine's log from now on.
pub(crate) fn listen() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
}

/// Returns a message without what differs from run to run: numbers and names.
pub(crate) fn shape(message: &str) -> String {
    let mut shape = String::new();
    for (at, part) in message.split('`').enumerate() {
        shape += if at % 2 == 1 { "`…`" } else { part };
    }
    let mut short = String::new();
    for c in shape.chars() {
        match c {
            '0'..='9' if short.ends_with('#') => {}
            '0'..='9' => short.push('#'),
            c => short.push(c),
        }
    }
    short
}

struct Listener;

#[derive(Default)]
struct Fields {
    message: String,
    towards: String,
    verdict: String,
    reason: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let place = match field.name() {
            "message" => &mut self.message,
            "towards" => &mut self.towards,
            "verdict" => &mut self.verdict,
            "reason" => &mut self.reason,
            _ => return,
        };
        *place = format!("{value:?}");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("transfer_engine") && *metadata.level() <= Level::TRACE
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.verdict.is_empty() {
            met(format!("log: {}", shape(&fields.message)));
        } else {
            met(format!("decided: {} towards the {}: {}", fields.verdict, fields.towards, fields.reason));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The rows of the decision table (`policy_core::decide`), but for those of contents that are sent again and of file
/// systems that are not mounted, which no machine here has.
const DECISIONS: [&str; 41] = [
    "Delete towards the Mount: DeletedThere",
    "Delete towards the Store: DeletedHere",
    "HoldBack towards the Mount: DeletedThereHeld",
    "HoldBack towards the Store: DeletedHereHeld",
    "HoldBack towards the Store: DeletedHereInDoubt",
    "Keep towards the Mount: BothChangedLocalWins",
    "Keep towards the Mount: ChangeHereBeatsDeletion",
    "Keep towards the Mount: DeletedHere",
    "Keep towards the Mount: Extracted",
    "Keep towards the Mount: Modes",
    "Keep towards the Mount: NotSentYet",
    "Keep towards the Store: BothChangedRemoteWins",
    "Keep towards the Store: ChangeThereBeatsDeletion",
    "Keep towards the Store: ChangedThere",
    "Keep towards the Store: DeletedHereKept",
    "Keep towards the Store: Extracted",
    "Keep towards the Store: NotYetBrought",
    "KeepBoth towards the Mount: BothChanged",
    "KeepBoth towards the Store: BothChanged",
    "Nothing towards the Mount: DeletedOnBoth",
    "Nothing towards the Mount: SameChange",
    "Nothing towards the Mount: Unchanged",
    "Nothing towards the Store: DeletedOnBoth",
    "Nothing towards the Store: DeletedThere",
    "Nothing towards the Store: SameChange",
    "Nothing towards the Store: Unchanged",
    "Stop towards the Mount: BothChanged",
    "Stop towards the Store: BothChanged",
    "Withhold towards the Mount: Recycled",
    "Withhold towards the Mount: Unreadable",
    "Withhold towards the Store: NeedsDeletion",
    "Withhold towards the Store: Recycled",
    "Withhold towards the Store: Unreadable",
    "Write towards the Mount: BothChangedRemoteWins",
    "Write towards the Mount: BroughtAgain",
    "Write towards the Mount: ChangeThereBeatsDeletion",
    "Write towards the Mount: ChangedThere",
    "Write towards the Mount: NewThere",
    "Write towards the Store: BothChangedLocalWins",
    "Write towards the Store: ChangeHereBeatsDeletion",
    "Write towards the Store: ReplacesRecycled",
];

/// How the engine goes on after something went wrong, and what it says of it.
const RECOVERIES: [&str; 48] = [
    "a machine follows a renamed context",
    "a tree with segments in packs",
    "done: Collect",
    "done: EditFork",
    "done: Fork",
    "done: Merge",
    "done: Rename",
    "done: Restore",
    "done: Revert",
    "done: Tag",
    "extraction: a folder is in place when the machine is gone",
    "extraction: an archive is marked",
    "extraction: an archive is removed after it",
    "extraction: an archive stays after it",
    "extraction: done",
    "extraction: done after the machine was gone",
    "extraction: refused or failed",
    "extraction: something is in the place of a member",
    "log: a pack that an earlier push has sent is used",
    "log: an interrupted commit has landed",
    "log: an interrupted commit has not landed",
    "log: another writer was first; the changes are planned on the new head",
    "log: the commit has landed, whatever was answered",
    "log: the commit has not landed, or may not have; it is put again",
    "log: the mount changed while it was scanned; it is scanned again",
    "log: the new head lacks what was not sent, or the commit came late; the mount is read again",
    "log: the pack has landed, whatever was answered",
    "log: what was in many small packs is gathered",
    "log: what is in many small packs can't be gathered now",
    "log: the pack is put again",
    "log: what a pull has put in place is written into the base",
    "machine gone in the middle of a sync",
    "recycled: a file",
    "recycled: a machine keeps what it has",
    "recycled: by a collection",
    "repair: left out",
    "repair: the machines had all of the head, and only older snapshots are damaged",
    "report: conflict",
    "report: deletion held back",
    "report: file recycled",
    "report: file withheld that was recycled",
    "report: path that could not be synced",
    "session: dropped without a release",
    "session: fetched",
    "session: opened",
    "session: released",
    "session: released in time",
    "warning: the context was deleted since the last sync, and is a new one now; the mount is treated as new, and nothing is deleted",
];

/// The faults of the file system.
const FILES: [&str; 16] = [
    "EACCES at a change",
    "EACCES at a read of the mount",
    "EACCES at a read of the state",
    "EIO at a change",
    "EIO at a read of the mount",
    "EIO at a read of the state",
    "EMFILE at a change",
    "EMFILE at a read of the mount",
    "EMFILE at a read of the state",
    "ENOSPC at a change",
    "ENOSPC at a read of the state",
    "crash at a change",
    "crash at a change after a rename",
    "every call fails at a change",
    "loss of power at a change",
    "loss of power while nothing runs",
];

/// Returns the name of a fault of the store, without its numbers.
pub(crate) fn store_fault(fault: Fault, operation: Operation) -> String {
    let name = format!("{fault:?}");
    format!("store: {} at a {operation}", name.split('(').next().unwrap_or_default())
}

/// Returns what the runs must have met, and have not.
pub(crate) fn missing() -> Vec<String> {
    let counts = counts();
    let decisions = DECISIONS.iter().map(|row| format!("decided: {row}"));
    let files = FILES.iter().map(|fault| format!("file: {fault}"));
    let store = FAULTS.iter().flat_map(|(fault, meant)| meant.iter().map(|on| store_fault(*fault, *on)));
    let wanted = decisions.chain(files).chain(store).chain(RECOVERIES.map(str::to_owned));
    wanted.filter(|what| !counts.contains_key(what)).collect()
}

/// Shows as a table how often each thing was met.
pub(crate) fn table() -> String {
    let rows = counts().into_iter().map(|(what, count)| format!("| {what} | {count} |\n"));
    format!("| what was met | times |\n|---|---:|\n{}", rows.collect::<String>())
}
