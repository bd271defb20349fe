//! Arguments of `gc`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;

use crate::values::{Span, at_least_one};

const KEEP: &str = "What is kept";

/// Arguments of `gc`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GcArgs {
    /// The contexts to which --keep-* apply, by name or glob, as in 'ci/*' [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    #[command(flatten)]
    pub(crate) keep: KeepArgs,

    /// Take the rules of each context from this TOML file; --keep-* apply to contexts without a rule in it
    #[arg(long, value_name = "FILE", help_heading = KEEP)]
    pub(crate) retention: Option<PathBuf>,

    /// Nobody else uses the store now: delete at once, without the grace period
    #[arg(long)]
    pub(crate) exclusive: bool,
}

/// Which snapshots are kept: those that any of these keeps.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeepArgs {
    /// Keep the newest N snapshots of each context, and forget the others
    #[arg(long, value_name = "N", help_heading = KEEP, value_parser = at_least_one::<NonZeroU64>)]
    pub(crate) keep_last: Option<NonZeroU64>,

    /// Keep the snapshots of this time, as in 30d, and forget the others; the head always stays
    #[arg(long, value_name = "TIME", help_heading = KEEP)]
    pub(crate) keep_within: Option<Span>,

    /// Keep the newest snapshot of each of the newest N hours that have one
    #[arg(long, value_name = "N", help_heading = KEEP, value_parser = at_least_one::<NonZeroU64>)]
    pub(crate) keep_hourly: Option<NonZeroU64>,

    /// The same for days, in UTC
    #[arg(long, value_name = "N", help_heading = KEEP, value_parser = at_least_one::<NonZeroU64>)]
    pub(crate) keep_daily: Option<NonZeroU64>,

    /// The same for weeks, from Monday on
    #[arg(long, value_name = "N", help_heading = KEEP, value_parser = at_least_one::<NonZeroU64>)]
    pub(crate) keep_weekly: Option<NonZeroU64>,

    /// The same for months
    #[arg(long, value_name = "N", help_heading = KEEP, value_parser = at_least_one::<NonZeroU64>)]
    pub(crate) keep_monthly: Option<NonZeroU64>,

    /// The same for years
    #[arg(long, value_name = "N", help_heading = KEEP, value_parser = at_least_one::<NonZeroU64>)]
    pub(crate) keep_yearly: Option<NonZeroU64>,
}
