//! Counts what the runs have met: faults, decisions, and the ways in which the engine recovers. The engine tells the
//! latter two in its log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

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

/// What the tests of a commit must meet.
const WANTED: [&str; 30] = [
    "decided: Delete towards the Mount: DeletedThere",
    "decided: Delete towards the Store: DeletedHere",
    "decided: Keep towards the Mount: NotSentYet",
    "decided: Keep towards the Store: ChangedThere",
    "decided: Keep towards the Store: DeletedHereKept",
    "decided: Keep towards the Store: NotYetBrought",
    "decided: KeepBoth towards the Mount: BothChanged",
    "decided: KeepBoth towards the Store: BothChanged",
    "decided: Nothing towards the Mount: SameChange",
    "decided: Nothing towards the Mount: Unchanged",
    "decided: Nothing towards the Store: SameChange",
    "decided: Nothing towards the Store: Unchanged",
    "decided: Withhold towards the Store: Unreadable",
    "decided: Write towards the Mount: ChangedThere",
    "decided: Write towards the Mount: NewThere",
    "decided: Write towards the Store: ChangedHere",
    "decided: Write towards the Store: NewHere",
    "file: EACCES at a read of the state",
    "file: EIO at a read of the state",
    "file: EMFILE at a read of the state",
    "file: ENOSPC at a read of the state",
    "file: loss of power at a change",
    "file: loss of power while nothing runs",
    "log: a directory keeps its time",
    "log: an interrupted commit has landed",
    "log: another writer was first; the changes are planned on the new head",
    "log: the mount changed while it was scanned; it is scanned again",
    "log: what a pull has put in place is written into the base",
    "machine gone in the middle of a sync",
    "report: conflict",
];

/// Returns what the tests of a commit must meet, and have not met.
pub(crate) fn missing() -> Vec<&'static str> {
    let counts = counts();
    WANTED.into_iter().filter(|what| !counts.contains_key(*what)).collect()
}
