//! Environment variables for a session's command.

use std::ffi::OsString;

use storage_backends::is_public_setting;

use crate::config::{Origin, Settings};
use crate::run::Variable;

/// Returns the variables that describe the session. With them, a `ctxsync` that the command starts finds the
/// session in whatever directory it runs, with the same settings as this process.
pub(super) fn variables(session: &str, settings: &Settings) -> Vec<Variable> {
    let mut variables: Vec<Variable> = vec![
        ("CTXSYNC_SESSION", Some(session.into())),
        ("CTXSYNC_STATE_DIR", settings.state_dir.value.clone().map(Into::into)),
        ("CTXSYNC_STORE", settings.store.value.as_ref().map(|url| url.to_string().into())),
    ];
    // These apply only to this process, and not to the ones that its command starts.
    let own = [
        "CTXSYNC_CONTEXT",
        "CTXSYNC_MOUNTS",
        "CTXSYNC_REQUIRE",
        "CTXSYNC_READ_ONLY",
        "CTXSYNC_WAIT",
        "CTXSYNC_SAVE",
        "CTXSYNC_CHOWN",
        "CTXSYNC_KILL_AFTER",
        "CTXSYNC_RELEASE_TIMEOUT",
        "CTXSYNC_METRICS_FILE",
        "CTXSYNC_SAFETY_SCAN",
        "CTXSYNC_QUIESCE",
        "CTXSYNC_RESUME",
        "CTXSYNC_QUIESCE_TIMEOUT",
    ];
    variables.extend(own.map(|name| (name, None)));
    let files = [
        ("CTXSYNC_CONFIG", &settings.config),
        ("CTXSYNC_POLICY", &settings.policy),
        ("CTXSYNC_LOG_FILE", &settings.log_file),
    ];
    for (name, file) in files {
        if let (Some(path), Origin::Flag | Origin::Variable(_)) = (&file.value, &file.origin) {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            variables.push((name, Some(path.into())));
        }
    }
    if let (Some(profile), Some(_)) = (&settings.profile, &settings.profile_origin) {
        variables.push(("CTXSYNC_PROFILE", Some(profile.into())));
    }
    if let Some(options) = store_options(settings) {
        variables.push(("CTXSYNC_STORE_OPTION", Some(options)));
    }
    variables
}

/// Returns the store's settings that were given as options, in the variable's form, without any that may be
/// secret. Push, pull, fetch and status do not need those: the session does the work.
fn store_options(settings: &Settings) -> Option<OsString> {
    let typed = settings.store_options.iter().filter(|(_, _, origin)| *origin == Origin::Flag);
    let typed = typed.filter(|(key, value, _)| is_public_setting(key, value));
    let pairs: Vec<String> = typed.map(|(key, value, _)| format!("{key}={value}")).collect();
    // A value with a comma would be split in two.
    (!pairs.is_empty() && !pairs.iter().any(|pair| pair.contains(','))).then(|| pairs.join(",").into())
}
