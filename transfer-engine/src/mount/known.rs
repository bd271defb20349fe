//! What this machine remembers of a mount that is not open.

use std::path::Path;

use crate::env::Env;
use crate::error::Error;
use crate::format::ContextName;
use crate::local::absolute;
use crate::state::ContextState;
use crate::status::status;

/// Whether the directory `mount` was ever synced with a context in the store at this address. If so, the store was there.
///
/// # Errors
/// The local state can't be read.
pub fn was_synced_with(state_dir: &Path, mount: &Path, location: &str) -> Result<bool, Error> {
    let mount = absolute(mount).map_err(|e| Error::local("find", mount, e))?;
    for task in status(state_dir, Some(&mount))? {
        let name = task.context.split(':').next().unwrap_or_default();
        let Ok(context) = ContextName::new(name) else { continue };
        if ContextState::unlocked(state_dir, &mount, location, (&context, None), &Env::real()).has_base()? {
            return Ok(true);
        }
    }
    Ok(false)
}
