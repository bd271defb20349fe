//! `policy check` and `policy show`.

use std::path::PathBuf;

use policy_core::TreePath;

use super::Finished;
use super::explain::scope;
use crate::args::{PolicyCheckArgs, PolicyShowArgs};
use crate::errors::Failure;
use crate::means::Means;
use crate::output::json::{Line, ListLine};
use crate::place::{MountPath, os_path};
use crate::policy;

pub(super) fn check(args: &PolicyCheckArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let ui = means.ui;
    let file = file(args.file.as_ref(), means)?;
    let policy = policy::read(&file)?;
    if let Some(mount) = &args.mount {
        let mount = MountPath::new(mount)?;
        let scope = scope(&policy, mount.typed())?;
        let mount = mount.resolved;
        for list in scope.lists() {
            let place = list.resolved().map(|resolved| mount.join(os_path(resolved)));
            if ui.is_json() {
                let exists = place.as_ref().map(|place| place.symlink_metadata().is_ok());
                let resolved = place.as_ref().map(|place| place.to_string_lossy());
                let (list, path) = (list.index(), list.path());
                ui.object(&Line::List(ListLine { list, path, resolved: resolved.as_deref(), exists }));
            }
            let Some(place) = place else { continue };
            let shown = policy_core::escape(place.as_os_str().as_encoded_bytes());
            if !ui.is_json() {
                let path = policy_core::escape(list.path().as_bytes());
                ui.line(&format!("white list {} \"{path}\" is read as {shown}", list.index()));
            }
            // The mount need not exist. If it does, a white list of a missing path is probably a mistake.
            if mount.is_dir() && place.symlink_metadata().is_err() {
                ui.warning(&format!(
                    "white list {} is read as {shown}, where there is nothing now",
                    list.index()
                ));
            }
        }
        let is_there = |place: &TreePath| mount.join(os_path(place)).symlink_metadata().is_ok();
        for warning in scope.warnings().iter().filter(|w| !w.read_as_relative().is_some_and(is_there)) {
            ui.warning(&warning.to_string());
        }
    }
    if !ui.is_json() {
        ui.line(&format!("{} is a valid policy", file.display()));
    }
    Ok(Finished::default())
}

pub(super) fn show(args: &PolicyShowArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let policy = policy::read(&file(args.file.as_ref(), means)?)?;
    means.ui.document(&policy.to_json());
    Ok(Finished::default())
}

fn file(given: Option<&PathBuf>, means: Means<'_>) -> Result<PathBuf, Failure> {
    given.or(means.settings.policy.value.as_ref()).cloned().ok_or_else(|| {
        Failure::usage("which policy?")
            .hint("name a file, or use --policy; `ctxsync policy default` prints the default")
    })
}
