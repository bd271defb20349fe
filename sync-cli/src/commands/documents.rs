//! Commands that print a document: policies, their schema, completions.

use clap_complete::Shell;
use policy_core::SyncPolicy;

use super::Finished;
use crate::args::Preset;
use crate::complete;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::policy;

pub(super) fn default_policy(means: Means<'_>) -> Result<Finished, Failure> {
    means.ui.document(&SyncPolicy::default().to_json());
    Ok(Finished::default())
}

pub(super) fn preset(name: Preset, means: Means<'_>) -> Result<Finished, Failure> {
    let policy = match name {
        Preset::NoSecrets => policy::no_secrets(),
    };
    means.ui.document(&policy.to_json());
    Ok(Finished::default())
}

pub(super) fn schema(means: Means<'_>) -> Result<Finished, Failure> {
    means.ui.document(&SyncPolicy::json_schema());
    Ok(Finished::default())
}

pub(super) fn completions(shell: Shell, means: Means<'_>) -> Result<Finished, Failure> {
    let script = complete::script(shell);
    let script = script.map_err(|error| {
        Failure::new(Exit::FAILED, format!("no completions for {shell}")).caused_by(&error)
    })?;
    means.ui.bytes(&script);
    Ok(Finished::default())
}
