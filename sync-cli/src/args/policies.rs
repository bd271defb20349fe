//! Arguments of `policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is done with policies.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the default policy
    Default,
    /// Print a policy for a purpose
    Preset {
        /// What it is for
        name: Preset,
    },
    /// Check a policy file
    Check(PolicyCheckArgs),
    /// Print a policy with every field, as one JSON document
    Show(PolicyShowArgs),
    /// Print the JSON Schema of policies
    Schema,
}

/// A policy that the program has ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// Leaves out files that usually hold secrets, such as `.env` and private keys
    NoSecrets,
}

/// Arguments of `policy check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyCheckArgs {
    /// The policy file; without it, that of --policy
    pub(crate) file: Option<PathBuf>,

    /// Resolve the policy's paths against this directory, which need not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
}

/// Arguments of `policy show`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyShowArgs {
    /// The policy file; without it, that of --policy
    pub(crate) file: Option<PathBuf>,
}
