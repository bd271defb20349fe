//! Arguments of `store` and `copy`.

use clap::{Args, Subcommand};
use transfer_engine::NamePattern;

use crate::values::{Span, name_pattern};

/// Arguments of `copy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CopyArgs {
    /// The store that is copied; --store is not used
    #[arg(value_name = "SRC")]
    pub(crate) from: String,

    /// The store that it is copied to, created where it is missing
    #[arg(value_name = "DST")]
    pub(crate) to: String,

    /// The contexts, as names or globs such as 'user-*' [default: all]
    #[arg(value_name = "NAME", value_parser = name_pattern)]
    pub(crate) names: Vec<NamePattern>,

    /// Set one of DST's settings, such as region=eu-north-1; repeatable; --store-option sets those of SRC
    ///
    /// In the variable, several are separated by commas.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) dst_option: Vec<String>,
}

/// What is done with a store.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum StoreCommand {
    /// Make a store; one that is there already is left as it is
    Init(StoreInitArgs),
    /// Prove credentials and what a commit relies on, and measure latency
    Check,
}

/// Arguments of `store init`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreInitArgs {
    /// The grace period: nothing younger is ever swept
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) grace: Span,
}
