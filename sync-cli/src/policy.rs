//! Reads policy files.

use std::path::Path;
use std::sync::LazyLock;

use policy_core::{Scope, SyncPolicy, TreePath};

use crate::config::Settings;
use crate::errors::Failure;
use crate::input::read_text;

/// Names of files that usually hold secrets, as patterns of a `.gitignore`.
const SECRETS: [&str; 29] = [
    ".env",
    ".env.*",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
    "*.p12",
    "*.pfx",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".pypirc",
    ".git-credentials",
    ".vault-token",
    "kubeconfig",
    "*.kubeconfig",
    "**/.kube/config",
    "**/.aws/credentials",
    "**/.claude/.credentials.json",
    "**/.codex/auth.json",
    "**/.azure/*.json",
    "**/.docker/config.json",
    "**/gcloud/credentials.db",
    "application_default_credentials.json",
];

/// Reads the policy that the settings name, with what they leave out. Without one, returns the default policy.
pub(crate) fn chosen(settings: &Settings) -> Result<SyncPolicy, Failure> {
    named(settings.policy.value.as_deref(), settings)
}

/// Reads the policy in a file, and adds what the settings leave out.
pub(crate) fn named(file: Option<&Path>, settings: &Settings) -> Result<SyncPolicy, Failure> {
    let mut policy = file.map_or_else(|| Ok(SyncPolicy::default()), read)?;
    policy.bw_list.ignore_patterns.extend_from_slice(&settings.exclude.value);
    Ok(policy)
}

/// Returns a policy that leaves out files that usually hold secrets.
pub(crate) fn no_secrets() -> SyncPolicy {
    let mut policy = SyncPolicy::default();
    policy.bw_list.ignore_patterns.extend(SECRETS.map(str::to_owned));
    policy
}

/// Whether a file usually holds secrets, by its name.
pub(crate) fn usually_holds_secrets(path: &TreePath) -> bool {
    static SCOPE: LazyLock<Option<Scope>> =
        LazyLock::new(|| transfer_engine::mount_scope(&no_secrets(), Path::new("/")).ok());
    SCOPE.as_ref().is_some_and(|scope| !scope.contains(path, false))
}

/// Reads a policy file: TOML if its name says so, otherwise JSON.
pub(crate) fn read(path: &Path) -> Result<SyncPolicy, Failure> {
    let text = read_text(path).map_err(|error| Failure::unreadable("policy", path, &error))?;
    let toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let policy = if toml { SyncPolicy::from_toml(&text) } else { SyncPolicy::from_json(&text) };
    policy.map_err(|error| Failure::policy(&path.display().to_string(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_usually_hold_secrets() {
        let of = |path: &str| usually_holds_secrets(&TreePath::new(path.as_bytes()).unwrap());
        for path in [
            ".env",
            "app/.env.local",
            "keys/id_ed25519",
            "home/.aws/credentials",
            "x.p12",
            "kubeconfig",
            ".codex/auth.json",
        ] {
            assert!(of(path), "{path}");
        }
        for path in [".env.example", "env", "id_ed25519.pub", "credentials", "src/main.rs", "aws/credentials"]
        {
            assert!(!of(path), "{path}");
        }
    }
}
