//! Asks before a directory is saved for the first time that was not named and is probably not meant.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use policy_core::escape;
use transfer_engine::{ContextSync, Mount};

use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;

/// Asks on a terminal whether to go on, and warns elsewhere. Who names the directory, or has synced it before, is not
/// asked.
///
/// # Errors
/// The answer was no.
pub(super) fn ask(sync: &ContextSync, typed: Option<&Path>, means: Means<'_>) -> Result<(), Failure> {
    let is_default = typed.is_none_or(|dir| dir == Path::new("."));
    let doubt = doubt(sync, means.settings.dirs.home.as_deref()).filter(|_| is_default && !sync.read_only);
    let Some(doubt) = doubt.filter(|_| !was_synced(sync, means)) else { return Ok(()) };
    let hint = format!("if it is meant, name it: {}", shown(&sync.path));
    match means.ui.confirm(&format!("{doubt}. Go on?")) {
        Some(true) => {}
        Some(false) => return Err(Failure::new(Exit::FAILED, "nothing was done").hint(hint)),
        None => {
            means.ui.warning(&doubt);
            means.ui.hint(&hint);
        }
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

/// Returns why the current directory is probably not meant.
fn doubt(sync: &ContextSync, home: Option<&Path>) -> Option<String> {
    let ContextSync { path, context, .. } = sync;
    let dir = shown(path);
    let real = |path: &Path| path.canonicalize().ok();
    if path.parent().is_none() {
        Some(format!("this saves the whole file system as context {context}"))
    } else if home.is_some_and(|home| real(home).is_some_and(|home| Some(home) == real(path))) {
        Some(format!("this saves the whole home directory, {dir}, as context {context}"))
    } else if path.join(".ssh").is_dir() {
        Some(format!("this saves {dir}, which holds keys (.ssh), as context {context}"))
    } else if path.join(context.as_str()).is_dir() {
        Some(format!("`{context}` is taken for the name of a context: what is saved is all of {dir}"))
    } else {
        None
    }
}

/// Whether this machine has synced it before. What can't be found out now is told by the sync itself.
fn was_synced(sync: &ContextSync, means: Means<'_>) -> bool {
    let opened = open_store(means, false).ok().zip(means.settings.state_dir().ok());
    let mount = opened.and_then(|(open, state)| Mount::open(&open.store, sync.clone(), state).ok());
    mount.is_some_and(|mount| mount.was_synced().unwrap_or(true))
}
