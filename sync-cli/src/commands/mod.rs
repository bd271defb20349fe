//! What each command does.

mod arrivals;
mod cat;
mod config;
mod context;
mod documents;
mod explain;
mod fetch;
mod gc;
mod log;
mod ls;
mod mounts;
mod policy;
mod put;
mod restore;
mod rm;
mod run;
mod running;
mod session;
mod status;
mod store;
mod sync;
mod watch;

use std::future::Future;
use std::sync::Arc;

use rustix::process::Signal;
use transfer_engine::{ContextName, SyncReport};

use crate::args::{Command, ContextCommand, PlanDirection, PolicyCommand};
use crate::config::{Origin, Settings};
use crate::errors::Failure;
use crate::exit::Exit;
use crate::output::Ui;
use crate::output::summary::{Collected, Deed};
use crate::run::{Signals, signal_name};

/// What a command came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) context: Option<String>,
    pub(crate) report: Option<SyncReport>,
    /// What the last line for people speaks of; without it there is none.
    pub(crate) deed: Option<Deed>,
    pub(crate) dry_run: bool,
    pub(crate) failed: bool,
    /// What a collection came to.
    pub(crate) collected: Option<Collected>,
}

impl Outcome {
    /// Returns the outcome of a command that did what it should on `context`.
    pub(crate) fn of_context(context: impl ToString) -> Self {
        Self { context: Some(context.to_string()), ..Self::default() }
    }
}

/// What all commands work with.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) ui: &'a Arc<Ui>,
}

/// Does what was asked for.
pub(crate) fn execute(command: &Command, settings: &Settings, ui: &Arc<Ui>) -> Result<Outcome, Failure> {
    // Exported once for all commands, it does no harm to one that changes nothing anyway.
    let meant = command.changes_something() || settings.dry_run.origin == Origin::Flag;
    if settings.dry_run.value && !command.takes_dry_run() && meant {
        return Err(Failure::usage("--dry-run means nothing here, so nothing was done")
            .hint("push, pull, sync, restore and gc take it, and `ctxsync plan` shows the same"));
    }
    if let Some(context) = context_of(command) {
        ui.known().note_context(context);
    }
    let means = Means { settings, ui };
    match command {
        Command::Explain(args) => explain::explain(args, means),
        Command::Policy(PolicyCommand::Default) => documents::default_policy(means),
        Command::Policy(PolicyCommand::Schema) => documents::schema(means),
        Command::Policy(PolicyCommand::Check(args)) => policy::check(args, means),
        Command::Policy(PolicyCommand::Show(args)) => policy::show(args, means),
        Command::Config => config::config(means),
        Command::Completions { shell } => documents::completions(*shell, means),
        Command::Man(args) => documents::man(args, means),
        _ => on_runtime(command, means),
    }
}

/// Returns the context that a command names.
fn context_of(command: &Command) -> Option<&ContextName> {
    match command {
        Command::Run(args) => args.context.as_ref(),
        Command::Watch(args) => Some(&args.context),
        Command::Push(args) | Command::Pull(args) | Command::Sync(args) => Some(&args.context),
        Command::Plan(args) => Some(&args.sync.context),
        Command::Fetch(args) => args.context.as_ref(),
        Command::Context(ContextCommand::Create(args)) => Some(&args.name),
        Command::Context(ContextCommand::Show(args)) => Some(&args.context.name),
        Command::Context(ContextCommand::Rename(args)) => Some(&args.name),
        Command::Context(ContextCommand::Clear(args)) => Some(&args.name),
        Command::Context(ContextCommand::Delete(args)) => Some(&args.name),
        Command::Put(args) => Some(&args.place.context.name),
        Command::Rm(args) => args.places.first().map(|place| &place.context.name),
        Command::Ls(args) => Some(&args.place.context.name),
        Command::Cat(args) => Some(&args.place.context.name),
        Command::Log(args) => Some(&args.name),
        Command::Restore(args) => Some(&args.context.name),
        _ => None,
    }
}

fn on_runtime(command: &Command, means: Means<'_>) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::FAILED, "cannot start threads").caused_by(&error))?;
    let outcome = runtime.block_on(async {
        match command {
            // It deals with signals itself.
            Command::Run(args) => run::run(args, means).await,
            Command::Watch(args) => watch::watch(args, means).await,
            _ => unless_told(talk(command, means)).await,
        }
    });
    // Work that was given up must not hold up the end; whatever it leaves is found by the next run.
    runtime.shutdown_background();
    outcome
}

async fn talk(command: &Command, means: Means<'_>) -> Result<Outcome, Failure> {
    match command {
        Command::Push(args) => sync::sync(Deed::Push, args, means.settings.dry_run.value, means).await,
        Command::Pull(args) => sync::sync(Deed::Pull, args, means.settings.dry_run.value, means).await,
        Command::Sync(args) => sync::sync(Deed::Sync, args, means.settings.dry_run.value, means).await,
        Command::Plan(plan) => {
            let deed = match plan.direction {
                PlanDirection::Push => Deed::Push,
                PlanDirection::Pull => Deed::Pull,
            };
            sync::sync(deed, &plan.sync, true, means).await
        }
        Command::Fetch(args) => fetch::fetch(args, means).await,
        Command::Status(args) => status::status(args, means).await,
        Command::Context(command) => context::context(command, means).await,
        Command::Put(args) => put::put(args, means).await,
        Command::Rm(args) => rm::rm(args, means).await,
        Command::Ls(args) => ls::ls(args, means).await,
        Command::Cat(args) => cat::cat(args, means).await,
        Command::Log(args) => log::log(args, means).await,
        Command::Restore(args) => restore::restore(args, means).await,
        Command::Gc(args) => gc::gc(args, means).await,
        Command::Store(command) => store::store(command, means).await,
        _ => Err(Failure::usage("this command needs no store")),
    }
}

/// Does `work` until SIGTERM or SIGINT.
async fn unless_told(work: impl Future<Output = Result<Outcome, Failure>>) -> Result<Outcome, Failure> {
    let mut signals = Signals::stopping()?;
    tokio::select! {
        outcome = work => outcome,
        signal = signals.next_stop() => Err(interrupted(signal)),
    }
}

/// Returns the failure of work that was told to stop.
pub(crate) fn interrupted(signal: Signal) -> Failure {
    Failure::new(Exit::signal(signal.as_raw()), format!("stopped by {}", signal_name(signal)))
        .hint("nothing is left half done; run the same again to go on from here")
}
