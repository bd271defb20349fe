//! Which paths a session requires, and whether they are in the mount.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use policy_core::{Scope, TreePath};

use super::{ContextSync, holds, mount_scope};
use crate::error::Error;
use crate::local::is_staging_name;

impl ContextSync {
    /// Whether everything that policy and caller require is in the mount already.
    ///
    /// # Errors
    /// [`Error::Policy`] if the policy can't be used with the mount.
    pub fn has_required(&self) -> Result<bool, Error> {
        let scope = mount_scope(&self.policy, &self.path)?;
        Ok(self.required_in(&scope).iter().all(|path| is_here(&self.path, path)))
    }

    /// Returns the paths that policy and caller require, each once.
    pub(crate) fn required_in(&self, scope: &Scope) -> Vec<TreePath> {
        let mut paths: Vec<TreePath> = Vec::new();
        for path in scope.required_paths().iter().chain(&self.required) {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths
    }
}

/// Whether a path is in a mount. The mount itself counts if there is anything in it.
pub(crate) fn is_here(mount: &Path, path: &TreePath) -> bool {
    if !path.is_root() {
        return holds(mount, path);
    }
    let entries = fs::read_dir(mount).into_iter().flatten();
    entries.flatten().any(|entry| !is_staging_name(entry.file_name().as_bytes()))
}
