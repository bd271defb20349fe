//! What may be typed. Nothing is checked here beyond its form; [`crate::config`] makes it one checked
//! value.

mod branches;
mod check;
mod commands;
mod contexts;
mod diff;
mod files;
mod gc;
mod policies;
mod sessions;
mod shared;
mod stores;
mod syncs;

pub(crate) use branches::{ForkArgs, MergeArgs, RevertArgs};
pub(crate) use check::{CheckArgs, Heal, PurgeArgs, RepairArgs};
pub(crate) use commands::{Command, ManArgs};
pub(crate) use contexts::{
    ClearArgs, ContextCommand, DeleteArgs, ListArgs, RenameArgs, ShowArgs, SortBy, StatsArgs, TagArgs,
    UntagArgs,
};
pub(crate) use diff::DiffArgs;
pub(crate) use files::{CatArgs, LogArgs, LsArgs, PutArgs, RestoreArgs, RmArgs};
pub(crate) use gc::{GcArgs, KeepArgs};
pub(crate) use policies::{PolicyCheckArgs, PolicyCommand, PolicyShowArgs, Preset};
pub(crate) use sessions::{EndingArgs, FetchArgs, OpeningArgs, QuiesceArgs, RunArgs, StatusArgs, WatchArgs};
pub(crate) use shared::{Color, Conflict, Shared};
pub(crate) use stores::{CopyArgs, StoreCommand};
pub(crate) use syncs::{ExplainArgs, PlaceArgs, PlanArgs, PlanDirection, PullArgs, PushArgs, SyncArgs};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory, Parser};

const AFTER_HELP: &str = "Every option has a variable: --bwlimit is CTXSYNC_BWLIMIT. An option wins over its variable, a \
                          variable over the chosen profile of the config file, and that over the default; \
                          `ctxsync config` shows each value and its origin.";

const ABOUT: &str = "Keeps the workspace of a short-lived machine in a store, by a declared policy";

/// The program's arguments as they were typed.
#[derive(Debug, Parser)]
#[command(name = "ctxsync", version, about = ABOUT, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Returns the parser, in which every option has its variable.
pub(crate) fn command() -> clap::Command {
    with_variables(Cli::command())
}

fn with_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let Some(long) = arg.get_long().filter(|long| !matches!(*long, "help" | "version")) else {
                return arg;
            };
            let variable = variable(long);
            // An empty or odd value must not switch something on: `CTXSYNC_JSON=0` means what it says.
            let arg = match arg.get_action() {
                ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
                _ => arg,
            };
            arg.env(variable).hide_env(true)
        })
        .mut_subcommands(with_variables)
}

/// Returns the name of an option's variable.
pub(crate) fn variable(long: &str) -> String {
    format!("CTXSYNC_{}", long.replace('-', "_").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn variables_are_named_after_their_options() {
        assert_eq!(variable("no-progress"), "CTXSYNC_NO_PROGRESS");
    }
}
