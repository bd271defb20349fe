//! `explain`: which rule decides for each path.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy_core::{Scope, SyncPolicy};
use transfer_engine::OwnPlaces;

use super::Finished;
use crate::args::ExplainArgs;
use crate::errors::Failure;
use crate::means::Means;
use crate::output::json::{Line, RuleLine};
use crate::place::{MountPath, context_part, os_path};
use crate::policy;

pub(super) fn explain(args: &ExplainArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let ui = means.ui;
    let (policy, context) = subject(args, means)?;
    let mount = MountPath::new(args.mount.as_deref().unwrap_or(Path::new(".")))?;
    let scope = scope(&policy, mount.typed())?;
    let settings = means.settings;
    let own = OwnPlaces::find(
        mount.typed(),
        settings.state_dir.value.as_deref(),
        settings.store.value.as_ref().and_then(|url| url.local_dir()),
        &settings.own_files(),
    )?;
    for warning in scope.warnings() {
        ui.warning(&warning.to_string());
    }
    for typed in &args.paths {
        let path = mount.path_below(Path::new(typed))?;
        // A pattern may match directories only. A trailing slash marks a directory that does not exist yet.
        let is_dir = path.is_root()
            || typed.as_bytes().ends_with(b"/")
            || mount.resolved.join(os_path(&path)).symlink_metadata().is_ok_and(|found| found.is_dir());
        let decision = scope.decide(&path, is_dir);
        // The program's own files never take part, whatever the policy says.
        let own = own.holding(&path);
        let in_scope = decision.in_scope && own.is_none();
        let reason = match own {
            Some(what) => format!("{what} never takes part"),
            None => decision.rule.to_string(),
        };
        let rule = if own.is_some() { String::new() } else { decision.rule.pointer() };
        if ui.is_json() {
            ui.object(&Line::Rule(RuleLine { path: (&path).into(), in_scope, rule: &rule, reason: &reason }));
        } else {
            let side = if in_scope { "in" } else { "out" };
            let shown = if path.is_root() { ".".to_owned() } else { path.to_string() };
            let leads = !in_scope && own.is_none() && is_dir && scope.may_hold(&path);
            let leads = if leads { "; something below it may be in scope" } else { "" };
            ui.line(&format!("{side:<4} {shown}  ({reason}{leads})"));
        }
    }
    Ok(Finished { context, ..Finished::default() })
}

/// Compiles a policy for a mount.
pub(super) fn scope(policy: &SyncPolicy, mount: &Path) -> Result<Scope, Failure> {
    transfer_engine::mount_scope(policy, mount).map_err(|error| match error {
        transfer_engine::Error::Policy(error) => {
            Failure::policy(&format!("for the mount {}", mount.display()), &error)
        }
        error => error.into(),
    })
}

/// Returns the policy that the argument means: the file of that name, or for a context the policy of
/// `--policy`.
fn subject(args: &ExplainArgs, means: Means<'_>) -> Result<(SyncPolicy, Option<String>), Failure> {
    let file = PathBuf::from(&args.subject);
    if file.is_file() {
        return Ok((policy::named(Some(&file), means.settings)?, None));
    }
    let looks_like_file =
        file.extension().is_some_and(|extension| extension == "json" || extension == "toml");
    let name = args.subject.to_str().filter(|_| !looks_like_file).and_then(|name| context_part(name).ok());
    let Some(name) = name else {
        return Err(Failure::usage(format!("there is no policy file {}", file.display()))
            .hint("give a policy file, or the name of a context together with --policy"));
    };
    // A snapshot stores only the digest of its policy, so the policy itself is the caller's.
    let which = means.settings.policy.value.as_ref().map_or_else(
        || "the default policy, because no --policy is given".to_owned(),
        |path| format!("the policy {}", path.display()),
    );
    means.ui.note(&format!("context {name}: a context carries no policy of its own; explained by {which}"));
    Ok((policy::chosen(means.settings)?, Some(name.to_string())))
}
