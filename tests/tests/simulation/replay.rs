//! Runs schedules, and looks for the shortest one that still fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::outside::lock;
use crate::run::Run;
use crate::schedule::{GRACE, Schedule};
use crate::trace::Trace;

/// How long a shorter schedule is looked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much virtual time a step may take.
const PATIENCE_IN_IT: Duration = Duration::from_secs(100 * GRACE);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Holds,
    Fails(String),
}

/// The message of the last panic.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Runs a schedule, and returns what happened in it if that is wanted.
pub(crate) fn run(schedule: &Schedule, wanted: bool) -> (Fate, Vec<String>) {
    keep_panics();
    let trace = Trace::new(wanted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.unwrap();
    let whole = async {
        let mut run = Run::begin(schedule, trace.clone()).await;
        for step in &schedule.steps {
            let done = tokio::time::timeout(PATIENCE_IN_IT, Box::pin(run.step(step))).await;
            assert!(done.is_ok(), "step {} does not end", step.number);
        }
        Box::pin(run.settle()).await;
    };
    lock(&LAST).clear();
    let fate = match catch_unwind(AssertUnwindSafe(|| runtime.block_on(Box::pin(whole)))) {
        // A task that panics ends alone.
        Ok(()) if lock(&LAST).is_empty() => Fate::Holds,
        Ok(()) | Err(_) => Fate::Fails(lock(&LAST).clone()),
    };
    (fate, trace.lines())
}

/// Has the message of a panic in a run kept and not shown: a schedule that fails is run many times.
fn keep_panics() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let message = panic.to_string();
            if message.contains("seed") {
                show(panic);
            }
            *lock(&LAST) = message;
        }));
    });
}

/// Returns the part of a schedule that `CTXSYNC_STEPS` chooses.
pub(crate) fn chosen(mut schedule: Schedule) -> Schedule {
    let Ok(steps) = std::env::var("CTXSYNC_STEPS") else { return schedule };
    let wanted: Vec<&str> = steps.split(',').collect();
    schedule.steps.retain(|step| wanted.iter().any(|w| w.trim_end_matches('-') == step.number.to_string()));
    for step in &mut schedule.steps {
        if wanted.contains(&format!("{}-", step.number).as_str()) {
            step.store.clear();
            step.files.clear();
        }
    }
    schedule
}

/// Says what fails, with a schedule that is as short as could be found.
pub(crate) fn explain(schedule: Schedule, message: &str) -> String {
    let seed = schedule.seed;
    let whole = schedule.steps.len();
    let short = shrink(schedule);
    let (fate, trace) = run(&short, true);
    let last = if let Fate::Fails(last) = fate { last } else { format!("{message}\n(but not always)") };
    let original = Schedule::draw(seed);
    let steps = short.steps.iter().map(|step| {
        let quiet = original.steps[step.number].is_troubled() && !step.is_troubled();
        format!("{}{}", step.number, if quiet { "-" } else { "" })
    });
    let steps: Vec<String> = steps.collect();
    let shown: Vec<String> = short.steps.iter().map(ToString::to_string).collect();
    format!(
        "seed {seed} fails: {last}\n\n{} of its {whole} steps are enough, with the machines {:?}:\n{}\n\n\
         what happens in them:\n{}\n\nCTXSYNC_SEED={seed} CTXSYNC_STEPS={} cargo test -p ctxsync-tests --test simulation \
         machines_lose_nothing",
        shown.len(),
        short.machines,
        shown.join("\n"),
        trace.join("\n"),
        steps.join(",")
    )
}

/// Leaves out steps, and what goes wrong in them, as long as the schedule still fails.
fn shrink(mut schedule: Schedule) -> Schedule {
    let until = Instant::now() + PATIENCE;
    let fails = |schedule: &Schedule| Instant::now() < until && run(schedule, false).0 != Fate::Holds;
    loop {
        let before = schedule.clone();
        for size in [8, 4, 2, 1] {
            let mut at = 0;
            while at < schedule.steps.len() {
                let mut shorter = schedule.clone();
                shorter.steps.drain(at..schedule.steps.len().min(at + size));
                if fails(&shorter) {
                    schedule = shorter;
                } else {
                    at += size;
                }
            }
        }
        for at in 0..schedule.steps.len() {
            let mut quieter = schedule.clone();
            quieter.steps[at].store.clear();
            quieter.steps[at].files.clear();
            if quieter != schedule && fails(&quieter) {
                schedule = quieter;
            }
        }
        if schedule == before || Instant::now() > until {
            return schedule;
        }
    }
}
