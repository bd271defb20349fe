//! What each command does.

mod arrivals;
mod branches;
mod cat;
mod check;
mod config;
mod context;
mod copy;
mod diff;
mod documents;
mod explain;
mod fetch;
mod gc;
mod in_place;
mod log;
mod ls;
mod manual;
mod mounts;
mod odd_place;
mod paths;
mod policy;
mod purge;
mod put;
mod reminder;
mod repair;
mod restore;
mod rm;
mod run;
mod running;
mod session;
mod stats;
mod status;
mod store;
mod sync;
mod tag;
mod variables;
mod watch;

use std::ffi::OsString;
use std::fmt::Display;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use transfer_engine::{Env, SyncReport};

use crate::args::{Command, ContextCommand, PlanDirection, PolicyCommand, variable};
use crate::config::{Origin, Settings};
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::output::Ui;
use crate::output::summary::{Checked, Collected, Compared, Copied, Deed, Mended};
use crate::run::{Commands, Signals, Threads, interrupted};

/// The result of a command.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) exit: Exit,
    pub(crate) context: Option<String>,
    pub(crate) report: Option<SyncReport>,
    /// The kind of sync that the last line for people reports; without it there is no such line.
    pub(crate) deed: Option<Deed>,
    pub(crate) dry_run: bool,
    pub(crate) failed: bool,
    /// The result of a collection.
    pub(crate) collected: Option<Collected>,
    /// What a check came to.
    pub(crate) checked: Option<Checked>,
    /// What a repair came to.
    pub(crate) repaired: Option<Mended>,
    /// The figures of a copy.
    pub(crate) copied: Option<Copied>,
    /// The further figures of a comparison.
    pub(crate) compared: Option<Compared>,
}

impl Finished {
    /// Returns the result of a command that succeeded for `context`.
    pub(crate) fn of_context(context: impl ToString) -> Self {
        Self { context: Some(context.to_string()), ..Self::default() }
    }
}

/// Runs a command.
pub(crate) fn execute(
    command: &Command,
    settings: &Settings,
    ui: &Arc<Ui>,
    signals: Result<Signals, Failure>,
) -> Result<Finished, Failure> {
    // An exported CTXSYNC_DRY_RUN applies to all commands, so a command that changes nothing ignores it.
    let meant = command.changes_something() || settings.dry_run.origin == Origin::Flag;
    if settings.dry_run.value && !command.takes_dry_run() && meant {
        return Err(Failure::usage("--dry-run means nothing here, so nothing was done")
            .hint(
                "push, pull, sync, restore, context merge, context revert, gc, repair, purge and copy take it, and \
                 `ctxsync plan` shows the same",
            ));
    }
    // An exported CTXSYNC_EXCLUDE is for the commands that take it.
    if settings.exclude.origin == Origin::Flag && !command.takes_exclude() {
        return Err(Failure::usage("--exclude means nothing here, so nothing was done").hint(
            "push, pull, sync, plan, run, watch, fetch, explain, diff and restore --in-place take it; elsewhere name the \
             paths that are meant",
        ));
    }
    if command.always_writes() && !settings.dry_run.value && is_read_only() {
        return Err(Failure::usage("CTXSYNC_READ_ONLY is set, and this command writes to the store")
            .hint("nothing was done; unset the variable, or look at what it would do with --dry-run or `ctxsync plan`"));
    }
    if let Some(context) = context_of(command) {
        ui.known().note_context(&context);
    }
    let env = Env::real();
    let means = Means { settings, ui, env: &env };
    match command {
        Command::Explain(args) => explain::explain(args, means),
        Command::Policy(PolicyCommand::Preset { name }) => documents::preset(*name, means),
        Command::Policy(PolicyCommand::Default) => documents::default_policy(means),
        Command::Policy(PolicyCommand::Schema) => documents::schema(means),
        Command::Policy(PolicyCommand::Check(args)) => policy::check(args, means),
        Command::Policy(PolicyCommand::Show(args)) => policy::show(args, means),
        Command::Config => config::config(means),
        Command::Completions { shell } => documents::completions(*shell, means),
        Command::Man(args) => manual::man(args, means),
        _ => on_runtime(command, means, signals?),
    }
}

/// Whether the variable of `--read-only` is set. What is not understood counts as set: then nothing is sent.
fn is_read_only() -> bool {
    let value = std::env::var_os(variable("read-only")).unwrap_or_default();
    let value = value.to_string_lossy().to_ascii_lowercase();
    !matches!(&*value, "" | "0" | "n" | "no" | "f" | "false" | "off")
}

/// Returns the context that a command names.
fn context_of(command: &Command) -> Option<String> {
    let name: &dyn Display = match command {
        Command::Run(args) => return Some(args.context.as_ref()?.part().to_string()),
        Command::Watch(args) => return Some(args.context.part().to_string()),
        Command::Push(args) | Command::Sync(args) => &args.sync.context,
        Command::Pull(args) => return Some(args.context.part().to_string()),
        Command::Plan(args) => &args.sync.context,
        Command::Fetch(args) => args.context.as_ref()?,
        Command::Context(ContextCommand::Create(args)) => &args.name,
        Command::Context(ContextCommand::Show(args)) => &args.context.name,
        Command::Context(ContextCommand::Fork(args)) => &args.to,
        Command::Context(ContextCommand::Merge(args)) => &args.into,
        Command::Context(ContextCommand::Revert(args)) => &args.context.name,
        Command::Context(ContextCommand::Rename(args)) => &args.name,
        Command::Context(ContextCommand::Clear(args)) => &args.name,
        Command::Context(ContextCommand::Delete(args)) => &args.name,
        Command::Context(ContextCommand::Tag(args)) => &args.context.name,
        Command::Context(ContextCommand::Untag(args)) => &args.context.name,
        Command::Put(args) => &args.place.context.name,
        Command::Rm(args) => args.places.first().map(|place| &place.context.name)?,
        Command::Purge(args) => args.places.first().map(|place| &place.context.name)?,
        Command::Ls(args) => &args.place.context.name,
        Command::Cat(args) => &args.place.context.name,
        Command::Log(args) => &args.name,
        Command::Restore(args) => &args.context.name,
        _ => return None,
    };
    Some(name.to_string())
}

/// Threads of a session besides those of the runtime: one waits for the command, one for changes in the
/// mount, one writes metrics.
const OTHERS: usize = 3;

/// Returns how many mounts a command works on.
fn mounts_of(command: &Command) -> usize {
    match command {
        Command::Run(args) => {
            // The variable may have several mounts in one text.
            let of = |text: &OsString| text.as_bytes().split(|byte| *byte == b';').count();
            usize::from(args.context.is_some()) + args.mounts.iter().map(of).sum::<usize>()
        }
        Command::Watch(_)
        | Command::Push(_)
        | Command::Pull(_)
        | Command::Sync(_)
        | Command::Plan(_)
        | Command::Fetch(_)
        | Command::Restore(_) => 1,
        _ => 0,
    }
}

fn on_runtime(command: &Command, means: Means<'_>, mut signals: Signals) -> Result<Finished, Failure> {
    let others = if matches!(command, Command::Run(_) | Command::Watch(_)) { OTHERS } else { 0 };
    let Threads { runtime, parallelism } = Threads::start(mounts_of(command), others)?;
    let env = means.env.clone().with_parallelism(parallelism);
    let means = Means { env: &env, ..means };
    let outcome = runtime.block_on(async {
        match command {
            // These two handle signals themselves.
            Command::Run(args) => run::run(args, means, &mut signals).await,
            Command::Watch(args) => watch::watch(args, means, &mut signals).await,
            _ => {
                let quiesce = command.quiesce().and_then(|_| means.quiesce());
                let outcome = unless_told(talk(command, quiesce.as_ref(), means), &mut signals).await;
                if let Some(quiesce) = quiesce {
                    // If the push was stopped, writers may still be paused.
                    quiesce.wait_resumed(RESUMED_WITHIN).await;
                }
                outcome
            }
        }
    });
    // Abandoned work must not delay the end; the next run finds what it leaves.
    runtime.shutdown_background();
    outcome
}

/// How long `--resume` may take after a push was stopped; if it takes longer, it goes on by itself. It must
/// be less than an orderly end may take after a signal. Otherwise the program would end before the command
/// has started.
const RESUMED_WITHIN: Duration = Duration::from_millis(800);

async fn talk(
    command: &Command,
    quiesce: Option<&Arc<Commands>>,
    means: Means<'_>,
) -> Result<Finished, Failure> {
    let dry_run = means.settings.dry_run.value;
    match command {
        Command::Push(args) => sync::push(Deed::Push, args, dry_run, quiesce, means).await,
        Command::Pull(args) => sync::pull(args, dry_run, means).await,
        Command::Sync(args) => sync::push(Deed::Sync, args, dry_run, quiesce, means).await,
        Command::Plan(plan) => {
            let deed = match plan.direction {
                PlanDirection::Push => Deed::Push,
                PlanDirection::Pull => Deed::Pull,
            };
            sync::plan(deed, &plan.sync, means).await
        }
        Command::Fetch(args) => fetch::fetch(args, means).await,
        Command::Status(args) => status::status(args, means).await,
        Command::Context(command) => context::context(command, means).await,
        Command::Put(args) => put::put(args, means).await,
        Command::Rm(args) => rm::rm(args, means).await,
        Command::Ls(args) => ls::ls(args, means).await,
        Command::Cat(args) => cat::cat(args, means).await,
        Command::Log(args) => log::log(args, means).await,
        Command::Diff(args) => diff::diff(args, means).await,
        Command::Restore(args) if args.in_place => in_place::restore(args, means).await,
        Command::Restore(args) => restore::restore(args, means).await,
        Command::Stats(args) => stats::stats(args, means).await,
        Command::Gc(args) => gc::gc(args, means).await,
        Command::Check(args) => check::check(args, means).await,
        Command::Repair(args) => repair::repair(args, means).await,
        Command::Purge(args) => purge::purge(args, means).await,
        Command::Copy(args) => copy::copy(args, means).await,
        Command::Store(command) => store::store(command, means).await,
        _ => Err(Failure::usage("this command needs no store")),
    }
}

/// Runs `work` until it ends, or until SIGTERM or SIGINT.
async fn unless_told(
    work: impl Future<Output = Result<Finished, Failure>>,
    signals: &mut Signals,
) -> Result<Finished, Failure> {
    tokio::select! {
        outcome = work => outcome,
        signal = signals.next_stop() => Err(interrupted(signal)),
    }
}
