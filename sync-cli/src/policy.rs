//! Reads policy files.

use std::path::Path;

use policy_core::SyncPolicy;

use crate::config::Settings;
use crate::errors::Failure;
use crate::input::read_text;

/// Reads the policy that the settings name. Without one, returns the default policy.
pub(crate) fn chosen(settings: &Settings) -> Result<SyncPolicy, Failure> {
    settings.policy.value.as_deref().map_or_else(|| Ok(SyncPolicy::default()), read)
}

/// Reads a policy file: TOML if its name says so, otherwise JSON.
pub(crate) fn read(path: &Path) -> Result<SyncPolicy, Failure> {
    let text = read_text(path).map_err(|error| Failure::unreadable("policy", path, &error))?;
    let toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let policy = if toml { SyncPolicy::from_toml(&text) } else { SyncPolicy::from_json(&text) };
    policy.map_err(|error| Failure::policy(&path.display().to_string(), &error))
}
